"""What all initializers share: where the stream's seed and name come from, and drawing a law into any tensor."""

import math

import torch
from torch import Tensor

from firstlight.errors import OptionError
from firstlight.random import Law, Normal, fill, fresh_seed


def stream(generator: torch.Generator | None, seed: int | None, name: str | None) -> tuple[int, str]:
    """Return the (seed, name) of a call: the given ones, or a fresh seed from the generator or torch's default one.

    Raises:
        OptionError: if seed comes without a name, or together with a generator.
    """
    if seed is None:
        return fresh_seed(generator), name or ""
    if generator is not None:
        raise OptionError("seed= and generator= were both given. Give one of them. Nothing was written.")
    if name is None:
        raise OptionError(
            "seed= was given without name=: two tensors with the same seed and no name would get the same numbers. "
            "Give the tensor's full name, such as name='fc.weight'. Nothing was written."
        )
    return seed, name


def draw(
    tensor: Tensor,
    law: Law,
    generator: torch.Generator | None,
    seed: int | None,
    name: str | None,
) -> Tensor:
    """Fill a tensor with a law from the stream of the call."""
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    seed, name = stream(generator, seed, name)
    return fill(tensor, law, seed=seed, name=name)


def draw_complex(
    tensor: Tensor, law: Normal, generator: torch.Generator | None, seed: int | None, name: str | None
) -> Tensor:
    """Fill a complex tensor whose real and imaginary parts share the variance equally, as torch does."""
    with torch.no_grad():
        draw(torch.view_as_real(tensor), Normal(0.0, law.std / math.sqrt(2)), generator, seed, name)
        return tensor.add_(law.mean) if law.mean else tensor


def gaussian(shape: tuple[int, ...], dtype: torch.dtype, seed: int, name: str) -> Tensor:
    """Return a CPU tensor of standard normals to build a structured weight from, in float32 or float64."""
    work = torch.float64 if dtype == torch.float64 else torch.float32
    return fill(torch.empty(shape, dtype=work), Normal(), seed=seed, name=name)
