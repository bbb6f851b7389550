"""`firstlight data`, `firstlight tasks`, and races on files of one's own, through the command line."""

import json
from pathlib import Path

import pytest

from firstlight.cli import run


def test_the_lists_say_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIRSTLIGHT_DATA", str(tmp_path))
    assert run(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["folder"] == str(tmp_path)
    assert [row["name"] for row in listed["datasets"] if not row["here"]] == [
        *["mnist", "fashion-mnist", "cifar10", "moby-dick", "shakespeare", "ja-text"]
    ]
    assert run(["tasks", "--json"]) == 0
    here = {row["name"]: row["here"] for row in json.loads(capsys.readouterr().out)}
    assert [name for name, there in here.items() if there] == ["digits", "text"]
    assert len(here) == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["race", "--task", "cats-dogs"], "Run: firstlight data fetch cifar10"),
        (["data", "fetch", "mnits"], "Did you mean 'mnist'"),
        (["race", "--text", "nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["race", "--task", "text", "--data-dir", "."], "Give one of them"),
        (["race", "--task", "text", "--model", "mlp:depth=2"], "failed on task 'text'"),
        (["race", "--task", "digits", "--model", "gpt:depth=1"], "failed on task 'digits'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIRSTLIGHT_DATA", str(tmp_path))
    assert run(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_a_text_of_ones_own_races_and_is_diagnosed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("".join(f"line {n} of a small text; " for n in range(2000)), encoding="utf-8")
    words = ["--model", "gpt:depth=1,width=16", "--init", "gpt2", "--optimizer", "adam", "--lr", "0.01", "--steps", "8"]
    assert run(["race", "--text", str(text), *words, "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["final_loss"] < 5.5
    assert run(["diagnose", "gpt:depth=1,width=16,init=normal:std=1", "--data", f"{text}:context=16", "--json"]) in (
        0,
        1,
    )
    assert "initial-loss" in {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]}
