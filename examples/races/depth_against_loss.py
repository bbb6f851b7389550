"""Depth against loss: seven starts, four activations, three depths, on handwritten digits and on MNIST (fetch it first).

The best validation loss of a few learning rates, and what the deepest network showed before training.
"""

import math

from figures import asked, chart, tell

import firstlight as fl
from firstlight.race import task

TASKS = {"digits": "digits", "mnist": "mnist:train=2000,validation=500"}
INITS = ("zeros", "normal:std=1", "normal:std=0.01", "xavier", "he", "orthogonal", "auto")
ACTS, DEPTHS = ("sigmoid", "tanh", "relu", "gelu"), (3, 10, 30)
LARGEST = 4.0  # losses above are drawn here: N(0, 1) reaches 1e23, beside which nothing else could be told apart
WIDTH, STEPS, RATES = 64, 100, {"momentum": (0.003, 0.03), "adam": (0.001,)}


def main() -> None:
    """Race, print and draw."""
    options = asked(tuple(TASKS))
    width, steps, depths, acts = (4, 2, (2, 3), ACTS[:1]) if options.quick else (WIDTH, STEPS, DEPTHS, ACTS)
    for name in options.names:
        data = task("mnist:validation=20" if options.quick and name == "mnist" else TASKS[name])
        for act in acts:
            losses: dict[str, list[float]] = {init: [] for init in INITS}
            for depth in depths:
                model = f"mlp:depth={depth},width={width},act={act}"
                result = fl.race(
                    data, INITS, tuple(RATES), model=model, lrs=RATES, steps=steps, signals=depth == depths[-1]
                )
                for row in result.best():
                    losses[row.init].append(min(row.best_validation_loss or math.nan, LARGEST))
                tell(result)
            lines = {init: (depths, values) for init, values in losses.items()}
            words = f"{data.name}: {act}, width {width}, best of {steps} steps (at most {LARGEST:g} drawn)"
            print(chart(f"depth_{data.name}_{act}", words, "layers", "validation loss", lines, log="x"))


if __name__ == "__main__":
    main()
