"""Huang et al. 2020 (T-Fixup): a transformer without normalisation learns with Adam and no warm-up.

ICML 2020. Next characters of the text of Python's own help pages. The controls are the same network under torch's default
weights, at a small and at a large rate, and under Xavier's.
"""

import math
from pydoc_data.topics import topics

import torch
from figure import chart
from torch import Tensor, nn

import firstlight as fl
from firstlight.model.targets import load

DEPTH, WIDTH, LENGTH, BATCH, STEPS = 24, 64, 48, 16, 80
RUNS = (
    ("t-fixup:kind=decoder", 0.001),
    ("t-fixup:kind=decoder", 0.004),
    ("torch-default", 0.001),
    ("torch-default", 0.004),
)


def without_norms() -> nn.Module:
    """Return the built-in transformer with identities in place of its normalisations."""
    model = load(f"gpt:depth={DEPTH},width={WIDTH},context={LENGTH},vocab=128").build()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.LayerNorm):
            owner, _, local = name.rpartition(".")
            setattr(model.get_submodule(owner), local, nn.Identity())
    return model


def text() -> Tensor:
    """Return the characters of the help pages below 128 as numbers."""
    return torch.tensor([ord(letter) for page in sorted(topics) for letter in topics[page] if ord(letter) < 128])


def train(model: nn.Module, data: Tensor, lr: float) -> list[float]:
    """Return the loss at every step of Adam, up to the first that is not finite."""
    adam, losses = torch.optim.Adam(model.parameters(), lr=lr), []
    order = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        starts = torch.randint(0, len(data) - LENGTH - 1, (BATCH,), generator=order)
        window = starts[:, None] + torch.arange(LENGTH + 1)
        chosen = data[window]
        adam.zero_grad()
        loss = nn.functional.cross_entropy(model(chosen[:, :-1]).flatten(0, 1), chosen[:, 1:].flatten())
        torch.autograd.backward(loss)
        adam.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            break
    return losses


def main() -> None:
    """Print and draw all."""
    data, lines = text(), {}
    example = data[:LENGTH][None]
    for recipe, lr in (*RUNS, ("xavier", 0.001)):
        model = fl.initialize(without_norms(), recipe, seed=0, example=example)
        losses = train(model, data, lr)
        end = sum(losses[-10:]) / len(losses[-10:])
        print(
            f"{recipe:22} Adam {lr:g}: first loss {losses[0]:.3f}, mean of the last ten of {len(losses)} steps {end:.3f}"
        )
        lines[f"{recipe.split(':')[0]}, {lr:g}"] = (range(1, len(losses) + 1), losses)
    print(f"uninformed: {math.log(128):.3f}")
    print(chart("t_fixup", f"{DEPTH} layers, no normalisation, no warm-up", "step", "loss", lines, log="y"))


if __name__ == "__main__":
    main()
