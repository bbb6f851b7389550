"""The phase diagram: what it shows is what the theory says, and its page needs nothing from elsewhere."""

import re
from pathlib import Path

import numpy as np
import pytest

from firstlight.errors import FileError, OptionError
from firstlight.signal import diagram
from firstlight.signal.meanfield import MeanField, edge


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return diagram.write(tmp_path_factory.mktemp("phase") / "phase.html", "tanh", resolution=(4, 3))


def test_the_diagram_shows_the_edge_and_the_depths() -> None:
    told: list[tuple[int, int]] = []
    made = diagram.diagram(
        "tanh", 0.05, resolution=(15, 7), progress=lambda stage, done, total, label: told.append((done, total))
    )
    heat, curve, xi_c, _ = made.data
    assert told[-1][0] == told[-1][1] == len(heat.y)
    for weight, bias in zip(curve.x, curve.y, strict=True):
        assert weight == pytest.approx(edge("tanh", bias), rel=1e-12)
    row, column = len(heat.y) // 2, 3
    point = MeanField("tanh", heat.x[column], heat.y[row]).point()
    assert point.xi_c is not None
    assert heat.z[row][column] == pytest.approx(np.log10(6 * point.xi_c))
    assert "ordered" in heat.text[row][column]
    assert {note.text for note in made.layout.annotations} >= {"ordered", "chaotic"}
    highest = max(range(len(xi_c.x)), key=lambda i: xi_c.y[i] or 0)
    assert xi_c.x[highest] == pytest.approx(1.761, abs=0.06)


def test_relu_has_one_critical_point_and_an_unbounded_side() -> None:
    made = diagram.diagram("relu", resolution=(9, 5))
    heat, point = made.data[:2]
    assert (list(point.x), list(point.y), point.mode) == ([pytest.approx(2)], [0], "markers")
    assert [[z is None for z in row] for row in heat.z] == [
        [bool(w > 2) or (b > 0 and w == 2) for w in heat.x] for b in heat.y
    ]
    assert "unbounded" in {note.text for note in made.layout.annotations}


def test_the_page_fetches_nothing(page: Path) -> None:
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "<title>Phase diagram of tanh</title>" in text
    assert not re.findall(r"<(?:script|img|link|iframe)[^>]*(?:src|href)=", text)


def test_a_file_that_is_there_stays(page: Path) -> None:
    before = page.read_bytes()
    with pytest.raises(FileError, match="exists"):
        diagram.write(page, "tanh")
    assert page.read_bytes() == before


def test_edges_leave_out_what_has_none_but_hide_no_other_error() -> None:
    having = {name: [bias for bias, _ in diagram.edges(name)] for name in ("tanh", "relu", "gelu", "silu", "softplus")}
    assert having == {"tanh": [*diagram.BIASES], "relu": [0.0], "gelu": [0.3, 1.0], "silu": [1.0], "softplus": []}
    with pytest.raises(OptionError, match="Did you mean 'tanh'"):
        diagram.edges("tanhh")
    with pytest.raises(OptionError, match="must both be >= 2"):
        diagram.diagram("tanh", resolution=(1, 5))
