"""Matching a model to a task: built-in models take their sizes from the data, and a text is asked in the form a model needs."""

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from firstlight.model import spec
from firstlight.model.builtin import BUILTINS
from firstlight.race.tasks import Task
from firstlight.race.tasks import task as find_task

Model = str | Callable[[], nn.Module]


def matched(task: str | Task, model: Model) -> tuple[Task, Model]:
    """Return the task itself and the model with the sizes that it needs.

    A text whose options name no form hides tokens for a model that sees both ways, and asks for the next one otherwise.

    Raises:
        OptionError, DataError: if the task cannot be had.

    Example:
        >>> matched("digits", "cnn:depth=20")[1], matched("text", "bert")[0].kind
        ('cnn:depth=20', 'masked-token')
    """
    data = find_task(task, form="masked" if sees_both_ways(model) else "next") if isinstance(task, str) else task
    return data, fitted(model, data) if isinstance(model, str) else model


def sees_both_ways(model: Model) -> bool:
    """Whether a TARGET names a model that is made to guess hidden tokens: the built-in bert, or a config for masked ones."""
    if not isinstance(model, str):
        return False
    name, rest = spec.split(model)
    if name != "hf":
        return name == "bert"
    path = Path(rest) / "config.json" if Path(rest).is_dir() else Path(rest)
    try:
        named = json.loads(path.read_text(encoding="utf-8")).get("architectures")
    except (OSError, ValueError, AttributeError):
        return False  # loading the target says what is wrong with it
    return bool(named) and str(named[0]).endswith("ForMaskedLM")


def fitted(target: str, task: Task) -> str:
    """Return a built-in TARGET with the sizes of the task for those it does not name; any other as it is.

    >>> from firstlight.race.tasks import task
    >>> fitted("gpt:depth=3", task("text:context=32"))
    'gpt:context=32,depth=3'
    """
    name, rest = spec.split(target)
    if name not in BUILTINS:
        return target
    defaults = {option.name: option.default for option in BUILTINS[name].options}
    written = {piece.partition("=")[0].strip() for piece in rest.split(",")}
    sizes = {key: value for key, value in _sizes(name, task).items() if key in defaults}
    added = [f"{key}={value}" for key, value in sizes.items() if key not in written and value != defaults[key]]
    pieces = ",".join([*added, *([rest] if rest else [])])  # init= may take the rest of the text, so ours go first
    return f"{name}:{pieces}" if pieces else name


def _sizes(name: str, task: Task) -> dict[str, int]:
    shape = task.train[0].shape
    if task.kind != "images":
        return {"vocab": task.classes, "context": shape[1]}
    last = {"mlp": shape[1:].numel(), "lstm": shape[-1]}.get(name, shape[1])
    return {"in": last, "classes": task.classes} | ({"size": shape[-1]} if len(shape) == 4 else {})
