"""Positions of auto: as large as what they are added to where a layer reads the data, small beside tokens of a table."""

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl


class Encoder(nn.Module):
    """A transformer over what a layer makes of data, or over a table."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.pos = first, nn.Parameter(torch.zeros(1, 16, 24))
        layer = nn.TransformerEncoderLayer(24, 4, 48, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.first(x) + self.pos).mean(1))
        return logits


def test_positions_are_as_large_as_patches_and_small_beside_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(32, 16, 4, generator=generator)
    model = Encoder(nn.Linear(4, 24))
    row = fl.plan(model, "auto", example=patches)["pos"]
    assert "places alone tell patches apart" in row.reason
    fl.initialize(model, "auto", seed=0, example=patches)
    sizes = [float(tensor.detach().square().mean().sqrt()) for tensor in (model.pos, model.first(patches))]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.13)  # 384 numbers: 3.6 standard errors
    table = Encoder(nn.Embedding(64, 24))
    rows = fl.plan(table, "auto", example=torch.randint(64, (32, 16), generator=generator))
    assert rows["pos"].std == pytest.approx(24**-0.5)
