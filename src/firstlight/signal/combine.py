"""Several kernels together: aligned to common axes, multiplied, added, and contracted as einsum does."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from firstlight.signal.kernel import Kernel, Spread, common_factors
from firstlight.signal.maps import Array


def aligned(*kernels: Kernel) -> tuple[list[Kernel], tuple[int, ...]]:
    """Return kernels broadcast to one shape with the same atoms, so that their arrays go together, and the shape."""
    shape = np.broadcast_shapes(*(kernel.shape for kernel in kernels))
    found = [kernel.broadcast(shape) for kernel in kernels]
    for dim in range(len(shape)):
        found = _same_atoms(found, dim)
    return found, shape


def _same_atoms(kernels: list[Kernel], dim: int) -> list[Kernel]:
    sizes = common_factors([tuple(atom.size for atom in kernel.dims[dim]) for kernel in kernels])
    kernels = [kernel.merged(dim) if sizes is None else kernel.cut(dim, sizes) for kernel in kernels]
    for place in range(len(kernels[0].dims[dim])):
        if any(kernel.dims[dim][place].resolved for kernel in kernels):
            kernels = [_resolved(kernel, kernel.axes(dim)[place]) for kernel in kernels]
    return kernels


def _resolved(kernel: Kernel, axis: int) -> Kernel:
    apart = replace(kernel, dims=tuple((atom,) for atom in kernel.atoms)).resolve(axis)
    atoms = list(apart.atoms)
    dims = tuple(tuple(atoms.pop(0) for _ in dim) for dim in kernel.dims)
    return replace(apart, dims=dims)


def contracted(a: Kernel, b: Kernel, letters: tuple[str, str, str]) -> Kernel:
    """Return the kernel of a product of two independent tensors, summed over the letters that the result lacks.

    letters: a letter a dimension of a, of b and of the result, as einsum has them.

    >>> from firstlight.signal.kernel import random
    >>> contracted(random((8, 64), 1.0), random((32, 64), 0.5), ("ni", "oi", "no")).second
    32.0
    """
    first, second, out = letters
    for letter in dict.fromkeys(first):
        if letter in second:
            a, b = _matched(a, b, first.index(letter), second.index(letter))
    codes: dict[tuple[str, int], int] = {}
    places = [[codes.setdefault((c, i), len(codes)) for c, dim in zip(word, k.dims, strict=True) for i in range(len(dim))]
              for k, word in ((a, first), (b, second))]  # fmt: skip
    home = {c: dim for k, word in ((a, first), (b, second)) for c, dim in zip(word, k.dims, strict=True)}
    result = [codes[c, i] for c in out for i in range(len(home[c]))]
    gone = [(c, i) for c in home if c not in out for i in range(len(home[c]))]
    weights: list[Any] = [part for c, i in gone for part in (home[c][i].counts, [codes[c, i]])]
    sums: list[Any] = [
        part
        for c, i in gone
        for part in (np.full(home[c][i].places, home[c][i].size / home[c][i].places), [codes[c, i]])
    ]
    pairs = _einsum(a.pairs, places[0], b.pairs, places[1], *weights, result)
    mean = _einsum(_spanned(a), places[0], _spanned(b), places[1], *sums, result)
    spread = a.spread + b.spread
    return Kernel(tuple(home[c] for c in out), np.asarray(pairs), np.asarray(mean), spread)


def _einsum(*operands: Any) -> Array:
    """Return what np.einsum does with lists of places, which its types do not know."""
    made: Array = np.einsum(*operands)
    return made


def _spanned(kernel: Kernel) -> Array:
    """Return the mean with as many places along each axis as the atom has."""
    return np.broadcast_to(kernel.mean, tuple(atom.places for atom in kernel.atoms))


def _matched(a: Kernel, b: Kernel, i: int, j: int) -> tuple[Kernel, Kernel]:
    """Return two kernels with the same atoms in a dimension of each."""
    wanted = common_factors([tuple(x.size for x in a.dims[i]), tuple(x.size for x in b.dims[j])])
    a, b = (a.merged(i), b.merged(j)) if wanted is None else (a.cut(i, wanted), b.cut(j, wanted))
    for place in range(len(a.dims[i])):
        if a.dims[i][place].resolved or b.dims[j][place].resolved:
            a, b = _resolved(a, a.axes(i)[place]), _resolved(b, b.axes(j)[place])
    return a, b


def pointwise(combine: Callable[..., Array], *kernels: Kernel, spread: Spread | None = None) -> Kernel:
    """Return a kernel made of aligned ones: combine gets the pairs of all, then the means of all."""
    found, _ = aligned(*kernels)
    dims = found[0].dims
    pairs = combine(*(kernel.pairs for kernel in found))
    mean = combine(*(_spanned(kernel) for kernel in found))
    total = sum((kernel.spread for kernel in kernels), Spread()) if spread is None else spread
    return Kernel(dims, pairs, mean, total)


def product(*kernels: Kernel) -> Kernel:
    """Return the kernel of the product of independent tensors."""
    return pointwise(lambda *parts: reduce(np.multiply, parts), *kernels)


def total(*kernels: Kernel) -> Kernel:
    """Return the kernel of the sum of independent tensors."""
    found, _ = aligned(*kernels)
    made = found[0]
    for other in found[1:]:
        m, n = made.spread_out(_spanned(made)), other.spread_out(_spanned(other))
        powers = (made.second, other.second)
        share = powers[0] / (sum(powers) or 1.0)
        spread = made.spread * share**2 + other.spread * (1 - share) ** 2
        made = Kernel(made.dims, made.pairs + other.pairs + 2 * m * n, _spanned(made) + _spanned(other), spread)
    return made


def exclusive(a: Kernel, b: Kernel, dim: int | None = None) -> Kernel:
    """Return the kernel of a sum of two tensors of one shape, of which at every element one is 0.

    dim: where given, one of the two is 0 at every place of this dimension, the same for all elements there.
    """
    (a, b), _ = aligned(a, b)
    made = total(a, b)
    axes = range(made.pairs.ndim) if dim is None else made.axes(dim)
    agree = tuple(slice(1, None) if axis in axes else slice(None) for axis in range(made.pairs.ndim))
    made.pairs[agree] = (a.pairs + b.pairs)[agree]
    return made
