"""The phase diagram of an activation as a figure and as one self-contained page."""

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from firstlight.errors import OptionError
from firstlight.files import check_writable, write_whole
from firstlight.signal.meanfield import Activation, MeanField, find_edge
from firstlight.signal.phase import TRAINABLE, PhasePoint
from firstlight.signal.plot import AFTER, BEFORE, style

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BIASES = (0.0, 1e-3, 0.01, 0.05, 0.1, 0.3, 1.0)  # σ_b² at which the edge is tabulated
BIAS = 0.05  # σ_b² at which depth scales are drawn
RESOLUTION = (29, 17)  # places along σ_w² and σ_b²
_DEEPEST = 300.0  # layers; deeper has the same colour
_W, _B, _XI_C, _XI_Q = "σ<sub>w</sub>²", "σ<sub>b</sub>²", "ξ<sub>c</sub>", "ξ<sub>q</sub>"

Tell = Callable[[str, int, int, str], None]
Network = Callable[[float, float], MeanField]


def edges(
    activation: Activation, biases: Sequence[float] = BIASES, *, param: float | None = None
) -> list[tuple[float, float]]:
    """Return (σ_b², σ_w²) of the edge of chaos at those bias variances that have one.

    Example:
        >>> [(b, round(w, 4)) for b, w in edges("tanh", (0.05, 0.1))], edges("relu", (0.05,))
        ([(0.05, 1.761), (0.1, 1.9861)], [])
    """
    found = [(bias, find_edge(activation, bias, param=param)) for bias in biases]
    return [(bias, weight) for bias, weight in found if weight is not None]


def diagram(
    activation: Activation,
    bias_variance: float = BIAS,
    *,
    param: float | None = None,
    dropout: float = 0.0,
    resolution: tuple[int, int] = RESOLUTION,
    progress: Tell | None = None,
) -> "Figure":
    """Return two plots: the depth 6 ξ_c to which signals come over (σ_w², σ_b²), and ξ_c, ξ_q along one bias variance.

    Args:
        activation: name or function.
        bias_variance: σ_b² of the second plot; the first goes from 0 to 0.3 or twice this.
        param: the activation's parameter.
        dropout: as in MeanField; the edge is drawn where it was without.
        resolution: places along σ_w² and along σ_b², at least 2 each.
        progress: called as (stage, done, total, label).

    Raises:
        OptionError: as MeanField.
    """
    from plotly.subplots import make_subplots

    network = partial(MeanField, activation, param=param, dropout=dropout)
    network(1.0, bias_variance)
    columns, rows = resolution
    if min(resolution) < 2:
        raise OptionError(f"resolution = {resolution}, must both be >= 2.")
    biases = np.linspace(0, max(0.3, 2 * bias_variance), rows)
    low = np.geomspace(biases[1] / 100, biases[1] / 2, 6)  # the curve is steep at 0
    line = edges(activation, sorted(map(float, (*biases, *low))), param=param)
    weights = _weights(line, columns)
    points = _phases(network, weights, biases, progress)
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", "activation")
    if dropout:
        name = f"{name}, dropout {dropout:g}"
    titles = (f"{name}: depth 6 {_XI_C} to which signals come", f"depth scales at {_B} = {bias_variance:g}")
    made = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.16)
    made.add_heatmap(**_heat(weights, biases, points), row=1, col=1)
    if line:
        curve = _line(
            [w for _, w in line],
            [b for b, _ in line],
            "edge of chaos without dropout" if dropout else "edge of chaos",
            BEFORE,
        )
        if len(line) == 1:
            curve |= {"mode": "markers", "marker": {"color": BEFORE, "size": 14}, "cliponaxis": False}
        made.add_scatter(**curve, row=1, col=1)
    for phase, (w, b) in _places(weights, biases, points).items():
        made.add_annotation(x=w, y=b, text=phase, showarrow=False, bgcolor="rgba(255,255,255,0.7)", row=1, col=1)
    _scales(made, [network(float(w), bias_variance).point() for w in np.linspace(weights[0], weights[-1], 4 * columns)])
    for _, weight in edges(activation, (bias_variance,), param=param):
        made.add_vline(x=weight, line={"color": BEFORE, "width": 2, "dash": "dash"}, row=1, col=2)
    made.update_xaxes(title_text=f"weight variance {_W} = fan_in · Var w", range=[weights[0], weights[-1]])
    made.update_yaxes(title_text=f"bias variance {_B}", range=[0, biases[-1]], col=1)
    made.update_yaxes(title_text="layers", type="log", col=2)
    styled = style(made, height=460)
    styled.update_annotations(font_color="#404850")
    styled.update_layout(font_color="#404850", margin_l=70, margin_t=60)
    return styled


def write(
    path: str | os.PathLike[str],
    activation: Activation,
    bias_variance: float = BIAS,
    *,
    param: float | None = None,
    dropout: float = 0.0,
    resolution: tuple[int, int] = RESOLUTION,
    force: bool = False,
    progress: Tell | None = None,
) -> Path:
    """Write the diagram as one HTML page that fetches nothing, and return its path.

    Raises:
        OptionError: as MeanField.
        FileError: if the file exists and force is not set, or it cannot be written.
    """
    check_writable(path, force=force)
    made = diagram(activation, bias_variance, param=param, dropout=dropout, resolution=resolution, progress=progress)
    name = escape(activation if isinstance(activation, str) else getattr(activation, "__name__", "activation"))
    plot = made.to_html(full_html=False, include_plotlyjs=True, div_id="phase-plot", config={"displayModeBar": False})
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Phase diagram of {name}</title></head>\n'
        '<body style="background:#fff;max-width:1100px;margin:1em auto;font-family:sans-serif">\n'
        f"{plot}\n</body></html>\n"
    )
    return write_whole(path, page, force=force)


def _weights(line: Sequence[tuple[float, float]], count: int) -> np.ndarray:
    """Return the weight variances to show: around the edge, from half of its least to 1.6 times its greatest."""
    at = [w for _, w in line] or [1.0, 2.0]
    return np.linspace(min(at) / 2, 1.6 * max(at), count)


def _phases(network: Network, weights: np.ndarray, biases: np.ndarray, progress: Tell | None) -> list[list[PhasePoint]]:
    points = []
    for row, bias in enumerate(biases, 1):
        points.append([network(float(w), float(bias)).point() for w in weights])
        if progress is not None:
            progress("phases", row, len(biases), "")
    return points


def _heat(weights: np.ndarray, biases: np.ndarray, points: list[list[PhasePoint]]) -> dict[str, Any]:
    depth = [[_depth(point) for point in row] for row in points]
    return {
        "x": weights,
        "y": biases,
        "z": [[None if d is None else math.log10(max(d, 1.0)) for d in row] for row in depth],
        "zmin": 0.5,
        "zmax": math.log10(_DEEPEST),
        "zsmooth": "best",
        "colorscale": "Viridis",
        "colorbar": {
            "title": {"text": "layers"},
            "x": 0.43,
            "len": 0.9,
            "y": 0.45,
            "thickness": 12,
            "tickvals": [math.log10(d) for d in (10, 30, 100, 300)],
            "ticktext": ["10", "30", "100", "300+"],
        },
        "text": [[_words(point) for point in row] for row in points],
        "hovertemplate": f"{_W} %{{x:.3g}}, {_B} %{{y:.3g}}<br>%{{text}}<extra></extra>",
        "hoverongaps": True,
    }


def _depth(point: PhasePoint) -> float | None:
    return None if point.xi_c is None else min(TRAINABLE * point.xi_c, _DEEPEST)


def _words(point: PhasePoint) -> str:
    if point.q is None:
        return f"unbounded: the variance grows by {point.growth:.4g} a layer"
    return f"{point.phase}: q* {point.q:.3g}, χ1 {point.chi1:.3g}, {_XI_C} {point.xi_c:.3g}"


def _line(x: Any, y: Any, name: str, colour: str, dash: str = "solid") -> dict[str, Any]:
    return {"x": x, "y": y, "name": name, "mode": "lines", "line": {"color": colour, "width": 3, "dash": dash}}


def _places(weights: np.ndarray, biases: np.ndarray, points: list[list[PhasePoint]]) -> dict[str, tuple[float, float]]:
    """Return where each phase's name goes: the middle of what it covers, if that is more than a twentieth."""
    placed = {}
    for phase in ("ordered", "chaotic", "unbounded"):
        at = [
            (w, b)
            for b, row in zip(biases, points, strict=True)
            for w, p in zip(weights, row, strict=True)
            if p.phase == phase
        ]
        if len(at) > len(biases) * len(weights) / 20:
            placed[phase] = (float(np.mean([w for w, _ in at])), float(np.mean([b for _, b in at])))
    return placed


def _scales(made: "Figure", along: Sequence[PhasePoint]) -> None:
    """Add ξ_c and ξ_q of points along one bias variance."""
    for name, dash, colour, values in (
        (f"{_XI_C}, likeness of inputs", "solid", AFTER, [p.xi_c for p in along]),
        (f"{_XI_Q}, size of signals", "dot", "#c98a2b", [p.xi_q for p in along]),
    ):
        shown = [None if v is None or not 0 < v < math.inf else v for v in values]
        made.add_scatter(**_line([p.weight_variance for p in along], shown, name, colour, dash), row=1, col=2)
