"""Numbers that an option lists as 'a/b/c', read and checked."""

import math

from firstlight.errors import OptionError


def numbers(text: str) -> tuple[float, ...]:
    """Return the numbers written as 'a/b/c'.

    Raises:
        OptionError: if a part is not a finite number.

    Example:
        >>> numbers("-0.5/2")
        (-0.5, 2.0)
    """
    try:
        found = tuple(float(part) for part in text.split("/"))
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        raise OptionError(f"values = '{text}', must be finite numbers with / between them. Nothing was written.")
    return found


def shares(text: str) -> tuple[float, ...]:
    """Return the frequencies written as 'a/b/c', each above 0; they need not add up to 1.

    Raises:
        OptionError: if a part is not a number above 0.

    Example:
        >>> shares("9/1")
        (9.0, 1.0)
    """
    try:
        found = tuple(float(part) for part in text.split("/"))
    except ValueError:
        found = ()
    if not found or not all(math.isfinite(share) and share > 0 for share in found):
        raise OptionError(f"frequencies = '{text}', must be numbers above 0 with / between them. Nothing was written.")
    return found


def sizes(text: str) -> tuple[float, ...]:
    """Return the sizes written as 'a/b/c', each above 0.

    Raises:
        OptionError: if a part is not a finite number above 0.

    Example:
        >>> sizes("1/0.5")
        (1.0, 0.5)
    """
    found = numbers(text)
    if min(found) <= 0:
        raise OptionError(f"columns = '{text}', must be numbers above 0 with / between them. Nothing was written.")
    return found
