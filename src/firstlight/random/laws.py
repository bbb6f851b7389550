"""The laws a value can follow, as data: what is drawn, not how. Options are checked when a law is made."""

import math
from dataclasses import dataclass

from firstlight.errors import OptionError


def _finite(law: str, **numbers: float) -> None:
    for name, number in numbers.items():
        if not math.isfinite(number):
            raise OptionError(f"{law}: {name} = {number}, must be a finite number. Nothing was written.")


@dataclass(frozen=True, slots=True)
class Uniform:
    """Uniform over [low, high)."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _finite("uniform", low=self.low, high=self.high)
        if self.low > self.high:
            raise OptionError(f"uniform: low = {self.low} is above high = {self.high}. Nothing was written.")


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal with the given mean and standard deviation."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _finite("normal", mean=self.mean, std=self.std)
        if self.std < 0:
            raise OptionError(f"normal: std = {self.std}, must be >= 0. Nothing was written.")


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """Normal(mean, std) restricted to [low, high]; std is that of the uncut normal, low and high are in its units.

    low and high may be infinite on either side.
    """

    mean: float = 0.0
    std: float = 1.0
    low: float = -2.0
    high: float = 2.0

    def __post_init__(self) -> None:
        _finite("truncated normal", mean=self.mean, std=self.std)
        if self.std < 0:
            raise OptionError(f"truncated normal: std = {self.std}, must be >= 0. Nothing was written.")
        if not self.low < self.high:
            raise OptionError(
                f"truncated normal: low = {self.low} must be below high = {self.high}. Nothing was written."
            )


Law = Uniform | Normal | TruncatedNormal
