"""Normalisations, low-rank pairs, weight norm and other parametrizations, as the graph shows them."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstlight.plan import plan
from graph_models import Forward, Head, X, fans, seen


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
