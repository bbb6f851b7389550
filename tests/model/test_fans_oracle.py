"""Fans against brute force: the non-zero elements of a Jacobian, counted, away from the borders.

With random weights a derivative is zero only where no path leads, so a row of the Jacobian counts the input elements that an
output element sums over, and a column the output elements that an input element reaches. Packed weights are counted a part
at a time, with the product of that part alone as the function.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from firstlight.model.roles import read
from firstlight.model.tensors import TensorInfo


def counted(function: Callable[[Tensor], Tensor], *shape: int, inside: int = 0, period: int = 1) -> tuple[float, float]:
    """Return the mean fan_in and fan_out by counting, over `period` positions from `inside` on in each spatial axis."""
    x = torch.randn(shape, dtype=torch.float64, device="cpu", generator=torch.Generator().manual_seed(0))
    jacobian: Any = torch.autograd.functional.jacobian(function, x)  # type: ignore[no-untyped-call] # torch's
    links = jacobian != 0
    axes = links.ndim - len(shape)
    reads = links.flatten(axes).sum(-1).double()
    reached = links.flatten(0, axes - 1).sum(0).double()
    return float(_interior(reads, inside, period).mean()), float(_interior(reached, inside, period).mean())


def _interior(counts: Tensor, inside: int, period: int) -> Tensor:
    for axis in range(1, counts.ndim) if inside else ():
        counts = counts.narrow(axis, inside, period)
    return counts


def info_of(module: nn.Module, name: str, *example: Tensor) -> TensorInfo:
    info = {i.name: i for i in read(module, example)}[name]
    assert info.found_by == "graph"
    return info


class Net(nn.Module):
    """One parameter, a use of it, and a layer after, so that the parameter is no output layer."""

    def __init__(self, use: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> None:
        super().__init__()
        self.use, self.w = use, nn.Parameter(torch.randn(shape, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.use(x, self.w)


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(
    inputs=st.integers(1, 5),
    outputs=st.integers(1, 5),
    bias=st.booleans(),
    transposed=st.booleans(),
    rank=st.integers(1, 3),
)
def test_linear_layers_of_any_size_and_layout(
    inputs: int, outputs: int, bias: bool, transposed: bool, rank: int
) -> None:
    def use(x: Tensor, w: Tensor) -> Tensor:
        return (x @ w if transposed else F.linear(x, w)) + float(bias)

    net = Net(use, (inputs, outputs) if transposed else (outputs, inputs))
    info = info_of(net, "w", torch.randn(*[2] * (rank - 1), inputs))
    assert (info.fan_in, info.fan_out) == counted(lambda x: use(x, net.w.detach()), inputs)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    groups=st.integers(1, 3),
    inputs=st.integers(1, 3),
    outputs=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    transposed=st.booleans(),
)
def test_convolutions_with_any_groups_strides_and_dilations(
    groups: int, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, transposed: bool
) -> None:
    """The mean over whole periods of positions is exact; the fan is that, rounded, and at least 1."""
    kind: Any = nn.ConvTranspose1d if transposed else nn.Conv1d
    conv = kind(groups * inputs, groups * outputs, kernel, stride=stride, dilation=dilation, groups=groups, bias=False)
    info = info_of(conv, "weight", torch.randn(1, groups * inputs, 40))
    conv = conv.double().requires_grad_(False)
    length = (
        40 if transposed else 96
    )  # enough that an interior of 12 positions, a period of every stride, is left on both sides
    fan_in, fan_out = counted(lambda x: conv(x[None])[0], groups * inputs, length, inside=10, period=12)
    assert (info.fan_in, info.fan_out) == (max(1, round(fan_in)), max(1, round(fan_out)))
    assert (info.groups, info.transposed) == (groups, transposed)


@pytest.mark.parametrize(
    ("conv", "side"),
    [
        (nn.Conv2d(4, 6, 3, bias=False), 9),
        (nn.Conv2d(4, 6, (1, 3), stride=2, groups=2, bias=False), 15),
        (nn.Conv2d(4, 4, 3, groups=4, bias=False), 9),
        (nn.Conv2d(3, 8, 4, stride=4, bias=False), 16),
        (nn.Conv3d(2, 2, 2, bias=False), 6),
        (nn.Conv3d(2, 4, 2, stride=2, groups=2, bias=False), 8),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2, bias=False), 6),
        (nn.ConvTranspose2d(2, 2, 2, stride=2, bias=False), 6),
        (nn.ConvTranspose3d(2, 2, 2, stride=2, groups=2, bias=False), 4),
    ],
)
def test_convolutions_in_two_and_three_dimensions(conv: Any, side: int) -> None:
    channels, axes = conv.in_channels, len(conv.kernel_size)
    info = info_of(conv, "weight", torch.randn(1, channels, *[side] * axes))
    plain = conv.double().requires_grad_(False)
    step = conv.stride[0]  # patches that touch but do not overlap have no border
    inside, period = (2, 2) if step <= 2 else (0, 1)
    fan_in, fan_out = counted(lambda x: plain(x[None])[0], channels, *[side] * axes, inside=inside, period=period)
    assert (info.fan_in, info.fan_out) == (round(fan_in), round(fan_out))


X = torch.randn(3, 4)

PACKED: dict[str, tuple[Callable[[Tensor, Tensor], Any], tuple[int, ...], int]] = {  # use, shape, parts
    "query, key, value": (lambda x, w: _attend(*F.linear(x, w).chunk(3, -1)), (15, 4), 3),
    "stored transposed": (lambda x, w: _attend(*(x @ w).chunk(3, -1)), (4, 15), 3),
    "grouped queries": (lambda x, w: _grouped(*torch.split(F.linear(x, w), [6, 3, 3], -1)), (12, 4), 3),
    "gate and up": (lambda x, w: _gated(*F.linear(x, w).chunk(2, -1)), (14, 4), 2),
    "gated linear unit": (lambda x, w: F.glu(F.linear(x, w)), (14, 4), 2),
    "rows apart": (lambda x, w: F.linear(x, w[:2]).sum(-1, True) + F.linear(x, w[2:]), (5, 4), 2),
}


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT, -1) @ v


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([_attend(part, k, v) for part in q.chunk(2, -1)], -1)


@pytest.mark.parametrize("name", PACKED)
def test_every_slice_of_a_packed_weight_has_the_fans_of_its_own_product(name: str) -> None:
    use, shape, parts = PACKED[name]
    net = Net(use, shape)
    info = info_of(net, "w", X)
    assert len(info.slices) == parts
    for part in info.slices:
        piece = net.w.detach().narrow(part.axis, part.start, part.stop - part.start)
        weight = piece if part.axis == 0 else piece.mT
        assert (part.fan_in, part.fan_out) == counted(lambda x, w=weight: F.linear(x, w), 4)  # type: ignore[misc] # default


@pytest.mark.parametrize(
    ("use", "shape"),
    [
        (lambda x, w: torch.einsum("eti,eio->eto", x, w), (2, 4, 5)),
        (lambda x, w: torch.einsum("eti,eoi->eto", x, w), (2, 5, 4)),
        (torch.bmm, (2, 4, 5)),
        (lambda x, w: torch.bmm(x, w.mT), (2, 5, 4)),
    ],
)
def test_experts_side_by_side(use: Any, shape: tuple[int, ...]) -> None:
    net = Net(use, shape)
    info = info_of(net, "w", torch.randn(2, 1, 4))
    assert (info.fan_in, info.fan_out) == counted(lambda x: use(x, net.w.detach()), 2, 1, 4)


def test_bilinear_layers_sum_over_all_pairs() -> None:
    bilinear = nn.Bilinear(3, 5, 4, bias=False).double().requires_grad_(False)
    info = info_of(bilinear, "weight", torch.randn(2, 3), torch.randn(2, 5))
    pairs = counted(lambda outer: torch.einsum("ij,oij->o", outer, bilinear.weight), 3, 5)
    assert (info.fan_in, info.fan_out) == pairs


def test_an_embedding_reads_one_row_and_reaches_its_width() -> None:
    table = nn.Embedding(7, 5).double().requires_grad_(False)
    info = info_of(table, "weight", torch.zeros(2, 3).long())
    # the input is the one-hot entry of the token that is there: scale it and see which outputs change
    row = table.weight[3]
    assert (info.fan_in, info.fan_out) == counted(lambda entry: entry * row, 1)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@pytest.mark.parametrize("weights", ["weight_ih_l0", "weight_hh_l0"])
def test_every_gate_of_a_recurrent_layer(kind: Any, gates: int, weights: str) -> None:
    layer = kind(3, 5, batch_first=True)
    info = info_of(layer, weights, torch.randn(1, 2, 3))
    parts: Any = info.slices or (info,)
    assert len(parts) == gates
    rows = getattr(layer, weights).detach().double().chunk(gates)
    for part, weight in zip(parts, rows, strict=True):
        assert (part.fan_in, part.fan_out) == counted(lambda x, w=weight: F.linear(x, w), weight.shape[1])  # type: ignore[misc] # default


def test_the_counter_sees_a_wrong_fan() -> None:
    """Negative control: torch's shape-based fans of strided and transposed convolutions are not what is counted."""
    conv = nn.ConvTranspose1d(4, 6, 4, stride=2, bias=False).double().requires_grad_(False)
    fan_in, fan_out = counted(lambda x: conv(x[None])[0], 4, 20, inside=8, period=2)
    assert (fan_in, fan_out) == (8, 24)
    assert (fan_in, fan_out) != nn.init._calculate_fan_in_and_fan_out(conv.weight)
