"""Signals as a figure: what each layer does to the signal and to the gradient, before and after."""

import math
from typing import TYPE_CHECKING, Any

from firstlight.signal.table import SignalRow, Signals

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BEFORE, AFTER = "#d1495b", "#2a7f9e"
_TITLES = {
    "en": ("signal: rms of the output", "gradient: rms at the output", "similarity of different examples"),
    "ja": ("信号：出力の二乗平均平方根", "勾配：出力での二乗平均平方根", "異なる入力どうしの類似度"),
}
_NAMES = {"en": ("before", "after", "layer, in order of execution"), "ja": ("処方前", "処方後", "層（実行順）")}


def figure(before: Signals, after: Signals | None = None, *, lang: str = "en") -> "Figure":
    """Return three plots by layer, in order of execution: signal, gradient (both logarithmic) and similarity.

    Args:
        before: the signals to show.
        after: a second table to lay beside it, of the same model.
        lang: 'en' or 'ja'.

    Returns:
        A plotly Figure with a transparent background, readable on light and dark pages.
    """
    from plotly.subplots import make_subplots

    made = make_subplots(rows=1, cols=3, subplot_titles=_TITLES[lang], horizontal_spacing=0.07)
    first, second, axis = _NAMES[lang]
    for table, name, colour in ((before, first, BEFORE), (after, second, AFTER)):
        if table is None:
            continue
        for column, value in enumerate((_size, _gradient, _similarity), 1):
            made.add_scatter(**_line(table, value, name, colour, column), row=1, col=column)
    made.update_yaxes(type="log", exponentformat="power", col=1)
    made.update_yaxes(type="log", exponentformat="power", col=2)
    made.update_yaxes(rangemode="tozero", col=3)
    made.update_xaxes(title_text=axis)
    return style(made, height=340)


def style(made: "Figure", *, height: int) -> "Figure":
    """Give a figure the look that all of firstlight's figures share."""
    grid = {"gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "linecolor": "rgba(128,128,128,0.5)"}
    made.update_xaxes(**grid)
    made.update_yaxes(**grid)
    made.update_annotations(font_size=13)
    made.update_layout(
        height=height,
        margin={"l": 56, "r": 12, "t": 40, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#808892", "size": 12},
        legend={"orientation": "h", "y": -0.24, "x": 0},
        hovermode="closest",
    )
    return made


def _line(table: Signals, value: Any, name: str, colour: str, column: int) -> dict[str, Any]:
    shown = [(i, row.layer, row.kind, value(row)) for i, row in enumerate(table, 1)]
    return {
        "x": [i for i, *_ in shown],
        "y": [number for *_, number in shown],
        "name": name,
        "legendgroup": name,
        "showlegend": column == 1,
        "mode": "lines+markers",
        "marker": {"size": 4, "color": colour},
        "line": {"width": 2, "color": colour},
        "text": [f"{layer} ({kind})" for _, layer, kind, _ in shown],
        "hovertemplate": "%{text}<br>%{y:.3g}<extra>" + name + "</extra>",
    }


def _size(row: SignalRow) -> float | None:
    return _positive(None if row.forward_second_moment is None else math.sqrt(max(row.forward_second_moment, 0.0)))


def _gradient(row: SignalRow) -> float | None:
    return _positive(row.gradient_std)


def _similarity(row: SignalRow) -> float | None:
    return row.similarity


def _positive(number: float | None) -> float | None:
    """Return the number if a logarithmic axis can show it."""
    return number if number is not None and math.isfinite(number) and number > 0 else None
