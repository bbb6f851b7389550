"""Initializers of fixed patterns and of pairs: Hadamard, a fixed number of connections a unit, mimetic attention factors.

Matrices are made in float32 (float64 for float64) on the CPU and rounded once, as in structured.py.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from firstlight.errors import OptionError
from firstlight.init.basic import centre_tap, need_floating
from firstlight.init.draws import gaussian
from firstlight.random import Uniform, fill

Side = Literal["left", "left-transposed", "right"]
SIDES = ("left", "left-transposed", "right")


def hadamard_scale(rows: int, columns: int) -> float:
    """Return the size of the entries that are not zero: 1 for a partial identity, 2^(-(m-1)/2) for a Hadamard block."""
    return 1.0 if rows <= columns else 2.0 ** (-(_order(rows) - 1) / 2)


def _order(rows: int) -> int:
    return math.ceil(math.log2(rows)) if rows > 1 else 0


@torch.no_grad()
def hadamard_(tensor: Tensor, gain: float = 1) -> Tensor:
    """Make the tensor ZerO's deterministic matrix, in place: no random number, and full rank.

    With P outputs and Q inputs: the partial identity where P <= Q; otherwise c · (the first P rows and Q columns of the
    Hadamard matrix H of order 2^m), m = ⌈log2 P⌉ and c = 2^(-(m-1)/2). A convolution weight gets it at the kernel's centre.

    Args:
        tensor: (out, in, *kernel), two axes or more.
        gain: factor on all entries.

    Returns:
        The tensor.

    Raises:
        OptionError: if the tensor has fewer than two axes.

    Example:
        >>> hadamard_(torch.empty(4, 2)).tolist()[1]
        [0.7071067690849304, -0.7071067690849304]

    Source: Zhao, Schäfer and Anandkumar, "ZerO initialization: initializing neural networks with only zeros and ones",
    2022, arXiv 2110.12661, algorithms 1 and 2. The authors' code has c = 2^(-m/2), smaller by √2.
    """
    if tensor.ndim < 2:
        raise OptionError(f"hadamard_ needs two axes or more, got shape {tuple(tensor.shape)}. Nothing was written.")
    need_floating(tensor, "hadamard_")
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    rows, columns = tensor.shape[:2]
    if rows <= columns:
        block = torch.eye(rows, columns)
    else:
        both = torch.arange(rows)[:, None] & torch.arange(columns)
        odd = torch.zeros_like(both)
        for bit in range(_order(rows)):
            odd ^= (both >> bit) & 1
        block = (1.0 - 2.0 * odd) * hadamard_scale(rows, columns)
    tensor.zero_()
    centre_tap(tensor).copy_(gain * block)
    return tensor


@torch.no_grad()
def connected_(tensor: Tensor, connections: int, std: float = 1.0, *, seed: int, name: str) -> Tensor:
    """Give every output exactly `connections` inputs, chosen at random, with weights N(0, std²), in place; the rest is 0.

    Args:
        tensor: (out, in, *kernel) as the matrix (out, in · kernel); all of it where there are no more inputs than that.
        connections: weights that are not zero in each row.
        std: of those weights.
        seed: 0 <= seed < 2**64.
        name: full name of the tensor.

    Returns:
        The tensor.

    Source: Martens, "Deep learning via Hessian-free optimization", 2010; Sutskever, Martens, Dahl and Hinton, "On the
    importance of initialization and momentum in deep learning", 2013.
    Differs from torch: `sparse_` fixes the number of zeros of every column, that is of every input.
    """
    need_floating(tensor, "connected_")
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    shape = (tensor.shape[0], math.prod(tensor.shape[1:]))
    values = gaussian(shape, tensor.dtype, seed, name)
    if connections < shape[1]:
        lots = fill(torch.empty(shape), Uniform(), seed=seed, name=f"{name}/inputs")
        values.scatter_(1, lots.argsort(dim=1, stable=True)[:, connections:], 0.0)
    return tensor.copy_((std * values).reshape(tensor.shape))


@torch.no_grad()
def mimetic_(
    tensor: Tensor,
    gain: float = 1,
    *,
    factor: str,
    side: Side,
    heads: int = 1,
    noise: float = 0.7,
    identity: float = 0.7,
    seed: int,
) -> Tensor:
    """Make the tensor one of two factors whose product is noise · Z + identity · I for each head, Z ~ N(0, 1/d), in place.

    For each head P = U S Vᵀ is cut to the rank of the head: 'left' is U √S, stored as (d, rows), 'left-transposed' the same
    as (rows, d), and 'right' is √S Vᵀ, stored as (rows, d); left @ right is gain² times P of that rank. Both factors draw
    the same Z from the stream named `factor`.

    Args:
        tensor: (d, heads · k) for 'left', else (heads · k, d).
        gain: on the factor.
        factor: what both factors call their product; part of the stream's name.
        side: which factor, and how it is stored.
        heads: how many products stand one after another.
        noise: α, the std of Z's entries times √d.
        identity: β, negative for the product of values and output.
        seed: 0 <= seed < 2**64.

    Returns:
        The tensor.

    Source: Trockman and Kolter, "Mimetic initialization of self-attention layers", 2023, arXiv 2305.09828.
    """
    need_floating(tensor, "mimetic_")
    stacked = tensor.T if side == "left" and tensor.ndim == 2 else tensor
    if stacked.ndim != 2 or stacked.shape[0] % heads or stacked.shape[0] // heads > stacked.shape[1]:
        raise OptionError(
            f"mimetic_ needs {heads} heads' rows of at most as many numbers, got shape {tuple(tensor.shape)}, side "
            f"'{side}'. Nothing was written."
        )
    if tensor.is_meta or tensor.numel() == 0:
        return tensor
    rows, width = stacked.shape[0] // heads, stacked.shape[1]
    parts = [_factor(width, rows, f"{factor}/{head}", side, noise, identity, seed) for head in range(heads)]
    stacked.copy_(gain * torch.cat(parts))
    return tensor


def _factor(width: int, rank: int, name: str, side: str, noise: float, identity: float, seed: int) -> Tensor:
    """Return √S Vᵀ, or (U √S)ᵀ, of the rank asked for, in float64; both sides make the same P, so their signs agree."""
    z = gaussian((width, width), torch.float64, seed, name)
    u, s, v = torch.linalg.svd(noise / math.sqrt(width) * z + identity * torch.eye(width, dtype=torch.float64))
    part: Tensor = s[:rank].sqrt()[:, None] * (v[:rank] if side == "right" else u[:, :rank].T)
    return part


@lru_cache(maxsize=64)
def mimetic_std(width: int, rank: int, noise: float, identity: float) -> float:
    """Return the root mean square of the entries of a factor of gain 1: √(mean of the first singular values / width).

    From one draw of width 256 at most, so within about 1 % of any one factor's.
    """
    size = min(width, 256)
    kept = max(1, round(rank * size / width))
    z = gaussian((size, size), torch.float64, 0, "mimetic_std")
    s = torch.linalg.svdvals(noise / math.sqrt(size) * z + identity * torch.eye(size, dtype=torch.float64))
    return math.sqrt(float(s[:kept].mean()) / width)


@torch.no_grad()
def log_prior_(tensor: Tensor, shares: Sequence[float]) -> Tensor:
    """Make an output bias say how frequent each class is, in place: log p, or log(p₁/p₀) for a single output.

    Args:
        tensor: (classes,), or (1,) with two shares, of the negative and of the positive class.
        shares: how frequent each class is, up to a common factor.

    Returns:
        The tensor.

    Raises:
        OptionError: if there are not as many shares as classes.

    Example:
        >>> log_prior_(torch.empty(2), [3, 1]).exp().tolist()
        [0.75, 0.25]

    Source: Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", 2017, arXiv 1708.02002, section 3.3.
    """
    wanted = 2 if tensor.numel() == 1 else tensor.numel()
    if tensor.ndim != 1 or len(shares) != wanted:
        raise OptionError(
            f"{len(shares)} frequencies for a bias of shape {tuple(tensor.shape)}: needs {wanted}, one for each class. "
            "Nothing was written."
        )
    if tensor.is_meta:
        return tensor
    logs = torch.tensor(shares, dtype=torch.float64).log()
    logs -= logs.logsumexp(0)
    return tensor.copy_(logs[1:] - logs[:1] if tensor.numel() == 1 else logs)


@torch.no_grad()
def values_(tensor: Tensor, values: Sequence[float]) -> Tensor:
    """Fill a vector with these numbers, in place.

    Args:
        tensor: (n,).
        values: n numbers.

    Returns:
        The tensor.

    Raises:
        OptionError: if there are not as many numbers as the vector has places.

    Example:
        >>> values_(torch.empty(2), [3, 1]).tolist()
        [3.0, 1.0]
    """
    if tensor.ndim != 1 or len(values) != tensor.numel():
        raise OptionError(
            f"{len(values)} values for a tensor of shape {tuple(tensor.shape)}: needs a vector and one value for each place. "
            "Nothing was written."
        )
    return tensor if tensor.is_meta else tensor.copy_(torch.tensor(values, dtype=torch.float64))


@torch.no_grad()
def resize_columns_(tensor: Tensor, sizes: Sequence[float]) -> Tensor:
    """Multiply what meets each input by the input's size, in place, so that the values keep their std in expectation.

    Args:
        tensor: (outputs, inputs, *kernel).
        sizes: one for each input, above 0; only how they compare counts.

    Returns:
        The tensor.

    Raises:
        OptionError: if there are not as many sizes as inputs.

    Example:
        >>> resize_columns_(torch.ones(1, 2), [1, 7]).tolist()
        [[0.20000000298023224, 1.399999976158142]]
    """
    if tensor.ndim < 2 or len(sizes) != tensor.shape[1]:
        raise OptionError(
            f"{len(sizes)} sizes of columns for a weight of shape {tuple(tensor.shape)}: needs one for each input. "
            "Nothing was written."
        )
    if tensor.is_meta:
        return tensor
    mean = math.sqrt(math.fsum(size * size for size in sizes) / len(sizes))
    factors = torch.tensor([size / mean for size in sizes], dtype=torch.float64)
    made = tensor.double() * factors.reshape(-1, *[1] * (tensor.ndim - 2)).to(tensor.device)
    return tensor.copy_(made)
