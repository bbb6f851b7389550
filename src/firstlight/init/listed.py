"""Numbers that an option lists as 'a/b/c', read and checked."""

import math

from firstlight.errors import OptionError


def numbers(text: str, what: str = "values") -> tuple[float, ...]:
    """Return the numbers written as 'a/b/c'; `what` names the option.

    Raises:
        OptionError: if a part is not a finite number.

    Example:
        >>> numbers("-0.5/2")
        (-0.5, 2.0)
    """
    found = _read(text)
    if not found:
        raise OptionError(f"{what} = '{text}', must be finite numbers with / between them. Nothing was written.")
    return found


def positive(text: str, what: str) -> tuple[float, ...]:
    """Return the numbers above 0 written as 'a/b/c', such as frequencies or sizes; `what` names the option.

    Raises:
        OptionError: if a part is not a finite number above 0.

    Example:
        >>> positive("9/1", "frequencies")
        (9.0, 1.0)
    """
    found = _read(text)
    if not found or min(found) <= 0:
        raise OptionError(f"{what} = '{text}', must be numbers above 0 with / between them. Nothing was written.")
    return found


def _read(text: str) -> tuple[float, ...]:
    """Return the numbers, none if a part is not a finite number."""
    try:
        found = tuple(float(part) for part in text.split("/"))
    except ValueError:
        return ()
    return found if all(map(math.isfinite, found)) else ()
