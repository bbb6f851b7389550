"""How much an optimizer can forgive: SGD, Adam, RMSprop and Adagrad from seven starts; ten layers of tanh on digits."""

from figures import asked, chart

import firstlight as fl

INITS = ("zeros", "normal:std=1", "normal:std=0.01", "torch-default", "xavier", "orthogonal", "auto")
RATES = {
    "sgd": (0.003, 0.03, 0.3),
    "adam": (0.0003, 0.001, 0.003),
    "rmsprop": (0.0003, 0.001, 0.003),
    "adagrad": (0.003, 0.01, 0.03),
}
MODEL, STEPS, SEEDS = "mlp:depth=10,width=64,act=tanh", 150, 3


def main() -> None:
    """Race, print and draw."""
    steps, seeds = (2, 1) if asked().quick else (STEPS, SEEDS)
    result = fl.race("digits", INITS, tuple(RATES), model=MODEL, lrs=RATES, steps=steps, seeds=seeds)
    print(f"{MODEL}, {seeds} seeds, medians; knowing nothing: {result.uninformed:.3f}; trained as {result.program}")
    accuracies: dict[tuple[str, str], float] = {}
    lines = {}
    for (init, optimizer), rows in result.chosen().items():
        losses = sorted(row.best_validation_loss or float("inf") for row in rows)
        rights = sorted(row.final_accuracy or 0.0 for row in rows)
        accuracies[init, optimizer] = rights[len(rights) // 2]
        print(
            f"| `{init}` | {optimizer} {rows[0].lr:g} | {losses[len(losses) // 2]:.3g} | {rights[len(rights) // 2]:.1%} |"
        )
    for optimizer in RATES:
        lines[optimizer] = (range(len(INITS)), [accuracies[init, optimizer] for init in INITS])
    print("starts from left to right:", ", ".join(INITS))
    print(chart("optimizer_forgiveness", "accuracy by start (in the order of the table)", "start", "accuracy", lines))


if __name__ == "__main__":
    main()
