"""Xiao et al. 2018: gradients find their way through 1,000 convolutions of tanh under delta-orthogonal weights.

arXiv 1806.05393. Gradients of 32 independent probes are followed back from the last layer: in how many directions they still
differ, and how large they are. The control is Gaussian weights at the same critical point, (σ_w², σ_b²) = (1.05, 2.01e-5).
"""

import math

import torch
from figure import chart
from torch import Tensor, nn

import firstlight as fl

DEPTH, WIDTH, SIDE, INPUTS = 1000, 16, 6, 32


class Tower(nn.Module):
    """Convolutions of 3×3, wrapped around the borders, each followed by tanh."""

    def __init__(self) -> None:
        super().__init__()
        parts = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1, padding_mode="circular") for _ in range(DEPTH))
        self.layers = nn.Sequential(*(module for part in parts for module in (part, nn.Tanh())))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, WIDTH, SIDE, SIDE) to the same shape."""
        out: Tensor = self.layers(x)
        return out


def directions(x: Tensor) -> float:
    """Return (Σ s²)²/Σ s⁴ of the singular values s of the inputs' matrix."""
    powers = torch.linalg.svdvals(x.detach().flatten(1).double()).square()
    return float(powers.sum() ** 2 / powers.square().sum())


def main() -> None:
    """Print and draw both."""
    x = 0.16 * torch.randn(INPUTS, WIDTH, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    gaussian = fl.compose(f"lecun:gain={math.sqrt(1.05)}", {"role:bias": f"normal:std={math.sqrt(2.01e-5)}"})
    lines = {}
    plain = fl.compose("delta-orthogonal", {"role:bias": "zeros"})
    for label, recipe in (("delta-orthogonal", "delta-orthogonal"), ("without biases", plain), ("Gaussian", gaussian)):
        model = fl.initialize(Tower(), recipe, seed=0)
        seen, signal = [x.requires_grad_()], x
        for layer in model.layers:
            signal = layer(signal)
            if isinstance(layer, nn.Tanh):
                seen.append(signal)
        probe = torch.randn(signal.shape, generator=torch.Generator().manual_seed(1))
        marks = list(range(DEPTH, -1, -50))
        found = torch.autograd.grad((signal * probe).sum(), [seen[mark] for mark in marks])
        left = [directions(gradient) for gradient in found]
        ratio = float(found[-1].norm() / probe.norm())
        print(
            f"{label:17} directions of the gradients {left[0]:.1f} -> {left[-1]:.2f}, size × {ratio:.3g}; "
            f"of the signals {directions(x):.1f} -> {directions(signal):.2f}"
        )
        lines[label] = (marks, left)
    title = f"gradients of {INPUTS} probes back through {DEPTH} convolutions of tanh"
    print(chart("delta_orthogonal_1000", title, "layer", "directions left", lines, log="y"))


if __name__ == "__main__":
    main()
