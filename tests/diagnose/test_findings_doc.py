"""docs/findings.md says what the code does: every kind has a section, every bound stands there as the code has it."""

import json
import re
import runpy
from pathlib import Path

import pytest

from firstlight.diagnose import KINDS, depth, units, values
from firstlight.signal import statistics

TEXT = (Path(__file__).parents[2] / "docs" / "findings.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}


def test_every_kind_has_a_section() -> None:
    assert set(KINDS) <= set(SECTIONS)


@pytest.mark.parametrize(
    ("kind", "error", "warning"),
    [
        ("vanishing-signal", f"{depth.LOST:.0e}".replace("e-0", "e-"), f"{depth.FADING:.0e}".replace("e-0", "e-")),
        ("vanishing-gradient", f"{depth.LOST:.0e}".replace("e-0", "e-"), f"{depth.FADING:.0e}".replace("e-0", "e-")),
        ("exploding-signal", f"above {depth.BLOWN:g}", f"above {depth.GROWING:g}"),
        ("exploding-gradient", f"above {depth.BLOWN:g}", f"above {depth.GROWING:g}"),
        ("dead-units", f"{units.DEAD:.0%}".replace("%", " %"), f"{units.MANY_DEAD:.0%}".replace("%", " %")),
        ("saturation", f"{units.FLAT:.0%}".replace("%", " %"), f"{units.MUCH_FLAT:.0%}".replace("%", " %")),
        ("initial-loss", f"above {values.VERY_FAR:g} · ln C", f"above {values.FAR:g} · ln C"),
    ],
)
def test_bounds_stand_as_the_code_has_them(kind: str, error: str, warning: str) -> None:
    section = SECTIONS[kind].lower()
    first, second = section.index("error"), section.index("warning")
    assert first < section.index(error.lower(), first) < second
    assert section.index(warning.lower(), second) > second


def test_other_numbers_are_those_of_the_code() -> None:
    assert (units.COPIES, units.SOME_COPIES) == (0.5, 0.1)
    assert f"{depth.STEADY:.0%}".replace("%", " %") in SECTIONS["vanishing-signal"]
    assert f"{statistics.SATURATED:.0%}".replace("%", " %") in SECTIONS["saturation"]
    assert "to 1e-4" in SECTIONS["exchangeable-units"]
    assert statistics.ALIKE == 1e-4
    assert "below 1e-3" in SECTIONS["rank-collapse"]
    assert depth.ALIKE == 1e-3


def test_false_alarms_and_recall_stand_as_the_calibration_made_them() -> None:
    tool = Path(__file__).parents[2] / "tools" / "calibrate_findings.py"
    code = runpy.run_path(str(tool))
    data = json.loads((tool.parents[1] / "docs" / "calibration.json").read_text(encoding="utf-8"))
    named = [line for line in code["tables"](data).splitlines() if line.startswith("| ")]
    told = [line for line in named if line in TEXT]
    assert {line.split(" ")[1] for line in set(named) - set(told)} <= set(KINDS)
    assert all(" – | – | – | 0 | 0 | – " in line for line in set(named) - set(told))
    alarms = [found for name, found in data["alarms"] if code["suited"](name)]
    assert sum("error" in found.values() for found in alarms) == 0
    assert len(alarms) / (data["networks"] - data["unsuited"]) < 0.01
