"""Depth against loss: seven starts, four activations, three depths, on handwritten digits and on MNIST (fetch it first).

The best validation loss of a few learning rates, and what the deepest network showed before training.
"""

import sys

from figures import chart, tell

import firstlight as fl
from firstlight.race import task

TASKS = ("digits", "mnist:train=2000,validation=500")
INITS = ("zeros", "normal:std=1", "normal:std=0.01", "xavier", "he", "orthogonal", "auto")
ACTS, DEPTHS = ("sigmoid", "tanh", "relu", "gelu"), (3, 10, 30)
WIDTH, STEPS, RATES = 64, 100, {"momentum": (0.003, 0.03), "adam": (0.001,)}


def main(tasks: tuple[str, ...] = TASKS) -> None:
    """Race, print and draw."""
    for name in tasks:
        data = task(name)
        for act in ACTS:
            losses: dict[str, list[float]] = {init: [] for init in INITS}
            for depth in DEPTHS:
                model = f"mlp:depth={depth},width={WIDTH},act={act}"
                result = fl.race(
                    data, INITS, tuple(RATES), model=model, lrs=RATES, steps=STEPS, signals=depth == DEPTHS[-1]
                )
                for row in result.best():
                    losses[row.init].append(row.best_validation_loss or float("nan"))
                tell(result)
            lines = {init: (DEPTHS, values) for init, values in losses.items()}
            words = f"{data.name}: {act}, width {WIDTH}, best of {STEPS} steps"
            print(chart(f"depth_{data.name}_{act}", words, "layers", "validation loss", lines, log="x"))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or TASKS)
