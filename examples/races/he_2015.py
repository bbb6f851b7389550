"""He et al. 2015 in miniature: plain ReLU convolutions, 14, 22 and 30 layers, from He's start and from Xavier's.

arXiv 1502.01852, figures 2 and 3: with 22 layers both learn, He's sooner; with 30 layers only He's learns. There pictures of
ImageNet under SGD with momentum; here digits of 8×8. Xavier's std, where fan-in and fan-out are equal, is √2 smaller a layer.
"""

from figures import asked, chart, tell, told

import firstlight as fl

DEPTHS, WIDTH, STEPS, SEEDS, RATES = ("14", "22", "30"), 16, 800, 3, (0.01,)


def main() -> None:
    """Race, print and draw."""
    options = asked(DEPTHS)
    width, steps, seeds = (2, 2, 1) if options.quick else (WIDTH, STEPS, SEEDS)
    lines = {}
    for depth in ("3",) if options.quick else options.names:
        result = fl.race(
            "digits", ("he", "xavier"), ("momentum",), model=f"cnn:depth={depth},width={width}", lrs=RATES, steps=steps,
            seeds=seeds, batch=32, evaluate=max(1, steps // 20), patience=8, signals=True, progress=told,
        )  # fmt: skip
        tell(result)
        for (init, _), rows in result.chosen().items():
            print(
                f"{init}, {depth} layers, every seed at {rows[0].lr:g}:", [f"{row.best_accuracy:.1%}" for row in rows]
            )
        for row in result.best():
            lines[f"{row.init}, {depth} layers"] = (row.curve.validation_steps, row.curve.validation_loss)
    print(chart("he_2015", "plain convolutions of ReLU on digits, SGD with momentum", "step", "validation loss", lines))


if __name__ == "__main__":
    main()
