"""Padding stands between two convolutions without parting them, however torch computes it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import firstlight as fl

DEPTH = 60  # convolutions: beyond 50, auto centres those of a chain


class Tower(nn.Module):
    """Convolutions of tanh over 16 places; what each reads at the ends is up to `padded`."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.layers = nn.ModuleList(nn.Conv1d(4 if i else 1, 4, 3, bias=False) for i in range(DEPTH))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, 16) to (N, 10)."""
        for layer in self.layers:
            x = torch.tanh(layer(self.padded(x)))
        out: Tensor = self.head(x.flatten(1))
        return out

    def padded(self, x: Tensor) -> Tensor:
        """Return x with one more place at each end."""
        if self.mode != "two signals":
            return F.pad(x, (1, 1), self.mode)
        made = x.new_empty(*x.shape[:2], x.shape[2] + 2)
        made[..., 1:-1] = x
        made[..., :1], made[..., -1:] = x.mean(), x.std()
        return made


def planned(mode: str) -> dict[str, tuple[str, str]]:
    plan = fl.plan(Tower(mode), "auto", example=torch.randn(8, 1, 16, generator=torch.Generator().manual_seed(0)))
    return {row.name: (row.distribution, row.reason.partition(": ")[2].partition("size")[0]) for row in plan}


@pytest.mark.parametrize("mode", ["circular", "reflect", "replicate"])
def test_padded_convolutions_are_one_chain_like_those_padded_with_zeros(mode: str) -> None:
    assert planned(mode) == planned("constant")
    assert planned(mode)["layers.30.weight"][0] == "delta-orthogonal"


def test_memory_that_takes_a_second_signal_parts_the_chain() -> None:
    assert planned("two signals")["layers.30.weight"][0] == "orthogonal"


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_auto_starts_convolutions_that_wrap_around_as_those_padded_with_zeros(dims: int) -> None:
    """With weights at the kernel's centre alone, what is beyond the border is not seen: all outputs are the same."""
    batch = torch.randn(32, 1, *[3] * dims, generator=torch.Generator().manual_seed(0))
    outputs = []
    for mode in ("zeros", "circular"):
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        layers = [kind(6 if i else 1, 6, 3, padding=1, padding_mode=mode) for i in range(DEPTH)]
        parts = [part for layer in layers for part in (layer, nn.Tanh())]
        model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(6 * 3**dims, 10))
        outputs.append(fl.initialize(model, "auto", seed=0, example=batch)(batch))
    torch.testing.assert_close(*outputs)
    assert outputs[0].std() > 0.1
