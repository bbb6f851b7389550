"""Known answers: torch's own layers for torch-default, the papers' formulas for the others."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from firstlight.errors import OptionError
from firstlight.model.targets import load
from firstlight.model.tensors import TensorInfo
from firstlight.plan import initialize, plan
from firstlight.recipes import RECIPES, Choice, Context, PlanRow, Recipe, register

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(300, 200),
    "bilinear": lambda: nn.Bilinear(30, 20, 40),
    "conv": lambda: nn.Conv2d(32, 48, 3),
    "grouped-conv": lambda: nn.Conv1d(64, 128, 5, groups=4),
    "transposed-conv": lambda: nn.ConvTranspose2d(32, 48, 3, groups=2),
    "embedding": lambda: nn.Embedding(200, 64, padding_idx=5),
    "embedding-bag": lambda: nn.EmbeddingBag(200, 64),
    "lstm": lambda: nn.LSTM(40, 64, proj_size=32, bidirectional=True),
    "gru": lambda: nn.GRU(40, 64),
    "rnn": lambda: nn.RNN(40, 64),
    "lstm-cell": lambda: nn.LSTMCell(40, 64),
    "attention": lambda: nn.MultiheadAttention(64, 4, add_bias_kv=True),
    "cross-attention": lambda: nn.MultiheadAttention(64, 4, kdim=32, vdim=48),
    "batch-norm": lambda: nn.BatchNorm2d(8),
    "layer-norm": lambda: nn.LayerNorm(8),
    "group-norm": lambda: nn.GroupNorm(2, 8),
    "instance-norm": lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True),
    "rms-norm": lambda: nn.RMSNorm(8),
    "prelu": lambda: nn.PReLU(3),
    "conv1d": lambda: nn.Conv1d(32, 48, 5),
    "conv3d": lambda: nn.Conv3d(8, 16, 3),
    "transposed-conv1d": lambda: nn.ConvTranspose1d(32, 48, 5),
    "transposed-conv3d": lambda: nn.ConvTranspose3d(8, 16, 3),
    "rnn-cell": lambda: nn.RNNCell(40, 64),
    "gru-cell": lambda: nn.GRUCell(40, 64),
    "batch-norm-1d": lambda: nn.BatchNorm1d(8),
    "batch-norm-3d": lambda: nn.BatchNorm3d(8),
    "sync-batch-norm": lambda: nn.SyncBatchNorm(8),
    "instance-norm-1d": lambda: nn.InstanceNorm1d(8, affine=True, track_running_stats=True),
    "instance-norm-3d": lambda: nn.InstanceNorm3d(8, affine=True, track_running_stats=True),
    "adaptive-softmax": lambda: nn.AdaptiveLogSoftmaxWithLoss(64, 500, [100, 300]),
    "encoder-layer": lambda: nn.TransformerEncoderLayer(32, 4, 64),
    "decoder-layer": lambda: nn.TransformerDecoderLayer(32, 4, 64),
    "transformer": lambda: nn.Transformer(32, 4, 1, 1, 64, batch_first=True),
}


def test_every_layer_of_torch_that_has_parameters_is_compared() -> None:
    """Lazy layers have no shape, and the bases and stacks of the others no parameters of their own."""
    others = {"Transformer", "TransformerEncoder", "TransformerDecoder", "RNNBase", "RNNCellBase"}
    made = {type(module).__name__ for build in LAYERS.values() for module in build().modules()}
    layers = {
        name
        for name in dir(nn)
        if isinstance(found := getattr(nn, name), type) and issubclass(found, nn.Module)
        if any(hasattr(base, word) for base in found.__mro__ for word in ("reset_parameters", "_reset_parameters"))
    }
    assert {name for name in layers - others if not name.startswith("Lazy")} <= made


def own_layer(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return LAYERS[kind]()


def agrees(row: PlanRow, tensor: torch.Tensor) -> bool:
    """Whether torch's values are as the row says: exactly for constants, else by std, and by bound when uniform.

    The std of n uniform values has relative error below that of normal ones, 1/√(2(n-1)); 5 of these are allowed. With at
    least 2,500 values in the larger weights a std that is 8 % off is caught.
    """
    values = tensor.detach().double()
    if row.distribution == "constant":
        return bool(torch.all(values == float(row.options["value"])))
    if row.padding_idx is not None:
        if bool((values[row.padding_idx] != 0).any()):
            return False
        values = values[torch.arange(len(values)) != row.padding_idx]
    assert row.std is not None
    n = values.numel()
    inside = row.distribution != "uniform" or float(values.abs().max()) <= math.sqrt(3) * row.std * (1 + 1e-6)
    return inside and abs(values.square().mean().sqrt().item() / row.std - 1) <= 5 / math.sqrt(2 * (n - 1))


@pytest.mark.parametrize("kind", LAYERS)
def test_torch_default_is_what_the_layers_of_torch_give_themselves(kind: str) -> None:
    layer = own_layer(kind)
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    for row in plan(layer, "torch-default"):
        assert agrees(row, tensors[row.name]), row


def test_the_comparison_with_torch_rejects_a_wrong_std() -> None:
    layer = nn.ConvTranspose2d(32, 48, 3)
    row = plan(layer, "lecun")["weight"]  # by use a transposed convolution's fan_in is 32·9, torch's bound has 48·9
    assert not agrees(row, layer.weight)


def std(model: nn.Module, recipe: str, name: str) -> float | None:
    return plan(model, recipe)[name].std


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("xavier", math.sqrt(2 / 500)),
        ("xavier:gain=2", 2 * math.sqrt(2 / 500)),
        ("xavier:gain=activation", 1.5925374 * math.sqrt(2 / 500)),
        ("xavier:distribution=uniform", math.sqrt(6 / 500) / math.sqrt(3)),
        ("he", math.sqrt(2 / 300)),
        ("he:mode=fan_out", math.sqrt(2 / 200)),
        ("he:gain=activation", 1.5925374 / math.sqrt(300)),
        ("he:gain=1", 1 / math.sqrt(300)),
        ("lecun", 1 / math.sqrt(300)),
        ("normal", 0.01),
        ("normal:std=0.02", 0.02),
        ("uniform", 0.05 / math.sqrt(3)),
        ("uniform:low=-1,high=3", 4 / math.sqrt(12)),
        ("uniform:std=0.3", 0.3),
        ("orthogonal", 1.5925374 / math.sqrt(300)),
        ("orthogonal:gain=1", 1 / math.sqrt(300)),
        ("torch-default", 1 / math.sqrt(900)),
    ],
)
def test_stds_are_those_of_the_papers(recipe: str, expected: float) -> None:
    model = nn.Sequential(nn.Linear(300, 200), nn.Tanh(), nn.Linear(200, 10))
    assert std(model, recipe, "0.weight") == pytest.approx(expected, rel=1e-6)


def test_he_gives_the_output_layer_the_same_formula() -> None:
    assert std(load("mlp:width=50").build(), "he", "layers.8.weight") == pytest.approx(math.sqrt(2 / 50))


def test_uniform_bounds_that_are_not_symmetric_keep_their_middle() -> None:
    weight = initialize(nn.Linear(100, 100), "uniform:low=-1,high=3").weight.detach()
    assert -1 <= float(weight.min()) < -0.99
    assert 2.99 < float(weight.max()) <= 3


def test_packed_attention_gets_the_std_of_three_separate_matrices() -> None:
    packed = plan(nn.MultiheadAttention(64, 4), "xavier")["in_proj_weight"]
    separate = plan(nn.MultiheadAttention(64, 4, kdim=32), "xavier")["q_proj_weight"]
    assert packed.std == separate.std == pytest.approx(math.sqrt(2 / 128))
    assert [part.name for part in packed.slices] == ["query", "key", "value"]


def test_each_gate_of_a_recurrent_weight_is_orthogonal_by_itself() -> None:
    weight = initialize(nn.LSTM(8, 12), "orthogonal").get_parameter("weight_hh_l0").detach()
    for gate in weight.reshape(4, 12, 12):
        assert torch.allclose(gate @ gate.T, torch.eye(12), atol=1e-5)


def test_grouped_and_transposed_convolutions_have_the_fans_of_their_use() -> None:
    assert std(nn.Conv2d(64, 64, 3, groups=64), "he", "weight") == pytest.approx(math.sqrt(2 / 9))
    assert std(nn.ConvTranspose2d(32, 48, 3), "he", "weight") == pytest.approx(math.sqrt(2 / (32 * 9)))


@pytest.mark.parametrize("recipe", ["xavier", "he", "lecun", "orthogonal", "edge-of-chaos"])
def test_the_vocabulary_is_no_fan_of_an_embedding(recipe: str) -> None:
    small, large = (std(nn.Embedding(size, 64), recipe, "weight") for size in (10, 50_000))
    assert small == large == 1 / 8


def test_a_recipe_of_ones_own_is_a_few_lines() -> None:
    @register("tiny", summary="tiny weights", formula="std = 0.001", use="never")
    def tiny(info: TensorInfo, context: Context) -> Choice | None:
        return Choice("normal", 0.001, "tiny on purpose") if info.role.endswith("weight") else None

    try:
        made = plan(nn.Linear(4, 3), "tiny")
        assert (made["weight"].std, made["bias"].options) == (0.001, {"value": 0.0})
        with pytest.raises(OptionError, match="recipe 'tiny' is registered already"):
            register("tiny", summary="again")
        recipe = Recipe("mine", tiny, summary="not registered")
        assert plan(nn.Linear(4, 3), recipe)["weight"].std == 0.001
    finally:
        del RECIPES["tiny"]
