"""bfloat16 is the float32 value rounded to nearest even: by the processor's instruction, or where it would not do, without."""

import numpy as np
import pytest
import torch

from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill
from firstlight.random.parameters import TILE, parameters
from firstlight.random.rounding import far_from_zero

COUNT = 3 * TILE + 100  # whole tiles, and a part of one
LEAST = 2.0**-126  # what is smaller is denormal, in float32 and in bfloat16

PLAIN: list[Law] = [
    Uniform(),
    Uniform(-(2.0**-60), 0.0),
    Normal(0.0, 0.02),
    Normal(1.0, 2.0**-60),
    Normal(0.0, 1e38),
    TruncatedNormal(0.0, 1.0, -2.0, 2.0),
    TruncatedNormal(0.0, 1.0, -3.0, float("inf")),
    TruncatedNormal(0.0, 2.0**-60, -(2.0**-60), 2.0**-59),
]
TINY: list[Law] = [
    Uniform(-1e-38, 1e-38),
    Normal(0.0, 1e-38),
    Normal(1e-39, 1e-45),
    TruncatedNormal(0.0, 1e-38, -2e-38, 2e-38),
    TruncatedNormal(0.0, 1e-38, -3e-38, 3e-38),
]


def far(law: Law) -> bool:
    return bool(far_from_zero(np.array(parameters(law, 32).numbers, np.float32)))


@pytest.mark.parametrize("law", [*PLAIN, *TINY], ids=str)
def test_bfloat16_is_the_float32_value_rounded_once(law: Law) -> None:
    made = fill(torch.empty(COUNT, dtype=torch.bfloat16), law, seed=3, name="w")
    values = fill(torch.empty(COUNT), law, seed=3, name="w")
    assert torch.equal(made.view(torch.int16), values.bfloat16().view(torch.int16))


@pytest.mark.parametrize("law", PLAIN, ids=str)
def test_laws_that_the_instruction_rounds_make_no_denormal_values(law: Law) -> None:
    assert far(law)
    values = fill(torch.empty(2**20), law, seed=3, name="w")
    assert not ((values != 0) & (values.abs() < LEAST)).any()


@pytest.mark.parametrize("law", TINY, ids=str)
def test_laws_that_make_denormal_values_are_left_to_whole_numbers(law: Law) -> None:
    assert not far(law)
    made = fill(torch.empty(2**20, dtype=torch.bfloat16), law, seed=3, name="w").float()
    assert ((made != 0) & (made.abs() < LEAST)).any()  # the instruction would make these zero
