"""A small GPT and a small BERT, trained from scratch on the standard library's prose from six starts each."""

import sys

from figures import chart, tell

import firstlight as fl

STEPS, RATES = 120, (0.0003, 0.003)
MODELS = {"gpt": "gpt:depth=4,width=64", "bert": "bert:depth=4,width=64"}
OWN = {"gpt": "gpt2", "bert": "bert"}  # the customary start of each


def main(names: tuple[str, ...] = tuple(MODELS)) -> None:
    """Race, print and draw."""
    for name in names:
        inits = (OWN[name], "torch-default", "normal:std=1", "xavier", "he", "auto")
        text = "text:context=32,validation=64"
        result = fl.race(text, inits, ("adam",), model=MODELS[name], lrs=RATES, steps=STEPS, batch=16, signals=True)
        tell(result)
        lines = {row.init: (row.curve.validation_steps, row.curve.validation_loss) for row in result.best()}
        print(chart(f"small_{name}", f"{MODELS[name]} on text", "step", "validation loss", lines, log="y"))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or tuple(MODELS))
