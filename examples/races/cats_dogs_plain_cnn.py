"""Cats against dogs: plain convolutions, 20 and 40 layers deep, no normalisation, no skips (fetch cats-dogs first)."""

import sys

from figures import chart, tell

import firstlight as fl
from firstlight.race import task

INITS = ("normal:std=0.01", "torch-default", "xavier", "he", "orthogonal", "auto")
DEPTHS, WIDTH, STEPS, RATES = (20, 40), 8, 240, (0.001,)


def main(depths: tuple[int, ...] = DEPTHS) -> None:
    """Race, print and draw."""
    data = task("cats-dogs:train=4000,validation=500")
    for depth in depths:
        model = f"cnn:depth={depth},width={WIDTH}"
        result = fl.race(
            data, INITS, ("adam",), model=model, lrs=RATES, steps=STEPS, batch=32, patience=4, signals=True
        )
        tell(result)
        lines = {row.init: (row.curve.validation_steps, row.curve.validation_loss) for row in result.best()}
        print(chart(f"cats_dogs_{depth}", f"cats and dogs, {depth} plain layers", "step", "validation loss", lines))


if __name__ == "__main__":
    main(tuple(int(depth) for depth in sys.argv[1:]) or DEPTHS)
