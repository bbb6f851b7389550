"""Initializers that need the whole matrix: orthogonal, delta-orthogonal, centred, looks-linear, sparse.

A convolution weight (out, in, *kernel) counts as the matrix (out, in · kernel) where nothing else is said. Matrices are made
in float32 (float64 for float64) on the CPU and rounded once, so that every device gets the same values.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from firstlight.errors import OptionError, did_you_mean
from firstlight.init.basic import centre_tap, need_floating
from firstlight.init.draws import draw, stream
from firstlight.init.haar import haar
from firstlight.random import Normal, Uniform, fill

Mirror = Literal["both", "rows", "columns"]
MIRRORS = ("both", "rows", "columns")


def _matrix_shape(tensor: Tensor) -> tuple[int, int]:
    return tensor.shape[0], math.prod(tensor.shape[1:])


def _need_matrix(tensor: Tensor, what: str) -> None:
    if tensor.ndim < 2:
        raise OptionError(
            f"Only tensors with 2 or more dimensions are supported, got shape {tuple(tensor.shape)} for {what}. "
            "Nothing was written."
        )
    need_floating(tensor, what)


def _skip(tensor: Tensor) -> bool:
    return tensor.is_meta or tensor.numel() == 0


@torch.no_grad()
def orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Make the rows (or the columns, if fewer) of the tensor orthogonal with norm `gain`, in place.

    The matrix is uniformly distributed (Haar): the Q of a normal matrix, with the signs fixed. It keeps the norm of what passes
    through; entries have std gain / √max(rows, columns).

    Args:
        tensor: two axes or more; (out, in, *kernel) counts as (out, in · kernel).
        gain: norm of the rows or columns.
        generator: where the seed of the draw comes from; default: torch's default CPU generator.
        seed: 0 <= seed < 2**64; with `name`, the values are the same on every run.
        name: full name of the tensor.

    Returns:
        The tensor; orthogonal up to the rounding of its dtype.

    Raises:
        OptionError: if the tensor has fewer than two axes.

    Example:
        >>> w = orthogonal_(torch.empty(3, 5), seed=0, name="w")
        >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
        True

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", 2014, arXiv 1312.6120; Mezzadri, "How to generate random matrices from the classical compact groups", 2007.
    """
    _need_matrix(tensor, "orthogonal_")
    if _skip(tensor):
        return tensor
    seed, name = stream(generator, seed, name)
    matrix = haar(*_matrix_shape(tensor), tensor.dtype, seed, name, gain)
    return tensor.copy_(matrix.reshape(tensor.shape))


@torch.no_grad()
def centred_orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Make an orthogonal matrix whose rows each sum to zero, in place, so that the mean of the input does not get through.

    With U uniform with orthonormal rows or columns in the n - 1 dimensions orthogonal to the vector of ones: W = gain U.
    W Wᵀ = gain² I where rows < n; otherwise Wᵀ W = gain² (I - 11ᵀ/n). Row sums are zero up to rounding in both.

    Args:
        tensor: (out, in, *kernel) as the matrix (out, n), n = in · kernel >= 2.
        gain: norm of the rows or columns.
        generator: see `orthogonal_`.
        seed: see `orthogonal_`.
        name: see `orthogonal_`.

    Returns:
        The tensor.
    """
    _need_matrix(tensor, "centred_orthogonal_")
    rows, n = _matrix_shape(tensor)
    if n == 1:
        raise OptionError(f"rows of one number cannot sum to zero: shape {tuple(tensor.shape)}. Nothing was written.")
    if _skip(tensor):
        return tensor
    seed, name = stream(generator, seed, name)
    padded = torch.nn.functional.pad(haar(rows, n - 1, tensor.dtype, seed, name), (1, 0))
    mirror = torch.full((n,), -1 / math.sqrt(n), dtype=padded.dtype)  # reflects the first axis onto the vector of ones
    mirror[0] += 1
    reflected = padded - torch.outer(padded @ mirror, mirror) * (2 / mirror.dot(mirror))
    return tensor.copy_((gain * (reflected - reflected.mean(1, keepdim=True))).reshape(tensor.shape))


@torch.no_grad()
def delta_orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Make a convolution weight orthogonal at the centre of its kernel and zero elsewhere, in place.

    Such a layer keeps the norm of every pixel's channels, whatever the depth; plain tanh networks of ten thousand layers
    train with it.

    Args:
        tensor: (out, in, *kernel) with 1 to 3 kernel axes, out >= in.
        gain: norm of the columns.
        generator: see `orthogonal_`.
        seed: see `orthogonal_`.
        name: see `orthogonal_`.

    Returns:
        The tensor.

    Raises:
        OptionError: if the tensor has not 3 to 5 axes or out < in.

    Source: Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington, "Dynamical isometry and a mean field theory of CNNs",
    2018, arXiv 1806.05393.
    """
    need_floating(tensor, "delta_orthogonal_")
    if tensor.ndim not in (3, 4, 5):
        raise OptionError(
            f"delta_orthogonal_ needs a convolution weight with 3, 4 or 5 axes, got shape {tuple(tensor.shape)}. "
            "Use orthogonal_ for matrices. Nothing was written."
        )
    if tensor.shape[0] < tensor.shape[1]:
        raise OptionError(
            f"delta_orthogonal_ needs at least as many outputs as inputs, got shape {tuple(tensor.shape)}: fewer outputs "
            "cannot keep the norm. Nothing was written."
        )
    if _skip(tensor):
        return tensor
    seed, name = stream(generator, seed, name)
    matrix = haar(tensor.shape[0], tensor.shape[1], tensor.dtype, seed, name, gain)
    tensor.zero_()
    centre_tap(tensor).copy_(matrix)
    return tensor


@torch.no_grad()
def looks_linear_(
    tensor: Tensor,
    gain: float = 1,
    mirror: Mirror = "both",
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Make mirrored blocks of an orthogonal matrix W, in place: [[W, -W], [-W, W]], so that a ReLU network starts linear.

    Units come in pairs that see h and -h; relu(h) - relu(-h) = h, so a stack of such layers is one orthogonal map at the
    start, at any depth. The first layer of a stack has mirror='rows', [[W], [-W]]; the last 'columns', [W, -W]. Of an odd
    number of units the middle one has no partner: its row is one more of W's, and its column is 0, [[W], [w], [-W]] and
    [W, 0, -W], so that nothing reads it at the start.

    Args:
        tensor: (out, in), or a convolution weight, which gets the matrix at the centre of its kernel and zeros elsewhere.
        gain: norm of W's rows or columns, whichever are fewer.
        mirror: 'both', 'rows' or 'columns'; a mirrored axis must be 2 or longer.
        generator: see `orthogonal_`.
        seed: see `orthogonal_`.
        name: see `orthogonal_`.

    Returns:
        The tensor.

    Raises:
        OptionError: if a mirrored axis has length 1.

    Source: Balduzzi, Frean, Leary, Lewis, Ma and McWilliams, "The shattered gradients problem", 2017, arXiv 1702.08591.
    """
    _need_matrix(tensor, "looks_linear_")
    check_mirror(mirror)
    for axis, word in ((0, "rows"), (1, "columns")):
        if mirror in ("both", word) and tensor.shape[axis] == 1:
            raise OptionError(
                f"looks_linear_ mirrors {word}, which must be 2 or more in number, got shape {tuple(tensor.shape)}. "
                "Nothing was written."
            )
    if _skip(tensor):
        return tensor
    seed, name = stream(generator, seed, name)
    rows, columns = tensor.shape[0], tensor.shape[1]
    block = haar(
        (rows + 1) // 2 if mirror != "columns" else rows,
        columns // 2 if mirror != "rows" else columns,
        tensor.dtype,
        seed,
        name,
        gain,
    )
    if mirror != "rows":
        block = torch.cat([block, block.new_zeros(len(block), columns % 2), -block], 1)
    if mirror != "columns":
        block = torch.cat([block, -block[: rows // 2]], 0)
    tensor.zero_()
    centre_tap(tensor).copy_(block)
    return tensor


def check_mirror(mirror: str) -> None:
    """Raise OptionError unless the word is a way to mirror."""
    if mirror not in MIRRORS:
        near = did_you_mean(str(mirror), MIRRORS)
        raise OptionError(
            f"mirror={mirror!r} is not known. Choose 'both', 'rows' or 'columns'.{near} Nothing was written."
        )


@torch.no_grad()
def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: torch.Generator | None = None,
    *,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Fill a matrix with N(0, std²) and set the same number of entries of every column to zero, in place.

    Args:
        tensor: (out, in).
        sparsity: share of zeros in each column, rounded up to whole entries; 0 to 1.
        std: of the entries that are not zero.
        generator: see `orthogonal_`.
        seed: see `orthogonal_`.
        name: see `orthogonal_`.

    Returns:
        The tensor.

    Source: Martens, "Deep learning via Hessian-free optimization", 2010.
    """
    if tensor.ndim != 2:
        raise OptionError(f"Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}.")
    if not 0 <= sparsity <= 1:
        raise OptionError(f"sparsity = {sparsity}, must be a share from 0 to 1. Nothing was written.")
    if _skip(tensor):
        return tensor
    seed, name = stream(generator, seed, name)
    draw(tensor, Normal(0.0, std), None, seed, name)
    lots = fill(torch.empty(tensor.shape), Uniform(), seed=seed, name=f"{name}/zeros")
    ranks = lots.argsort(dim=0, stable=True)[: math.ceil(sparsity * tensor.shape[0])]
    return tensor.scatter_(0, ranks.to(tensor.device), 0.0)
