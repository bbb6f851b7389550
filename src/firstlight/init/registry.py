"""Distributions by the words that plans use, each in terms of `std`, the root mean square of the values about their mean."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from firstlight.errors import OptionError, did_you_mean
from firstlight.init import basic, identity, patterns, structured
from firstlight.init.listed import numbers, positive
from firstlight.random import Law, Normal, Uniform, fill

Check = Callable[[str, Any], None]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a plan's word is drawn, and which options it takes. Call it as draw(tensor, std=, seed=, name=, **options).

    elementwise: each value depends on its own index alone, so any part of a tensor can be drawn by itself. alone: whether its
    values need nothing but the row, as against one that is computed from another tensor of the plan.
    """

    draw: Callable[..., Tensor]
    options: Mapping[str, Check] = field(default_factory=dict)
    has_std: bool = True
    elementwise: bool = False
    needs: tuple[str, ...] = ()  # options that have no default
    alone: bool = True

    def __call__(self, tensor: Tensor, *, std: float | None, seed: int, name: str, **options: Any) -> Tensor:
        """Fill the tensor in place and return it. One that is `alike` another gets the numbers of that name.

        columns: how large the numbers that meet each input are beside those that meet the others, as 'a/b/c'.
        """
        columns = options.pop("columns", "")
        self.draw(tensor, std=std, seed=seed, name=options.pop("alike", name), **options)
        return patterns.resize_columns_(tensor, positive(columns, "columns")) if columns else tensor


def check(distribution: str, std: float | None, options: Mapping[str, Any]) -> None:
    """Raise OptionError unless a distribution exists and takes this std and these options.

    Example:
        >>> check("normal", 0.02, {"mean": 0.0})
    """
    if distribution not in DISTRIBUTIONS:
        near = did_you_mean(str(distribution), DISTRIBUTIONS)
        known = ", ".join(DISTRIBUTIONS)
        raise OptionError(
            f"distribution '{distribution}' is not known. Choose one of {known}.{near} Nothing was written."
        )
    found = DISTRIBUTIONS[distribution]
    if found.has_std and (std is None or not math.isfinite(std) or std < 0):
        raise OptionError(f"distribution '{distribution}': std = {std}, must be a number >= 0. Nothing was written.")
    if not found.has_std and std:
        raise OptionError(f"distribution '{distribution}': std = {std}, but a constant has none. Nothing was written.")
    missing = [name for name in found.needs if name not in options]
    if missing:
        raise OptionError(f"distribution '{distribution}' needs the option '{missing[0]}'. Nothing was written.")
    for name, value in options.items():
        if name == "alike" and found.has_std:
            _word(f"distribution '{distribution}': {name}", value)
            continue
        if name == "columns" and found.has_std and not found.elementwise:
            positive(str(value), "columns")
            continue
        if name not in found.options:
            takes = ", ".join(found.options) or "none"
            near = did_you_mean(name, found.options)
            raise OptionError(
                f"distribution '{distribution}' has no option '{name}'. It takes: {takes}.{near} Nothing was written."
            )
        found.options[name](f"distribution '{distribution}': {name}", value)


def _number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise OptionError(f"{what} = {value!r}, must be a finite number. Nothing was written.")


def _positive(what: str, value: Any) -> None:
    _number(what, value)
    if value <= 0:
        raise OptionError(f"{what} = {value!r}, must be > 0. Nothing was written.")


def _share(what: str, value: Any) -> None:
    _number(what, value)
    if not 0 <= value < 1:
        raise OptionError(f"{what} = {value!r}, must be a share, at least 0 and below 1. Nothing was written.")


def _groups(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{what} = {value!r}, must be a whole number >= 1. Nothing was written.")


def _word(what: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise OptionError(f"{what} = {value!r}, must be a word. Nothing was written.")


def _side(what: str, value: Any) -> None:
    if value not in patterns.SIDES:
        raise OptionError(f"{what} = {value!r}, must be one of {', '.join(patterns.SIDES)}. Nothing was written.")


def _mirror(what: str, value: Any) -> None:
    structured.check_mirror(value)


def _form(what: str, value: Any) -> None:
    if value not in ("identity", "near-zero"):
        raise OptionError(f"{what} = {value!r}, must be 'identity' or 'near-zero'. Nothing was written.")


def _law(make: Callable[..., Law]) -> Callable[..., Tensor]:
    def draw(
        tensor: Tensor, *, std: float, seed: int, name: str, shape: Any = None, offset: Any = None, **options: Any
    ) -> Tensor:
        return fill(tensor, make(std, **options), seed=seed, name=name, shape=shape, offset=offset)

    return draw


def _constant(
    tensor: Tensor,
    *,
    std: float | None,
    seed: int,
    name: str,
    shape: Any = None,
    offset: Any = None,
    value: float = 0.0,
) -> Tensor:
    return basic.constant_(tensor, value)


def _orthogonal(tensor: Tensor, *, std: float, seed: int, name: str) -> Tensor:
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    return structured.orthogonal_(tensor, std * math.sqrt(max(rows, columns)), seed=seed, name=name)


def _centred_orthogonal(tensor: Tensor, *, std: float, seed: int, name: str) -> Tensor:
    rows, n = tensor.shape[0], math.prod(tensor.shape[1:])
    norm = math.sqrt(rows * n / max(min(rows, n - 1), 1))
    return structured.centred_orthogonal_(tensor, std * norm, seed=seed, name=name)


def _delta_orthogonal(tensor: Tensor, *, std: float, seed: int, name: str) -> Tensor:
    norm = math.sqrt(tensor.shape[0] * math.prod(tensor.shape[2:]))
    return structured.delta_orthogonal_(tensor, std * norm, seed=seed, name=name)


def _looks_linear(tensor: Tensor, *, std: float, seed: int, name: str, mirror: structured.Mirror = "both") -> Tensor:
    rows, columns = tensor.shape[0], tensor.shape[1]
    block = max((rows + 1) // 2 if mirror != "columns" else rows, columns // 2 if mirror != "rows" else columns)
    norm = math.sqrt(block * math.prod(tensor.shape[2:]))
    return structured.looks_linear_(tensor, std * norm, mirror, seed=seed, name=name)


def _identity(
    tensor: Tensor,
    *,
    std: float,
    seed: int,
    name: str,
    kernel: identity.KernelForm = "patch",
    form: str = "identity",
    loose: float = 0.0,
) -> Tensor:
    near_zero = form == "near-zero"
    inputs = math.prod(tensor.shape[1:]) if kernel == "patch" else tensor.shape[1]
    size = std * math.sqrt(math.prod(tensor.shape[1:]) / identity.ones_a_row(inputs, near_zero=near_zero))
    if near_zero:
        identity.near_zero_(tensor, size, kernel=kernel)
    else:
        identity.identity_(tensor, size, kernel=kernel)
    return identity.loosen_(tensor, loose * size, seed=seed, name=name)


@torch.no_grad()
def _dirac(tensor: Tensor, *, std: float, seed: int, name: str, groups: int = 1) -> Tensor:
    ones = groups * min(tensor.shape[0] // groups, tensor.shape[1])
    return basic.dirac_(tensor, groups).mul_(std * math.sqrt(tensor.numel() / max(ones, 1)))


def _sparse(tensor: Tensor, *, std: float, seed: int, name: str, sparsity: float = 0.9) -> Tensor:
    rows = max(tensor.shape[0], 1)
    kept = 1 - math.ceil(sparsity * rows) / rows
    return structured.sparse_(tensor, sparsity, std / math.sqrt(kept) if kept else 0.0, seed=seed, name=name)


def _hadamard(tensor: Tensor, *, std: float, seed: int, name: str) -> Tensor:
    rows, columns = (*tensor.shape, 1, 1)[:2]
    filled = columns if rows > columns else 1  # entries of a row that are not zero
    size = patterns.hadamard_scale(rows, columns) * math.sqrt(filled / max(math.prod(tensor.shape[1:]), 1))
    return patterns.hadamard_(tensor, std / size if size else 0.0)


def _connected(tensor: Tensor, *, std: float, seed: int, name: str, connections: int = 15) -> Tensor:
    inputs = math.prod(tensor.shape[1:])
    scale = std * math.sqrt(max(inputs, 1) / min(connections, max(inputs, 1)))
    return patterns.connected_(tensor, connections, scale, seed=seed, name=name)


def _mimetic(
    tensor: Tensor,
    *,
    std: float,
    seed: int,
    name: str,
    factor: str,
    side: patterns.Side,
    heads: int = 1,
    noise: float = 0.7,
    identity: float = 0.7,
) -> Tensor:
    rows, width = (*tensor.shape, 1, 1)[1::-1] if side == "left" else (*tensor.shape, 1, 1)[:2]
    gain = std / patterns.mimetic_std(width, max(rows // heads, 1), noise, identity)
    return patterns.mimetic_(
        tensor, gain, factor=factor, side=side, heads=heads, noise=noise, identity=identity, seed=seed
    )


def _log_prior(tensor: Tensor, *, std: float | None, seed: int, name: str, frequencies: str) -> Tensor:
    return patterns.log_prior_(tensor, positive(frequencies, "frequencies"))


def _values(tensor: Tensor, *, std: float | None, seed: int, name: str, values: str) -> Tensor:
    return patterns.values_(tensor, numbers(values))


def _centring(
    tensor: Tensor, *, std: float | None, seed: int, name: str, shape: Any = None, offset: Any = None, **options: Any
) -> Tensor:
    if not tensor.is_meta:
        raise OptionError(
            "distribution 'centring' is computed from the weight that it names: apply a plan with both. Nothing was written."
        )
    return tensor


def _frequencies(what: str, value: Any) -> None:
    positive(str(value), "frequencies")


def _listed(what: str, value: Any) -> None:
    numbers(str(value))


def _uniform_law(std: float, mean: float = 0.0) -> Law:
    return Uniform(mean - math.sqrt(3.0) * std, mean + math.sqrt(3.0) * std)


def _normal_law(std: float, mean: float = 0.0) -> Law:
    return Normal(mean, std)


def _truncated_law(std: float, mean: float = 0.0, truncate_std: float = 2.0) -> Law:
    return basic.cut_law(mean, std, truncate_std)


DISTRIBUTIONS: dict[str, Distribution] = {
    "normal": Distribution(_law(_normal_law), {"mean": _number}, elementwise=True),
    "uniform": Distribution(_law(_uniform_law), {"mean": _number}, elementwise=True),
    "truncated-normal": Distribution(
        _law(_truncated_law), {"mean": _number, "truncate_std": _positive}, elementwise=True
    ),
    "constant": Distribution(_constant, {"value": _number}, has_std=False, elementwise=True),
    "orthogonal": Distribution(_orthogonal),
    "centred-orthogonal": Distribution(_centred_orthogonal),
    "delta-orthogonal": Distribution(_delta_orthogonal),
    "looks-linear": Distribution(_looks_linear, {"mirror": _mirror}),
    "sparse": Distribution(_sparse, {"sparsity": _share}),
    "identity": Distribution(_identity, {"kernel": identity.check_kernel, "form": _form, "loose": _share}),
    "dirac": Distribution(_dirac, {"groups": _groups}),
    "hadamard": Distribution(_hadamard),
    "connected": Distribution(_connected, {"connections": _groups}),
    "mimetic": Distribution(
        _mimetic,
        {"factor": _word, "side": _side, "heads": _groups, "noise": _number, "identity": _number},
        needs=("factor", "side"),
    ),
    "log-prior": Distribution(_log_prior, {"frequencies": _frequencies}, has_std=False, needs=("frequencies",)),
    "centring": Distribution(
        _centring,
        {"of": _word, "means": _listed, "value": _number},
        has_std=False,
        elementwise=True,
        needs=("of", "means"),
        alone=False,
    ),
    "values": Distribution(_values, {"values": _listed}, has_std=False, needs=("values",)),
}
