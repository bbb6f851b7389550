"""The scripts under examples/papers, small: what a paper says can be trained trains, and its control does not."""

import importlib
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import firstlight as fl

PAPERS = Path(__file__).parent.parent / "examples" / "papers"


def script(monkeypatch: pytest.MonkeyPatch, name: str, **constants: int) -> Any:
    monkeypatch.syspath_prepend(str(PAPERS))
    module: ModuleType = importlib.import_module(name)
    for constant, value in constants.items():
        monkeypatch.setattr(module, constant, value)
    for loaded in (name, "figure"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    return module


def test_fixup_trains_a_hundred_layers_without_norms_where_torch_default_stays_at_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paper = script(monkeypatch, "fixup_200_layers", BLOCKS=50, WIDTH=8, STEPS=40)
    x, y = paper.digits()
    x = x.reshape(-1, 1, 8, 8)
    ends = []
    for recipe in ("fixup", fl.compose("torch-default", {"*.bias?": "keep", "*.scale": "keep"})):
        losses = paper.train(fl.initialize(paper.Net(), recipe, seed=0, example=x[:2]), x, y)
        ends.append(sum(losses[-10:]) / 10)
    assert ends[0] < 0.5 * math.log(10)
    assert not ends[1] < 0.95 * math.log(10)


def test_t_fixup_trains_a_transformer_without_norms_or_warm_up_where_torch_default_diverges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paper = script(monkeypatch, "t_fixup", DEPTH=36, WIDTH=32, STEPS=32, LENGTH=24, BATCH=8)
    data = paper.text()
    ends = []
    for recipe in ("t-fixup:kind=decoder", "torch-default"):
        model = fl.initialize(paper.without_norms(), recipe, seed=0, example=data[:24][None])
        torch.manual_seed(0)
        losses = paper.train(model, data, 0.004)
        ends.append(sum(losses[-10:]) / 10)
    assert ends[0] < 0.8 * math.log(128)
    assert not ends[1] < math.log(128)


@pytest.mark.slow
def test_delta_orthogonal_weights_and_auto_train_150_plain_convolutions_where_gaussian_ones_stay_near_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fourteen steps: 69, 62 and 20 % of unseen digits right; a tenth is chance."""
    paper = script(monkeypatch, "delta_orthogonal_training")
    ends = {}
    for name, recipe in paper.RECIPES.items():
        losses, right = paper.train(recipe, 0.1, 150, 14, 8)
        ends[name] = (sum(losses[-5:]) / 5, right)
    for name in ("delta-orthogonal", "auto"):
        assert ends[name][0] < 0.96 * math.log(10)
        assert ends[name][1] > 0.3
    assert ends["gaussian"][0] > 0.97 * math.log(10)
    assert ends["gaussian"][1] < 0.25
