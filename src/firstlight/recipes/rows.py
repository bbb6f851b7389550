"""From what is known of a model's tensors to a plan's rows: the recipe decides; each tensor is claimed exactly once."""

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch

from firstlight.errors import DtypeError, OptionError, PlanError, UnclaimedParameterError, did_you_mean
from firstlight.init.registry import DISTRIBUTIONS
from firstlight.model.tensors import TensorInfo
from firstlight.recipes.choice import KEEP, RECOMPUTED, WEIGHTS, Choice, constant, keep
from firstlight.recipes.compose import Composition
from firstlight.recipes.recipe import Recipe
from firstlight.recipes.row import PlanRow, RowSlice

_KEPT = keep("kept: named by keep()")


def rows_of(recipe: Recipe | Composition, infos: Sequence[TensorInfo], patterns: Sequence[str]) -> list[PlanRow]:
    """Return one row for each tensor: kept if a pattern matches one of its names, else what the recipe chooses.

    Raises:
        RecipeError: if the recipe does not fit the model.
        UnclaimedParameterError: if the recipe has no rule for a tensor that is not kept.
        DtypeError: if a parameter that is not kept cannot be drawn into.
        OptionError: if a pattern matches nothing.
    """
    kept = _matching(patterns, infos)
    chosen = recipe.decide(infos, [info for info in infos if info.name not in kept])
    choices = [_KEPT if info.name in kept else chosen[info.name] for info in infos]
    _refuse_unclaimed(infos, choices, recipe)
    by_name = {info.name: info for info in infos}
    choices = [_norms(info, choice, by_name, chosen) for info, choice in zip(infos, choices, strict=True)]
    normed = {info.scale_of for info in infos if info.scale_of}
    choices = [_direction(info, c) if info.name in normed else c for info, c in zip(infos, choices, strict=True)]
    choices = [_vector(info, c) for info, c in zip(infos, choices, strict=True)]
    pairs = [(info, choice) for info, choice in zip(infos, choices, strict=True) if choice is not None]
    for info, choice in pairs:
        _refuse_dtype(info, choice)
    return [_row(info, choice) for info, choice in pairs]


def rows_fitting(given: Sequence[PlanRow], infos: Sequence[TensorInfo], patterns: Sequence[str]) -> list[PlanRow]:
    """Return the rows given, with what the patterns match kept, after checking that they are exactly this model's.

    Raises:
        PlanError: if a row has no tensor of its name, shape and dtype, or a tensor no row.
        OptionError: if a pattern matches nothing.
    """
    kept = _matching(patterns, infos)
    known = {info.name: info for info in infos}
    names = {row.name for row in given}
    for row in given:
        info = known.get(row.name)
        if info is None or (info.shape, info.dtype) != (row.shape, row.dtype):
            has = f"has {info.shape} {info.dtype}" if info else f"has no such tensor.{did_you_mean(row.name, known)}"
            raise PlanError(
                f"the plan's row '{row.name}' {row.shape} {row.dtype} does not fit: the model {has}. "
                "Plan this model anew. No parameter was changed."
            )
    missing = [name for name in known if name not in names]
    if missing:
        raise PlanError(
            f"{len(missing)} of {len(known)} tensors have no row in the plan: '{missing[0]}' "
            f"{known[missing[0]].shape}. Plan this model anew, or add their rows. No parameter was changed."
        )
    return [_row(known[row.name], _KEPT) if row.name in kept else row for row in given]


def _norms(
    info: TensorInfo, choice: Choice | None, by_name: Mapping[str, TensorInfo], chosen: Mapping[str, Choice | None]
) -> Choice | None:
    """Return for the norms of a weight's rows the value that gives the weight the size chosen for it, else the choice."""
    weight = by_name.get(info.scale_of) if info.scale_of else None
    given = None if weight is None else chosen.get(weight.name)
    size = None if given is None else _size(given)
    if weight is None or size is None or choice is _KEPT:
        return choice
    row = math.prod(weight.shape) // max(math.prod(info.shape), 1)
    value = size * math.sqrt(row)
    return constant(
        value, f"norms of the rows of '{weight.name}': std · √{row} = {value:.4g}, so that it has std {size:.4g}"
    )


def _direction(info: TensorInfo, choice: Choice | None) -> Choice | None:
    """Return for a weight whose rows have norms of their own its choice, or any direction where it would have none."""
    if choice is None or choice.std is None or _size(choice) != 0:
        return choice
    return Choice("normal", 1.0, f"{choice.reason}; the norms of its rows are 0, its direction must not be")


def _vector(info: TensorInfo, choice: Choice | None) -> Choice | None:
    """Return for a weight of a single output, which is no matrix, numbers of the same size where a matrix was chosen."""
    axes = len(info.layout.replace("b", "")) if info.layout else len(info.shape)
    if (
        choice is None
        or info.role not in WEIGHTS
        or axes > 1
        or not isinstance(choice.std, float)
        or choice.distribution in (KEEP, RECOMPUTED)
    ):
        return choice
    if DISTRIBUTIONS[choice.distribution].elementwise:
        return choice
    return Choice("normal", choice.std, f"{choice.reason}; one row makes no matrix, so N(0, {choice.std:.4g}²)")


def _size(choice: Choice) -> float | None:
    """Return the root mean square that a choice gives a weight, None where it differs from slice to slice."""
    if choice.distribution == "constant":
        return abs(float(choice.options["value"]))
    return choice.std if isinstance(choice.std, float) else None


def _matching(patterns: Sequence[str], infos: Sequence[TensorInfo]) -> set[str]:
    """Return the first names of the tensors that a pattern matches by any of their names."""
    kept: set[str] = set()
    for pattern in patterns:
        found = {i.name for i in infos if any(fnmatchcase(name, pattern) for name in (i.name, *i.aliases))}
        if not found:
            near = did_you_mean(pattern, (i.name for i in infos))
            raise OptionError(
                f"keep('{pattern}') matches none of {len(infos)} parameters and buffers. Name one of them.{near} "
                "No parameter was changed."
            )
        kept |= found
    return kept


def _refuse_unclaimed(
    infos: Sequence[TensorInfo], choices: Sequence[Choice | None], recipe: Recipe | Composition
) -> None:
    left = [info for info, choice in zip(infos, choices, strict=True) if choice is None]
    if left:
        shown = ", ".join(f"'{info.name}' {info.shape}" for info in left[:3]) + (", …" if len(left) > 3 else "")
        names = ", ".join(f"'{pattern}'" for pattern in dict.fromkeys(_pattern(info.name) for info in left[:3]))
        read = any(info.found_by == "graph" for info in infos)
        first = "Use" if read else "Give example=batch, by which operators tell what they are; use"
        raise UnclaimedParameterError(
            f"{len(left)} of {len(infos)} parameters match no rule of recipe '{recipe}': {shown}. "
            f"{first} a recipe with a rule for them; or keep({names}) to leave them as they are. No parameter was changed."
        )


def _pattern(name: str) -> str:
    """Return a pattern for a tensor and its likes in other blocks: '*.gate.alpha' of 'blocks.0.gate.alpha'."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(["*", *parts[numbers[-1] + 1 :]]) if numbers and numbers[-1] + 1 < len(parts) else name


def _refuse_dtype(info: TensorInfo, choice: Choice) -> None:
    dtype: torch.dtype = getattr(torch, info.dtype)
    if not dtype.is_floating_point and choice.distribution != KEEP and not info.is_buffer:
        raise DtypeError(
            f"'{info.name}' {info.shape} has dtype {info.dtype}; a parameter needs a real floating dtype to be drawn. "
            f"Leave it as it is with keep('{info.name}'). No parameter was changed."
        )


def _row(info: TensorInfo, choice: Choice) -> PlanRow:
    parts = choice.slices or info.slices
    stds = choice.std if isinstance(choice.std, tuple) else (None,) * len(parts)
    options = choice.slice_options or ({},) * len(parts)
    slices = tuple(
        RowSlice(part.name, part.start, part.stop, part.fan_in, part.fan_out, std, part.axis, dict(own))
        for part, std, own in zip(parts, stds, options, strict=True)
    )
    return PlanRow(
        name=info.name,
        shape=info.shape,
        dtype=info.dtype,
        role=info.role,
        fan_in=info.fan_in,
        fan_out=info.fan_out,
        distribution=choice.distribution,
        std=None if isinstance(choice.std, tuple) else choice.std,
        reason=f"{choice.reason}; {info.note}" if info.note and info.scale_of == "" else choice.reason,
        found_by=info.found_by,
        options=dict(choice.options),
        is_buffer=info.is_buffer,
        padding_idx=None if choice.distribution in (KEEP, RECOMPUTED) else info.padding_idx,
        aliases=info.aliases,
        slices=slices if choice.sliced or choice.slices or isinstance(choice.std, tuple) else (),
        layout=info.layout,
    )
