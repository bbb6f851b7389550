"""A picture for every finding: the quantity that it is about, layer by layer or unit by unit, before and after."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from firstlight.diagnose import Diagnosis, Finding
from firstlight.diagnose.case import rms, signal
from firstlight.signal.plot import AFTER, BEFORE, style
from firstlight.signal.table import SignalRow

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Words = Mapping[str, str]
HEIGHT = 250  # pixels
UNITS = 48  # of a layer that are compared
_BINS = 60
_MARK = "rgba(214,150,30,0.20)"

_SIGNAL, _SIZE, _GRADIENT, _SIMILARITY, _UPDATE = "signal", "size", "gradient", "similarity", "update"
_BY_LAYER = {
    "vanishing-signal": _SIGNAL,
    "exploding-signal": _SIZE,
    "non-finite": _SIZE,
    "strong-branches": _SIZE,
    "input-scale": _SIZE,
    "constant-input": _SIGNAL,
    "vanishing-gradient": _GRADIENT,
    "exploding-gradient": _GRADIENT,
    "no-gradient": _GRADIENT,
    "rank-collapse": _SIMILARITY,
    "chaos": _SIMILARITY,
    "learning-rate": _UPDATE,
    "update-ratio": _UPDATE,
    "dead-units": "dead",
    "saturation": "saturated",
    "attention-saturation": "saturated",
}
_VALUES: dict[str, Callable[[SignalRow], float | None]] = {
    _SIGNAL: signal,
    _SIZE: rms,
    _GRADIENT: lambda row: row.gradient_std,
    _SIMILARITY: lambda row: row.similarity,
    _UPDATE: lambda row: row.update_ratio,
    "dead": lambda row: row.dead,
    "saturated": lambda row: row.saturated,
}
_LOGARITHMIC = (_SIGNAL, _SIZE, _GRADIENT, _UPDATE)


def picture(finding: Finding, words: Words, before: Diagnosis, after: Diagnosis | None = None) -> "tuple[Figure, str]":
    """Return a figure that shows a finding, and the sentence that stands below it.

    By layer: size of the signal or gradient, similarity, share of dead or saturated values, update ratio, with the
    finding's layers marked. For units that are copies: likeness of each unit with each. For losses: the loss beside that
    of knowing nothing. For anything about a tensor's values: their histogram. Else the numbers of the evidence.

    Args:
        finding: of `before`, or of `after` where it only appears there.
        words: texts of the page's language.
        before: the diagnosis as the network stands.
        after: the diagnosis under the prescription, to be laid beside it.
    """
    if finding.kind in _BY_LAYER:
        quantity = _BY_LAYER[finding.kind]
        return _by_layer(quantity, finding, words, before, after), words[f"picture_{quantity}"]
    if "loss" in finding.evidence and "uninformed_loss" in finding.evidence:
        return _losses(finding, words, after), words["picture_loss"]
    weights = [_weight(finding, diagnosis) for diagnosis in (before, after) if diagnosis is not None]
    if finding.kind == "exchangeable-units" and weights and all(weight is not None for weight in weights):
        return _likeness([weight for weight in weights if weight is not None], words), words["picture_units"]
    if weights and weights[0] is not None:
        return _histograms(weights, words), words["picture_values"]
    return _evidence(finding), words["picture_evidence"]


def _by_layer(quantity: str, finding: Finding, words: Words, before: Diagnosis, after: Diagnosis | None) -> "Figure":
    from plotly.graph_objects import Figure

    made, value = Figure(), _VALUES[quantity]
    tables = [(before.signals, words["before"], BEFORE), *([(after.signals, words["after"], AFTER)] if after else [])]
    for signals, name, colour in tables:
        shown = [(i, row.layer, value(row)) for i, row in enumerate(signals, 1)]
        kept = [(i, layer, v) for i, layer, v in shown if v is not None and math.isfinite(v)]
        if quantity in _LOGARITHMIC:
            kept = [(i, layer, v) for i, layer, v in kept if v > 0]
        draw = {"x": [i for i, *_ in kept], "y": [v for *_, v in kept], "text": [layer for _, layer, _ in kept]}
        look = {"name": name, "hovertemplate": "%{text}: %{y:.3g}<extra>" + name + "</extra>"}
        if quantity in ("dead", "saturated"):
            made.add_bar(**draw, **look, marker={"color": colour}, textposition="none")
        else:
            line = {"color": colour, "width": 2}
            made.add_scatter(**draw, **look, mode="lines+markers", line=line, marker={"size": 5, "color": colour})
    for first, last in _spans([row.layer in _layers(finding) for row in before.signals]):
        made.add_vrect(x0=first + 0.5, x1=last + 1.5, fillcolor=_MARK, line_width=0, layer="below")
    if quantity in _LOGARITHMIC:
        made.update_yaxes(type="log", exponentformat="power")
    elif quantity == _SIMILARITY:
        made.update_yaxes(range=[-0.1, 1.05])
    else:
        made.update_yaxes(range=[0, 1.02], tickformat=".0%")
    made.update_xaxes(title_text=words["axis_layer"], range=[0, len(before.signals) + 1])
    return _styled(made)


def _layers(finding: Finding) -> set[str]:
    """Return the layers a finding is about; a parameter stands for its layer."""
    return {*finding.where, *(name.rpartition(".")[0] for name in finding.where)}


def _spans(marked: Sequence[bool]) -> list[tuple[int, int]]:
    """Return first and last place of each run of marked ones, what lies between two included; none when all are marked.

    >>> _spans([False, True, True, False, True, False, False, True])
    [(1, 4), (7, 7)]
    """
    if all(marked):
        return []
    between = [any(marked[max(0, i - 1) : i]) and any(marked[i + 1 : i + 2]) for i in range(len(marked))]
    marked = [here or inside for here, inside in zip(marked, between, strict=True)]
    starts = [i for i, here in enumerate(marked) if here and (i == 0 or not marked[i - 1])]
    ends = [i for i, here in enumerate(marked) if here and (i + 1 == len(marked) or not marked[i + 1])]
    return list(zip(starts, ends, strict=True))


def _losses(finding: Finding, words: Words, after: Diagnosis | None) -> "Figure":
    from plotly.graph_objects import Figure

    bars = [
        (words["before"], finding.evidence["loss"], BEFORE),
        (words["uninformed"], finding.evidence["uninformed_loss"], "#8a8f98"),
    ]
    if after is not None and after.signals.loss is not None:
        bars.append((words["after"], after.signals.loss, AFTER))
    shown = [bar for bar in bars if math.isfinite(bar[1])][::-1]
    made = Figure()
    made.add_bar(
        y=[name for name, *_ in shown],
        x=[value for _, value, _ in shown],
        text=[f"{value:.3g}" for _, value, _ in shown],
        marker={"color": [colour for *_, colour in shown]},
        orientation="h",
        showlegend=False,
    )
    return _styled(made, left=110)


def _weight(finding: Finding, diagnosis: Diagnosis) -> Tensor | None:
    """Return the first tensor, of two axes or more if there is one, that a finding names or whose layer it names."""
    tensors = dict(diagnosis.question.model.named_parameters(remove_duplicate=False))
    names = [n for where in finding.where for n in (where, f"{where.split('#')[0]}.weight") if n in tensors]
    found = [t.detach() for t in map(tensors.__getitem__, names) if t.is_floating_point() and t.layout == torch.strided]
    found = [tensor for tensor in found if tensor.numel() > 1 and tensor.device.type != "meta"]
    return next((tensor for tensor in found if tensor.ndim > 1), found[0] if found else None)


def _likeness(weights: Sequence[Tensor], words: Words) -> "Figure":
    """Return maps of the cosine between the incoming weights of units; that of zeros with zeros counts as 1."""
    from plotly.subplots import make_subplots

    titles = [words["before"], words["after"]][: len(weights)]
    made = make_subplots(rows=1, cols=len(weights), subplot_titles=titles if len(weights) > 1 else None)
    for column, weight in enumerate(weights, 1):
        rows = weight.flatten(1)[:UNITS].double() if weight.ndim > 1 else weight[:UNITS, None].double()
        norms = rows.norm(dim=1, keepdim=True)
        unit = rows / norms.where(norms > 0, torch.ones_like(norms))
        alike = (unit @ unit.T).where((norms > 0) | (norms.T > 0), torch.ones(()).double())
        made.add_heatmap(
            z=[[round(value, 3) for value in row] for row in alike.tolist()],
            zmin=-1,
            zmax=1,
            colorscale=[[0, AFTER], [0.5, "#f4f4f2"], [1, BEFORE]],
            showscale=column == len(weights),
            hovertemplate="%{x}, %{y}: %{z:.2f}<extra></extra>",
            row=1,
            col=column,
        )
    made.update_xaxes(title_text=words["axis_unit"])
    return _styled(made)


def _histograms(weights: Sequence[Tensor | None], words: Words) -> "Figure":
    from plotly.graph_objects import Figure

    made = Figure()
    for weight, name, colour in zip(weights, (words["before"], words["after"]), (BEFORE, AFTER), strict=False):
        if weight is None:
            continue
        values = weight.flatten()[:: max(1, weight.numel() // 100_000)].double()
        values = values[torch.isfinite(values)]
        if not len(values):
            continue
        low, high = float(values.min()), float(values.max())
        middle, half = (low + high) / 2, max((high - low) / 2, abs(low) * 1e-3, 1e-12)
        counts = torch.histc(values, _BINS, middle - half, middle + half)
        centres = [middle - half + (i + 0.5) * 2 * half / _BINS for i in range(_BINS)]
        shares = (counts / len(values)).tolist()
        made.add_bar(x=centres, y=shares, name=name, marker={"color": colour}, opacity=0.7, width=2 * half / _BINS)
    made.update_layout(barmode="overlay", bargap=0)
    made.update_yaxes(tickformat=".0%")
    made.update_xaxes(title_text=words["axis_value"])
    return _styled(made)


def _evidence(finding: Finding) -> "Figure":
    from plotly.graph_objects import Figure

    shown = [(name, value) for name, value in finding.evidence.items() if math.isfinite(value)][::-1]
    made = Figure()
    made.add_bar(
        y=[name.replace("_", " ") for name, _ in shown],
        x=[abs(value) for _, value in shown],
        text=[f"{value:.3g}" for _, value in shown],
        marker={"color": BEFORE},
        orientation="h",
        showlegend=False,
    )
    made.update_xaxes(type="log", exponentformat="power")
    return _styled(made, left=150)


def _styled(made: "Figure", left: int = 56) -> "Figure":
    style(made, height=HEIGHT)
    made.update_layout(margin={"l": left, "r": 12, "t": 24, "b": 44}, legend={"y": 1.16, "x": 0, "yanchor": "top"})
    return made
