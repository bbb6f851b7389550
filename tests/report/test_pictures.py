"""Every kind of finding has a picture, and the picture shows what the finding says."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight import report
from firstlight.diagnose import KINDS
from firstlight.report.pictures import picture

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
Y = torch.randint(3, (64,), generator=torch.Generator().manual_seed(1))
WORDS = report.texts("en")


def net(value: float | None = None) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3))
    for parameter in model.parameters() if value is not None else ():
        nn.init.constant_(parameter, value or 0.0)
    return model


@pytest.fixture(scope="module")
def sick() -> fl.Diagnosis:
    return fl.diagnose(net(0.1), X, target=Y)


@pytest.fixture(scope="module")
def well() -> fl.Diagnosis:
    return fl.diagnose(net(), X, target=Y)


def made(kind: str, evidence: dict[str, float] | None = None, where: tuple[str, ...] = ("2",)) -> fl.Finding:
    return fl.Finding(kind, "error", where, evidence or {"a_number": 3.0, "another": 0.5}, "Because.", "Do this.")


@pytest.mark.parametrize("lang", report.LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_picture_with_data_and_a_caption(
    kind: str, lang: str, sick: fl.Diagnosis, well: fl.Diagnosis
) -> None:
    figure, caption = picture(made(kind), report.texts(lang), sick, well)
    assert caption
    assert len(figure.data) >= 1
    assert all(len(trace.z if trace.type == "heatmap" else trace.x) for trace in figure.data)


def test_the_finding_s_layers_are_marked_and_both_tables_drawn(sick: fl.Diagnosis, well: fl.Diagnosis) -> None:
    figure, _ = picture(made("exploding-gradient", where=("2", "3")), WORDS, sick, well)
    assert [(shape.x0, shape.x1) for shape in figure.layout.shapes] == [(2.5, 4.5)]
    assert [trace.name for trace in figure.data] == ["before", "after"]
    assert list(figure.data[1].y) == [row.gradient_std for row in well.signals]


def test_copies_are_a_map_of_ones_and_random_units_are_not(sick: fl.Diagnosis, well: fl.Diagnosis) -> None:
    figure, _ = picture(made("exchangeable-units", where=("0",)), WORDS, sick, well)
    copies, units = (torch.tensor([list(row) for row in trace.z]) for trace in figure.data)
    assert torch.allclose(copies, torch.ones(32, 32))
    assert float((units - torch.eye(32)).abs().max()) < 0.95


def test_zeros_are_copies_too() -> None:
    diagnosis = fl.diagnose(net(0.0), X, target=Y)
    figure, _ = picture(made("exchangeable-units", where=("0",)), WORDS, diagnosis)
    assert {value for row in figure.data[0].z for value in row} == {1.0}


def test_the_loss_stands_beside_that_of_knowing_nothing(sick: fl.Diagnosis, well: fl.Diagnosis) -> None:
    finding = made("initial-loss", {"loss": 30.0, "uninformed_loss": 1.1, "classes": 3.0})
    figure, _ = picture(finding, WORDS, sick, well)
    assert dict(zip(figure.data[0].y, figure.data[0].x, strict=True)) == {
        "before": 30.0,
        "knowing nothing": 1.1,
        "after": well.signals.loss,
    }


@pytest.mark.parametrize("kind", ["non-finite", "exploding-signal", "uninitialized-memory", "exchangeable-units"])
def test_numbers_that_are_not_finite_do_not_spoil_a_picture(kind: str) -> None:
    model = net()
    with torch.no_grad():
        model.get_parameter("2.weight")[0] = float("nan")
    figure, _ = picture(made(kind, {"share": float("nan")}), WORDS, fl.diagnose(model, X, target=Y))
    assert "NaN" not in figure.to_json()


def test_the_page_of_a_diagnosis_says_how_many_findings_impair_training(sick: fl.Diagnosis, well: fl.Diagnosis) -> None:
    errors = sum(finding.severity == "error" for finding in sick.findings)
    page = report.render_diagnosis(sick, "<net>", task="digits")
    assert f"{errors} of {len(sick.findings)} findings that impair its training" in page
    assert "<net>" not in page
    assert "nothing was found wrong" in report.render_diagnosis(replace(well, findings=()), "net", task="digits")
    assert len(page.encode()) < 6_000_000


def test_a_picture_of_a_model_with_dictionaries_as_input_is_made() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 3)

        def forward(self, x: Tensor, scale: Tensor) -> Any:
            return self.fc(x) * scale

    diagnosis = fl.diagnose(Two(), {"x": X, "scale": torch.ones(())}, target=Y)
    assert "64" in report.render_diagnosis(diagnosis, "two", task="digits")
