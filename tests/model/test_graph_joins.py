"""Weights that are put together before they meet the signal, taken apart, or multiplied and summed by hand."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from firstlight.plan import plan
from graph_models import Forward, Head, X, attend, seen, slices


def fans(infos: Any, *names: str) -> list[tuple[Any, ...]]:
    return [(infos[f"0.{n}"].fan_in, infos[f"0.{n}"].fan_out, infos[f"0.{n}"].layout) for n in names]


@pytest.mark.parametrize(
    ("forward", "a", "b", "out", "expected"),
    [
        (lambda m, x: F.linear(x, torch.cat([m.a, m.b])), (4, 8), (6, 8), 10, [(8, 4, ""), (8, 6, "")]),
        (lambda m, x: F.linear(x, torch.cat([m.a * 2, m.b.t()])), (4, 8), (8, 6), 10, [(8, 4, ""), (8, 6, "io")]),
        (lambda m, x: x @ torch.cat([m.a, m.b], 1), (8, 4), (8, 6), 10, [(8, 4, "io"), (8, 6, "io")]),
        (lambda m, x: F.linear(x, torch.cat([m.a, m.b], 1)), (6, 3), (6, 5), 6, [(8, 6, ""), (8, 6, "")]),
        (lambda m, x: F.linear(x, torch.stack([m.a, m.b]).flatten(0, 1)), (6, 8), (6, 8), 12, [(8, 6, ""), (8, 6, "")]),
        (lambda m, x: torch.bmm(x, torch.stack([m.a, m.b])), (8, 6), (8, 6), 6, [(8, 6, "io"), (8, 6, "io")]),
        (
            lambda m, x: torch.einsum("bti,eoi->bteo", x, torch.stack([m.a, m.b])).flatten(2),
            (6, 8), (6, 8), 12, [(8, 6, ""), (8, 6, "")],
        ),
        (
            lambda m, x: F.conv1d(x.mT, torch.cat([m.a, m.b]), padding=1).mT,
            (4, 8, 3), (6, 8, 3), 10, [(24, 12, ""), (24, 18, "")],
        ),
        (
            lambda m, x: F.linear(x, torch.cat([m.a, torch.cat([m.b, m.b])])),
            (4, 8), (3, 8), 10, [(8, 4, ""), (8, 3, "")],
        ),
    ],
)  # fmt: skip
def test_parameters_that_make_one_weight_have_fans_of_their_own(
    forward: Any, a: Any, b: Any, out: int, expected: Any
) -> None:
    infos = seen(Head(Forward(forward, a=a, b=b), out), X)
    assert fans(infos, "a", "b") == expected
    assert {infos[f"0.{n}"].role for n in "ab"} == {"weight"}
    assert {infos[f"0.{n}"].note for n in "ab"} == {""}


def test_parameters_beside_each_other_play_the_parts_of_their_outputs() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        fused = F.linear(x, torch.cat([m.qk, m.v]), torch.cat([m.bias_qk, m.bias_v]))
        return attend(*fused.chunk(3, -1))

    infos = seen(Head(Forward(forward, qk=(12, 8), v=(6, 8), bias_qk=(12,), bias_v=(6,)), 6), X)
    assert slices(infos["0.qk"]) == [("query", 0, 6, 0, 8, 6), ("key", 6, 12, 0, 8, 6)]
    assert (infos["0.v"].part, infos["0.v"].slices, infos["0.v"].activation) == ("value", (), "linear")
    assert {infos["0.bias_qk"].role, infos["0.bias_v"].role} == {"bias"}


def test_a_weight_that_a_product_does_not_reach_is_not_a_part_of_it() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        both = torch.cat([m.a, m.b])
        return torch.tanh(F.linear(x, both[:4])) + F.linear(x, both[4:])

    infos = seen(Head(Forward(forward, a=(4, 8), b=(4, 8)), 4), X)
    assert (infos["0.a"].activation, infos["0.b"].activation) == ("tanh", "linear")


def test_columns_that_meet_in_a_sum_are_one_weight_and_those_that_do_not_are_two() -> None:
    def summed(m: Any, x: Tensor) -> Any:
        return F.linear(x[..., :3], m.w[:, :3]) + F.linear(x[..., 3:], m.w[:, 3:])

    def apart(m: Any, x: Tensor) -> Any:
        return torch.tanh(F.linear(x[..., :4], m.w[:, :4])) + F.linear(x[..., 4:], m.w[:, 4:])

    assert fans(seen(Head(Forward(summed, w=(6, 8)), 6), X), "w") == [(8, 6, "")]
    assert fans(seen(Head(Forward(apart, w=(6, 8)), 6), X), "w") == [(4, 6, "")]


@pytest.mark.parametrize(
    ("forward", "shape", "out", "expected"),
    [
        (lambda m, x: (x * m.w).sum(-1, keepdim=True), (8,), 1, (8, 1, "")),
        (lambda m, x: (x[..., None, :] * m.w).sum(-1), (6, 8), 6, (8, 6, "")),
        (lambda m, x: (x[..., None] * m.w).sum(-2), (8, 6), 6, (8, 6, "io")),
        (lambda m, x: (m.w * x).sum((1, 2))[:, None], (8,), 1, (40, 1, "")),
        (lambda m, x: (x.unflatten(-1, (2, 4)) * m.w).sum(-1), (2, 4), 2, (4, 1, "bi")),
    ],
)
def test_products_written_out_as_a_sum_are_products(forward: Any, shape: Any, out: int, expected: Any) -> None:
    infos = seen(Head(Forward(lambda m, x: torch.tanh(forward(m, x)), w=shape), out), X)
    assert (infos["0.w"].role, infos["0.w"].activation) == ("weight", "tanh")
    assert fans(infos, "w") == [expected]


def test_a_product_written_out_as_a_mean_says_what_divides_it() -> None:
    infos = seen(Head(Forward(lambda m, x: torch.tanh((x[..., None, :] * m.w).mean(-1)), w=(6, 8)), 6), X)
    assert fans(infos, "w") == [(8, 6, "")]
    assert infos["0.w"].note == "the product is a mean, which divides it by 8"


@pytest.mark.parametrize(
    ("forward", "out"),
    [
        (lambda m, x: x * m.w, 8),
        (lambda m, x: (x * m.w).sum(1), 8),  # over places, not along the weight
        (lambda m, x: (x * m.w).mean(1), 8),
        (lambda m, x: (y := x * m.w) - y.mean(-1, keepdim=True), 8),
        (lambda m, x: (y := x * m.w) + y.sum(-1, keepdim=True), 8),  # used as it is as well
    ],
)
def test_a_scale_is_not_a_product_though_a_sum_follows(forward: Any, out: int) -> None:
    assert seen(Head(Forward(forward, w=(8,)), out), X)["0.w"].role == "scale"


@pytest.mark.parametrize("recipe", ["he", "xavier", "orthogonal", "torch-default", "identity", "zero"])
def test_a_weight_of_one_axis_can_be_planned_and_filled(recipe: str) -> None:
    model = Head(Forward(lambda m, x: torch.tanh((x * m.w).sum(-1, keepdim=True)), w=(8,)), 1)
    made = plan(model, recipe, example=X)
    made.apply(model, seed=0)
    assert made["0.w"].distribution in ("normal", "uniform")
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
