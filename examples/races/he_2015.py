"""He et al. 2015 in miniature: plain ReLU convolutions, 14, 22 and 30 layers, from He's start and from Xavier's.

arXiv 1502.01852, figures 2 and 3: with 22 layers both learn, He's sooner; with 30 layers only He's learns. There pictures of
ImageNet under SGD with momentum; here digits of 8×8. Xavier's std, where fan-in and fan-out are equal, is √2 smaller a layer.
Thirty layers want more channels, a lower rate, and patience: they stand still for some hundred steps before they learn.
"""

from figures import asked, chart, tell, told

import firstlight as fl

# of each depth: channels, learning rate, steps, and after how many of twenty validations without gain a run ends
SETTINGS = {"14": (16, 0.01, 800, 8), "22": (16, 0.01, 800, 8), "30": (32, 0.002, 700, 20)}
QUICK = {"3": (2, 0.01, 2, 8)}
SEEDS = 3


def main() -> None:
    """Race, print and draw."""
    options = asked(tuple(SETTINGS))
    chosen = QUICK if options.quick else {depth: SETTINGS[depth] for depth in options.names}
    for depth, (width, rate, steps, patience) in chosen.items():
        result = fl.race(
            "digits", ("he", "xavier"), ("momentum",), model=f"cnn:depth={depth},width={width}", lrs=(rate,), steps=steps,
            seeds=1 if options.quick else SEEDS, batch=32, evaluate=max(1, steps // 20), patience=patience, signals=True,
            progress=told,
        )  # fmt: skip
        tell(result)
        for (init, _), rows in result.chosen().items():
            print(f"{init}, {depth} layers, every seed:", [f"{row.best_accuracy:.1%}" for row in rows])
        lines = {
            f"{row.init}, seed {row.seed}": (row.curve.validation_steps, row.curve.validation_loss) for row in result
        }
        title = f"{depth} plain layers of ReLU on digits, SGD with momentum"
        print(chart(f"he_2015_{depth}", title, "step", "validation loss", lines))


if __name__ == "__main__":
    main()
