"""Cases of others, a few of those that `benchmarks/cases` trains: built as their rows say, diagnosed with the right cause."""

import math

import pytest
import torch
from benchmarks.cases.build import Case, keras_cases, keras_init, rows
from benchmarks.cases.others import other_cases
from torch import Tensor

import firstlight as fl

CASES = {case.number: case for case in (*keras_cases(), *other_cases())}
STARTS = {
    3: "vanishing-signal",
    12: "vanishing-signal",
    38: "vanishing-gradient",
    89: "exchangeable-units",
    90: "exchangeable-units",
}
ELSEWHERE = {59: "input-scale", 61: "labels", 79: "loss-mismatch", 81: "learning-rate"}
CONTROLS = (20, 24, 39, 42, 44, 51, 65, 74, 85)


def kinds(case: Case) -> dict[str, str]:
    chosen = torch.randperm(len(case.x), generator=torch.Generator().manual_seed(1))[:256]
    x, y = case.x[chosen], case.y[chosen]
    with torch.random.fork_rng():
        model = case.make(0)
        found = fl.diagnose(model, x, target=y, loss=case.loss, optimizer=case.optimizer).findings
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
