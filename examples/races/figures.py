"""What the scripts here share: a race told in lines of a table, and the line chart of examples/papers in another folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "papers"))

import figure  # it stands beside the scripts on papers

from firstlight.race import RaceResult

figure.FOLDER = Path(__file__).parents[2] / "docs" / "images" / "races"
figure.COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569", "#db2777", "#0891b2")
chart = figure.chart


def tell(result: RaceResult) -> None:
    """Print the best run of every start, and what the start showed before training."""
    starts = {start.init: start for start in result.starts}
    print(f"\n{result.task}, {result.model}; knowing nothing: {result.uninformed:.3f}; trained as {result.program}")
    for row in result.best():
        start = starts.get(row.init)
        ratios = "" if start is None else f"| {_short(start.loss)} | {_short(start.signal)} | {_short(start.gradient)} "
        kinds = "" if start is None else f" {', '.join(start.findings) or '–'} |"
        right = "–" if row.final_accuracy is None else f"{row.final_accuracy:.1%}"
        loss = _short(row.best_validation_loss)
        print(
            f"| `{row.init}` {ratios}| {loss} | {right} | {row.optimizer} {row.lr:g} | {row.status}, {row.steps} |{kinds}"
        )
    sys.stdout.flush()


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
