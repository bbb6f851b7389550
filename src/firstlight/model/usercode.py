"""The user's own models: importing a file or module, and turning what it holds into a builder with one-line errors."""

import contextlib
import copy
import importlib
import importlib.util
import itertools
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from firstlight.errors import TargetError, did_you_mean

_numbers = itertools.count()


def from_file(text: str, path: str, attribute: str) -> Callable[[], nn.Module]:
    """Return the builder that `attribute` of the Python file names. The file is run once, now."""
    file = Path(path)
    if file.is_dir():
        raise TargetError(f"target '{text}': '{path}' is a folder, not a Python file.")
    if not file.is_file():
        near = did_you_mean(file.name, (p.name for p in file.parent.glob("*.py"))) if file.parent.is_dir() else ""
        raise TargetError(f"target '{text}': there is no file '{path}'.{near}")
    spec = importlib.util.spec_from_file_location(f"firstlight_target_{next(_numbers)}_{file.stem}", file.resolve())
    if spec is None or spec.loader is None:
        raise TargetError(f"target '{text}': '{path}' cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up by name
    folder = str(file.resolve().parent)
    try:
        with _first_on_path(folder), _one_line(text, "running the file", str(file.resolve()), path):
            spec.loader.exec_module(module)
    except TargetError:
        del sys.modules[spec.name]
        raise
    return _builder(text, module, attribute, folder, path)


def from_package(text: str, name: str, attribute: str, names: tuple[str, ...]) -> Callable[[], nn.Module]:
    """Return the builder that `attribute` of an importable module names; the working directory is looked in first."""
    folder = str(Path.cwd())
    with _first_on_path(folder):
        try:
            with _one_line(text, f"importing {name}", "", ""):
                module = importlib.import_module(name)
        except TargetError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError) and f"{name}.".startswith(f"{cause.name}."):
                near = did_you_mean(name, names)
                raise TargetError(f"target '{text}': there is no module or built-in '{name}'.{near}") from cause
            raise
    return _builder(text, module, attribute, folder, getattr(module, "__file__", None) or name)


def _builder(text: str, module: ModuleType, attribute: str, folder: str, shown: str) -> Callable[[], nn.Module]:
    found = _find(text, module, attribute, shown)
    if isinstance(found, nn.Module):
        return lambda: copy.deepcopy(found)
    if not callable(found):
        raise TargetError(
            f"target '{text}': '{attribute}' is a {type(found).__name__}, not callable. "
            "Name an nn.Module class, a function that returns one, or a module."
        )

    def build() -> nn.Module:
        with _first_on_path(folder), _one_line(text, f"calling {attribute}()", module.__file__ or "", shown):
            made = found()
        if not isinstance(made, nn.Module):
            raise TargetError(f"target '{text}': {attribute}() returned a {type(made).__name__}, not an nn.Module.")
        return made

    return build


def _find(text: str, module: ModuleType, attribute: str, shown: str) -> Any:
    own = [
        n for n, v in vars(module).items() if not n.startswith("_") and getattr(v, "__module__", "") == module.__name__
    ]
    if not attribute:
        has = f" It has {', '.join(own)}." if own else ""
        raise TargetError(f"target '{text}' names no callable. Write '{shown}:callable'.{has}")
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            has = f" It has {', '.join(own)}." if own else ""
            near = did_you_mean(part, [n for n in dir(found) if not n.startswith("__")])
            raise TargetError(f"target '{text}': {shown} has no '{attribute}'.{has}{near}")
        found = getattr(found, part)
    return found


@contextlib.contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    """Let imports look in `folder` first, so that the user's file finds its neighbours."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


@contextlib.contextmanager
def _one_line(text: str, doing: str, file: str, shown: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a TargetError that names the line of the user's file."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if file and frame.filename == file]
        line = (
            error.lineno if isinstance(error, SyntaxError) and error.filename == file else lines[-1] if lines else None
        )
        where = f" at {shown}:{line}" if line else ""
        what = " ".join(str(error).split())[:300] or "no message"
        raise TargetError(f"target '{text}': {doing} raised {type(error).__name__}{where}: {what}") from error
