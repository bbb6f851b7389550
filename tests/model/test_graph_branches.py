"""Residual branches: where they end, how many there are, and which weights stand in none."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph_models import Forward, X, attend, seen


class Block(nn.Module):
    """torchvision's basic block, and its bottleneck when wide, with or without normalisation."""

    def __init__(self, inputs: int, width: int, stride: int, *, wide: bool, norm: bool) -> None:
        super().__init__()
        out = width * (4 if wide else 1)
        sizes = (
            [(inputs, width, 1), (width, width, 3), (width, out, 1)] if wide else [(inputs, width, 3), (width, out, 3)]
        )
        strides = [stride if place == wide else 1 for place in range(len(sizes))]
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, stride=s, padding=k // 2, bias=not norm)
            for (i, o, k), s in zip(sizes, strides, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) if norm else nn.Identity() for _, o, _ in sizes)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, out, 1, stride), nn.BatchNorm2d(out) if norm else nn.Identity()
            )

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(conv(y))
            y = F.relu(y) if place + 1 < len(self.convs) else y
        return F.relu(self.shortcut(x) + y)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_residual_networks_have_a_branch_a_block_and_shortcuts_are_in_none(wide: bool, norm: bool) -> None:
    out = 4 if wide else 1
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(),
        *(Block(8 * out if i else 8, 8, 1, wide=wide, norm=norm) for i in range(5)),
        Block(8 * out, 16, 2, wide=wide, norm=norm), Block(16 * out, 16, 1, wide=wide, norm=norm),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16 * out, 10),
    )  # fmt: skip
    infos = seen(model, torch.zeros(2, 3, 8, 8))
    length = 3 if wide else 2
    for block in range(7):
        places = [infos[f"{block + 2}.convs.{i}.weight"].branch for i in range(length)]
        assert [(b.index, b.count, b.position, b.length, b.stack) for b in places if b] == [
            (block, 7, i, length, 0) for i in range(length)
        ]
    assert {name for name, i in infos.items() if i.role.endswith("weight") and i.branch is None} == {
        name for name in infos if "shortcut.0.weight" in name
    } | {"0.weight", f"{len(model) - 1}.weight"}


def test_blocks_that_norm_after_the_sum_and_blocks_in_parallel_have_branches_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    infos = seen(nn.Sequential(nn.TransformerEncoder(layer, 5), nn.Linear(8, 2)), X)
    ends = [n for n, i in infos.items() if i.branch is not None and i.branch.ends]
    assert ends == [f"0.layers.{i}.{n}.weight" for i in range(5) for n in ("self_attn.out_proj", "linear2")]
    counts = [(b.index, b.count) for n in ends if (b := infos[n].branch) is not None]
    assert counts == [(i, 10) for i in range(10)]

    def parallel(m: Any, x: Tensor) -> Any:
        y = F.layer_norm(x, (8,))
        return m.head(x + m.out(attend(m.q(y), m.k(y), m.v(y))) + m.down(F.gelu(m.up(y))))

    names = ("q", "k", "v", "out", "up", "down", "head")
    one = seen(Forward(parallel, **{name: nn.Linear(8, 8) for name in names}), X)
    places = {n: b.position for n in names if (b := one[f"{n}.weight"].branch) is not None}
    assert places == {"q": 0, "k": 0, "v": 0, "out": 1, "up": 0, "down": 1}


class Remembered(nn.Module):
    """x + Linear(RNN(x)), once."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__()
        self.rnn, self.out = rnn, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.out(self.rnn(x)[0])
        return made


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_steps_of_a_recurrent_layer_are_no_branches_and_a_skip_about_it_is_one(
    kind: type[nn.RNN | nn.LSTM | nn.GRU],
) -> None:
    infos = seen(nn.Sequential(nn.Linear(8, 8), Remembered(kind(8, 8, batch_first=True))), torch.zeros(2, 6, 8))
    branch = infos["1.out.weight"].branch
    assert branch is not None
    assert (branch.count, branch.stack) == (1, 0)
    alone = seen(nn.Sequential(kind(8, 8, num_layers=2, batch_first=True)), torch.zeros(2, 6, 8))
    assert {name for name, info in alone.items() if info.branch is not None} == set()
