"""Bounds against data: docs/calibration.json has what each rule reads on healthy networks, and recall of graded faults."""

import math

import pytest
from benchmarks.findings import tables
from benchmarks.findings.faults import FAULTS
from benchmarks.findings.healthy import ADAM, healthy

import firstlight as fl
from firstlight.diagnose import BOUNDS, KINDS

DATA = tables.loaded()
KEPT = tables.counted(DATA)
LOGICAL = {"gate-saturation", "copied-layers", "learning-rate"}  # few networks have the layer, or the occasion
NAMED_AT_WORST = {  # of the strongest faults; all others are all named
    "exploding-signal": 2 / 3,  # tanh bounds the signal, and learns with twice the weights
    "width-scaling": 2 / 3,  # and hides the width
}


def test_every_rule_has_a_bound_and_every_bound_a_null_distribution() -> None:
    assert DATA["order"] == list(BOUNDS)
    assert {bound.kind for bound in BOUNDS.values()} == set(KINDS)
    for rule in set(BOUNDS) - LOGICAL:
        seen = sum(rule in row["numbers"] for row in KEPT)
        assert seen >= 8, rule


def test_no_healthy_network_has_an_error_and_one_in_a_hundred_has_a_warning() -> None:
    errors, warned = tables.false_alarms(KEPT)
    assert len(KEPT) >= 450
    assert errors == 0
    assert warned <= 0.01 * len(KEPT)
    assert {row["group"] for row in KEPT} == {"kept", "family"}
    assert {row["width"] for row in KEPT} >= {16, 32, 64, 128, 256, 512}
    assert {row["depth"] for row in KEPT} >= {2, 3, 5, 8, 12, 20, 30, 50, 100, 200}


def test_the_bounds_of_today_give_those_false_alarms_on_the_stored_statistics() -> None:
    """A bound that is moved among healthy numbers shows here, without running a network."""
    alarms = []
    for row in KEPT:
        words = [BOUNDS[rule].severity(number, row["depth"]) for rule, number in row["numbers"].items()]
        assert "error" not in words, row["name"]
        alarms += [row["name"]] if "warning" in words else []
    assert len(alarms) <= 0.01 * len(KEPT), alarms


@pytest.mark.parametrize("rule", BOUNDS)
def test_the_strongest_fault_of_every_rule_is_named(rule: str) -> None:
    own = [fault for fault in DATA["faults"] if fault["rules"][0] == rule or rule in fault["rules"][1:]]
    assert own or rule == "copied-layers"
    for fault in own:
        last = fault["grades"][-1]
        least = next((NAMED_AT_WORST[r] for r in fault["rules"] if r in NAMED_AT_WORST), 1.0)
        assert last["named"] >= math.floor(least * last["of"]), fault["what"]


def test_recall_grows_with_the_strength_of_the_fault() -> None:
    for fault in DATA["faults"]:
        named = [grade["named"] for grade in fault["grades"]]
        assert named == sorted(named), fault["what"]
    assert [fault["what"] for fault in DATA["faults"]] == [fault.what for fault in FAULTS]


def test_the_stored_numbers_are_those_that_a_diagnosis_gives() -> None:
    """A few networks again: same findings, same statistics but for the last digits of another machine."""
    stored = {row["name"]: row for row in DATA["networks"]}
    for made in healthy(every=97):
        if made.depth > 20:
            continue
        seen = fl.diagnose(made.model, made.batch, **(made.options | {"optimizer": ADAM}))
        row = stored[made.name]
        for rule in ("vanishing-signal", "exploding-gradient", "initial-loss", "far-tails"):
            assert seen.statistics.get(rule) == pytest.approx(row["numbers"].get(rule), rel=0.05), (made.name, rule)


def test_bounds_move_out_with_the_depth_where_theory_says_so() -> None:
    signal, collapse = BOUNDS["vanishing-signal"], BOUNDS["rank-collapse"]
    assert signal.severity(5e-3, layers=10) == "warning"
    assert signal.severity(5e-3, layers=400) is None
    assert signal.severity(5e-3, layers=200) == "warning"
    assert BOUNDS["exploding-gradient"].limit("error", 300) == pytest.approx(0.98**-300)
    assert collapse.severity(5e-4, layers=50) == "warning"
    assert collapse.severity(5e-4, layers=200) is None
    assert BOUNDS["dead-units"].limit("error", 200) == 0.9
    assert BOUNDS["chaos"].severity(float("nan")) is None
    assert BOUNDS["chaos"].severity(float("inf")) == "error"
