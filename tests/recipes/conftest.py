"""Models that the recipes are made for, and what reading their operators says of them: branches, parts, gates, adapters."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from firstlight import calibrate
from firstlight.model.roles import read
from firstlight.model.targets import load
from firstlight.model.tensors import Branch, TensorInfo
from firstlight.plan import Plan
from firstlight.recipes import Composition, Recipe, parse
from firstlight.recipes.rows import rows_of

PARTS = {"query": "query", "key": "key", "value": "value", "out": "attention-out", "up": "up", "down": "down"}
LAST = ("out", "down", "conv2", "alpha")


class NormFree(nn.Module):
    """A transformer without normalisation: the blocks of `gpt` with identities in their place."""

    def __init__(self, depth: int = 2, width: int = 32) -> None:
        super().__init__()
        self.gpt = load(f"gpt:depth={depth},width={width}").build()
        for name, module in list(self.gpt.named_modules()):
            if isinstance(module, nn.LayerNorm):
                owner, _, local = name.rpartition(".")
                setattr(self.gpt.get_submodule(owner), local, nn.Identity())

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.gpt(ids)
        return logits


class GatedBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.alpha * self.down(self.act(self.up(x)))
        return out


class Gated(nn.Module):
    """Residual blocks with a learned multiplier each, as ReZero and SkipInit want them."""

    def __init__(self, depth: int = 3, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(8, width)
        self.blocks = nn.Sequential(*(GatedBlock(width) for _ in range(depth)))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


class Adapted(nn.Module):
    """A linear layer with a low-rank adapter beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(20, 30)
        self.lora_A, self.lora_B = nn.Linear(20, 4, bias=False), nn.Linear(4, 30, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(x) + self.lora_B(self.lora_A(x))
        return out


def described(model: nn.Module) -> tuple[TensorInfo, ...]:
    """Return what is known of the tensors of one of these models, or of a built-in one, with branches and parts."""
    infos = read(model)
    blocks = {m[1] for info in infos if (m := re.search(r"blocks\.(\d+)\.", info.name))}
    attention = any(".attention." in info.name for info in infos)
    return tuple(_described(info, len(blocks) * (2 if attention else 1), attention) for info in infos)


def _described(info: TensorInfo, count: int, attention: bool) -> TensorInfo:
    found = re.search(r"blocks\.(\d+)\.(?:\w+\.)?(query|key|value|out|up|down|conv1|conv2)\.weight$", info.name)
    if info.name.endswith("alpha"):
        index = int(info.name.split(".")[1])
        return replace(info, role="scale", branch=Branch(index, count, 1, 2))
    if "lora_" in info.name:
        return replace(info, part="low-rank-in" if "lora_A" in info.name else "low-rank-out", role="weight")
    if found is None:
        return info
    block, local = int(found[1]), found[2]
    index = 2 * block + (local in ("up", "down")) if attention else block
    return replace(info, part=PARTS.get(local, ""), branch=Branch(index, count, int(local in LAST), 2))


def planned(model: nn.Module, recipe: str | Recipe | Composition, example: object = None) -> Plan:
    """Return the plan that a recipe makes of a model described so."""
    found = parse(recipe) if isinstance(recipe, str) else recipe
    infos = described(model)
    rows = rows_of(found, infos, ())
    if found.measures:
        rows = calibrate.correct(rows, infos, model, example, seed=0, **found.measuring)
    return Plan(str(found), rows)


@pytest.fixture
def describe() -> Callable[[nn.Module], tuple[TensorInfo, ...]]:
    return described


@pytest.fixture
def make() -> Callable[..., Plan]:
    return planned


@pytest.fixture(scope="session")
def special() -> dict[str, Callable[..., nn.Module]]:
    return {"norm-free": NormFree, "gated": Gated, "adapted": Adapted}
