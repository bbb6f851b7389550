"""Zhang, Dauphin and Ma 2019 (Fixup): a 200-layer residual network without normalisation learns at learning rate 0.1.

arXiv 1901.09321. The same network with torch's default weights at the same rate is the control.
"""

import math

import torch
from figure import chart, digits
from torch import Tensor, nn

import firstlight as fl

BLOCKS, WIDTH, STEPS, LR, BATCH = 100, 16, 80, 0.1, 64


class Block(nn.Module):
    """x + scale · conv(relu(conv(x + bias)) + bias) + bias: the scalar biases and the multiplier are the paper's."""

    def __init__(self) -> None:
        super().__init__()
        self.bias1, self.bias2, self.bias3, self.bias4 = (nn.Parameter(torch.zeros(1)) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(1))
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, WIDTH, 8, 8) to the same shape."""
        branch = self.conv2(torch.relu(self.conv1(x + self.bias1) + self.bias2) + self.bias3)
        return torch.relu(x + self.scale * branch + self.bias4)


class Net(nn.Module):
    """A convolution, 100 blocks of two, means over 2×2 places, and a linear layer: 202 layers with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Linear(WIDTH * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures (N, 1, 8, 8) to logits (N, 10)."""
        out: Tensor = self.head(nn.functional.avg_pool2d(self.blocks(torch.relu(self.stem(x))), 2).flatten(1))
        return out


def train(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """Return the loss at every step, up to the first that is not finite."""
    small = [p for p in model.parameters() if p.numel() == 1]
    large = [p for p in model.parameters() if p.numel() > 1]
    groups = [{"params": large, "lr": LR}, {"params": small, "lr": LR / 10}]  # a tenth for scalars, as in the paper
    steps, losses = torch.optim.SGD(groups, momentum=0.9), []
    order = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        batch = torch.randint(0, len(x), (BATCH,), generator=order)
        steps.zero_grad()
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        torch.autograd.backward(loss)
        steps.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
    return losses


def main() -> None:
    """Print and draw both."""
    x, y = digits()
    x = x.reshape(-1, 1, 8, 8)
    lines = {}
    for recipe in ("fixup", fl.compose("torch-default", {"*.bias?": "keep", "*.scale": "keep"})):
        torch.manual_seed(0)
        model = fl.initialize(Net(), recipe, seed=0, example=x[:2])
        losses = train(model, x, y)
        label = str(recipe).split(" ")[0]
        last = sum(losses[-10:]) / len(losses[-10:])
        print(f"{label:14} first loss {losses[0]:.3f}, mean of the last ten of {len(losses)} steps {last:.3f}")
        lines[label] = (range(1, len(losses) + 1), losses)
    print(chart("fixup_200_layers", "200 layers, no normalisation, SGD 0.1", "step", "loss", lines, log="y"))


if __name__ == "__main__":
    main()
