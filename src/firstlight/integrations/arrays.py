"""Initializers by name as NumPy arrays, for libraries that store weights as (*kernel, in, out), as JAX and Keras do.

Laws whose elements are independent fill the array in its own order: element i is element i of a torch tensor of the same
shape. Methods that need the whole matrix make torch's (out, in, *kernel) and move its axes, so that rows stay outputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from firstlight.errors import FanError, OptionError, did_you_mean
from firstlight.init import basic, structured
from firstlight.init.compat import calculate_gain
from firstlight.init.identity import identity_
from firstlight.init.registry import DISTRIBUTIONS, check
from firstlight.random import Law, Normal, TruncatedNormal, Uniform
from firstlight.random import numpy as stream

Array = np.ndarray[Any, Any]
Axis = int | Sequence[int]
Fans = tuple[int, int]  # fan_in, fan_out

LAW_WORDS = ("normal", "uniform", "truncated-normal")


def _identity(tensor: torch.Tensor, gain: float = 1.0, *, seed: int, name: str) -> torch.Tensor:
    return identity_(tensor, gain)


def _dirac(tensor: torch.Tensor, groups: int = 1, *, seed: int, name: str) -> torch.Tensor:
    return basic.dirac_(tensor, groups)


# What a plan's word is where no std is given, and the options that it takes then.
WITHOUT_STD: Mapping[str, tuple[Callable[..., torch.Tensor], tuple[str, ...]]] = {
    "orthogonal": (structured.orthogonal_, ("gain",)),
    "centred-orthogonal": (structured.centred_orthogonal_, ("gain",)),
    "delta-orthogonal": (structured.delta_orthogonal_, ("gain",)),
    "looks-linear": (structured.looks_linear_, ("gain", "mirror")),
    "identity": (_identity, ("gain",)),
    "dirac": (_dirac, ("groups",)),
}


def _xavier(fans: Fans, gain: float = 1.0) -> float:
    return math.sqrt(gain**2 * 2.0 / (fans[0] + fans[1]))


def _he(fans: Fans, a: float = 0.0, mode: str = "fan_in") -> float:
    return math.sqrt(calculate_gain("leaky_relu", a) ** 2 / _fan(fans, mode))


def _scaled(fans: Fans, scale: float = 1.0, mode: str = "fan_in") -> float:
    if not (math.isfinite(scale) and scale >= 0):
        raise OptionError(f"scale = {scale}, must be a finite number >= 0. Nothing was written.")
    return math.sqrt(scale / _fan(fans, mode))


def _lecun(fans: Fans) -> float:
    return _scaled(fans)


def _fan(fans: Fans, mode: str) -> float:
    modes = {"fan_in": fans[0], "fan_out": fans[1], "fan_avg": (fans[0] + fans[1]) / 2}
    if mode not in modes:
        choices = ", ".join(repr(m) for m in modes)
        raise OptionError(f"mode={mode!r} is not a fan mode. Choose {choices}.{did_you_mean(str(mode), modes)}")
    return modes[mode]


SCHEMES: Mapping[str, tuple[Callable[..., float], tuple[str, ...]]] = {
    "xavier": (_xavier, ("gain",)),
    "he": (_he, ("a", "mode")),
    "lecun": (_lecun, ()),
    "variance-scaling": (_scaled, ("scale", "mode")),
}
SCALED = {f"{scheme}-{word}": (scheme, word) for scheme in SCHEMES for word in LAW_WORDS}
WORDS = (*(word for word, found in DISTRIBUTIONS.items() if found.alone), *SCALED)


@dataclass(frozen=True)
class Initial:
    """What an array gets, whatever its shape: a law, or an initializer's word with its numbers.

    `which` is a Law of `firstlight.random`; or a word of plans ('normal', 'orthogonal' ...) with `std`, or with a `gain` for
    the orthogonal ones; or 'xavier-', 'he-', 'lecun-' or 'variance-scaling-' before 'normal', 'uniform' or
    'truncated-normal', whose std follows from the fans. Options: `gain` (xavier), `a` and `mode` (he), `scale` and `mode`
    (variance-scaling), and those of the plan's words.

    Example:
        >>> Initial("he-normal").law((300, 200))
        Normal(mean=0.0, std=0.08164965809277261)
    """

    which: str | Law
    std: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    in_axis: Axis = -2
    out_axis: Axis = -1
    batch_axis: Axis = ()

    def __post_init__(self) -> None:
        if isinstance(self.which, Normal | TruncatedNormal | Uniform):
            if self.std is not None or self.options:
                raise OptionError(f"{self.which} has its numbers already; std and options are for words.")
        elif self.which in SCALED:
            self._check_scaled(self.which)
        elif self.which in WITHOUT_STD and self.std is None:
            _check_options(self.which, WITHOUT_STD[self.which][1], self.options)
        elif self.which in DISTRIBUTIONS:
            check(self.which, self.std, self.options)
        else:
            near = did_you_mean(str(self.which), WORDS)
            raise OptionError(
                f"initializer {self.which!r} is not known. Choose a Law, or one of {', '.join(WORDS)}.{near}"
            )

    def _check_scaled(self, which: str) -> None:
        scheme, word = SCALED[which]
        if self.std is not None:
            raise OptionError(
                f"'{which}' takes its std from the fans. Leave std = {self.std} away, or choose '{word}'."
            )
        std, takes = SCHEMES[scheme]
        _check_options(which, takes, self.options)
        std((1, 1), **self.options)

    def law(self, shape: Sequence[int]) -> Law | None:
        """Return the law of the elements of an array of this shape, or None where they are not independent."""
        if not isinstance(self.which, str):
            return self.which
        word, std = self.which, self.std
        options = dict(self.options)
        if word in SCALED:
            scheme, word = SCALED[word]
            std, options = SCHEMES[scheme][0](self.fans(shape), **options), {}
        if std is None or word not in LAW_WORDS:
            return None
        mean = float(options.get("mean", 0.0))
        if word == "normal":
            return Normal(mean, std)
        if word == "uniform":
            return Uniform(mean - math.sqrt(3.0) * std, mean + math.sqrt(3.0) * std)
        return basic.cut_law(mean, std, float(options.get("truncate_std", 2.0)))

    def fans(self, shape: Sequence[int]) -> Fans:
        """Return fan_in and fan_out: the in or out axes times the kernel, which is every axis that is nothing else.

        Example:
            >>> Initial("he-normal").fans((3, 3, 16, 32)), Initial("he-normal", in_axis=0, out_axis=(1, 2)).fans((64, 8, 8))
            ((144, 288), (64, 64))
        """
        ins, outs, others = self._axes(shape)
        taps = math.prod(shape[axis] for axis in others)
        return math.prod(shape[a] for a in ins) * taps, math.prod(shape[a] for a in outs) * taps

    def _axes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the in axes, the out axes and those of the kernel, counted from 0."""
        rank = len(shape)
        groups = [(g,) if isinstance(g, int) else tuple(g) for g in (self.in_axis, self.out_axis, self.batch_axis)]
        named = [axis for group in groups for axis in group]
        if any(not -rank <= axis < rank for axis in named) or len({axis % rank for axis in named}) < len(named):
            raise FanError(
                f"fans cannot be computed for shape {tuple(shape)} with in_axis = {self.in_axis}, out_axis = "
                f"{self.out_axis}, batch_axis = {self.batch_axis}: each must be an axis of its own. Name the axes, or use "
                "'normal' or 'uniform' with a std of your own. Nothing was written."
            )
        ins, outs, batch = (tuple(axis % rank for axis in group) for group in groups)
        return ins, outs, tuple(axis for axis in range(rank) if axis not in ins + outs + batch)

    def array(self, shape: Sequence[int], dtype: Any, *, seed: int, name: str) -> Array:
        """Return the array of this shape under (seed, name)."""
        return self.region(shape, (slice(None),) * len(shape), dtype, seed=seed, name=name)

    def region(self, shape: Sequence[int], index: Sequence[slice], dtype: Any, *, seed: int, name: str) -> Array:
        """Return the part of that array at `index`, a slice an axis; only that part is made where elements are independent."""
        law = self.law(shape)
        if law is None:
            whole: Array = self._whole(shape, stream.dtype_of(dtype), seed, name)[tuple(index)]
            return whole
        spans = [part.indices(size) for part, size in zip(index, shape, strict=True)]
        out = np.empty([stop - start for start, stop, _ in spans], stream.dtype_of(dtype))
        return stream.fill(out, law, seed=seed, name=name, shape=shape, offset=[start for start, _, _ in spans])

    def _whole(self, shape: Sequence[int], dtype: "np.dtype[Any]", seed: int, name: str) -> Array:
        out = np.empty(shape, dtype)
        if self.which == "constant":
            out[...] = self.options.get("value", 0.0)
            return out
        if len(shape) == 1:
            self._draw(stream.as_tensor(out), seed, name)
            return out
        ins, outs, kernel = self._axes(shape)
        if len(ins) + len(outs) + len(kernel) < len(shape):
            raise OptionError(f"'{self.which}' has no batch_axis: make each matrix under a name of its own.")
        sizes = (math.prod(shape[a] for a in outs), math.prod(shape[a] for a in ins), *(shape[a] for a in kernel))
        made = torch.empty(sizes, dtype=stream.torch_dtype(dtype))
        self._draw(made, seed, name)
        order = (*outs, *ins, *kernel)
        moved = made.reshape([shape[axis] for axis in order]).permute([order.index(axis) for axis in range(len(shape))])
        stream.as_tensor(out).copy_(moved)
        return out

    def _draw(self, tensor: torch.Tensor, seed: int, name: str) -> None:
        """Fill a tensor in torch's layout."""
        word = str(self.which)
        if word in WITHOUT_STD and self.std is None:
            WITHOUT_STD[word][0](tensor, **self.options, seed=seed, name=name)
        else:
            DISTRIBUTIONS[word](tensor, std=self.std, seed=seed, name=name, **self.options)


def _check_options(word: str, takes: Sequence[str], options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if name not in takes:
            near = did_you_mean(name, takes)
            raise OptionError(f"'{word}' has no option '{name}'. It takes: {', '.join(takes) or 'none'}.{near}")
        if name not in ("mode", "mirror") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise OptionError(f"'{word}': {name} = {value!r}, must be a number.")
