"""What all initializers share: where the stream's seed and name come from, and drawing a law into any tensor."""

import math

import torch
from torch import Tensor

from firstlight.errors import DtypeError, OptionError
from firstlight.random import Law, Normal, Uniform, fill, fresh_seed


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
    """Fill a tensor with a law from the stream of the call.

    A complex tensor is filled as torch does: a normal law shares its variance equally between the real and the imaginary
    part, and a uniform one holds for each.

    Raises:
        DtypeError: if the tensor is sparse, or its dtype is neither floating nor, for these two laws, complex.
    """
    need_strided(tensor)
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    seed, name = stream(generator, seed, name)
    if tensor.is_complex() and isinstance(law, Normal | Uniform):
        return _draw_complex(tensor, law, seed, name)
    return fill(tensor, law, seed=seed, name=name)


@torch.no_grad()
def _draw_complex(tensor: Tensor, law: Normal | Uniform, seed: int, name: str) -> Tensor:
    parts = Normal(0.0, law.std / math.sqrt(2)) if isinstance(law, Normal) else law
    fill(torch.view_as_real(tensor), parts, seed=seed, name=name)
    return tensor.add_(law.mean) if isinstance(law, Normal) and law.mean else tensor


def need_strided(tensor: Tensor) -> None:
    """Raise DtypeError for a tensor without a number in every place."""
    if tensor.layout != torch.strided:
        layout = str(tensor.layout).removeprefix("torch.")
        raise DtypeError(
            f"tensor {tuple(tensor.shape)} is sparse ({layout}); only dense tensors can be filled. Fill tensor.to_dense(). "
            "Nothing was written."
        )


def gaussian(shape: tuple[int, ...], dtype: torch.dtype, seed: int, name: str) -> Tensor:
    """Return a CPU tensor of standard normals to build a structured weight from, in float32 or float64."""
    work = torch.float64 if dtype == torch.float64 else torch.float32
    return fill(torch.empty(shape, dtype=work), Normal(), seed=seed, name=name)
