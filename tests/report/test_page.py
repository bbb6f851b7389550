"""The report: one page, self-contained, in both languages, true to the checkup, safe against what is in names."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import firstlight as fl
from firstlight import report
from firstlight.diagnose import KINDS
from firstlight.errors import FileError, OptionError


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
    assert {key.partition("_")[2] for key in own} <= {*KINDS, "default", "scale"}
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
    assert f"{100 * (accuracy.final_accuracy or 0):.1f} %" in body
    assert len(re.findall(r"Plotly\.newPlot", page)) >= 2
    assert not re.search(r"\{\w+\}", re.sub(r"<style>.*?</style>", "", body, flags=re.DOTALL))  # no place left unfilled


def test_japanese_pages_explain_findings_in_japanese(checkup: fl.Checkup) -> None:
    page = report.render(checkup, "ja")
    assert "勾配" in page
    for finding in checkup.before.findings:
        assert finding.cause not in page


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
