"""Known numbers: what the papers and their code give, tensor by tensor, from independent arithmetic."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from firstlight.errors import OptionError, RecipeError
from firstlight.model.targets import load
from firstlight.model.tensors import Branch, TensorInfo
from firstlight.plan import Plan, initialize, plan
from firstlight.recipes import Context, compose, parse
from firstlight.recipes.deep import depth_constants
from firstlight.recipes.mup import learning_rates

Make = Callable[..., Plan]
Special = dict[str, Callable[..., nn.Module]]


def std(made: Plan, ending: str) -> float:
    """Return the std that all tensors of such a name have."""
    found = {row.std for row in made if row.name.endswith(ending)}
    assert len(found) == 1
    (only,) = found
    assert only is not None
    return only


def test_gpt2_divides_the_ends_of_its_24_branches_by_the_root_of_24(make: Make) -> None:
    made = make(load("gpt:depth=12,width=48").build(), "gpt2")
    for ending in ("out.weight", "down.weight"):
        assert std(made, ending) == pytest.approx(0.02 / math.sqrt(24))
    for ending in ("query.weight", "up.weight", "head.weight", "tokens.weight", "positions.weight"):
        assert std(made, ending) == 0.02
    assert all(row.options == {"value": 0.0} for row in made if row.role == "bias")


def test_bert_is_cut_at_two_stds_as_googles_code_and_says_the_std_that_is_left() -> None:
    model = load("bert:width=64").build()
    row = plan(model, "bert")["blocks.0.mlp.up.weight"]
    assert row.std == pytest.approx(0.02 * 0.87962566103, rel=1e-9)
    weight = initialize(model, "bert").get_parameter("blocks.0.mlp.up.weight").detach()
    assert 0.039 < float(weight.abs().max()) <= 0.04
    assert plan(model, "bert:form=normal")["head.weight"].std == 0.02


def test_a_truncated_normal_of_std_0_02_has_std_0_02() -> None:
    model = initialize(
        nn.Linear(1000, 1000), "xavier:distribution=truncated-normal,gain=0.63245553"
    )  # √(0.4/1000)·√… = 0.02
    assert plan(model, "xavier:gain=0.63245553")["weight"].std == pytest.approx(0.02, rel=1e-6)
    assert float(model.weight.detach().std()) == pytest.approx(0.02, rel=5 / math.sqrt(2e6))


def test_vit_is_xavier_with_a_silent_head() -> None:
    made = plan(load("bert:width=32").build(), "vit")
    assert made["blocks.0.mlp.up.weight"].std == pytest.approx(math.sqrt(2 / (32 + 128)))
    assert made["head.weight"].options == {"value": 0.0}


def test_llama_divides_up_down_and_out_by_the_depth_of_the_layer(make: Make) -> None:
    model = load("gpt:depth=4,width=32").build()
    own, total = make(model, "llama"), make(model, "llama:depth=total")
    for layer in range(4):
        for local in ("attention.out", "mlp.up", "mlp.down"):
            name = f"blocks.{layer}.{local}.weight"
            assert own[name].std == pytest.approx(0.02 / math.sqrt(2 * (layer + 1)))
            assert total[name].std == pytest.approx(0.02 / math.sqrt(8))
        assert own[f"blocks.{layer}.attention.query.weight"].std == 0.02
    assert own["embedding.tokens.weight"].std == 1.0
    assert own["head.weight"].std == pytest.approx(0.98658 / math.sqrt(32), rel=1e-4)  # N(0, 1/d) cut at ±3


def test_depth_scaled_divides_layer_l_by_its_root(make: Make) -> None:
    made = make(load("bert:depth=3,width=32").build(), "depth-scaled")
    for layer in range(3):
        expected = math.sqrt(2 / 64) / math.sqrt(layer + 1)
        assert made[f"blocks.{layer}.attention.query.weight"].std == pytest.approx(expected)


def test_small_gives_attention_the_std_of_the_feed_forward() -> None:
    made = plan(load("gpt:width=64").build(), "small")
    for local in ("attention.query", "attention.out", "mlp.up", "mlp.down"):
        assert made[f"blocks.0.{local}.weight"].std == pytest.approx(math.sqrt(2 / (5 * 64)))


@pytest.mark.parametrize(("depth", "width"), [(2, 32), (8, 16)])
def test_t_fixup_scales_v_out_and_mlp_and_leaves_query_and_key(
    depth: int, width: int, make: Make, special: Special
) -> None:
    model = special["norm-free"](depth, width)
    for spec, factor in (("t-fixup", 0.67 * depth**-0.25), ("t-fixup:kind=decoder", (9 * depth) ** -0.25)):
        made = make(model, spec)
        square, wide = math.sqrt(2 / (2 * width)), math.sqrt(2 / (5 * width))
        for local in ("value", "out"):
            assert std(made, f"attention.{local}.weight") == pytest.approx(factor * square)
        assert std(made, "up.weight") == std(made, "down.weight") == pytest.approx(factor * wide)
        assert std(made, "query.weight") == std(made, "key.weight") == pytest.approx(square)
        assert std(made, "tokens.weight") == pytest.approx((9 * depth) ** -0.25 / math.sqrt(width))


def test_deepnorm_has_the_constants_of_the_papers_table() -> None:
    """One stack of 12: α = 24^¼, β = 96^-¼. Encoder and decoder of 6 each: 0.81·6^(5/16), 0.87·6^(-5/16), 18^¼, 72^-¼."""
    found = [number for pair in (*depth_constants([12]), *depth_constants([6, 6])) for number in pair]
    expected = [2.213364, 0.319472, 0.81 * 1.750541, 0.87 / 1.750541, 2.059767, 0.343295]
    assert found == pytest.approx(expected, rel=1e-5)


def test_deepnorm_scales_v_out_and_mlp_and_says_alpha(make: Make) -> None:
    made = make(load("bert:depth=12,width=32").build(), "deepnorm")
    assert std(made, "value.weight") == pytest.approx(0.319472 * math.sqrt(2 / 64), rel=1e-5)
    assert std(made, "query.weight") == pytest.approx(math.sqrt(2 / 64))
    assert "times α = 2.213" in made["blocks.0.attention.out.weight"].reason


def encoder_decoder() -> list[TensorInfo]:
    """Six layers each; the decoder's have three branches: self-attention, cross-attention, feed-forward."""
    found = []
    for stack, ends in enumerate((("attention-out", "down"), ("attention-out", "attention-out", "down"))):
        for index in range(6 * len(ends)):
            part = ends[index % len(ends)]
            for position, word in enumerate(("value" if part == "attention-out" else "up", part)):
                branch = Branch(index, 6 * len(ends), position, 2, stack)
                name = f"{stack}.{index}.{word}"
                found.append(
                    TensorInfo(
                        name, (8, 8), "float32", "weight", False, "Linear", 8, 8, "linear", None, 0, (), (), "graph", name,
                        part=word, branch=branch,
                    )
                )  # fmt: skip
    return found


def test_an_encoder_and_a_decoder_get_their_own_factors() -> None:
    infos = encoder_decoder()
    made = parse("t-fixup").decide(infos, infos)
    xavier = math.sqrt(2 / 16)
    for name, choice in made.items():
        assert choice is not None
        factor = 0.67 * 6**-0.25 if name.startswith("0.") else 54**-0.25
        assert choice.std == pytest.approx(factor * xavier)


def test_fixup_scales_he_inside_branches_and_silences_their_ends(make: Make) -> None:
    made = make(load("resnet:norm=none,depth=9,width=16").build(), "fixup")
    he = math.sqrt(2 / (16 * 9))
    assert std(made, "conv1.weight") == pytest.approx(he * 9**-0.5)  # m = 2: L^(-1/2)
    assert all(row.options == {"value": 0.0} for row in made if row.name.endswith(("conv2.weight", "head.weight")))
    assert made["stem.weight"].std == pytest.approx(math.sqrt(2 / 9))


def test_fixup_takes_the_root_that_fits_the_length_of_the_branch() -> None:
    def info(position: int) -> TensorInfo:
        branch = Branch(0, 16, position, 3)
        return TensorInfo(
            f"w{position}", (8, 8), "float32", "weight", False, "Linear", 8, 8, "relu", None, 0, (), (), "graph",
            branch=branch,
        )  # fmt: skip

    infos = [info(position) for position in range(3)]
    chosen = [parse("fixup").choose(i, Context(infos)) for i in infos]
    assert [choice.std for choice in chosen if choice] == [pytest.approx(0.5 * 16**-0.25)] * 2 + [0.0]


@pytest.mark.parametrize("name", ["rezero", "skipinit"])
def test_the_multiplier_of_every_branch_starts_at_nothing(name: str, make: Make, special: Special) -> None:
    made = make(special["gated"](), name)
    assert [row.options for row in made if row.name.endswith("alpha")] == [{"value": 0.0}] * 3
    expected = math.sqrt(2 / 32) if name == "rezero" else math.sqrt(2 / 16)
    assert made["blocks.0.up.weight"].std == pytest.approx(expected)


def test_resnet_silences_the_last_norm_of_a_branch_alone(make: Make) -> None:
    made = make(load("resnet:width=16").build(), "resnet")
    values = {row.name: row.options["value"] for row in made if row.role == "norm-scale"}
    assert {name for name, value in values.items() if value == 0} == {f"blocks.{i}.norm2.weight" for i in range(3)}
    assert made["stem.weight"].std == pytest.approx(math.sqrt(2 / (16 * 9)))  # fan_out
    assert made["head.weight"].std == 0.01


@pytest.mark.parametrize(
    ("recipe", "target", "message"),
    [
        (
            "t-fixup",
            "gpt",
            r"it has normalisation 'blocks\.0\.norm1\.weight' \(64,\) and 4 more; T-Fixup replaces norm",
        ),
        ("fixup", "resnet", r"it has normalisation 'blocks\.0\.norm1\.weight' .* Remove it, or use 'resnet'"),
        ("resnet", "resnet:norm=none", r"none of its residual branches ends in a normalisation\. Use 'fixup'"),
        ("gpt2", "mlp", r"none of its weights is known to stand in a residual branch\. .* give example=batch"),
        ("deepnorm", "mlp", r"it has no normalisation; DeepNorm normalises after each branch"),
        ("rezero", "resnet:norm=none", r"it has no learned multiplier of a residual branch\. Add one to each"),
        ("delta-orthogonal", "mlp", r"it has no convolution\. Use 'orthogonal'"),
        ("delta-orthogonal", "cnn:act=relu", r"'features\.0\.weight' .* is followed by relu, which has no slope of 1"),
        ("looks-linear", "mlp:act=tanh", r"'layers\.0\.weight' \(128, 64\) is followed by tanh, not by ReLU"),
        ("looks-linear", "mlp:act=relu,width=33", r"'layers\.0\.weight' \(33, 64\) has an odd number of outputs"),
        ("siren", "mlp:act=relu", r"'layers\.0\.weight' .* followed by relu; the formula is for sine alone"),
        ("lstm", "mlp", r"it has no recurrent weight\. Use 'xavier' or 'orthogonal'"),
        ("mup", "mlp", r"it has to be told the width that was tuned: mup:base=64"),
        ("mup:base=16", "gpt:tie=yes", r"'embedding\.tokens\.weight' .* is embedding and output layer at once"),
        ("mimetic", "mlp", r"none of its weights is known to be a part of attention"),
        ("lora", "mlp", r"it has no low-rank pair of weights"),
        ("output-prior", "mlp", r"it has to be told how frequent the classes are"),
        (
            "output-prior:frequencies=1/2",
            "mlp",
            r"'layers\.8\.bias' \(10,\) has 10 outputs and 2 frequencies were given",
        ),
        ("output-prior:frequencies=1/2", "gpt", r"its output layer has no bias"),
    ],
)
def test_a_recipe_that_does_not_fit_says_why_and_writes_nothing(
    recipe: str, target: str, message: str, make: Make
) -> None:
    model = load(target).build()
    before = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(RecipeError, match=message) as caught:
        make(model, recipe).apply(model)
    assert str(caught.value).endswith("No parameter was changed.")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_frequencies_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(OptionError, match="frequencies = '1/x', must be numbers above 0 with / between them"):
        parse("output-prior:frequencies=1/x")


@pytest.mark.parametrize("layer", [nn.LSTM(6, 8, bidirectional=True), nn.LSTMCell(6, 8)])
def test_the_forget_gate_starts_open_by_one_in_sum(layer: nn.Module) -> None:
    model = initialize(layer, "lstm")
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name in [name for name in values if name.startswith("bias_ih")]:
        total = values[name] + values[name.replace("_ih", "_hh")]
        assert torch.equal(total, torch.tensor([0.0, 1.0, 0.0, 0.0]).repeat_interleave(8))
    for name in [name for name in values if name.startswith("weight_hh")]:
        for gate in values[name].reshape(4, 8, 8):
            assert torch.allclose(gate @ gate.T, torch.eye(8), atol=1e-5)


def test_a_gru_has_no_forget_gate_to_open() -> None:
    model = initialize(nn.GRU(6, 8), "lstm")
    assert all(bool((p == 0).all()) for name, p in model.named_parameters() if name.startswith("bias"))


def test_zero_is_the_same_under_every_seed_and_of_full_rank() -> None:
    """The Hadamard block of order 4 for 3 outputs of 2 inputs: c = 2^(-1/2), entries of the first rows and columns."""
    one, two = (initialize(load("mlp:act=relu,width=96").build(), "zero", seed=seed) for seed in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert torch.linalg.matrix_rank(one.get_parameter("layers.0.weight").detach()) == 64
    small = initialize(nn.Linear(2, 3), "zero").weight.detach()
    c = 2**-0.5
    assert torch.allclose(small, torch.tensor([[c, c], [c, -c], [c, c]]))


def test_identity_lets_a_positive_signal_through_unchanged_but_for_its_noise() -> None:
    """Seven layers of 1 + 1e-6 z: each number is off by about √7 · 1e-6 of itself."""
    x = torch.rand(5, 64)
    for recipe, allowed in (("identity", 2e-5), ("identity:loose=0", 0.0)):
        model = initialize(load("mlp:act=relu,width=64,in=64,classes=64,depth=6").build(), recipe)
        with torch.no_grad():
            torch.testing.assert_close(model(x), x, rtol=allowed, atol=0)


def test_identity_spreads_convolutions_over_the_patch_and_ends_branches_near_zero(make: Make) -> None:
    model = load("resnet:width=8").build()
    plan = make(model, "identity")
    plan.apply(model)
    last = model.get_parameter("blocks.0.conv2.weight").detach().flatten(1)
    assert float(last.abs().max()) == pytest.approx(1e-6, rel=1e-4)
    assert bool(((last != 0).sum(1) == 2).all())
    first = model.get_parameter("blocks.0.conv1.weight").detach().flatten(1)
    assert torch.allclose(first, torch.eye(8, 72), atol=1e-5)
    centred = make(model, "identity:kernel=centre")
    centred.apply(model)
    first = model.get_parameter("blocks.0.conv1.weight").detach()
    assert torch.allclose(first[:, :, 1, 1], torch.eye(8), atol=1e-5)


def test_sparse_gives_every_unit_fifteen_inputs_of_std_1() -> None:
    weight = initialize(nn.Linear(400, 300), "sparse").weight.detach()
    assert bool(((weight != 0).sum(1) == 15).all())
    kept = weight[weight != 0]
    assert abs(float(kept.std()) - 1) < 5 / math.sqrt(2 * len(kept))
    counts = (weight != 0).sum(0).float()  # inputs are chosen at random: Poisson-like, mean 11.25
    assert 2 < float(counts.std()) < 5


@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
def test_looks_linear_networks_are_linear_at_the_start(act: str) -> None:
    model = initialize(load(f"mlp:depth=12,width=64,act={act}").build(), "looks-linear")
    x, y = torch.randn(2, 5, 64, generator=torch.Generator().manual_seed(0)).unbind()
    with torch.no_grad():
        assert torch.allclose(model(x + y), model(x) + model(y), atol=1e-5)


def test_the_two_products_of_attention_are_near_plus_and_minus_the_identity(make: Make) -> None:
    """d = 128: traces of Z over d have std 1/d; the rest of the product has entries of std α/√d, known to 5/√(2d²)."""
    d = 128
    attention = nn.MultiheadAttention(d, 4)
    initialize(attention, "mimetic:heads=4", seed=3)
    packed = attention.get_parameter("in_proj_weight").detach().double()
    query, key, value = packed[:d], packed[d : 2 * d], packed[2 * d :]
    product = attention.get_parameter("out_proj.weight").detach().double() @ value
    rest = product + 0.4 * torch.eye(d)
    assert float(product.trace() / d) == pytest.approx(-0.4, abs=5 * 0.4 / d)
    assert float(rest.std()) == pytest.approx(0.4 / math.sqrt(d), rel=5 / math.sqrt(2 * d * d))
    for q, k in zip(query.reshape(4, 32, d), key.reshape(4, 32, d), strict=True):
        assert float((q.T @ k).trace()) > 0.5 * 0.7 * 32
    single = initialize(nn.MultiheadAttention(d, 1), "mimetic:heads=1", seed=3).get_parameter("in_proj_weight").detach()
    whole = single[:d].double().T @ single[d : 2 * d].double() - 0.7 * torch.eye(d)
    assert float(whole.std()) == pytest.approx(0.7 / math.sqrt(d), rel=5 / math.sqrt(2 * d * d))


@pytest.mark.parametrize("heads", [2, 8])
def test_the_number_of_heads_is_read_from_the_operators(heads: int) -> None:
    target = load(f"gpt:depth=2,width=32,heads={heads}")
    model = target.build()
    read, told = (plan(model, recipe, example=target.example) for recipe in ("mimetic", f"mimetic:heads={heads}"))
    assert [row.to_json() for row in read] == [row.to_json() for row in told]
    with pytest.raises(RecipeError, match=r"heads is read from the operators of .* or say it: mimetic:heads=4"):
        plan(model, "mimetic")


def test_layers_draw_different_products_and_a_wrong_number_of_heads_is_refused(make: Make) -> None:
    model = load("gpt:depth=2,width=32").build()
    made = make(model, "mimetic:heads=4")
    factors = {row.options["factor"] for row in made if row.distribution == "mimetic"}
    assert len(factors) == 4
    with pytest.raises(RecipeError, match="does not map d numbers to the same d in 5 heads"):
        make(model, "mimetic:heads=5")


def test_an_adapter_changes_nothing_at_the_start_and_the_rest_is_kept(make: Make, special: Special) -> None:
    model = special["adapted"]()
    x = torch.randn(3, 20)
    with torch.no_grad():
        before = model.get_submodule("frozen")(x)
        make(model, "lora").apply(model)
        assert torch.equal(model(x), before)
    first = model.get_parameter("lora_A.weight").detach()
    assert 0.9 / math.sqrt(20) < float(first.abs().max()) <= 1 / math.sqrt(20)
    assert make(model, "lora:law=normal")["lora_A.weight"].std == 0.25


def test_the_loss_starts_at_the_entropy_of_the_classes() -> None:
    shares = torch.tensor([0.9, 0.06, 0.03, 0.01])
    spec = "output-prior:frequencies=0.9/0.06/0.03/0.01,base=xavier"
    model = initialize(load("mlp:classes=4,act=tanh").build(), spec)
    target = torch.multinomial(shares, 4000, replacement=True, generator=torch.Generator().manual_seed(0))
    entropy = float(-(shares * shares.log()).sum())
    assert plan(model, spec)["layers.0.weight"] == plan(model, "xavier")["layers.0.weight"]
    with torch.no_grad():
        x = torch.randn(4000, 64, generator=torch.Generator().manual_seed(1))
        loss = float(nn.functional.cross_entropy(model(x), target))
        start = float(nn.functional.cross_entropy(initialize(model, "xavier")(x), target))
    assert loss == pytest.approx(entropy, abs=0.05)  # the entropy of 4,000 draws has std 0.015
    assert start > entropy + 0.5


def test_one_output_gets_the_log_odds() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    initialize(model, "output-prior:frequencies=99/1")
    assert float(model[2].get_parameter("bias").detach()) == pytest.approx(-math.log(99), rel=1e-6)


def test_mup_has_the_rates_and_variances_of_table_3() -> None:
    wide = load("mlp:depth=4,width=256,act=relu").build()
    made, rates = plan(wide, "mup:base=64,gain=1"), learning_rates(wide, base=64)
    assert [made[f"layers.{i}.weight"].std for i in (0, 2, 6)] == [
        pytest.approx(1 / 8),
        pytest.approx(1 / 16),
        pytest.approx(8 / 256),
    ]
    assert [rates[f"layers.{i}.weight"] for i in (0, 2, 6)] == [1.0, 0.25, 0.25]
    assert [rates[f"layers.{i}.bias"] for i in (0, 6)] == [1.0, 1.0]
    sgd = learning_rates(wide, base=64, optimizer="sgd")
    assert [sgd[f"layers.{i}.weight"] for i in (0, 2, 6)] == [4.0, 1.0, 0.25]
    assert [sgd[f"layers.{i}.bias"] for i in (0, 6)] == [4.0, 1.0]
    assert "learning rate × 0.25 (Adam)" in made["layers.2.weight"].reason
    at_base = load("mlp:depth=4,width=64,act=relu").build()
    assert set(learning_rates(at_base, base=64).values()) == {1.0}


def test_one_may_mix_recipes_for_a_model_with_an_lstm_and_a_head() -> None:
    made = plan(load("lstm").build(), compose("lstm", {"head": "normal:std=0.5"}))
    assert made["head.weight"].std == 0.5
