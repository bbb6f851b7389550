"""`firstlight predict`: what theory says before any weight is drawn, of a TARGET's layers or of plain networks (`--phase`)."""

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from firstlight.cli.console import emit, number, prose, show
from firstlight.cli.options import Force, Json
from firstlight.cli.phases import phases
from firstlight.cli.show import off, signals_table, uncut
from firstlight.errors import OptionError

if TYPE_CHECKING:
    from torch import nn

    from firstlight.model.targets import Target
    from firstlight.signal import Signals

_BATCH = 32  # examples made up where none are given


def command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]", help="file.py:callable, package.module:callable, hf:config.json or a built-in."
        ),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="What weights are drawn by; default the target's own start.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="A task or a .npz file; default standard normal numbers or random tokens."),
    ] = None,
    loss: Annotated[str, typer.Option("--loss", help="cross-entropy or mse.")] = "cross-entropy",
    against_measured: Annotated[
        bool, typer.Option("--against-measured", help="Measure too, and put both side by side.")
    ] = False,
    seeds: Annotated[int, typer.Option("--seeds", help="Draws of the weights to measure, averaged.")] = 5,
    phase: Annotated[
        str | None, typer.Option("--phase", metavar="ACT", help="Phases of plain networks with this activation.")
    ] = None,
    param: Annotated[float | None, typer.Option("--param", help="The activation's parameter, such as a slope.")] = None,
    weight_std: Annotated[
        float | None, typer.Option("--weight-std", help="σ_w: std of a weight times √fan_in, that is the gain.")
    ] = None,
    bias_std: Annotated[float | None, typer.Option("--bias-std", help="σ_b: std of the biases.")] = None,
    dropout: Annotated[float, typer.Option("--dropout", help="Share of activations that dropout sets to 0.")] = 0.0,
    width: Annotated[int, typer.Option("--width", help="Units a layer, for the depth that is trainable.")] = 256,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the phase diagram as an HTML page.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Predict signals and gradients by layer without drawing weights, or show the phases of plain networks (--phase)."""
    if (target is None) == (phase is None):
        got = "neither" if target is None else f"both '{target}' and --phase {phase}"
        raise OptionError(
            f"predict needs a TARGET or --phase ACT, got {got}. Write 'firstlight predict mlp:depth=30,act=tanh' or "
            "'firstlight predict --phase tanh'."
        )
    if phase is not None:
        phases(
            phase,
            param=param,
            weight_std=weight_std,
            bias_std=bias_std,
            dropout=dropout,
            width=width,
            output=output,
            force=force,
            as_json=as_json,
        )
        return
    if seeds < 1:
        raise OptionError(f"seeds = {seeds}, must be >= 1.")
    if output is not None:
        raise OptionError(f"--output {output} goes with --phase. Use --json > FILE for the signals of a target.")
    assert target is not None
    _signals(target, recipe, data, loss, seeds if against_measured else 0, as_json)


def _signals(target: str, recipe: str | None, data: str | None, loss: str, seeds: int, as_json: bool) -> None:
    from firstlight.model.targets import load
    from firstlight.plan import plan
    from firstlight.signal.predict import predict

    found = load(target)
    model = found.build(0) if seeds or found.config is None else found.build_to_read()
    batch, wanted = _batch(found, model, data, real=seeds > 0)
    chosen = recipe or found.init
    if chosen is None and found.config is not None and not seeds:
        raise OptionError(f"predict needs --recipe for '{target}', whose weights are not made. Add '--recipe he'.")
    made = None if chosen is None else plan(model, chosen, example=batch)
    expected = predict(model, example=batch, plan=made, loss=loss, target=wanted)
    measured = _measured(model, made, batch, wanted, loss, seeds) if seeds else None
    if as_json:
        sides = {"predicted": expected.to_json(), "measured": measured}
        emit({"target": target, "recipe": chosen, "loss": loss, **sides})
        return
    title = f"signals by layer that theory expects of {target}, {chosen or 'its own values'}"
    if measured is None:
        show(signals_table(expected), title)
    else:
        _side_by_side(expected, measured, f"{title}, and the mean of {seeds if made else 1} measured")
    for line in expected.not_observed:
        prose(line)


def _batch(found: "Target", model: "nn.Module", data: str | None, *, real: bool) -> tuple[Any, Any]:
    """Return inputs and wanted outputs: of a task, else made up, with numbers only where something is to be measured."""
    if data is not None:
        from firstlight.race import task

        return task(data).batch(_BATCH, seed=0)
    from firstlight.model.example import made_up
    from firstlight.model.nested import mapped

    example = next(iter(made_up(model)), None) if found.example is None else found.example
    if example is None:
        raise OptionError(f"'{found.text}' does not say what it takes. Add --data with a task or a .npz file.")
    import torch
    from torch import Tensor, nn

    words = min((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), default=2)
    if hasattr(model, "config"):
        words = getattr(model.config, "vocab_size", words)
    generator = torch.Generator().manual_seed(0)

    def fill(tensor: Tensor) -> Tensor:
        shape = (_BATCH, *tensor.shape[1:])
        if not real:
            return torch.empty(shape, dtype=tensor.dtype, device="meta")
        if tensor.is_floating_point():
            return torch.randn(shape, generator=generator)
        return torch.randint(0, words, shape, generator=generator)

    return mapped(example, Tensor, fill), None


def _measured(
    model: "nn.Module", made: Any, batch: Any, wanted: Any, loss: str, seeds: int
) -> list[dict[str, float | str | None]]:
    """Return the means over draws of what is measured, by layer in order."""
    from firstlight.signal.measure import measure

    passes = []
    for seed in range(seeds if made is not None else 1):
        if made is not None:
            made.apply(model, seed=seed)
        passes.append(
            measure(model, batch, target=_target(model, batch, loss, seed) if wanted is None else wanted, loss=loss)
        )
    names = ("forward_mean", "forward_std", "similarity", "gradient_std", "update_ratio")
    return [
        {"layer": rows[0].layer, **{name: _mean([getattr(row, name) for row in rows]) for name in names}}
        for rows in zip(*passes, strict=True)
    ]


def _target(model: "nn.Module", batch: Any, loss: str, seed: int) -> Any:
    """Return outputs to want that the inputs say nothing of."""
    import torch

    from firstlight.model.example import arguments
    from firstlight.signal.objective import main_tensor

    args, kwargs = arguments(batch)
    with torch.no_grad():
        shape = main_tensor(model(*args, **kwargs)).shape
    generator = torch.Generator().manual_seed(seed)
    if loss == "mse":
        return torch.randn(shape, generator=generator)
    return torch.randint(0, shape[-1], shape[:-1], generator=generator)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _side_by_side(expected: "Signals", measured: list[dict[str, Any]], title: str) -> None:
    from rich.table import Table

    heads = (
        "layer",
        "kind",
        "std",
        "one draw",
        "measured",
        "gradient",
        "measured",
        "similarity",
        "measured",
        "found by",
    )
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head in ("layer", "kind", "found by") else "right", no_wrap=True)
    names = ("forward_std", "gradient_std", "similarity")
    errors: dict[str, list[float]] = {name: [] for name in names[:2]}
    for row, seen in zip(expected, measured, strict=True):
        std, *cells = [number(value) for name in names for value in (getattr(row, name), seen[name])]
        table.add_row(row.layer, row.kind, std, off(row.forward_spread), *cells, row.found_by or "")
        for name, found in errors.items():
            if seen[name] and getattr(row, name) is not None:
                found.append(abs(getattr(row, name) / seen[name] - 1))
    show(uncut(table), title)
    words = {"forward_std": "std", "gradient_std": "gradient"}
    shown = [f"{words[name]} {median(found):.1%}" for name, found in errors.items() if found]
    prose(f"median relative error by layer: {', '.join(shown)}")
