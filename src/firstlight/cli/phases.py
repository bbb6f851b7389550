"""`firstlight predict --phase`: the phases of plain networks, from mean-field theory."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstlight.cli.console import emit, number, progress, prose, say, show
from firstlight.errors import OptionError
from firstlight.files import check_writable

if TYPE_CHECKING:
    from firstlight.signal.phase import PhasePoint

_AROUND = (0.5, 0.75, 0.9, 0.97, 1.0, 1.03, 1.1, 1.25, 1.5, 2.0)  # weight variances, in those of the edge
_EVENLY = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)  # where there is no edge


def phases(
    phase: str,
    *,
    param: float | None,
    weight_std: float | None,
    bias_std: float | None,
    dropout: float,
    width: int,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Print the phases of a plain network from mean-field theory: edge of chaos, depth scales, trainable depth."""
    if width < 1:
        raise OptionError(f"width = {width}, must be >= 1.")
    if output is not None:
        check_writable(output, force=force)
    from firstlight.init.activations import canonical

    name = canonical(phase)
    title, points = _points(name, param, _square("weight_std", weight_std), _square("bias_std", bias_std), dropout)
    if as_json:
        rows = [_row(point, width) for point in points]
        emit({"activation": name, "param": param, "dropout": dropout, "width": width, "points": rows})
    else:
        _show(f"{title}, dropout {dropout:g}" if dropout else title, points, width)
    if output is not None:
        from firstlight.signal.diagram import BIAS, write

        with progress() as tell:
            path = write(
                output,
                name,
                BIAS if bias_std is None else bias_std**2,
                param=param,
                dropout=dropout,
                force=force,
                progress=tell,
            )
        say(f"phase diagram: {path}")


def _points(
    name: str, param: float | None, weight: float | None, bias: float | None, dropout: float
) -> tuple[str, list["PhasePoint"]]:
    """Return the points to show: the one asked for, or those across the edge at one bias, or those along the edge."""
    from firstlight.signal.diagram import edges
    from firstlight.signal.meanfield import MeanField

    if weight is not None:
        return f"{name}, one network", [MeanField(name, weight, bias or 0.0, param, dropout).point()]
    along = edges(name, param=param) if bias is None else []
    if along:
        return f"{name} along its edge of chaos", [MeanField(name, w, b, param, dropout).point() for b, w in along]
    where = f"σ_b² = {bias or 0.0:.4g}"
    found = edges(name, (bias or 0.0,), param=param)
    weights = [found[0][1] * share for share in _AROUND] if found else list(_EVENLY)
    title = (
        f"{name} across its edge of chaos at {where}" if found else f"{name} at {where}, where it has no edge of chaos"
    )
    return title, [MeanField(name, w, bias or 0.0, param, dropout).point() for w in weights]


def _square(option: str, std: float | None) -> float | None:
    if std is not None and std < 0:
        raise OptionError(f"{option} = {std}, must be >= 0.")
    return None if std is None else std**2


def _row(point: "PhasePoint", width: int) -> dict[str, Any]:
    return {
        "weight_variance": point.weight_variance,
        "bias_variance": point.bias_variance,
        "phase": point.phase,
        "q": point.q,
        "c": point.c,
        "chi1": point.chi1,
        "chi_c": point.chi_c,
        "xi_q": point.xi_q,
        "xi_c": point.xi_c,
        "growth": point.growth,
        "trainable_depth": point.trainable_depth(width),
        "trainable_depth_orthogonal": point.trainable_depth(width, orthogonal=True),
    }


def _show(title: str, points: list["PhasePoint"], width: int) -> None:
    from rich.table import Table

    heads = ("phase", "σ_w²", "σ_b²", "σ_w", "q*", "c*", "χ1", "ξ_q", "ξ_c", "depth", "depth, orthogonal")
    table = Table(*heads, box=None, pad_edge=False)
    for point in points:
        row = _row(point, width)
        sizes = (f"{point.weight_variance:.6g}", f"{point.bias_variance:.4g}", f"{point.weight_variance**0.5:.5g}")
        keys = ("q", "c", "chi1", "xi_q", "xi_c")
        depths = (_number(row[key], ".0f") for key in ("trainable_depth", "trainable_depth_orthogonal"))
        table.add_row(point.phase, *sizes, *(_number(row[key], ".4g") for key in keys), *depths)
    show(table, f"{title}; depth at width {width}")
    growing = [point for point in points if point.growth is not None]
    if growing:
        last = growing[-1]
        prose(
            f"unbounded: the variance grows without end, at σ_w² = {last.weight_variance:.4g} by a factor that comes to "
            f"{last.growth:.4g} a layer"
        )


def _number(value: float | None, digits: str) -> str:
    return "∞" if value == math.inf else number(value, digits)
