"""What a tensor is for, read from the operators that use it: modules that no one has seen, written as people write them."""

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstlight.errors import PlanError
from firstlight.model.roles import read
from firstlight.model.targets import load
from firstlight.model.tensors import TensorInfo
from firstlight.plan import initialize, plan


def seen(model: nn.Module, *example: Any) -> dict[str, TensorInfo]:
    infos = {info.name: info for info in read(model, example)}
    assert {info.found_by for info in infos.values() if not info.is_buffer} <= {"graph"}
    return infos


def fans(info: TensorInfo) -> tuple[str, int | None, int | None, str]:
    return info.role, info.fan_in, info.fan_out, info.layout


def slices(info: TensorInfo) -> list[tuple[str, int, int, int, int, int]]:
    return [(p.name, p.start, p.stop, p.axis, p.fan_in, p.fan_out) for p in info.slices]


class Forward(nn.Module):
    """A module whose parameters and forward are given."""

    def __init__(self, forward: Any, **parts: Any) -> None:
        super().__init__()
        self._call = forward
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(torch.randn(part)) if isinstance(part, tuple) else part)

    def forward(self, *inputs: Tensor) -> Any:
        return self._call(self, *inputs)


class Head(nn.Sequential):
    """A model followed by an output layer, so that the model's own weights are hidden ones."""

    def __init__(self, model: nn.Module, width: int) -> None:
        super().__init__(model, nn.Linear(width, 2))


X = torch.randn(2, 5, 8)


@pytest.mark.parametrize(
    ("forward", "shape", "expected"),
    [
        (lambda m, x: F.linear(x, m.w), (6, 8), ("weight", 8, 6, "")),
        (lambda m, x: x @ m.w, (8, 6), ("weight", 8, 6, "io")),
        (lambda m, x: x @ m.w.t(), (6, 8), ("weight", 8, 6, "")),
        (lambda m, x: torch.einsum("bti,oi->bto", x, m.w), (6, 8), ("weight", 8, 6, "")),
        (lambda m, x: torch.einsum("bti,ihd->bthd", x, m.w).flatten(2), (8, 2, 3), ("weight", 8, 6, "ioo")),
        (lambda m, x: torch.tensordot(x, m.w, dims=([2], [0])), (8, 6), ("weight", 8, 6, "io")),
        (lambda m, x: torch.addmm(torch.zeros(6), x.flatten(0, 1), m.w), (8, 6), ("weight", 8, 6, "io")),
        (lambda m, x: F.conv1d(x.mT, m.w).mT, (6, 8, 1), ("weight", 8, 6, "")),
        (lambda m, x: F.linear(x, m.w.reshape(6, 8)), (3, 2, 8), ("weight", 8, 6, "ooi")),
        (lambda m, x: F.linear(x, m.w.permute(1, 0).contiguous()), (8, 6), ("weight", 8, 6, "io")),
    ],
)
def test_a_product_is_read_however_it_is_written(forward: Any, shape: tuple[int, ...], expected: Any) -> None:
    assert fans(seen(Head(Forward(forward, w=shape), 6), X)["0.w"]) == expected


@pytest.mark.parametrize(
    ("forward", "shape", "example", "layout"),
    [
        (lambda m, x: torch.einsum("eti,eio->eto", x, m.w), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.einsum("eti,eoi->eto", x, m.w), (4, 6, 8), (4, 5, 8), "boi"),
        (lambda m, x: torch.bmm(x, m.w), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.bmm(x, m.w.mT), (4, 6, 8), (4, 5, 8), "boi"),
        (lambda m, x: torch.baddbmm(torch.zeros(4, 1, 6), x, m.w), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.stack([x[e] @ m.w[e] for e in range(4)]), (4, 8, 6), (4, 5, 8), "bio"),
        (lambda m, x: torch.einsum("tei,ieo->teo", x, m.w), (8, 4, 6), (5, 4, 8), "ibo"),
    ],
)
def test_several_weights_in_one_tensor_have_the_fans_of_one(
    forward: Any, shape: Any, example: tuple[int, ...], layout: str
) -> None:
    model = Head(Forward(forward, w=shape), 6)
    assert fans(seen(model, torch.randn(example))["0.w"]) == ("weight", 8, 6, layout)


def test_experts_chosen_by_the_input_have_the_fans_of_one() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        chosen = m.router(x).argmax(-1)
        return torch.einsum("bti,btio->bto", x, m.w[chosen])

    infos = seen(Head(Forward(forward, w=(4, 8, 6), router=nn.Linear(8, 4)), 6), X)
    assert fans(infos["0.w"]) == ("weight", 8, 6, "bio")


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT / 2, -1) @ v


FUSED: dict[str, tuple[Any, int]] = {
    "split": (lambda m, x: attend(*m.qkv(x).split(8, -1)), 24),
    "chunk": (lambda m, x: attend(*m.qkv(x).chunk(3, -1)), 24),
    "slices": (lambda m, x: attend(m.qkv(x)[..., :8], m.qkv(x)[..., 8:16], m.qkv(x)[..., 16:]), 24),
    "unbind": (
        lambda m, x: attend(*m.qkv(x).reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)).mT.flatten(2).mT,
        24,
    ),
    "sdpa": (lambda m, x: F.scaled_dot_product_attention(*m.qkv(x).split(8, -1)), 24),
}


@pytest.mark.parametrize("way", FUSED)
def test_fused_projections_of_attention_are_named_slices(way: str) -> None:
    forward, size = FUSED[way]
    info = seen(Forward(forward, qkv=nn.Linear(8, size)), X)["qkv.weight"]
    assert slices(info) == [("query", 0, 8, 0, 8, 8), ("key", 8, 16, 0, 8, 8), ("value", 16, 24, 0, 8, 8)]
    assert (info.fan_in, info.fan_out, info.activation) == (8, 8, "linear")


def test_grouped_queries_make_slices_of_unequal_size() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        q, k, v = m.qkv(x).split([8, 4, 4], -1)
        q, k, v = (t.unflatten(-1, (-1, 4)).transpose(1, 2) for t in (q, k, v))
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return attend(q, k, v).transpose(1, 2).flatten(2)

    info = seen(Forward(forward, qkv=nn.Linear(8, 16)), X)["qkv.weight"]
    assert slices(info) == [("query", 0, 8, 0, 8, 8), ("key", 8, 12, 0, 8, 4), ("value", 12, 16, 0, 8, 4)]


def test_projections_that_interleave_by_head_have_the_fans_of_one() -> None:
    def forward(m: Any, x: Tensor) -> Any:  # head by head q, k, v, as GPT-NeoX stores them
        return attend(*m.qkv(x).view(2, 5, 2, 12).chunk(3, -1)).flatten(2)

    info = seen(Forward(forward, qkv=nn.Linear(8, 24)), X)["qkv.weight"]
    assert (info.fan_in, info.fan_out, info.slices) == (8, 8, ())


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        (lambda m, x: m.down(F.silu(m.fused(x).chunk(2, -1)[0]) * m.fused(x).chunk(2, -1)[1]), None),
        (lambda m, x: (lambda g, u: m.down(F.silu(g) * u))(*m.fused(x).chunk(2, -1)), ("gate", "up")),
        (lambda m, x: (lambda u, g: m.down(u * F.gelu(g)))(*m.fused(x).chunk(2, -1)), ("up", "gate")),
        (lambda m, x: m.down(F.glu(m.fused(x))), ("up", "gate")),
    ],
)
def test_fused_gate_and_up_are_slices(forward: Any, names: tuple[str, str] | None) -> None:
    infos = seen(Head(Forward(forward, fused=nn.Linear(8, 24), down=nn.Linear(12, 8)), 8), X)
    assert [(p.start, p.stop, p.fan_in, p.fan_out) for p in infos["0.fused.weight"].slices] == [
        (0, 12, 8, 12),
        (12, 24, 8, 12),
    ]
    if names is not None:
        assert tuple(p.name for p in infos["0.fused.weight"].slices) == names
        assert infos["0.down.weight"].part == "down"


@pytest.mark.parametrize("bias", [True, False])
def test_torch_attention_packed_and_separate(bias: bool) -> None:
    packed = nn.MultiheadAttention(8, 2, bias=bias, batch_first=True)
    model = Head(Forward(lambda m, x: m.mha(x, x, x, need_weights=False)[0], mha=packed), 8)
    infos = seen(model, X)
    three = [("query", 0, 8, 0, 8, 8), ("key", 8, 16, 0, 8, 8), ("value", 16, 24, 0, 8, 8)]
    assert slices(infos["0.mha.in_proj_weight"]) == three
    assert infos["0.mha.out_proj.weight"].part == "attention-out"
    cross = Forward(lambda m, x, y: m.head(m.mha(x, y, y)[0]), mha=packed, head=nn.Linear(8, 2))
    assert slices(seen(cross, X, torch.randn(2, 3, 8))["mha.in_proj_weight"]) == three
    apart = nn.MultiheadAttention(8, 2, bias=bias, kdim=6, vdim=4, batch_first=True)
    wide = Forward(lambda m, x, k, v: m.head(m.mha(x, k, v)[0]), mha=apart, head=nn.Linear(8, 2))
    parts = seen(wide, X, X[..., :6], X[..., :4])
    found = [(parts[f"mha.{w}_proj_weight"].part, parts[f"mha.{w}_proj_weight"].fan_in) for w in "qkv"]
    assert found == [("query", 8), ("key", 6), ("value", 4)]


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_are_read_by_gate(kind: Any, gates: int) -> None:
    infos = seen(Head(Forward(lambda m, x: m.cell(x)[0], cell=kind(8, 12, 2, batch_first=True)), 12), X)
    first, recurrent = infos["0.cell.weight_ih_l0"], infos["0.cell.weight_hh_l1"]
    assert (first.role, first.fan_in, first.fan_out) == ("weight", 8, 12)
    assert (recurrent.role, recurrent.fan_in, recurrent.fan_out) == ("recurrent-weight", 12, 12)
    assert len(first.slices) == (gates if gates > 1 else 0)


def test_bilinear_layers_sum_over_pairs() -> None:
    infos = seen(Head(Forward(lambda m, x: m.b(x, x[..., :3]), b=nn.Bilinear(8, 3, 6)), 6), X)
    assert fans(infos["0.b.weight"]) == ("weight", 24, 6, "")


def test_an_embedding_used_as_the_output_layer_is_one_tensor_that_says_so() -> None:
    def forward(m: Any, ids: Tensor) -> Any:
        return F.linear(torch.tanh(m.fc(m.tokens(ids))), m.tokens.weight)

    infos = seen(
        Forward(forward, tokens=nn.Embedding(50, 8, padding_idx=0), fc=nn.Linear(8, 8)), torch.zeros(2, 5).long()
    )
    tokens = infos["tokens.weight"]
    assert (tokens.role, tokens.fan_in, tokens.fan_out, tokens.tied_output, tokens.padding_idx) == (
        "embedding", 1, 8, True, 0,
    )  # fmt: skip
    assert infos["fc.weight"].role == "weight"


def test_tables_and_tokens_are_told_from_weights() -> None:
    def forward(m: Any, ids: Tensor) -> Any:
        x = m.words(ids) + m.places(torch.arange(5)) + m.table[:, :5]
        x = torch.cat([m.first.expand(2, -1, -1), x], 1)
        bias = m.relative[torch.arange(6)[:, None] - torch.arange(6)[None] + 5].permute(2, 0, 1)
        scores = torch.softmax(m.q(x) @ m.k(x).mT + bias, -1)
        return m.head((scores @ x) * m.gate + m.shift)

    model = Forward(
        forward, words=nn.Embedding(50, 8), places=nn.Embedding(7, 8), table=(1, 7, 8), first=(1, 1, 8), relative=(11, 1),
        q=nn.Linear(8, 8), k=nn.Linear(8, 8), gate=(8,), shift=(8,), head=nn.Linear(8, 3), spare=(4, 4),
    )  # fmt: skip
    infos = seen(model, torch.zeros(2, 5).long())
    assert {name: info.role for name, info in infos.items() if "." not in name or name.endswith("s.weight")} == {
        "words.weight": "embedding", "places.weight": "position", "table": "position", "first": "token",
        "relative": "position", "gate": "scale", "shift": "bias", "spare": "unused",
    }  # fmt: skip


@pytest.mark.parametrize(
    "norm",
    [
        lambda m, x: m.w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)) + m.b,
        lambda m, x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) * m.w + m.b,
        lambda m, x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-6) * m.w + m.b,
        lambda m, x: F.layer_norm(x, (8,), m.w, m.b),
    ],
)
def test_normalisations_written_out_are_known(norm: Any) -> None:
    infos = seen(Head(Forward(norm, w=(8,), b=(8,)), 8), X)
    assert (infos["0.w"].role, infos["0.b"].role) == ("norm-scale", "norm-shift")


def test_a_scale_that_one_is_added_to_starts_from_nothing() -> None:
    def forward(m: Any, x: Tensor) -> Any:  # Gemma's
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) * (1 + m.w)

    assert seen(Head(Forward(forward, w=(8,)), 8), X)["0.w"].role == "norm-shift"


def test_low_rank_pairs_are_known() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        return m.base(x) + m.b(m.a(F.dropout(x, 0.1, training=False))) * 2.0

    apart = seen(Head(Forward(forward, base=nn.Linear(8, 8), a=nn.Linear(8, 2), b=nn.Linear(2, 8)), 8), X)
    assert (apart["0.a.weight"].part, apart["0.b.weight"].part) == ("low-rank-in", "low-rank-out")
    assert (apart["0.base.weight"].part, apart["0.base.weight"].branch, apart["0.b.weight"].branch) == ("", None, None)

    def merged(m: Any, x: Tensor) -> Any:
        return F.linear(x, m.w + m.b @ m.a)

    infos = seen(Head(Forward(merged, w=(6, 8), a=(2, 8), b=(6, 2)), 6), X)
    assert fans(infos["0.w"]) == ("weight", 8, 6, "")
    assert [(infos[f"0.{n}"].part, infos[f"0.{n}"].fan_in, infos[f"0.{n}"].fan_out) for n in "ab"] == [
        ("low-rank-in", 8, 2),
        ("low-rank-out", 2, 6),
    ]


def test_the_factors_of_a_weight_norm_are_told_apart() -> None:
    model = Head(nn.utils.parametrizations.weight_norm(nn.Linear(8, 6)), 6)
    infos = seen(model, X)
    norms, direction = infos["0.parametrizations.weight.original0"], infos["0.parametrizations.weight.original1"]
    assert (norms.role, norms.scale_of) == ("scale", direction.name)
    assert fans(direction) == ("weight", 8, 6, "")
    assert "weight-normalised" in direction.note
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = seen(Head(nn.utils.weight_norm(nn.Conv1d(8, 6, 3)), 3), X.mT)
    assert (old["0.weight_g"].scale_of, old["0.weight_v"].fan_in) == ("0.weight_v", 24)


def test_a_weight_norm_has_the_stated_std_in_every_row() -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(300, 40))
    model = nn.Sequential(normed, nn.Tanh(), nn.Linear(40, 2))
    made = plan(model, "normal:std=0.05", example=torch.zeros(1, 300))
    made.apply(model, seed=0)
    assert torch.linalg.vector_norm(normed.weight, dim=1).tolist() == pytest.approx([0.05 * 300**0.5] * 40, rel=1e-5)
    assert "so that it has std 0.05" in made["0.parametrizations.weight.original0"].reason
    assert "direction of a weight-normalised weight" in made["0.parametrizations.weight.original1"].reason


def test_experts_that_meet_one_input_are_weights_side_by_side() -> None:
    model = Head(Forward(lambda m, x: torch.einsum("ti,eio->teo", x, m.w), w=(4, 8, 6)), 6)
    assert fans(seen(model, torch.randn(5, 8))["0.w"]) == ("weight", 8, 24, "bio")  # each input reaches all experts


@pytest.mark.parametrize(("recipe", "size"), [("zeros", 0.0), ("constant:value=0.5", 0.5)])
def test_a_weight_norm_with_a_constant_is_that_constant_and_no_nan(recipe: str, size: float) -> None:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
    model = nn.Sequential(normed, nn.Tanh(), nn.Linear(6, 2))
    plan(model, recipe, example=X).apply(model)
    assert normed.weight.detach().flatten().tolist() == pytest.approx([size] * 48)


def test_a_parametrization_that_sets_the_scale_is_said() -> None:
    infos = seen(Head(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 6)), 6), X)
    original = infos["0.parametrizations.weight.original"]
    assert (original.role, original.fan_in) == ("weight", 8)
    assert "parametrization" in original.note
    made = plan(nn.utils.parametrizations.spectral_norm(nn.Linear(8, 6)), "he", example=X)
    assert "which sets the scale itself" in made["parametrizations.weight.original"].reason


@pytest.mark.parametrize(
    ("function", "name", "param"),
    [
        (torch.relu, "relu", None),
        (lambda x: x * torch.sigmoid(x), "silu", None),
        (lambda x: x * torch.sigmoid(1.702 * x), "quickgelu", None),
        (lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))), "gelu_tanh", None),
        (lambda x: torch.relu(x) ** 2, "relu_squared", None),
        (lambda x: F.leaky_relu(x, 0.3), "leaky_relu", 0.3),
        (lambda x: F.elu(x, 0.5), "elu", 0.5),
        (lambda x: torch.sin(30 * x), "sin", None),
        (torch.sin, "sin", None),
        (F.softsign, "softsign", None),
        (F.mish, "mish", None),
        (F.selu, "selu", None),
        (lambda x: F.layer_norm(x, (8,)).tanh(), "tanh", None),
        (lambda x: 2 * x + 1, "linear", None),
        (lambda x: x.abs().sqrt(), None, None),
    ],
)
def test_activations_are_known_by_what_they_compute(function: Any, name: str | None, param: float | None) -> None:
    infos = seen(Forward(lambda m, x: m.b(function(m.a(x))), a=nn.Linear(8, 8), b=nn.Linear(8, 8)), X)
    assert (infos["a.weight"].activation, infos["a.weight"].activation_param) == (name, param)
    if not (name == "tanh" or name is None):
        assert infos["b.weight"].before == name


def test_a_module_called_many_times_is_one_weight() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        for _ in range(3):
            x = torch.tanh(m.fc(x))
        return m.head(x)

    infos = seen(Forward(forward, fc=nn.Linear(8, 8), head=nn.Linear(8, 2)), X)
    assert (infos["fc.weight"].role, infos["fc.weight"].fan_in, infos["fc.weight"].activation) == ("weight", 8, "tanh")
    assert infos["head.weight"].role == "output-weight"


def test_what_no_operator_reads_is_unused_and_kept() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Any:
            self.spare(x)  # computed, but nothing comes of it
            return torch.as_tensor(self.used(x))

    rows = plan(Net(), "he", example=X)
    assert {row.name: row.role for row in rows if row.name.startswith("spare")} == {
        "spare.weight": "unused",
        "spare.bias": "unused",
    }
    assert "no operator reads it" in rows["spare.weight"].reason


def test_heads_for_training_alone_are_read_too() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        y = torch.relu(m.body(x))
        return (m.head(y), m.extra(y)) if m.training else m.head(y)

    infos = seen(Forward(forward, body=nn.Linear(8, 8), head=nn.Linear(8, 2), extra=nn.Linear(8, 2)), X)
    assert infos["extra.weight"].role == "output-weight"


def test_inputs_are_tensors_tuples_or_dicts_on_any_device() -> None:
    model = nn.Bilinear(8, 8, 3)
    wanted = [(i.role, i.fan_in, i.found_by) for i in read(model, (X, X))]
    assert [(i.role, i.fan_in, i.found_by) for i in read(model, {"input1": X, "input2": X})] == wanted
    bare = torch.empty(X.shape, device="meta")
    assert [(i.role, i.fan_in, i.found_by) for i in read(model, (bare, bare))] == wanted
    with torch.device("meta"):
        empty = nn.Bilinear(8, 8, 3)
        assert [(i.role, i.fan_in, i.found_by) for i in read(empty, (X, X))] == wanted


def test_control_flow_that_depends_on_values_takes_the_way_of_the_example() -> None:
    model = Forward(
        lambda m, x: m.head(m.a(x) if x.sum() > 0 else m.b(x)),
        a=nn.Linear(8, 4),
        b=nn.Linear(8, 4),
        head=nn.Linear(4, 2),
    )
    assert seen(model, torch.ones(2, 8))["b.weight"].role == "unused"
    assert seen(model, -torch.ones(2, 8))["a.weight"].role == "unused"


def test_control_flow_without_values_falls_back_and_says_why() -> None:
    with torch.device("meta"):
        model = Forward(lambda m, x: m.a(x) if x.sum() > 0 else x, a=nn.Linear(8, 4))
    with pytest.warns(
        UserWarning, match=r"Forward cannot be followed without values .*meta.* roles are from module types"
    ):
        infos = read(model, torch.ones(2, 8))
    assert {info.found_by for info in infos} == {"module"}


def test_an_example_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(
        PlanError, match=r"Linear does not run on the example \(\(2, 3\) float32\): .* No parameter was changed"
    ):
        read(nn.Linear(8, 4), torch.ones(2, 3))
    with pytest.raises(PlanError, match=r"does not run on the example .* missing 1 required positional argument"):
        read(nn.Bilinear(8, 8, 3), X)


def test_reading_leaves_the_model_and_all_generators_as_they_were() -> None:
    model = nn.Sequential(
        nn.Conv1d(5, 6, 3), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Flatten(), nn.Linear(36, 2)
    ).train()
    model[2].eval()
    calls: list[int] = []
    model[0].register_forward_hook(lambda *_: calls.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state: Any = np.random.get_state()
    read(model, X)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in model] == [True, True, False, True, True]
    assert calls == []
    now: Any = np.random.get_state()
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    assert numpy_state[1].tolist() == now[1].tolist()


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet", "lstm", "gpt", "bert"])
def test_built_in_models_bring_their_own_example(model: str) -> None:
    target = load(model)
    rows = plan(target.build(), "he", example=target.example)
    assert {row.found_by for row in rows if not row.is_buffer} == {"graph"}
    assert sum(row.role == "output-weight" for row in rows) == 1


def test_a_plan_with_an_example_sees_functions_in_forward() -> None:
    model = Forward(lambda m, x: m.b(torch.relu(m.a(x))), a=nn.Linear(8, 8), b=nn.Linear(8, 2))
    assert "before relu" in plan(model, "xavier:gain=activation", example=X)["a.weight"].reason
    assert initialize(model, "he", example=X) is model


class Block(nn.Module):
    """torchvision's basic block, and its bottleneck when wide, with or without normalisation."""

    def __init__(self, inputs: int, width: int, stride: int, *, wide: bool, norm: bool) -> None:
        super().__init__()
        out = width * (4 if wide else 1)
        sizes = (
            [(inputs, width, 1), (width, width, 3), (width, out, 1)] if wide else [(inputs, width, 3), (width, out, 3)]
        )
        strides = [stride if place == wide else 1 for place in range(len(sizes))]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, stride=s, padding=k // 2, bias=not norm)
            for (i, o, k), s in zip(sizes, strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) if norm else nn.Identity() for _, o, _ in sizes)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, out, 1, stride), nn.BatchNorm2d(out) if norm else nn.Identity()
            )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = F.relu(y) if place + 1 < len(self.convs) else y
        return F.relu(self.shortcut(x) + y)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_residual_networks_have_a_branch_a_block_and_shortcuts_are_in_none(wide: bool, norm: bool) -> None:
    out = 4 if wide else 1
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
        *(Block(8 * out if i else 8, 8, 1, wide=wide, norm=norm) for i in range(5)),
        Block(8 * out, 16, 2, wide=wide, norm=norm), Block(16 * out, 16, 1, wide=wide, norm=norm),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16 * out, 10),
    )  # fmt: skip
    infos = seen(model, torch.zeros(2, 3, 8, 8))
    length = 3 if wide else 2
    for block in range(7):
        places = [infos[f"{block + 2}.convs.{i}.weight"].branch for i in range(length)]
        assert [(b.index, b.count, b.position, b.length, b.stack) for b in places if b] == [
            (block, 7, i, length, 0) for i in range(length)
        ]
    assert {name for name, i in infos.items() if i.role.endswith("weight") and i.branch is None} == {
        name for name in infos if "shortcut.0.weight" in name
    } | {"0.weight", f"{len(model) - 1}.weight"}


def test_blocks_that_norm_after_the_sum_and_blocks_in_parallel_have_branches_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    infos = seen(nn.Sequential(nn.TransformerEncoder(layer, 5), nn.Linear(8, 2)), X)
    ends = [n for n, i in infos.items() if i.branch is not None and i.branch.ends]
    assert ends == [f"0.layers.{i}.{n}.weight" for i in range(5) for n in ("self_attn.out_proj", "linear2")]
    counts = [(b.index, b.count) for n in ends if (b := infos[n].branch) is not None]
    assert counts == [(i, 10) for i in range(10)]

    def parallel(m: Any, x: Tensor) -> Any:
        y = F.layer_norm(x, (8,))
        return m.head(x + m.out(attend(m.q(y), m.k(y), m.v(y))) + m.down(F.gelu(m.up(y))))

    names = ("q", "k", "v", "out", "up", "down", "head")
    one = seen(Forward(parallel, **{name: nn.Linear(8, 8) for name in names}), X)
    places = {n: b.position for n in names if (b := one[f"{n}.weight"].branch) is not None}
    assert places == {"q": 0, "k": 0, "v": 0, "out": 1, "up": 0, "down": 1}
