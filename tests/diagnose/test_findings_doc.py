"""docs/findings.md says what the code does: every kind has a section, every bound stands there as the code has it."""

import re

import pytest
from benchmarks.findings import tables

from firstlight.diagnose import BOUNDS, KINDS
from firstlight.diagnose.bounds import ALIGNED, STEADY
from firstlight.signal import statistics

TEXT = tables.DOCUMENT.read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]}
LOGICAL = 1e-9  # a bound that any number above 0 reaches


def written(number: float) -> set[str]:
    """Return a bound as the text may have it: a number, a power of ten, a share in per cent."""
    return {f"{number:g}", f"{number:.0e}".replace("e-0", "e-").replace("e+0", "e"), f"{number * 100:g} %"}


def test_every_kind_has_a_section() -> None:
    assert set(KINDS) <= set(SECTIONS)


@pytest.mark.parametrize("rule", BOUNDS)
def test_bounds_stand_as_the_code_has_them(rule: str) -> None:
    """Those that mean one at all, or all of them, stand in words."""
    bound = BOUNDS[rule]
    section = SECTIONS[bound.kind] + SECTIONS["attention-saturation" if rule == "gate-saturation" else bound.kind]
    section += SECTIONS["vanishing-signal"] if rule == "vanishing-gradient" else ""
    words = set(re.findall(r"\d[\d.,]*(?:e-?\d+)?(?: %)?", section.replace("a tenth", "10 %").replace("half", "50 %")))
    words = {word.rstrip(".,") for word in words} | {word.removesuffix(" %").rstrip(".,") for word in words}
    for number in (bound.error, bound.warning, bound.info):
        if number not in (None, LOGICAL, 1) and number is not None:
            assert written(number) & words, (rule, number)


def test_other_numbers_are_those_of_the_code() -> None:
    assert f"{STEADY:.0%}".replace("%", " %") in SECTIONS["vanishing-signal"]
    assert f"{ALIGNED:g}/L²" in SECTIONS["rank-collapse"]
    assert f"{statistics.SATURATED:.0%}".replace("%", " %") in SECTIONS["saturation"]
    assert "to 1e-4" in SECTIONS["exchangeable-units"]
    assert statistics.ALIKE == 1e-4


def test_false_alarms_and_recall_stand_as_the_calibration_made_them() -> None:
    assert tables.filled(TEXT, tables.loaded()) == TEXT
