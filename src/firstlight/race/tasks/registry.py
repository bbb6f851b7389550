"""What tasks there are by name, and `task`, which finds one by its name, file or folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstlight.errors import DataError, OptionError, did_you_mean
from firstlight.model import spec
from firstlight.race.tasks import arrays, folders, language, pictures, texts
from firstlight.race.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Entry:
    """A task's name, what it is, its options, what loads it, and the dataset that has to be fetched first."""

    name: str
    summary: str
    options: tuple[spec.Option, ...]
    load: Callable[[dict[str, Any]], Task]
    dataset: str | None = None


def _text(name: str, summary: str, read: Callable[[], str], dataset: str | None = None) -> Entry:
    return Entry(name, summary, language.OPTIONS, lambda o: language.of_text(name, read(), o), dataset)


def _pictures(name: str, summary: str, read: Callable[[], pictures.Raw], dataset: str) -> Entry:
    return Entry(name, summary, pictures.OPTIONS, lambda o: pictures.of_raw(name, read(), o), dataset)


TASKS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("digits", "handwritten digits, 1,797 pictures of 8×8, 10 classes", (), lambda o: arrays.digits()),
        _pictures("mnist", "handwritten digits, 70,000 pictures of 28×28, 10 classes", pictures.mnist, "mnist"),
        _pictures(
            "fashion-mnist",
            "clothing, 70,000 pictures of 28×28, 10 classes",
            lambda: pictures.mnist("fashion-mnist"),
            "fashion-mnist",
        ),
        _pictures("cifar10", "photographs, 60,000 of 32×32, 10 classes", pictures.cifar10, "cifar10"),
        _pictures(
            "cats-dogs", "photographs of cats and dogs, 12,000 of 32×32, 2 classes", pictures.cats_dogs, "cifar10"
        ),
        _text("text", "the prose of the standard library's documentation", texts.standard_library),
        _text("moby-dick", "Herman Melville's novel", texts.moby_dick, "moby-dick"),
        _text("shakespeare", "42 plays and poems", texts.shakespeare, "shakespeare"),
        _text("ja-text", "the Debian Reference in Japanese", texts.japanese, "ja-text"),
    )
}


def task(name: str, *, form: language.Form = "next") -> Task:
    """Return the task of a name, a file or a folder; options follow a colon: `text:context=128,form=masked`.

    Args:
        name: a key of TASKS; a `.npz` file with arrays x (inputs, examples first) and y (whole-number labels); a folder of
            pictures (IDX or CIFAR-10 files, or a folder a class); or any other file, which is read as text in UTF-8.
        form: of a text where its options name none: 'next' foretells the next token, 'masked' the hidden ones.

    Raises:
        OptionError: if there is no such task, or an option is wrong.
        DataError: if its data have not been fetched, or cannot be read or used.

    Example:
        >>> digits = task("digits")
        >>> digits.train[0].shape, len(digits.validation[1]), len(digits.test[1])
        (torch.Size([1252, 1, 8, 8]), 270, 275)
        >>> text = task("text:context=32")
        >>> text.kind, text.classes, tuple(text.batch(8)[0].shape)
        ('next-token', 256, (8, 32))
    """
    known, rest = spec.split(name)
    if known in TASKS:
        entry = TASKS[known]
        return entry.load({"form": form} | _given(f"task '{known}'", rest, entry.options))
    if (path := Path(name)).suffix == ".npz":
        return arrays.from_file(path)
    place, _, rest = name.partition(":") if not path.exists() else (name, "", "")
    path = Path(place)
    if path.is_dir():
        return folders.from_folder(path, _given(f"task '{place}'", rest, folders.OPTIONS))
    if path.is_file() or path.suffix == ".txt":
        given = _given(f"task '{place}'", rest, language.OPTIONS)
        return language.of_text(path.stem, texts.from_file(path), {"form": form} | given)
    if len(path.parts) > 1:
        raise DataError(f"there is no file or folder '{place}'. Nothing was read.")
    near = did_you_mean(known, TASKS)
    raise OptionError(
        f"'{name}' is not a task. Choose one of {', '.join(TASKS)}, or a .npz file with x and y, a text file, or a folder of "
        f"pictures.{near}"
    )


def _given(owner: str, text: str, options: tuple[spec.Option, ...]) -> dict[str, Any]:
    """Return the options' values, those that have none left out."""
    return {name: value for name, value in spec.parse(owner, text, options).items() if value is not None}
