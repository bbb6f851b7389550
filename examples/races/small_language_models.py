"""A small GPT and a small BERT, trained from scratch on the standard library's prose from six starts each."""

from figures import asked, chart, tell

import firstlight as fl

STEPS, RATES = 120, (0.0003, 0.003)
SIZE, QUICK = "depth=4,width=64", "depth=1,width=8,heads=1"
OWN = {"gpt": "gpt2", "bert": "bert"}  # the customary start of each


def main() -> None:
    """Race, print and draw."""
    options = asked(tuple(OWN))
    steps, rates, size, context = (2, RATES[:1], QUICK, 8) if options.quick else (STEPS, RATES, SIZE, 32)
    for name in options.names:
        inits = (OWN[name], "torch-default", "normal:std=1", "xavier", "he", "auto")
        model, text = f"{name}:{size}", f"text:context={context},validation={2 * context}"
        result = fl.race(text, inits, ("adam",), model=model, lrs=rates, steps=steps, batch=16, signals=True)
        tell(result)
        lines = {row.init: (row.curve.validation_steps, row.curve.validation_loss) for row in result.best()}
        print(chart(f"small_{name}", f"{model} on text", "step", "validation loss", lines, log="y"))


if __name__ == "__main__":
    main()
