"""Biases that take the mean of the data away: computed from the numbers that the plan gives to the weight beside them."""

import math
from collections.abc import Mapping, Sequence

import torch

from firstlight.apply.parts import draw_whole, parts
from firstlight.errors import FirstlightError, PlanError, did_you_mean
from firstlight.init.listed import numbers
from firstlight.init.registry import check
from firstlight.model.shards import Box
from firstlight.recipes.row import PlanRow

CENTRING = "centring"


def centred(rows: Sequence[PlanRow], seed: int) -> dict[str, torch.Tensor]:
    """Return the value of every row of distribution 'centring', by name: value - W m, for the means m of what W reads.

    W is drawn anew, as the plan and the seed say. Products are summed input by input in float64, so that the bits are the same
    on any machine; the result is rounded once.

    Raises:
        PlanError: if the plan draws no such weight, or one whose shape is not (outputs, inputs, *kernel).
    """
    by_name: dict[str, PlanRow] = {name: row for row in rows for name in (row.name, *row.aliases)}
    wanted = [row for row in rows if row.distribution == CENTRING]
    return {row.name: _bias(row, _means(row, by_name), by_name[str(row.options["of"])], seed) for row in wanted}


def _means(row: PlanRow, by_name: Mapping[str, PlanRow]) -> tuple[float, ...]:
    """Return the means that a row gives, after checking that its weight fits."""
    try:
        check(row.distribution, row.std, row.options)
        means, of = numbers(str(row.options["means"]), "means"), str(row.options["of"])
    except FirstlightError as error:
        raise type(error)(f"'{row.name}' {row.shape}: {error}") from None
    if of not in by_name or not by_name[of].drawn:
        raise PlanError(
            f"'{row.name}' {row.shape} centres what '{of}' makes, which the plan does not draw.{did_you_mean(of, by_name)} "
            f"Draw it, or give '{row.name}' another distribution, such as constant. No parameter was changed."
        )
    weight = by_name[of]
    if len(weight.shape) < 2 or weight.layout or (weight.shape[0], weight.shape[1]) != (*row.shape, len(means)):
        raise PlanError(
            f"'{row.name}' {row.shape} has means of {len(means)} inputs for '{of}' {weight.shape}: needs a weight of shape "
            "(outputs, inputs, *kernel), a bias for each output and a mean for each input. No parameter was changed."
        )
    return means


def _bias(row: PlanRow, means: Sequence[float], weight: PlanRow, seed: int) -> torch.Tensor:
    drawn = _drawn(weight, seed).double().reshape(*weight.shape[:2], math.prod(weight.shape[2:]))
    bias = torch.full(row.shape, float(row.options.get("value", 0.0)), dtype=torch.float64)
    for place, mean in enumerate(means):
        for tap in range(drawn.shape[2]):
            bias -= drawn[:, place, tap] * mean
    return bias.to(getattr(torch, row.dtype))


def _drawn(row: PlanRow, seed: int) -> torch.Tensor:
    """Return the whole tensor that a row gives under a seed."""
    made = torch.empty(row.shape, dtype=getattr(torch, row.dtype))
    for part in parts(row):
        draw_whole(row, part, Box(part.start, part.start, part.shape).view(made), seed)
    return made
