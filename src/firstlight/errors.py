"""The exception tree. Every error a user can meet is a FirstlightError and also the built-in type it resembles.

A message says, in this order: which object (full name, shape), what was got, what was needed, the exact change to make,
and the state the model is in. It is one line. `assert` is only for our own bugs.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class FirstlightError(Exception):
    """Base of all errors that firstlight raises on purpose."""


class OptionError(FirstlightError, ValueError):
    """An option, argument or name has a value that is not allowed."""


class DtypeError(FirstlightError, TypeError):
    """A tensor has a dtype that the operation cannot fill."""


class FanError(FirstlightError, ValueError):
    """fan_in or fan_out cannot be computed for a tensor."""


class TargetError(FirstlightError, ValueError):
    """A TARGET cannot be found, loaded or built."""


class PlanError(FirstlightError, ValueError):
    """A plan is malformed, or does not fit the model it is applied to."""


class UnclaimedParameterError(PlanError):
    """A parameter or buffer matches no rule of the recipe."""


class RecipeError(PlanError):
    """A recipe does not fit the model it is asked for."""


class ProcessError(FirstlightError, RuntimeError):
    """Processes that have to act together do not."""


class MeasureError(FirstlightError, RuntimeError):
    """A forward or backward pass over the model failed, or its batch does not fit."""


class DataError(FirstlightError, ValueError):
    """Data are missing, damaged, or contain values that cannot be used."""


class FileError(FirstlightError, OSError):
    """A file cannot be read or may not be written."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ' Did you mean 'x'?' for the nearest of choices, or '' when none is near.

    >>> did_you_mean("fanin", ["fan_in", "fan_out"])
    " Did you mean 'fan_in'?"
    >>> did_you_mean("zebra", ["fan_in", "fan_out"])
    ''
    """
    near = get_close_matches(word, list(choices), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
