"""Cats against dogs: plain convolutions, 20 and 40 layers deep, no normalisation, no skips (fetch cats-dogs first).

The photographs are averaged to 16×16, so that a step takes a core a tenth of a second and not half.
"""

from dataclasses import replace

from figures import asked, chart, tell, told
from torch import Tensor
from torch.nn.functional import avg_pool2d

import firstlight as fl
from firstlight.race import Task, task

INITS = ("normal:std=0.01", "torch-default", "xavier", "he", "orthogonal", "auto")
DEPTHS, WIDTH, STEPS, RATES = ("20", "40"), 16, 1000, (0.0003,)


def photographs(train: int = 8000, validation: int = 1000) -> Task:
    """Return cats-dogs in half its resolution."""
    data = task(f"cats-dogs:train={train},validation={validation}")
    return replace(data, train=_half(data.train), validation=_half(data.validation), test=_half(data.test))


def _half(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return avg_pool2d(part[0], 2), part[1]


def main() -> None:
    """Race, print and draw."""
    options = asked(DEPTHS)
    data = photographs(64, 16) if options.quick else photographs()
    steps, width = (2, 2) if options.quick else (STEPS, WIDTH)
    for depth in ("3",) if options.quick else options.names:
        result = fl.race(
            data, INITS, ("adam",), model=f"cnn:depth={depth},width={width}", lrs=RATES, steps=steps, batch=32,
            evaluate=max(1, steps // 10), patience=4, signals=True, progress=told,
        )  # fmt: skip
        tell(result)
        lines = {row.init: (row.curve.validation_steps, row.curve.validation_loss) for row in result.best()}
        print(chart(f"cats_dogs_{depth}", f"cats and dogs, {depth} plain layers", "step", "validation loss", lines))


if __name__ == "__main__":
    main()
