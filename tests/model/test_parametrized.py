"""Weights that are computed from other tensors, read without an example: by the type of the module that has them."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from firstlight import plan
from firstlight.model.roles import read


class Custom(nn.Linear):
    """A linear layer of another name."""


class Twice(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return 2 * w


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(300, 40),
    "Conv": lambda: nn.Conv2d(30, 40, 3),
    "custom": lambda: Custom(300, 40),
}


def after(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(40, 2))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_weight_norm_gives_the_effective_weight_the_stated_std(kind: str) -> None:
    layer = parametrizations.weight_norm(LAYERS[kind]())
    made = plan(after(layer), "he")
    made.apply(after(layer), seed=0)
    weight = layer.get_parameter("parametrizations.weight.original1")
    wanted = (2 / weight[0].numel()) ** 0.5
    effective = layer.weight.detach().flatten(1)
    rms = effective.square().mean(1).sqrt()
    assert rms.tolist() == pytest.approx([wanted] * 40, rel=1e-5)
    row = made["0.parametrizations.weight.original1"]
    assert (row.role, row.fan_in, row.found_by) == ("weight", weight[0].numel(), "module")
    assert "followed by relu" in row.reason or "relu" in row.reason


def test_the_older_hooks_are_read_too() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = nn.utils.weight_norm(nn.Conv1d(30, 40, 3))
    model = after(layer)
    plan(model, "lecun").apply(model, seed=0)
    layer(torch.zeros(1, 30, 3))  # the hook computes the weight before each call
    rms = layer.weight.detach().flatten(1).square().mean(1).sqrt()
    assert rms.tolist() == pytest.approx([90**-0.5] * 40, rel=1e-5)
    pruned = prune.random_unstructured(nn.Linear(300, 40), "weight", 0.5)  # type: ignore[no-untyped-call]  # torch's
    assert {i.name: i.role for i in read(after(pruned))}["0.weight_orig"] == "weight"


def test_spectral_and_orthogonal_weights_are_claimed_and_say_that_they_set_their_scale() -> None:
    for wrap in (parametrizations.spectral_norm, parametrizations.orthogonal):
        made = plan(after(wrap(nn.Linear(300, 40))), "xavier")
        row = made["0.parametrizations.weight.original"]
        assert (row.role, row.fan_in, row.fan_out) == ("weight", 300, 40)
        assert "which sets the scale itself" in row.reason
    layer = nn.utils.spectral_norm(nn.Linear(300, 40))
    assert "which sets the scale itself" in plan(after(layer), "xavier")["0.weight_orig"].reason


def test_module_types_and_operators_agree() -> None:
    for wrap in (parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal):
        model = after(wrap(nn.Linear(8, 40)))
        by_type, by_graph = read(model), read(model, torch.zeros(2, 8))
        for a, b in zip(by_type, by_graph, strict=True):
            assert (a.role, a.fan_in, a.fan_out, a.scale_of, a.note) == (
                b.role,
                b.fan_in,
                b.fan_out,
                b.scale_of,
                b.note,
            )


def test_a_parametrization_of_ones_own_is_claimed_by_the_type_of_its_module() -> None:
    layer = nn.Linear(300, 40)
    parametrize.register_parametrization(layer, "weight", Twice())
    info = read(after(layer))[1]
    assert (info.name, info.role, info.kind) == ("0.parametrizations.weight.original", "weight", "Linear")
    assert "parametrization" in info.note
