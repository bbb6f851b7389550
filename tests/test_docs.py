"""The documents tell the truth: Python examples run as doctests, shell examples run and print what they show."""

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(path.read_text()) if kind == language]


def console_examples() -> list[tuple[str, str]]:
    """Return (command, shown output) for every `$ ` line of the README's console blocks."""
    examples: list[tuple[str, str]] = []
    for block in blocks(README, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            examples.append((command, output))
    return examples


@pytest.mark.parametrize(
    "path",
    [README, *(ROOT / "docs" / name for name in ("recipes.md", "prediction.md", "why.md", "learning-rates.md"))],
    ids=lambda path: path.name,
)
def test_python_blocks_print_what_they_show(path: Path) -> None:
    parsed = doctest.DocTestParser().get_doctest("\n".join(blocks(path, "python")), {}, path.name, str(path), 0)
    assert len(parsed.examples) >= 4
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    output: list[str] = []
    runner.run(parsed, out=output.append)
    assert runner.failures == 0, "".join(output)


@pytest.mark.parametrize(("command", "shown"), console_examples(), ids=lambda text: text[:40])
def test_readme_shell_blocks_print_what_they_show(command: str, shown: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    assert words[0] == "firstlight"
    run = subprocess.run(
        [sys.executable, "-m", "firstlight", *words[1:]], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode in (0, 1), run.stderr
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(shown, run.stdout, flags), run.stdout


def test_the_readme_is_short_and_starts_with_the_commands() -> None:
    text = README.read_text()
    assert len(text.splitlines()) < 150
    assert "make run" in text
    assert "make test" in text


@pytest.mark.parametrize("path", [README, ROOT / "docs" / "why.md"], ids=lambda path: path.name)
def test_the_japanese_document_shows_the_same_code(path: Path) -> None:
    japanese = path.with_suffix(".ja.md")
    for kind in ("python", "console"):
        assert blocks(japanese, kind) == blocks(path, kind)
    assert blocks(path, "python")


@pytest.mark.parametrize(
    "path", [README, README.with_suffix(".ja.md"), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    prose = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("    "))
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose)
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_generated_tables_are_up_to_date() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "tables.py"), "--check"], check=True)
