"""Signals predicted from the operator graph: known answers, and measurement as the judge."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.errors import DataError, MeasureError, OptionError, PlanError


def bare(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def stds(model: nn.Module, example: Any, plan: str, **options: Any) -> list[float]:
    return [row.forward_std or 0.0 for row in fl.predict(model, example=example, plan=plan, **options)]


def measured(model: nn.Module, batch: Tensor, plan: str, target: Tensor, seeds: int) -> dict[str, tuple[float, float]]:
    """Return the mean over seeds of forward and gradient std by layer."""
    made = fl.plan(model, plan, example=batch)
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        made.apply(model, seed=seed)
        for row in fl.measure(model, batch, target=target):
            found.setdefault(row.layer, []).append((row.forward_std or 0.0, row.gradient_std or 0.0))
    return {layer: (sum(a for a, _ in rows) / seeds, sum(b for _, b in rows) / seeds) for layer, rows in found.items()}


def test_he_weights_keep_the_second_moment_of_a_relu_network() -> None:
    model = nn.Sequential(*(part for _ in range(20) for part in (nn.Linear(4096, 4096, device="meta"), nn.ReLU())))
    rows = [row for row in fl.predict(model, example=bare(64, 4096), plan="he") if row.kind == "Linear"]
    for row in rows:
        assert row.forward_second_moment == pytest.approx(2.0, rel=0.02)


def test_xavier_weights_halve_the_second_moment_at_each_relu() -> None:
    model = nn.Sequential(*(part for _ in range(6) for part in (nn.Linear(4096, 4096, device="meta"), nn.ReLU())))
    rows = [row for row in fl.predict(model, example=bare(64, 4096), plan="xavier") if row.kind == "Linear"]
    ratios = [b.forward_second_moment / a.forward_second_moment for a, b in pairwise(rows)]  # type: ignore[operator]
    assert ratios == pytest.approx([0.5] * 5, rel=0.01)


def test_similarity_of_examples_follows_the_arc_cosine_kernel() -> None:
    """Cho and Saul 2009: two orthogonal inputs have correlation 1/π after one ReLU layer, then (by hand) 0.4937."""
    model = nn.Sequential(
        nn.Linear(4096, 4096, device="meta"), nn.ReLU(), nn.Linear(4096, 4096, device="meta"), nn.ReLU()
    )
    rows = list(fl.predict(model, example=bare(64, 4096), plan="he"))
    c = 1 / math.pi
    second = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
    assert rows[1].similarity == pytest.approx(c, abs=2e-3)
    assert rows[3].similarity == pytest.approx(second, abs=2e-3)


def test_a_residual_sum_adds_the_powers_of_trunk_and_branch() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(1024, device="meta")
            self.fc = nn.Linear(1024, 1024, device="meta")
            self.out = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x + self.fc(self.norm(x)))  # type: ignore[no-any-return]

    rows = [
        row
        for row in fl.predict(nn.Sequential(*(Block() for _ in range(8))), example=bare(16, 1024), plan="lecun")
        if row.kind == "Identity"
    ]
    assert [row.forward_second_moment for row in rows] == pytest.approx([2.0 + i for i in range(8)], rel=0.01)


def test_layer_norm_gives_one_and_batch_norm_takes_out_what_examples_share() -> None:
    layer = nn.Sequential(nn.Linear(512, 512, device="meta"), nn.LayerNorm(512, device="meta"))
    assert stds(layer, bare(64, 512), "normal:std=0.3")[1] == pytest.approx(1.0, rel=0.01)
    batch = nn.Sequential(nn.Linear(512, 512, device="meta"), nn.ReLU(), nn.BatchNorm1d(512, device="meta"))
    row = list(fl.predict(batch, example=bare(64, 512), plan="he"))[2]
    assert row.forward_std == pytest.approx(1.0, rel=0.01)
    assert row.similarity == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize(
    ("spec", "recipe", "shape", "classes", "limits"),
    [
        ("mlp:depth=12,width=128,act=tanh", "xavier", (64, 64), 10, (0.05, 0.15)),
        ("mlp:depth=12,width=128,act=relu", "orthogonal", (64, 64), 10, (0.05, 0.15)),
        ("cnn:depth=12,width=64,act=tanh", "xavier", (16, 1, 8, 8), 10, (0.05, 0.15)),
        ("resnet:depth=3,width=64", "he", (16, 1, 8, 8), 10, (0.15, 0.30)),
    ],
)
def test_prediction_agrees_with_measurement(
    spec: str, recipe: str, shape: tuple[int, ...], classes: int, limits: tuple[float, float]
) -> None:
    from firstlight.model.targets import load

    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(shape, generator=generator)
    target = torch.randint(0, classes, shape[:1], generator=generator)
    model = load(spec).build()
    found = measured(model, batch, recipe, target, seeds=12 if spec.startswith("mlp") else 5)
    rows = fl.predict(model, example=batch, plan=recipe)
    assert [row.layer for row in rows] == list(found)
    forward = sorted(abs((row.forward_std or 0.0) / found[row.layer][0] - 1) for row in rows)
    back = sorted(abs((row.gradient_std or 0.0) / found[row.layer][1] - 1) for row in rows)
    assert forward[len(forward) // 2] <= limits[0]
    assert back[len(back) // 2] <= limits[1]


def test_wrong_input_is_told_in_one_line() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(DataError, match="does not say what it takes"):
        fl.predict(model)
    with pytest.raises(OptionError, match=r"loss='crossentropy' is not known.*Did you mean 'cross-entropy'"):
        fl.predict(model, example=bare(2, 4), loss="crossentropy")
    with pytest.raises(MeasureError, match="does not run on the example"):
        fl.predict(model, example=bare(2, 5))
    with pytest.raises(PlanError, match=r"'0.weight' \(4, 4\) is on the meta device"):
        fl.predict(nn.Sequential(nn.Linear(4, 4, device="meta")), example=bare(2, 4))
    with pytest.raises(MeasureError, match=r"not an nn\.Module"):
        fl.predict("mlp", example=bare(2, 4))  # type: ignore[arg-type]
