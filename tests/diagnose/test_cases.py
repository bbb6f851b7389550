"""Cases of others, a few of those that `benchmarks/cases` trains: built as their rows say, diagnosed with the right cause."""

import math

import pytest
import torch
from benchmarks.cases import table
from benchmarks.cases.build import Case, keras_cases, keras_init, rows
from benchmarks.cases.others import other_cases
from benchmarks.cases.run import MAKERS
from torch import Tensor

import firstlight as fl

RESULTS = [table.verdict(result) for result in table.stored()]
CASES = {case.number: case for case in (*keras_cases(), *other_cases())}
STARTS = {
    3: "vanishing-signal",
    12: "vanishing-signal",
    38: "vanishing-gradient",
    89: "exchangeable-units",
    90: "exchangeable-units",
}
ELSEWHERE = {59: "input-scale", 61: "labels", 79: "loss-mismatch", 83: "learning-rate"}
CONTROLS = (20, 24, 39, 42, 44, 51, 65, 74, 85)


def kinds(case: Case) -> dict[str, str]:
    chosen = torch.randperm(len(case.x), generator=torch.Generator().manual_seed(1))[:256]
    x, y = case.x[chosen], case.y[chosen]
    with torch.random.fork_rng():
        model = case.make(0)
        update = MAKERS[case.optimizer[0]](model.parameters(), lr=case.optimizer[1])
        found = fl.diagnose(model, x, target=y, loss=case.loss, optimizer=update).findings
    return {finding.kind: finding.severity for finding in found}


@pytest.mark.parametrize("number", STARTS)
def test_starts_at_fault_are_errors_of_the_right_kind(number: int) -> None:
    assert kinds(CASES[number])[STARTS[number]] == "error"


@pytest.mark.parametrize("number", ELSEWHERE)
def test_faults_that_no_start_cures_are_named(number: int) -> None:
    assert kinds(CASES[number])[ELSEWHERE[number]] == "error"


@pytest.mark.parametrize("number", CONTROLS)
def test_controls_raise_no_error(number: int) -> None:
    assert "error" not in kinds(CASES[number]).values()


def test_every_case_but_two_is_there_and_rows_have_their_numbers() -> None:
    assert set(range(93)) - set(CASES) == {67, 84}
    assert [int(row["id"]) for row in rows()] == list(range(93))


@pytest.mark.parametrize(
    ("spec", "std"),
    [
        ("RandomUniform", 0.05 / math.sqrt(3)),
        ("RandomNormal(mean=0.0,std=0.05)", 0.05),
        ("TruncatedNormal", 0.05 * 0.8796),
        ("he_uniform", math.sqrt(2 / 300)),
        ("glorot_normal", math.sqrt(2 / 500)),
        ("lecun_normal", math.sqrt(1 / 300)),
    ],
)
def test_initializers_have_the_stds_of_keras(spec: str, std: float) -> None:
    """60,000 numbers: five standard errors of a normal sample are 1.4 %."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight: Tensor = torch.empty(200, 300)
        keras_init(weight, spec, 300, 200)
    assert float(weight.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * 59_999))


def test_the_page_shows_the_stored_results() -> None:
    text = table.DOCUMENT.read_text(encoding="utf-8")
    assert table.filled(text, table.stored()) == text


def test_nearly_all_starts_at_fault_are_found_and_mended_and_no_control_is_called_faulty() -> None:
    """Rows 67 and 84 are not built; all others have a result."""
    others = [result for result in RESULTS if result["ids"][0] < table.OWN]
    assert sorted(n for result in others for n in result["ids"]) == sorted(set(range(93)) - {67, 84})
    starts = [result for result in others if result["class"] in ("start", "undecided")]
    assert sum(result["right"] for result in starts) >= 0.95 * len(starts)
    mended = [result["repaired"] for result in others if result["class"] == "start"]
    assert sum(mended) >= 0.95 * len(mended)
    assert all(result["right"] for result in others if result["class"] in ("control", "slow"))
    elsewhere = [result for result in others if result["class"] in table.CAUSES]
    assert [result["ids"] for result in elsewhere if not result["right"]] == [[52]]  # docs/cases.md says why


def test_verdicts_follow_training_and_can_be_wrong() -> None:
    result = {"ids": [0], "truth": "?", "relevance": "vanishing", "findings": [], "as_it_is": 0.2, "mended": 0.8}
    result |= {"twins": {"he": 0.9}, "longer": 0.2, "prescribed": "he"}
    seen = table.verdict(result)
    assert (seen["class"], seen["right"], seen["repaired"]) == ("start", False, False)
    assert table.verdict(result | {"longer": 0.85})["class"] == "slow"
    assert table.verdict(result | {"as_it_is": 0.85, "findings": [("chaos", "error")]})["right"] is False
    worse = result | {"as_it_is": 0.9, "loss": 1000.0, "twin_loss": 0.1, "nothing": 2.3}
    assert table.verdict(worse)["class"] == "start"
