"""Yang et al. 2022 (muP): what a step does to each layer, and the best learning rate, do not depend on the width.

arXiv 2203.03466. First the coordinate check: how far each layer's outputs move in three steps of Adam, over widths 64 to 1024.
Then the loss on handwritten digits after 60 steps over learning rates, at three widths.
"""

import torch
from figure import chart, digits
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load
from firstlight.recipes.mup import learning_rates

WIDTHS, BASE, STEPS = (64, 128, 256, 512, 1024), 64, 60
RATES = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
MUP, USUAL = f"mup:base={BASE},gain=1.41421356", "he"


def made(recipe: str, width: int, lr: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a network and its optimizer, with muP's factors on the rates where the recipe is muP."""
    model = fl.initialize(load(f"mlp:depth=4,width={width},act=relu").build(), recipe, seed=0)
    factors = learning_rates(model, base=BASE) if recipe == MUP else {}
    groups = [{"params": [p], "lr": lr * factors.get(name, 1.0)} for name, p in model.named_parameters()]
    return model, torch.optim.Adam(groups)


def step(model: nn.Module, adam: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    """Make one step and return the loss before it."""
    adam.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    torch.autograd.backward(loss)
    adam.step()
    return float(loss.detach())


def moves(recipe: str, width: int, x: Tensor, y: Tensor) -> list[float]:
    """Return the root mean square by which each layer's output moved in three steps."""
    model, adam = made(recipe, width, 0.01)
    outputs: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda _module, _inputs, out: outputs.append(out.detach()))
    model(x)
    before = list(outputs)
    for _ in range(3):
        step(model, adam, x, y)
    outputs.clear()
    model(x)
    return [float((after - start).square().mean().sqrt()) for after, start in zip(outputs, before, strict=True)]


def loss_at(recipe: str, width: int, lr: float, x: Tensor, y: Tensor) -> float:
    """Return the mean loss of the last ten steps."""
    model, adam = made(recipe, width, lr)
    order = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(STEPS):
        batch = torch.randint(0, len(x), (64,), generator=order)
        losses.append(step(model, adam, x[batch], y[batch]))
    return sum(losses[-10:]) / 10


def main() -> None:
    """Print and draw both checks."""
    x, y = digits()
    checks, curves = {}, {}
    for label, recipe in (("muP", MUP), ("usual", USUAL)):
        table = [moves(recipe, width, x[:64], y[:64]) for width in WIDTHS]
        for layer in range(4):
            line = [row[layer] for row in table]
            print(f"{label:6} layer {layer + 1}: moves " + " ".join(f"{value:.3g}" for value in line))
            if layer in (1, 3):
                checks[f"{label}, layer {layer + 1}"] = (WIDTHS, line)
        for width in (64, 256, 1024):
            losses = [loss_at(recipe, width, lr, x, y) for lr in RATES]
            best = RATES[losses.index(min(losses))]
            print(
                f"{label:6} width {width}: best rate {best:g}; losses " + " ".join(f"{value:.3f}" for value in losses)
            )
            curves[f"{label}, width {width}"] = (RATES, losses)
    print(
        chart(
            "mup_coordinate_check",
            "moves of the outputs in 3 steps of Adam",
            "width",
            "root mean square",
            checks,
            log="xy",
        )
    )
    print(chart("mup_rates", "loss after 60 steps of Adam", "learning rate at width 64", "loss", curves, log="xy"))


if __name__ == "__main__":
    main()
