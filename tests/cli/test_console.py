"""What is printed fits where it goes: whole lines in a pipe, wrapped text and bars on a terminal, nothing on refusal."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from firstlight.cli import run
from firstlight.cli.console import emit, progress, prose

DEEP = "blocks.0.attention.projections.query.inner"
NET = f"""
import torch

def net():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    for name in reversed("{DEEP}".split(".")):
        outer = torch.nn.Sequential()
        outer.add_module(name, model)
        model = outer
    return model
"""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make stdout and stderr one terminal of 60 columns. Called in a test's body: between phases pytest sets its own."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_no_command_is_wrong_usage_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert capsys.readouterr().err == "error: no command was given. See 'firstlight --help'.\n"


def test_what_nobody_foresaw_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(text: str) -> None:
        raise MemoryError

    monkeypatch.setattr("firstlight.model.targets.load", fail)
    assert run(["plan", "mlp:"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: MemoryError. This is not foreseen: run again with --debug")
    assert (printed.err.count("\n"), printed.out) == (1, "")
    with pytest.raises(MemoryError, match=r"^$"):
        run(["--debug", "plan", "mlp:"])


def test_debug_leaves_with_the_code_of_an_error() -> None:
    words = [sys.executable, "-m", "firstlight", "--debug", "recipes", "hee"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" in done.stderr


def test_a_plan_is_not_saved_when_the_other_one_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "mlp:", "--recipe", "he", "--save", "p.yaml", "--diff", "hee"]) == 2
    assert "Did you mean 'he'" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("words", [["gains"], ["recipes"], ["recipes", "he"], ["plan", "mlp:depth=2"]])
def test_lines_in_a_pipe_have_no_blanks_at_their_end_and_no_escapes(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 3
    assert [line for line in text.splitlines() if line != line.rstrip()] == []
    assert "\x1b" not in text


def test_long_names_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Path("net.py").write_text(NET)
    assert run(["diagnose", "net.py:net"]) == 0
    text = capsys.readouterr().out
    assert f"{DEEP}.1" in text
    assert "…" not in text


def test_a_terminal_wraps_text_under_its_own_indent(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    prose("one\n  " + "word " * 30)
    lines = plain(screen.getvalue()).splitlines()
    assert lines[0].rstrip() == "one"
    assert len(lines) > 3
    assert all(line.startswith("  word") and len(line) <= 60 for line in lines[1:])


def test_a_pipe_gets_each_line_whole(capsys: pytest.CaptureFixture[str]) -> None:
    prose("  " + "word " * 90 + "end")
    assert capsys.readouterr().out == "  " + "word " * 90 + "end\n"


def test_a_plan_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    assert run(["plan", "mlp:depth=2", "--recipe", "he"]) == 0
    lines = [line.rstrip() for line in plain(screen.getvalue()).splitlines()]
    assert "layers.0.weight  128×64" in lines
    assert "  weight, fans 64→128, normal, std 0.1768, found by graph" in lines
    assert max(map(len, lines)) <= 60


def test_square_brackets_in_text_are_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    prose("a[bold]b[/] and [0]", bold=True)
    assert plain(screen.getvalue()).rstrip() == "a[bold]b[/] and [0]"


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["gains", "relu"]) == 0
    assert re.findall(r"\x1b\[[0-9;]*3[0-9]m", screen.getvalue()) == []


def test_bars_are_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    with progress() as tell:
        tell("race", 1, 4, "he")
    assert "race" in plain(screen.getvalue())
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    with progress() as tell:
        tell("race", 1, 4, "he")
    assert pipe.getvalue() == ""


def test_numbers_that_are_not_finite_are_null_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": float("nan"), "b": [1.5, float("inf")], "c": ({"d": -float("inf")},)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": [{"d": None}]}
