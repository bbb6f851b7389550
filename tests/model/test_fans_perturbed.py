"""Fans of random layers against counting: push one input element at a time and see which outputs move.

Nothing is asked of the reader. Where a weight is packed, the test itself writes down which rows make which part.
"""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from graph_models import Forward, Head, attend, seen

SMALL = st.integers(1, 4)
FEW = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])


def counted(function: Callable[[Tensor], Tensor], *shape: int, period: int = 1) -> tuple[float, float]:
    """Return how many inputs move an output and how many outputs an input moves, over `period` places amid each axis."""
    size = torch.Size(shape).numel()
    pushed = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    moved = (function(pushed) - function(torch.zeros_like(pushed))) != 0
    reads, reached = moved.sum(0).double(), moved.flatten(1).sum(1).double().reshape(shape)
    return _amid(reads, period), _amid(reached, period)


def _amid(counts: Tensor, period: int) -> float:
    for axis in range(1, counts.ndim):
        if counts.shape[axis] > period:
            counts = counts.narrow(axis, (counts.shape[axis] - period) // 2, period)
    return float(counts.mean())


def positive(*shape: int) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5


def rounded(counts: tuple[float, float]) -> tuple[int, int]:
    return max(1, round(counts[0])), max(1, round(counts[1]))


@pytest.mark.slow
@FEW
@given(axes=st.sampled_from([2, 3]), groups=st.integers(1, 2), inputs=st.integers(1, 2), outputs=st.integers(1, 2),
       transposed=st.booleans(), data=st.data())  # fmt: skip
def test_convolutions_in_two_and_three_dimensions_with_any_options(
    axes: int, groups: int, inputs: int, outputs: int, transposed: bool, data: Any
) -> None:
    largest = 3 if axes == 2 else 2
    kernel, stride, dilation = (
        data.draw(st.tuples(*[st.integers(1, most)] * axes)) for most in (largest, 2, 2)
    )  # fmt: skip
    names = {(2, False): nn.Conv2d, (3, False): nn.Conv3d, (2, True): nn.ConvTranspose2d, (3, True): nn.ConvTranspose3d}
    kind: Any = names[axes, transposed]
    conv = kind(groups * inputs, groups * outputs, kernel, stride=stride, dilation=dilation, groups=groups, bias=False)
    side = 8 if transposed or axes == 3 else 16
    info = seen(conv, torch.zeros(1, groups * inputs, *[side] * axes))["weight"]
    weight = positive(*conv.weight.shape)
    run: Any = getattr(F, f"conv{'_transpose' if transposed else ''}{axes}d")
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    counts = counted(lambda x: run(x, weight, **options), groups * inputs, *[side] * axes, period=2)
    assert (info.fan_in, info.fan_out) == rounded(counts)


@FEW
@given(left=SMALL, right=SMALL, outputs=SMALL)
def test_bilinear_layers_of_any_size(left: int, right: int, outputs: int) -> None:
    info = seen(nn.Bilinear(left, right, outputs), torch.zeros(2, left), torch.zeros(2, right))["weight"]
    weight = positive(outputs, left, right)
    assert (info.fan_in, info.fan_out) == counted(lambda pairs: torch.einsum("nij,oij->no", pairs, weight), left, right)


@FEW
@given(groups=st.integers(1, 3), shared=st.integers(1, 3), head=st.integers(1, 3), inputs=SMALL, bias=st.booleans())
def test_grouped_queries_of_any_sizes(groups: int, shared: int, head: int, inputs: int, bias: bool) -> None:
    sizes = [groups * shared * head, groups * head, groups * head]

    def forward(m: Any, x: Tensor) -> Any:
        q, k, v = m.qkv(x).split(sizes, -1)
        q, k, v = (t.unflatten(-1, (-1, head)).transpose(1, 2) for t in (q, k, v))
        return attend(q, k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)).transpose(1, 2).flatten(2)

    model = Head(Forward(forward, qkv=nn.Linear(inputs, sum(sizes), bias=bias)), sizes[0])
    info = seen(model, torch.zeros(2, 5, inputs))["0.qkv.weight"]
    starts = [0, sizes[0], sizes[0] + sizes[1]]
    expected = [
        (word, at, at + size, *counted(lambda x, size=size: x @ positive(inputs, size), inputs))  # type: ignore[misc] # default
        for word, at, size in zip(("query", "key", "value"), starts, sizes, strict=True)
    ]
    assert [(p.name, p.start, p.stop, p.fan_in, p.fan_out) for p in info.slices] == expected


EXPERTS: dict[str, tuple[Any, bool]] = {  # use, whether stored (experts, in, out)
    "einsum, inputs first": (lambda x, w: torch.einsum("eti,eio->eto", x, w), True),
    "einsum, outputs first": (lambda x, w: torch.einsum("eti,eoi->eto", x, w), False),
    "bmm": (torch.bmm, True),
    "bmm of a transpose": (lambda x, w: torch.bmm(x, w.mT), False),
}


@pytest.mark.parametrize("name", EXPERTS)
@FEW
@given(experts=st.integers(2, 4), inputs=st.integers(2, 5), outputs=st.integers(2, 5))
def test_experts_of_any_number_and_size(name: str, experts: int, inputs: int, outputs: int) -> None:
    use, first = EXPERTS[name]
    shape = (experts, inputs, outputs) if first else (experts, outputs, inputs)
    model = Head(Forward(lambda m, x: use(x, m.w), w=shape), outputs)
    info = seen(model, torch.zeros(experts, 3, inputs))["0.w"]
    weight = positive(*shape)
    pushed = counted(lambda x: torch.stack([use(one[:, None], weight)[:, 0] for one in x]), experts, inputs)
    assert (info.fan_in, info.fan_out) == pushed


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
@FEW
@given(inputs=SMALL, hidden=st.integers(1, 4), both=st.booleans())
def test_gates_of_recurrent_layers_of_any_size(kind: Any, gates: int, inputs: int, hidden: int, both: bool) -> None:
    layer = kind(inputs, hidden, batch_first=True, bidirectional=both)
    found = seen(layer, torch.zeros(1, 2, inputs))
    for name, width in (("weight_ih_l0", inputs), ("weight_hh_l0", hidden)):
        info = found[name]
        one = counted(lambda x, width=width: x @ positive(width, hidden), width)  # type: ignore[misc] # default
        assert info.shape == (gates * hidden, width)
        parts: Any = info.slices or (info,)
        assert [(p.fan_in, p.fan_out) for p in parts] == [one] * gates
        assert [(p.start, p.stop) for p in info.slices] == [
            (g * hidden, (g + 1) * hidden) for g in range(gates) if gates > 1
        ]


@FEW
@given(first=SMALL, second=SMALL, shared=SMALL, inner=st.booleans(), stored=st.booleans())
def test_joined_parameters_of_any_size(first: int, second: int, shared: int, inner: bool, stored: bool) -> None:
    """Each is pushed with the other at zero for what it reaches, and with both for what an output sums over."""
    sizes = [(shared, first), (shared, second)] if inner else [(first, shared), (second, shared)]
    inputs, outputs = (first + second, shared) if inner else (shared, first + second)

    def joined(a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a.mT, b.mT] if stored else [a, b], int(inner))

    shapes = [size[::-1] if stored else size for size in sizes]
    model = Head(Forward(lambda m, x: F.linear(x, joined(m.a, m.b)), a=shapes[0], b=shapes[1]), outputs)
    found = seen(model, torch.zeros(2, inputs))
    a, b = (positive(*shape) for shape in shapes)
    fan_in, _ = counted(lambda x: F.linear(x, joined(a, b)), inputs)
    for name, mine in (("a", joined(a, 0 * b)), ("b", joined(0 * a, b))):
        reaching = counted(lambda x, w=mine: F.linear(x, w), inputs)[1]  # type: ignore[misc] # default
        active = (mine != 0).any(0).sum().item() / inputs  # inputs that this parameter reads at all
        assert (found[f"0.{name}"].fan_in, found[f"0.{name}"].fan_out) == (fan_in, round(reaching / active))


@FEW
@given(inputs=SMALL, outputs=SMALL, rank=st.integers(1, 3))
def test_layers_of_transformers_that_are_stored_transposed(inputs: int, outputs: int, rank: int) -> None:
    conv: Any = importlib.import_module("transformers.pytorch_utils").Conv1D
    model = Head(conv(outputs, inputs), outputs)
    info = seen(model, torch.zeros(*[2] * rank, inputs))["0.weight"]
    assert (info.fan_in, info.fan_out) == counted(lambda x: x @ positive(inputs, outputs), inputs)


def test_the_counter_sees_a_fan_that_is_wrong() -> None:
    """Negative control: shape-based fans of a strided transposed convolution are not what is counted."""
    weight = positive(4, 6, 4, 4)
    counts = counted(lambda x: F.conv_transpose2d(x, weight, stride=2), 4, 8, 8, period=2)
    assert counts == (16, 96)
    assert counts != nn.init._calculate_fan_in_and_fan_out(weight)
