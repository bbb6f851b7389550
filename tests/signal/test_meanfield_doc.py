"""docs/meanfield.md tells the truth: its commands print what it shows, its Python gives what it says."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from firstlight.cli import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "meanfield.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(DOCUMENT.read_text()) if kind == language]


EXAMPLES = [part.partition("\n") for block in blocks("console") for part in re.split(r"^\$ ", block, flags=re.M)[1:]]


@pytest.mark.parametrize(("command", "shown"), [(command, shown) for command, _, shown in EXAMPLES])
def test_commands_print_what_the_document_shows(command: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command)
    assert words[0] == "firstlight"
    assert run(words[1:]) == 0
    printed = capsys.readouterr().out
    assert doctest.OutputChecker().check_output(shown, printed, FLAGS), printed


def test_python_gives_what_the_document_says() -> None:
    parsed = doctest.DocTestParser().get_doctest("\n".join(blocks("python")), {}, "meanfield", str(DOCUMENT), 0)
    assert len(parsed.examples) >= 5
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    output: list[str] = []
    runner.run(parsed, out=output.append)
    assert runner.failures == 0, "".join(output)
