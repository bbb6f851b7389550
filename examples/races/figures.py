"""What the scripts here share: their options, a race told in lines of a table, and the line chart of examples/papers."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "papers"))

import figure  # it stands beside the scripts on papers

from firstlight.race import RaceResult

figure.FOLDER = Path(__file__).parents[2] / "docs" / "images" / "races"
figure.COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569", "#db2777", "#0891b2")
chart = figure.chart


def asked(names: tuple[str, ...] = ()) -> argparse.Namespace:
    """Return the options of a script: `names`, which of its parts; `quick`, as few steps as run every line; `out`, a folder."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("names", nargs="*", default=list(names), help="which parts, of " + ", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a few steps of small networks: does every line run?")
    parser.add_argument("--out", type=Path, default=figure.FOLDER, help="the folder for figures")
    found = parser.parse_args()
    figure.FOLDER = found.out
    return found


def told(done: int, total: int, label: str) -> None:
    """Tell how far a race is, on stderr."""
    print(f"{done}/{total} {label}", file=sys.stderr, flush=True)


def tell(result: RaceResult) -> None:
    """Print the best run of every start, and what the start showed before training."""
    starts = {start.init: start for start in result.starts}
    print(f"\n{result.task}, {result.model}; knowing nothing: {result.uninformed:.3f}; trained as {result.program}")
    for row in result.best():
        start = starts.get(row.init)
        ratios = "" if start is None else f"| {_short(start.loss)} | {_short(start.signal)} | {_short(start.gradient)} "
        kinds = "" if start is None else f" {', '.join(start.findings) or '–'} |"
        right = "–" if row.best_accuracy is None else f"{row.best_accuracy:.1%}"
        loss = _short(row.best_validation_loss)
        print(
            f"| `{row.init}` {ratios}| {loss} | {right} | {row.optimizer} {row.lr:g} | {row.status}, {row.steps} |{kinds}"
        )
    sys.stdout.flush()


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
