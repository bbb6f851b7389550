"""What each tensor is for: every one once, with the fans of its use and the activation that follows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from firstlight.errors import PlanError
from firstlight.model.roles import read
from firstlight.model.targets import load
from firstlight.model.tensors import ROLES, TensorInfo


def by_name(model: nn.Module) -> dict[str, TensorInfo]:
    return {info.name: info for info in read(model)}


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(3, 5, 2)
        self.conv = nn.Conv1d(4, 6, 3)
        self.up = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.deep = nn.Conv3d(8, 8, 3, groups=8)
        self.tokens = nn.Embedding(100, 16, padding_idx=3)
        self.bag = nn.EmbeddingBag(50, 8)
        self.attention = nn.MultiheadAttention(16, 4, add_bias_kv=True)
        self.cross = nn.MultiheadAttention(16, 4, kdim=8, vdim=4)
        self.lstm = nn.LSTM(8, 12, num_layers=2, proj_size=5, bidirectional=True)
        self.gru = nn.GRU(8, 12)
        self.rnn = nn.RNN(8, 12, nonlinearity="relu")
        self.cell = nn.LSTMCell(8, 12)
        self.norms = nn.ModuleList(
            [nn.BatchNorm2d(4), nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4, affine=True), nn.RMSNorm(4)]
        )
        self.slope = nn.PReLU(4)
        self.fc = nn.Linear(7, 3)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.alpha = nn.Parameter(torch.zeros(5))
        self.register_buffer("grid", torch.arange(4), persistent=False)


def test_every_parameter_and_buffer_is_read_exactly_once() -> None:
    model = Everything()
    names = [info.name for info in read(model)]
    expected = {name for name, _ in model.named_parameters()} | {name for name, _ in model.named_buffers()}
    assert len(names) == len(set(names))
    assert set(names) == expected
    assert {info.role for info in read(model)} <= set(ROLES)


@pytest.mark.parametrize(
    ("name", "role", "fan_in", "fan_out"),
    [
        ("bilinear.weight", "weight", 15, 2),
        ("conv.weight", "weight", 12, 18),
        ("up.weight", "weight", 18, 27),  # a group has 2 inputs and 3 outputs, 9 taps each
        ("deep.weight", "weight", 27, 27),
        ("tokens.weight", "embedding", 1, 16),
        ("bag.weight", "embedding", 1, 8),
        ("attention.in_proj_weight", "weight", 16, 16),
        ("attention.in_proj_bias", "bias", None, None),
        ("attention.bias_k", "bias", None, None),
        ("attention.out_proj.weight", "weight", 16, 16),
        ("cross.k_proj_weight", "weight", 8, 16),
        ("cross.v_proj_weight", "weight", 4, 16),
        ("lstm.weight_ih_l0", "weight", 8, 12),
        ("lstm.weight_hh_l0", "recurrent-weight", 5, 12),
        ("lstm.weight_hr_l0", "recurrent-weight", 12, 5),
        ("lstm.weight_ih_l1_reverse", "weight", 10, 12),
        ("lstm.bias_ih_l0", "bias", None, None),
        ("gru.weight_hh_l0", "recurrent-weight", 12, 12),
        ("rnn.weight_ih_l0", "weight", 8, 12),
        ("cell.weight_ih", "weight", 8, 12),
        ("norms.0.weight", "norm-scale", None, None),
        ("norms.0.running_var", "norm-statistic", None, None),
        ("norms.0.num_batches_tracked", "norm-statistic", None, None),
        ("norms.1.bias", "norm-shift", None, None),
        ("norms.2.weight", "norm-scale", None, None),
        ("norms.3.bias", "norm-shift", None, None),
        ("norms.4.weight", "norm-scale", None, None),
        ("slope.weight", "slope", None, None),
        ("fc.weight", "output-weight", 7, 3),
        ("fc.bias", "bias", None, None),
        ("grid", "buffer", None, None),
    ],
)
def test_roles_and_fans_follow_the_use_of_each_module_type(
    name: str, role: str, fan_in: int | None, fan_out: int | None
) -> None:
    info = by_name(Everything())[name]
    assert (info.role, info.fan_in, info.fan_out, info.found_by) == (role, fan_in, fan_out, "module")


def test_other_parameters_are_guessed_from_shape_and_say_so() -> None:
    infos = by_name(Everything())
    assert (infos["token"].role, infos["token"].found_by) == ("weight", "guess")
    assert (infos["alpha"].role, infos["alpha"].found_by) == ("unknown", "guess")


def test_packed_tensors_name_their_slices_and_cover_all_rows() -> None:
    infos = by_name(Everything())
    gates = {
        "lstm.weight_ih_l0": ("input", "forget", "cell", "output"),
        "gru.weight_hh_l0": ("reset", "update", "new"),
        "attention.in_proj_weight": ("query", "key", "value"),
        "cell.weight_hh": ("input", "forget", "cell", "output"),
    }
    for name, expected in gates.items():
        slices = infos[name].slices
        assert tuple(part.name for part in slices) == expected
        assert [part.start for part in slices[1:]] == [part.stop for part in slices[:-1]]
        assert (slices[0].start, slices[-1].stop) == (0, infos[name].shape[0])
        assert {(part.fan_in, part.fan_out) for part in slices} == {(infos[name].fan_in, infos[name].fan_out)}


@settings(deadline=None)
@given(
    groups=st.integers(1, 4),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    kernel=st.integers(1, 3),
    transposed=st.booleans(),
)
def test_convolution_fans_count_the_taps_that_meet_inside(
    groups: int, inputs: int, outputs: int, kernel: int, transposed: bool
) -> None:
    """One output in the middle, with all weights 1 and inputs 1, sums over fan_in inputs; its gradient over fan_out."""
    kind = nn.ConvTranspose1d if transposed else nn.Conv1d
    module = kind(groups * inputs, groups * outputs, kernel, groups=groups, bias=False).requires_grad_(False)
    info = by_name(nn.Sequential(module, nn.Linear(1, 1)))["0.weight"]
    module.weight.fill_(1.0)
    x = torch.ones(1, groups * inputs, 9, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert x.grad is not None
    assert (int(y[0, 0, y.shape[2] // 2]), int(x.grad[0, 0, 4])) == (info.fan_in, info.fan_out)


def test_the_activation_that_follows_is_seen_past_norms_and_dropout() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.LayerNorm(4),
        nn.Dropout(0.1),
        nn.LeakyReLU(0.2),
        nn.Linear(4, 4),
        nn.Linear(4, 4),
        nn.GELU("tanh"),
        nn.Linear(4, 2),
    )
    infos = by_name(model)
    seen = [(infos[f"{i}.weight"].activation, infos[f"{i}.weight"].activation_param) for i in (0, 4, 5, 7)]
    assert seen == [("leaky_relu", 0.2), ("linear", None), ("gelu_tanh", None), ("linear", None)]
    assert [infos[f"{i}.weight"].depth for i in (0, 4, 5, 7)] == [0, 1, 2, 3]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.fc2(torch.relu(self.fc1(x))))


def test_an_activation_that_may_hide_in_forward_is_unknown_not_linear() -> None:
    assert by_name(Functional())["fc1.weight"].activation is None


def test_the_output_layer_is_the_last_with_a_weight() -> None:
    roles = [info.role for info in read(load("mlp:depth=3").build()) if info.role != "bias"]
    assert roles == ["weight", "weight", "output-weight"]


def test_tied_weights_are_one_tensor_with_two_names() -> None:
    infos = by_name(load("gpt:tie=yes").build())
    assert infos["embedding.tokens.weight"].aliases == ("head.weight",)
    assert "head.weight" not in infos


def test_parameters_that_share_their_memory_are_tied_too() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = nn.Parameter(first.weight.data)
    model = nn.Sequential(first, second)
    assert by_name(model)["0.weight"].aliases == ("1.weight",)


def test_a_module_used_twice_is_read_once() -> None:
    shared = nn.Linear(4, 4)
    infos = read(nn.Sequential(shared, nn.Tanh(), shared))
    assert [(info.name, info.aliases) for info in infos] == [("0.weight", ("2.weight",)), ("0.bias", ("2.bias",))]


def test_the_meta_device_is_read_as_any_other() -> None:
    with torch.device("meta"):
        model = Everything()
    assert [info.role for info in read(model)] == [info.role for info in read(Everything())]


class Diagonal(nn.Module):
    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return torch.diag(w)

    def right_inverse(self, w: torch.Tensor) -> torch.Tensor:
        return w.diag().clone()


def test_a_parameter_of_another_shape_than_the_weight_it_makes_is_not_guessed() -> None:
    model = nn.Linear(4, 4)
    nn.utils.parametrize.register_parametrization(model, "weight", Diagonal(), unsafe=True)
    assert {info.role for info in read(model)} == {"bias", "unknown"}


def test_lazy_modules_are_refused() -> None:
    with pytest.raises(
        PlanError, match=r"2 of 2 tensors have no shape yet: 'weight' .* Run the model on one batch first"
    ):
        read(nn.LazyLinear(3))
