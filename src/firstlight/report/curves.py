"""Learning curves as a figure: the best run of every start."""

from typing import TYPE_CHECKING

from firstlight.race.row import RaceRow
from firstlight.signal.plot import style

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plotly.graph_objects import Figure

# distinct on light and dark grounds and to the colour-blind (after Okabe and Ito 2008); the prescription is the dark blue
COLOURS = ("#999999", "#CC79A7", "#E69F00", "#D55E00", "#56B4E9", "#009E73", "#8a63d2", "#0072B2")


def figure(rows: "Sequence[RaceRow]", titles: tuple[str, str], step: str) -> "Figure":
    """Return validation loss (logarithmic) and validation accuracy against the step, a line for each run."""
    from plotly.subplots import make_subplots

    made = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.08)
    for i, row in enumerate(rows):
        colour = COLOURS[-1] if i == len(rows) - 1 else COLOURS[i % (len(COLOURS) - 1)]
        for column, values in enumerate((row.curve.validation_loss, row.curve.validation_accuracy), 1):
            made.add_scatter(
                x=row.curve.validation_steps,
                y=values,
                name=row.init,
                legendgroup=row.init,
                showlegend=column == 1,
                mode="lines+markers",
                marker={"size": 4, "color": colour},
                line={"width": 3 if i == len(rows) - 1 else 1.8, "color": colour},
                hovertemplate="%{x}: %{y:.3g}<extra>" + row.init + "</extra>",
                row=1,
                col=column,
            )
    made.update_yaxes(type="log", col=1)
    made.update_yaxes(range=[0, 1.02], tickformat=".0%", col=2)
    made.update_xaxes(title_text=step)
    return style(made, height=400)
