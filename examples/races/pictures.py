"""A plain CNN and a ResNet on MNIST, a ResNet on cats against dogs, a ViT on digits (fetch mnist and cats-dogs first)."""

from dataclasses import replace

from cats_dogs_plain_cnn import photographs
from figures import asked, chart, tell, told

import firstlight as fl
from firstlight.race import Task, task

INITS = {
    "cnn-mnist": ("normal:std=0.01", "torch-default", "xavier", "he", "orthogonal", "auto"),
    "resnet-mnist": ("normal:std=1", "torch-default", "xavier", "he", "resnet", "auto"),
    "resnet-cats-dogs": ("normal:std=1", "torch-default", "xavier", "he", "resnet", "auto"),
    "vit-digits": ("normal:std=1", "torch-default", "xavier", "he", "vit", "auto"),
}
MODELS = {
    "cnn-mnist": "cnn:depth=10,width=8",
    "resnet-mnist": "resnet:depth=4,width=8",
    "resnet-cats-dogs": "resnet:depth=4,width=16",
    "vit-digits": "vit:depth=4,width=32,patch=2",
}
STEPS, RATES = 200, (0.001, 0.01)


def pictures(name: str, *, quick: bool) -> Task:
    """Return the task of a race; of MNIST every second pixel is taken."""
    if name.endswith("cats-dogs"):
        return photographs(64, 16) if quick else photographs(4000, 500)
    if name.endswith("digits"):
        return task("digits")
    data = task("mnist:validation=20" if quick else "mnist:train=4000,validation=500")
    train, validation, test = ((x[..., ::2, ::2], y) for x, y in (data.train, data.validation, data.test))
    return replace(data, train=train, validation=validation, test=test)


def main() -> None:
    """Race, print and draw."""
    options = asked(tuple(MODELS))
    steps, rates = (2, RATES[:1]) if options.quick else (STEPS, RATES)
    for name in options.names:
        model = MODELS[name].partition(":")[0] + ":depth=2,width=4" if options.quick else MODELS[name]
        result = fl.race(
            pictures(name, quick=options.quick), INITS[name], ("adam",), model=model, lrs=rates, steps=steps,
            batch=32, signals=True, progress=told,
        )  # fmt: skip
        tell(result)
        lines = {row.init: (row.curve.validation_steps, row.curve.validation_loss) for row in result.best()}
        print(chart(name.replace("-", "_"), f"{name}: {model}", "step", "validation loss", lines, log="y"))


if __name__ == "__main__":
    main()
