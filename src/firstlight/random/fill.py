"""`fill`: writes values of a law into a tensor, whole or any rectangular region of the logical tensor."""

from collections.abc import Sequence

import torch

from firstlight.random.laws import Law, Normal, TruncatedNormal, Uniform
from firstlight.random.stream import key


@torch.no_grad()
def fill(
    tensor: torch.Tensor,
    law: Law,
    *,
    seed: int,
    name: str,
    shape: Sequence[int] | None = None,
    offset: Sequence[int] | None = None,
) -> torch.Tensor:
    """Stand-in with the final signature; the stream replaces the body."""
    generator = torch.Generator().manual_seed(key(seed, name) % 2**63)
    wide = torch.empty(tensor.shape, dtype=torch.float64)
    match law:
        case Uniform():
            wide.uniform_(law.low, law.high, generator=generator)
        case Normal():
            wide.normal_(law.mean, law.std, generator=generator)
        case TruncatedNormal():
            torch.nn.init.trunc_normal_(wide, law.mean, law.std, law.low, law.high, generator=generator)
    return tensor.copy_(wide)
