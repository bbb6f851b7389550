"""The report of a race: one page that needs nothing else, with curves, bands, statistics, and starts beside outcomes."""

import re
from pathlib import Path

import pytest

import firstlight as fl
from firstlight.errors import FileError, OptionError
from firstlight.race.row import Curve
from firstlight.report.race import band, race_texts, render_race, write_race


@pytest.fixture(scope="module")
def result() -> fl.RaceResult:
    return fl.race(
        inits=["zeros", "xavier"], optimizers=["adam"], lrs=[0.01], seeds=3, steps=30, signals=True,
        model="mlp:depth=5,width=16,act=tanh",
    )  # fmt: skip


def test_starts_are_measured_beside_outcomes(result: fl.RaceResult) -> None:
    zeros, xavier = result.starts
    assert "exchangeable-units" in zeros.findings
    assert zeros.loss == pytest.approx(2.3026, abs=1e-3)
    assert xavier.signal is not None
    assert 0.2 < xavier.signal < 2
    assert xavier.gradient is not None
    assert 0.1 < xavier.gradient < 10


def test_the_page_holds_all_and_fetches_nothing(result: fl.RaceResult) -> None:
    page = render_race(result)
    for words in (
        "race-curves",
        "race-targets",
        "Pairs of starts",
        "Starts beside outcomes",
        "no difference shown",
        "exchangeable-units",
        "xavier, adam",
    ):
        assert words in page
    body = page[: page.index("<script>")] + page[page.index("</script>") :]
    assert "http://" not in body
    assert "https://" not in body
    assert "NaN" not in body.replace("nan", "")


def test_the_page_is_japanese_too_with_every_text_and_number_of_the_english_one(result: fl.RaceResult) -> None:
    english, japanese = race_texts("en"), race_texts("ja")
    own = {key for key in english if key.startswith("race_")}
    assert own == {key for key in japanese if key.startswith("race_")}
    for key in own:
        assert sorted(re.findall(r"\{(\w+)", english[key])) == sorted(re.findall(r"\{(\w+)", japanese[key])), key
        assert re.search("[ぁ-んァ-ン一-龥]|^p 値$", japanese[key]), key
    page = render_race(result, "ja")
    assert '<html lang="ja">' in page
    assert "初期値どうしの比較" in page
    assert "差は確かめられず" in page
    assert "Pairs of starts" not in page
    with pytest.raises(OptionError, match="not a language of the report"):
        write_race(result, "race.html", lang="de")


def test_the_headline_names_the_start_with_the_lowest_loss_and_what_is_shown(result: fl.RaceResult) -> None:
    best = min(result.summary(), key=lambda row: row.metrics["best_validation_loss"].median or 9.9)
    page = render_race(result)
    assert f"Lowest loss over the seeds: {best.init} with adam" in page
    assert "is shown against 0 of 1 other starts" in page  # three seeds cannot show it
    wild = fl.race(inits=["he"], optimizers=["sgd"], lrs=[1e30], steps=4, model="mlp:depth=2,width=8")
    lost = type(wild)(**{**{name: getattr(wild, name) for name in wild.__slots__}, "rows": tuple(
        type(row)(**{**{name: getattr(row, name) for name in row.__slots__}, "best_validation_loss": None}) for row in wild
    )})  # fmt: skip
    assert "No run kept a finite loss." in render_race(lost)


def test_a_band_runs_from_least_to_greatest_and_ended_runs_count_on(result: fl.RaceResult) -> None:
    first, second = (
        type(row)(**{**{name: getattr(row, name) for name in row.__slots__}, "curve": curve})
        for row, curve in zip(
            result.rows[:2],
            (Curve((), (0, 10), (2.0, 1.0), (0.1, 0.5)), Curve((), (0, 5), (4.0, 3.0), (0.1, 0.2))),
            strict=True,
        )
    )
    at, low, middle, high = band([first, second], "validation_loss")
    assert (at, low, middle, high) == ([0, 5, 10], [2.0, 2.0, 1.0], [3.0, 2.5, 2.0], [4.0, 3.0, 3.0])


def test_the_report_is_written_whole_and_not_over_another(result: fl.RaceResult, tmp_path: Path) -> None:
    path = write_race(result, tmp_path / "race.html")
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(FileError, match=r"exists.*Nothing was written"):
        write_race(result, path)
