"""What the scripts here share: a line chart as SVG without any dependency, and real pictures to learn."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import torch
from torch import Tensor

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "papers"
COLOURS: tuple[str, ...] = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#475569")
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 720, 420, 70, 40, 190, 50

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # label: (x, y)


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's 1,797 handwritten digits, standardised (N, 64), and their labels."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32)
    return (images - images.mean()) / images.std(), torch.tensor(data.target)


def chart(name: str, title: str, x_label: str, y_label: str, series: Series, *, log: str = "") -> Path:
    """Write a line chart and return its path; `log` holds 'x', 'y' or both. Values that are not finite are left out."""
    points = {label: _finite(*values, log) for label, values in series.items()}
    xs, ys = ([p[axis] for line in points.values() for p in line] or [0.0, 1.0] for axis in (0, 1))
    x, y = _Scale(xs, LEFT, WIDTH - RIGHT), _Scale(ys, HEIGHT - BOTTOM, TOP)
    body = [f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>']
    body += _axes(xs, ys, x, y, log)
    body += [f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>']
    middle = f'transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle"'
    body.append(f"<text {middle}>{escape(y_label)}</text>")
    for number, (label, line) in enumerate(points.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = f'x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 20 * number}"'
        body.append(f'<text {place} fill="{colour}">{escape(label)}</text>')
    FOLDER.mkdir(parents=True, exist_ok=True)
    path_out = FOLDER / f"{name}.svg"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    path_out.write_text("\n".join([head, background, *body, "</svg>", ""]), encoding="utf-8")
    return path_out


def _finite(xs: Sequence[float], ys: Sequence[float], log: str) -> list[tuple[float, float]]:
    def value(number: float, axis: str) -> float:
        return number if axis not in log else math.log10(number) if number > 0 else math.nan

    found = [(value(a, "x"), value(b, "y")) for a, b in zip(xs, ys, strict=True)]
    return [(a, b) for a, b in found if math.isfinite(a) and math.isfinite(b)]


class _Scale:
    """Maps numbers from their range to pixels."""

    def __init__(self, values: Sequence[float], start: float, stop: float) -> None:
        self.low, self.high = min(values), max(values)
        self.start, self.stop = start, stop

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1) * (self.stop - self.start)


def _axes(xs: Sequence[float], ys: Sequence[float], x: _Scale, y: _Scale, log: str) -> list[str]:
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    lines = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#334155"/>']
    for step in range(5):
        a = min(xs) + (max(xs) - min(xs)) * step / 4
        b = min(ys) + (max(ys) - min(ys)) * step / 4
        lines.append(f'<text x="{x(a):.1f}" y="{bottom + 18}" text-anchor="middle">{_tick(a, "x" in log)}</text>')
        lines.append(f'<text x="{left - 6}" y="{y(b) + 4:.1f}" text-anchor="end">{_tick(b, "y" in log)}</text>')
        lines.append(f'<path d="M{left} {y(b):.1f}H{right}" stroke="#e2e8f0"/>')
    return lines


def _tick(value: float, log: bool) -> str:
    return f"{10**value:.3g}" if log else f"{value:.3g}"
