"""`firstlight diagnose` in CI: exit codes, formats, and annotations that GitHub's runner reads as they are meant."""

import json
import re
from pathlib import Path

import pytest

from firstlight.cli import run
from firstlight.cli.annotations import annotations
from firstlight.diagnose import Finding

SICK = "mlp:depth=30,width=32,act=tanh,init=torch-default"
NET = """
from torch import nn


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


class Zero(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        for p in self.parameters():
            nn.init.zeros_(p)


class Spare(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self[1].spare = nn.Linear(3, 3)
"""


def decoded(text: str) -> str:
    """Undo the escapes as the runner does."""
    for code, letter in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, letter)
    return text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    Path("nets/net.py").write_text(NET)


def test_github_shows_each_finding_at_the_callable_that_makes_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", "nets/net.py:Zero", "--format", "github"]) == 1
    lines = capsys.readouterr().out.splitlines()
    parts = [re.fullmatch(r"::(error|warning|notice) ([^:]*)::(.+)", line) for line in lines]
    assert parts
    assert all(parts)
    first = parts[0]
    assert first is not None
    assert dict(pair.split("=") for pair in first[2].split(",")) == {
        "file": "nets/net.py",
        "line": str(NET.splitlines().index("class Zero(nn.Sequential):") + 1),
        "title": "firstlight%3A exchangeable-units",
    }
    assert "Remedy: " in first[3]


def test_a_healthy_network_has_no_annotation_and_exit_code_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", "nets/net.py:small", "--format", "github"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("lang", "words"), [("en", "impair its training"), ("ja", "学習を妨げます")])
def test_html_writes_a_page_in_the_language_asked_for(
    lang: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diagnose", "nets/net.py:Zero", "--format", "html", "-o", "page.html", "--lang", lang]) == 1
    assert capsys.readouterr().out == "report: page.html\n"
    page = Path("page.html").read_text(encoding="utf-8")
    assert words in page
    assert f"firstlight diagnose nets/net.py:Zero --data digits --seed 0 --format html --lang {lang}" in page


def test_html_replaces_no_file_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("diagnosis.html").write_text("mine")
    assert run(["diagnose", "nets/net.py:small", "--format", "html"]) == 2
    assert Path("diagnosis.html").read_text() == "mine"
    assert "replace it with force" in capsys.readouterr().err
    assert run(["diagnose", "nets/net.py:small", "--format", "html", "--force"]) == 0


def test_what_would_break_an_annotation_is_escaped() -> None:
    nasty = Finding("saturation", "info", ("a,b::error::x", "c"), {}, "50 % flat.\r\n::error::no", "Fix 10 %.")
    (line,) = annotations([nasty], "net:x")
    assert "\n" not in line
    assert "\r" not in line
    assert re.match(r"::notice title=firstlight%3A saturation::", line)
    message = line.split("::", 2)[2]
    assert decoded(message) == f"net:x: a,b::error::x, c: {nasty.cause} Remedy: {nasty.remedy}"


def test_json_is_a_format_and_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diagnose", SICK, "--format", "json"]) == 1
    first = json.loads(capsys.readouterr().out)
    assert run(["diagnose", SICK, "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == first
    assert not first["healthy"]


def test_fail_on_says_which_findings_count(capsys: pytest.CaptureFixture[str]) -> None:
    severities = {finding["severity"] for finding in _findings(capsys, "nets/net.py:Spare")}
    assert "error" not in severities  # an unused layer keeps nobody from learning
    assert severities
    assert run(["diagnose", "nets/net.py:Spare"]) == 0
    assert run(["diagnose", "nets/net.py:Spare", "--fail-on", "info"]) == 1
    assert run(["diagnose", "nets/net.py:small", "--fail-on", "info"]) == 0


def _findings(capsys: pytest.CaptureFixture[str], target: str) -> list[dict[str, str]]:
    run(["diagnose", target, "--json"])
    found: list[dict[str, str]] = json.loads(capsys.readouterr().out)["findings"]
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "githb"], r"--format githb: .*Did you mean 'github'\?"),
        (["--format", "github", "--json"], "ask for two formats"),
        (["--fail-on", "fatal"], "--fail-on fatal: there is no such value"),
        (["--format", "html", "--lang", "jp"], "lang='jp' is not a language"),
        (["--seed", "x"], "valid int"),
    ],
)
def test_wrong_usage_has_exit_code_2_and_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["diagnose", "mlp:", *words]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
