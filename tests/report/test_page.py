"""The report: one page, self-contained, in both languages, true to the checkup, safe against what is in names."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.findings.faults import FAULTS
from torch import Tensor, nn

import firstlight as fl
from firstlight import report
from firstlight.diagnose import BOUNDS, KINDS
from firstlight.errors import FileError, OptionError
from firstlight.model.targets import load
from firstlight.race import task
from firstlight.report.text import findings_text
from firstlight.report.words import finding_texts


@pytest.fixture(scope="module")
def checkup() -> fl.Checkup:
    return fl.doctor("mlp:depth=16,width=32,act=tanh,init=torch-default", optimizers=["adam"], lrs=[0.002], steps=20)


def test_languages_have_the_same_texts_with_the_same_places_for_numbers() -> None:
    english, japanese = report.texts("en"), report.texts("ja")
    own = {
        key for key in japanese if key.startswith(("name_", "cause_", "remedy_"))
    }  # English ones come with the finding
    assert english.keys() == japanese.keys() - own
    assert {f"{part}_{kind}" for kind in KINDS for part in ("name", "cause")} <= own
    assert {key.partition("_")[2].partition("/")[0] for key in own} <= {*KINDS, "default", "scale"}
    for key, text in english.items():
        places = re.findall(r"\{(\w+)", text)
        assert sorted(places) == sorted(re.findall(r"\{(\w+)", japanese[key])), key


@pytest.mark.parametrize("lang", report.LANGUAGES)
def test_the_page_is_self_contained_and_says_what_was_found(lang: str, checkup: fl.Checkup) -> None:
    page = report.render(checkup, lang)
    assert f'<html lang="{lang}">' in page
    assert len(page.encode()) < 6_000_000
    body = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"(src|href)=[\"']?https?:", body)
    assert "@import" not in body
    for finding in checkup.before.findings:
        assert finding.kind in body
    for row in checkup.plan:
        assert row.name in body
    for init in ("zeros", "xavier", "he", "prescription"):
        assert f'<th scope="row">{init}' in body
    accuracy = checkup.best("prescription")
    assert accuracy is not None
    assert f"{100 * (accuracy.final_accuracy or 0):.1f}\u00a0%" in body
    for name, rate in checkup.learning_rates.items():
        assert f"{name} {rate:.2g}" in body
    assert checkup.learning_rates
    assert len(re.findall(r"Plotly\.newPlot", page)) >= 2
    assert not re.search(r"\{\w+\}", re.sub(r"<style>.*?</style>", "", body, flags=re.DOTALL))  # no place left unfilled


def test_japanese_pages_explain_findings_in_japanese(checkup: fl.Checkup) -> None:
    page = report.render(checkup, "ja")
    assert "勾配" in page
    for finding in checkup.before.findings:
        assert finding.cause not in page


class Unused(nn.Module):
    """A network with a layer that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.spare = nn.Linear(64, 10), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x.flatten(1))  # type: ignore[no-any-return]


SICK: list[str | nn.Module] = [
    "mlp:depth=30,width=64,act=tanh,init=torch-default",
    "mlp:depth=30,width=64,act=relu,init=normal:std=0.6",
    "mlp:depth=90,width=64,act=relu,init=normal:std=5",
    "mlp:depth=3,width=64,act=tanh,init=normal:std=2",
    "mlp:depth=4,width=16,act=relu,init=zeros",
    Unused(),
]


FAST = [fault for fault in FAULTS if "20 layers" not in fault.what and "attention's" not in fault.what]


@pytest.mark.slow
def test_every_rule_makes_a_finding_that_reads_in_japanese_with_its_own_numbers() -> None:
    """The strongest of each kind of fault: sentences, variants by evidence, and numbers all fit, none is English."""
    words, rules = report.texts("ja"), set()
    for fault in FAST:
        strong = fault.make(fault.strengths[-1], fault.acts[0])
        seen = fl.diagnose(strong.model, strong.batch, **strong.options)
        rules |= {rule for rule, number in seen.statistics.items() if BOUNDS[rule].severity(number, 99)}
        for finding in seen.findings:
            told = finding_texts(finding, words)
            assert re.search("[ぁ-ん]", told["cause"]), finding.kind
            assert re.search("[ぁ-ん]", told["remedy"]), finding.kind
            assert told["name"] != finding.kind
            assert "{" not in "".join(told.values())
        assert all("エラー" in line or "警告" in line or "参考" in line for line in lines(seen.findings))
    assert {BOUNDS[rule].kind for rule in rules} >= set(KINDS) - {"attention-saturation", "copied-layers"}


def lines(findings: Sequence[fl.Finding]) -> list[str]:
    return [line for line in findings_text(findings, "ja").splitlines() if not line.startswith("  ")]


def findings_of(sick: str | nn.Module) -> tuple[fl.Finding, ...]:
    if isinstance(sick, nn.Module):
        model = sick
    else:
        found = load(sick)
        model = fl.initialize(found.build(0), found.init or "he", seed=0)
    inputs, labels = task("digits").batch(128)
    return fl.diagnose(model, inputs, target=labels).findings


def test_every_finding_that_a_rule_makes_reads_in_japanese() -> None:
    """The sentences take their numbers from the evidence: a number a rule stops giving would be missed here."""
    words, seen = report.texts("ja"), set()
    for sick in SICK:
        for finding in findings_of(sick):
            text = finding_texts(finding, words)
            assert re.search("[ぁ-ん]", text["cause"])
            assert re.search("[ぁ-ん]", text["remedy"])
            assert "{" not in "".join(text.values())
            seen.add(finding.kind)
    assert len(seen) >= 11


def test_every_kind_has_a_japanese_name_cause_and_remedy_without_evidence_too() -> None:
    words = report.texts("ja")
    for kind in KINDS:
        texts = finding_texts(fl.Finding(kind, "error", ("a",), {}, "English.", "English."), words)
        assert texts["name"] == kind or re.search("[ぁ-んァ-ン一-龥]", texts["name"])
        assert re.search("[ぁ-ん]", words[f"cause_{kind}"])
        assert re.search("[ぁ-ん]", words.get(f"remedy_{kind}", words["remedy_default"]))


def test_a_finding_of_an_unknown_kind_is_shown_as_the_rule_wrote_it() -> None:
    finding = fl.Finding("new-kind", "info", ("a",), {"n": 1.0}, "Because.", "Do this.")
    assert finding_texts(finding, report.texts("ja")) == {"name": "new-kind", "cause": "Because.", "remedy": "Do this."}


def test_a_healthy_network_is_told_so_and_shown_no_prescription() -> None:
    healthy = fl.doctor("mlp:depth=2,width=32,act=relu,init=he", optimizers=["sgd"], lrs=[0.03], steps=30)
    page = body_of(report.render(healthy, "en"))
    assert "This network has a healthy start" in page
    assert "Every tensor keeps its values" in page
    assert "→" not in page
    assert "he (yours)" in page


def body_of(page: str) -> str:
    return re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)


def test_the_page_may_fetch_nothing_and_every_table_has_a_caption(checkup: fl.Checkup) -> None:
    page = report.render(checkup, "en")
    assert "default-src 'none'" in page
    body = body_of(page)
    assert body.count("<table>") == body.count("<caption>") == 4
    assert body.count('role="img" aria-label="') == 2 + len(checkup.before.findings)
    assert re.findall(r"<h(\d)", body)[:3] == ["1", "2", "3"]


def test_the_page_shows_the_command_that_made_it(checkup: fl.Checkup) -> None:
    assert "--seed 0 --lang en" in report.render(checkup, "en")
    assert "<code>firstlight doctor x --steps 3</code>" in report.render(
        checkup, command="firstlight doctor x --steps 3"
    )


def test_names_cannot_inject_markup(checkup: fl.Checkup) -> None:
    page = report.render(replace(checkup, target="<img src=x onerror=alert(1)>"), "en")
    assert "<img" not in re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)


def test_writing_is_whole_and_asks_before_replacing(checkup: fl.Checkup, tmp_path: Path) -> None:
    path = report.write(checkup, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(FileError, match="exists"):
        report.write(checkup, path)
    with pytest.raises(OptionError, match="Choose 'en' or 'ja'"):
        report.write(checkup, tmp_path / "other.html", lang="fr")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_what_no_recipe_mends_is_not_called_healthy(checkup: fl.Checkup) -> None:
    kept = fl.Plan("keep", fl.plan(load(checkup.target).build(), "he", keep="*").rows)
    page = report.render(replace(checkup, plan=kept, after=checkup.before), "en")
    assert f"No recipe leaves fewer than its {len(checkup.before.findings)} findings" in page
    assert "healthy start" not in page


def test_the_page_counts_the_examples_that_were_measured(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    np.savez(tmp_path / "few.npz", x=generator.normal(size=(60, 1, 8, 8)), y=np.arange(60) % 3)
    few = fl.doctor("mlp:depth=2,width=8", str(tmp_path / "few.npz"), optimizers=["sgd"], lrs=[0.01], steps=2)
    assert "over 42 real examples" in report.render(few)
    assert "42件" in report.render(few, "ja")
