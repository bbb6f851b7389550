"""Specs, `name:option=value,option=value`, and the options they may hold. Both targets and recipes are written so.

Reading and checking only; what an option means is decided where it is declared.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from firstlight.errors import OptionError, did_you_mean

Kind = Literal["whole", "number", "word", "switch"]

_SWITCH = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, default, what it does, and the values it may have.

    kind: whole (int), number (float), word (str) or switch (yes or no). minimum is inclusive. choices: the words
    allowed, none meaning any. A default of None means "not given".
    """

    name: str
    default: int | float | str | bool | None
    help: str
    kind: Kind = "number"
    minimum: float | None = None
    choices: tuple[str, ...] = ()
    read_number: bool = False  # a word option that may also be a number, such as gain=activation or gain=2

    def check(self, owner: str, value: Any) -> Any:
        """Return the value in its own type, or raise OptionError naming owner, option, value and what was needed."""
        if value is None and self.default is None:
            return None
        checked = _READERS[self.kind](self, value)
        if checked is None:
            raise OptionError(f"{owner}: {self.name} = {value}, must be {self._needed()}.{self._near(value)}")
        return checked

    def _needed(self) -> str:
        words = " or ".join(f"'{choice}'" for choice in self.choices)
        least = "" if self.minimum is None else f" >= {self.minimum:g}"
        names = {
            "whole": "a whole number",
            "number": "a finite number",
            "switch": "yes or no",
            "word": words or "a word",
        }
        needed = names[self.kind] + (least if self.kind in ("whole", "number") else "")
        return f"{needed} or a finite number{least}" if self.read_number else needed

    def _near(self, value: Any) -> str:
        return did_you_mean(str(value), self.choices)


def _read_whole(option: Option, value: Any) -> int | None:
    try:
        number = int(value) if not isinstance(value, float) or value.is_integer() else None
    except (TypeError, ValueError):
        return None
    return number if number is not None and (option.minimum is None or number >= option.minimum) else None


def _read_number(option: Option, value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and (option.minimum is None or number >= option.minimum) else None


def _read_word(option: Option, value: Any) -> str | float | None:
    if value in option.choices or (not option.choices and isinstance(value, str) and value):
        return str(value)
    return _read_number(option, value) if option.read_number else None


def _read_switch(option: Option, value: Any) -> bool | None:
    return value if isinstance(value, bool) else _SWITCH.get(str(value).lower())


_READERS: dict[Kind, Callable[[Option, Any], Any]] = {
    "whole": _read_whole,
    "number": _read_number,
    "word": _read_word,
    "switch": _read_switch,
}


def split(text: str) -> tuple[str, str]:
    """Return the name and the options' text of a spec.

    >>> split("mlp:depth=3,act=relu"), split("he")
    (('mlp', 'depth=3,act=relu'), ('he', ''))
    """
    name, _, options = text.strip().partition(":")
    return name.strip(), options.strip()


def parse(owner: str, text: str, options: Sequence[Option], *, tail: str | None = None) -> dict[str, Any]:
    """Return every option's value from `option=value,option=value`: those written, checked, and the others' defaults.

    Args:
        owner: what the options belong to, for messages: "recipe 'normal'".
        text: what stands after the colon; may be empty.
        options: those that may be written.
        tail: name of an option whose value is a spec; when that spec has options of its own, it takes the rest of the
        text.

    Raises:
        OptionError: for an option that is unknown, written twice, or has a value that is not allowed.

    Example:
        >>> parse("recipe 'normal'", "std=0.02", [Option("std", 0.01, "standard deviation", minimum=0)])
        {'std': 0.02}
    """
    given: dict[str, Any] = {}
    rest = text
    while rest:
        piece, _, rest = rest.partition(",")
        name, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not name:
            raise OptionError(f"{owner}: '{piece.strip()}' is not an option. Write option=value, separated by commas.")
        if name == tail and ":" in value and rest:
            value, rest = f"{value},{rest}", ""
        if name in given:
            raise OptionError(f"{owner}: {name} is given twice. Give it once.")
        given[name] = value
    return check(owner, given, options)


def check(owner: str, given: Mapping[str, Any], options: Sequence[Option]) -> dict[str, Any]:
    """Return every option's value, those given checked and the others' defaults, in the order of declaration."""
    known = {option.name: option for option in options}
    for name in given:
        if name not in known:
            has = f"It has {', '.join(known)}." if known else "It has no options."
            raise OptionError(f"{owner}: '{name}' is not an option. {has}{did_you_mean(name, known)}")
    return {
        name: option.check(owner, given[name]) if name in given else option.default for name, option in known.items()
    }


def write(name: str, values: Mapping[str, Any], options: Sequence[Option]) -> str:
    """Return the shortest spec that reads back as these values: options at their default are left out.

    >>> write("normal", {"std": 0.02}, [Option("std", 0.01, "standard deviation")])
    'normal:std=0.02'
    """
    words = {True: "yes", False: "no"}
    changed = [o.name for o in options if values[o.name] != o.default]
    pairs = [f"{key}={words[values[key]] if isinstance(values[key], bool) else values[key]}" for key in changed]
    return f"{name}:{','.join(pairs)}" if pairs else name
