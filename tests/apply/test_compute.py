"""Tensors that modules compute: made anew by their own code, on any device, without touching anything else."""

from typing import Any

import pytest
import torch
from torch import nn

from firstlight.errors import PlanError
from firstlight.model.tensors import TensorInfo
from firstlight.plan import initialize, plan, verify
from firstlight.recipes import Recipe
from firstlight.recipes.choice import Choice, Context


class Positions(nn.Module):
    """A table that only the constructor computes, and never from what a method could read again."""

    def __init__(self, length: int = 7, width: int = 4, base: float = 100.0) -> None:
        super().__init__()
        angle = torch.arange(length)[:, None] * base ** -(torch.arange(width) / width)
        self.register_buffer("table", angle.sin())
        self.register_buffer("index", torch.arange(length), persistent=False)
        self.out = nn.Linear(width, width)


class Rotary(nn.Module):
    """A table that a method of the module's own computes; the method writes a parameter too, and draws."""

    inverse: torch.Tensor
    projection: torch.Tensor

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width, self.calls = width, [0]
        self.weight = nn.Parameter(torch.empty(width, width))
        self.both = [self.weight]
        self.register_buffer("inverse", torch.empty(width // 2), persistent=False)
        self.register_buffer("projection", torch.empty(3, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        self.calls[0] += 1
        for weight in self.both:
            nn.init.constant_(weight, 5.0)
        self.register_buffer("inverse", 10.0 ** -(torch.arange(self.width // 2) / self.width), persistent=False)
        self.projection.normal_()


class Family(nn.Module):
    """A model that initialises its modules from outside, as Hugging Face's do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.register_buffer("mask", torch.empty(3, 3, dtype=torch.bool))
        self.scale = nn.Parameter(torch.ones(2, 2))
        self._init_weights(self.inner)

    def _init_weights(self, module: nn.Module) -> None:
        self.scale.data.fill_(9.0)
        if "mask" in module._buffers:
            module.get_buffer("mask").copy_(torch.ones(3, 3).tril())


def on_meta(build: Any) -> nn.Module:
    with torch.device("meta"):
        made: nn.Module = build()
    return made


@pytest.mark.parametrize("build", [Rotary, Family])
def test_a_modules_own_method_computes_its_buffers_on_the_meta_device(build: Any) -> None:
    model, built = on_meta(build), build()
    made = plan(model, "normal:std=0.5")
    assert {row.distribution for row in made if row.is_buffer} == {"recomputed"}
    made.apply(model, seed=3)
    for name, buffer in built.named_buffers():
        assert name == "projection" or torch.equal(model.get_buffer(name), buffer)
    assert verify(model, made, 3) == ()
    again = initialize(build(), "normal:std=0.5", seed=3)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert model.state_dict().keys() == built.state_dict().keys()


def test_code_that_draws_is_seeded_by_the_seed_and_leaves_the_global_generator() -> None:
    state = torch.get_rng_state()
    one, two, three = (initialize(on_meta(Rotary), "he", seed=seed).get_buffer("projection") for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert 0.3 < float(one.std()) < 3


def test_the_models_own_state_is_not_touched_by_the_code_that_computes_buffers() -> None:
    model = Rotary()
    made = plan(model, "he", keep="weight")
    made.apply(model)
    verify(model, made)
    assert model.calls == [1]
    assert model.state_dict().keys() == {"weight", "projection"}
    assert bool((model.weight == 5).all())
    family = Family()
    initialize(family, "zeros")
    assert bool((family.scale == 0).all())


def test_what_was_left_in_a_buffers_memory_is_overwritten_and_verify_tells() -> None:
    model = Rotary()
    made = plan(model, "he")
    made.apply(model)
    model.inverse[1] = float("nan")
    assert verify(model, made) == ("inverse",)
    assert verify(made.apply(model), made) == ()


def test_a_buffer_that_no_method_computes_is_refused_on_the_meta_device_and_kept_in_memory() -> None:
    model = on_meta(Positions)
    message = (
        r"2 of 4 tensors are on the meta device and are computed by no method of their modules, .*: "
        r"'table' \(7, 4\), 'index' \(7,\)\. Pass rebuild=, .* give Positions a method reset_parameters\(\) .*"
    )
    with pytest.raises(PlanError, match=message):
        initialize(model, "he")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert set(verify(model, plan(model, "he"))) == {"table", "index", "out.weight", "out.bias"}
    built = Positions(base=50.0)
    before = built.get_buffer("table").clone()
    assert torch.equal(initialize(built, "he").get_buffer("table"), before)


def test_a_builder_gives_the_buffers_and_its_parameters_get_no_memory() -> None:
    built: list[Positions] = []

    def builder() -> nn.Module:
        built.append(Positions(base=50.0))
        return built[-1]

    model = on_meta(builder)
    made = plan(model, "he")
    assert verify(made.apply(model, rebuild=builder), made, rebuild=builder) == ()
    assert all(parameter.is_meta for parameter in built[1].parameters())
    assert torch.equal(model.get_buffer("table"), Positions(base=50.0).get_buffer("table"))
    assert torch.equal(model.get_buffer("index"), torch.arange(7))
    assert not nn.Linear(2, 2).weight.is_meta
    assert verify(model, made, rebuild=lambda: Positions(base=51.0)) == ("table",)


def test_a_builder_that_fails_or_builds_another_model_is_refused() -> None:
    def broken() -> nn.Module:
        raise KeyError("no such size")

    for builder, message in (
        (broken, r"rebuild= raised KeyError: 'no such size'\. It must build the model on the CPU"),
        (lambda: nn.Linear(2, 2), r"'table' \(7, 4\): the model that rebuild= builds has no such tensor"),
        (lambda: Positions(8), r"'table' \(7, 4\): .* has it on cpu with shape \(8, 4\)"),
        (lambda: on_meta(Positions), r"'table' \(7, 4\): .* has it on meta"),
    ):
        with pytest.raises(PlanError, match=message):
            initialize(on_meta(Positions), "he", rebuild=builder)


class Decay(nn.Module):
    """A parameter of a recurrence that its module computes."""

    def __init__(self) -> None:
        super().__init__()
        self.A_log, self.weight = nn.Parameter(torch.arange(1.0, 5.0).log()), nn.Parameter(torch.ones(3, 2))


class Recurrence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixer = Decay()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, Decay):
            module.A_log.data.copy_(torch.arange(1.0, 5.0).log())


@pytest.mark.parametrize(("build", "rebuild"), [(Recurrence, None), (Decay, Decay)])
def test_the_state_of_a_recurrence_is_computed_by_its_module(build: Any, rebuild: Any) -> None:
    model = on_meta(build)
    made = plan(model, "he")
    assert verify(made.apply(model, rebuild=rebuild), made, rebuild=rebuild) == ()
    state, weight = (
        next(t for name, t in model.named_parameters() if name.endswith(end)) for end in ("A_log", "weight")
    )
    assert torch.equal(state, torch.arange(1.0, 5.0).log())
    assert not bool((weight == 1).any())
    assert state.requires_grad


def test_the_initialisation_of_a_module_around_it_has_the_last_word() -> None:
    class Outer(Recurrence):
        def _init_weights(self, module: nn.Module) -> None:
            super()._init_weights(module)
            if module is self:
                module.mixer.A_log.data.fill_(3.0)

    assert bool((initialize(on_meta(Outer), "he").get_parameter("mixer.A_log") == 3).all())


def _anything(info: TensorInfo, context: Context) -> Choice | None:
    return None if info.is_buffer or info.role == "state" else Choice("normal", 0.02, "for the test")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("bert", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}),
        ("gpt2", {"n_embd": 32, "n_layer": 1, "n_head": 2}),
        ("llama", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}),
        (
            "llama",
            {
                "hidden_size": 64,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 500000.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                },
            },
        ),
        ("mixtral", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}),
        ("vit", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}),
        ("t5", {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_kv": 16, "d_ff": 48}),
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 1}),
        (
            "whisper",
            {"d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "decoder_start_token_id": 2}
            | {"encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3},
        ),
    ],
)
def test_models_of_hugging_face_get_the_buffers_that_their_constructors_make(
    kind: str, options: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(kind, vocab_size=50, **options)
    model = on_meta(lambda: transformers.AutoModel.from_config(config))
    built = transformers.AutoModel.from_config(config)
    made = plan(model, Recipe("anything", _anything, "for the test"))
    made.apply(model, seed=1)
    assert {name: row.distribution for row in made for name in (row.name, *row.aliases) if row.is_buffer} == (
        dict.fromkeys(dict(built.named_buffers(remove_duplicate=False)), "recomputed")
    )
    for name, buffer in built.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
    if kind == "mamba":
        assert made["layers.0.mixer.A_log"].distribution == "recomputed"
        assert torch.equal(model.get_parameter("layers.0.mixer.A_log"), built.get_parameter("layers.0.mixer.A_log"))
    assert verify(model, made, 1) == ()
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
