"""`Kernel`: what theory knows of a tensor: the mean product of two of its elements, by the axes on which they agree.

Two elements agree or differ on each axis: the same unit of two examples, two units of one example, and so on. The axes of
a kernel are those of the tensor, cut into factors where a reshape needs it ("atoms"). Arithmetic on the axes is here, what
operators do to the numbers is in rules/.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from firstlight.signal.maps import Array, pair_map


class Atom(NamedTuple):
    """An axis, or a factor of one. resolved: places along it are told apart, as borders of a picture must be."""

    size: int
    resolved: bool = False

    @property
    def entries(self) -> int:
        """Entries of a kernel along it: index 0 is 'differ', then 'agree', once or at each place."""
        return 1 + self.places

    @property
    def places(self) -> int:
        """Entries of a mean along it."""
        return self.size if self.resolved else 1

    @property
    def counts(self) -> Array:
        """How many pairs of elements each entry stands for."""
        agree = 1.0 if self.resolved else float(self.size)
        return np.array([self.size * (self.size - 1.0), *[agree] * self.places])


Dim = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """How much second moments differ from one draw of the weights to another.

    draw, each: log-variance of the mean over all, and of one example. pair: variance of the correlation of two examples.
    """

    draw: float = 0.0
    each: float = 0.0
    pair: float = 0.0

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(self.draw + other.draw, self.each + other.each, self.pair + other.pair)

    def __mul__(self, factor: float) -> "Spread":
        return Spread(self.draw * factor, self.each * factor, self.pair * factor)


@dataclass(frozen=True, slots=True, eq=False)
class Kernel:
    """Second moments of pairs of elements of one tensor.

    dims: the atoms of every dimension, outermost first; dimensions of size 1 have none. pairs: E[x_i x_j], an axis an atom,
    index 0 where i and j differ on it, then where they agree. mean: E x, an axis an atom, of length 1 where places are
    not told apart. spread: how much second moments differ from one draw of the weights to another. levels: powers of rows
    in parts of the mean, see levels.py.
    """

    dims: tuple[Dim, ...]
    pairs: Array
    mean: Array
    spread: Spread = Spread()
    levels: Array | None = None

    @property
    def atoms(self) -> Dim:
        """The atoms of all dimensions in order: the axes of `pairs`."""
        return tuple(atom for dim in self.dims for atom in dim)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(length(dim) for dim in self.dims)

    @property
    def second(self) -> float:
        """E x²."""
        return float(self.averaged(range(self.pairs.ndim)).pairs)

    @property
    def common(self) -> float:
        """The mean of E[x_i x_j] over all pairs: the expected square of the tensor's mean."""
        return float(self.pair_mean(range(self.pairs.ndim)))

    def axes(self, dim: int) -> range:
        """Return which axes of `pairs` a dimension's atoms are."""
        start = sum(map(len, self.dims[: dim % len(self.dims)]))
        return range(start, start + len(self.dims[dim]))

    def averaged(self, axes: Iterable[int]) -> "Kernel":
        """Return the kernel of elements that agree on these axes, which are gone: a mean over places."""
        gone = sorted(axes, reverse=True)
        pairs, mean = self.pairs, self.mean
        for axis in gone:
            pairs, mean = np.take(pairs, range(1, pairs.shape[axis]), axis).mean(axis), mean.mean(axis)
        return Kernel(_without(self.dims, gone), pairs, mean, self.spread)

    def pair_mean(self, axes: Iterable[int], *, keep: bool = False) -> Array:
        """Return `pairs` averaged over all pairs of places on these axes, agreeing ones among them."""
        made = self.pairs
        for axis in sorted(axes, reverse=True):
            atom = self.atoms[axis]
            made = np.tensordot(made, atom.counts / atom.size**2, (axis, 0)) if not keep else _dotted(made, axis, atom)
        return np.asarray(made)

    def squares(self) -> Array:
        """Return E x² at each place, in the shape of `mean`."""
        made = self.pairs
        for axis in range(made.ndim):
            made = np.take(made, range(1, made.shape[axis]), axis)
        return made

    def variances(self) -> Array:
        """Return the variance at each place, in the shape of `mean`."""
        return np.maximum(self.squares() - self.mean**2, 0.0)

    def profile(self, axis: int) -> Array:
        """Return the root mean squares at the places along an axis."""
        power = self.squares().mean(axis=tuple(a for a in range(self.pairs.ndim) if a != axis))
        return np.asarray(np.sqrt(np.maximum(power, 0.0)))

    def spread_out(self, values: Array, *, squares: bool = False) -> Array:
        """Return an array in the shape of `mean` in that of `pairs`: 'differ' entries get the mean over places.

        squares: return products of two places' values instead, for 'differ' the mean over two places that differ.
        """
        made = values
        for axis in range(len(self.atoms)):
            made = np.concatenate([made.mean(axis, keepdims=True), made], axis)
        return _of_unlike(made**2, self.atoms) if squares else made

    def covariances(self) -> Array:
        """Return `pairs` less the products of the means."""
        return self.pairs - self.spread_out(self.mean, squares=True)

    def scaled(self, factor: float) -> "Kernel":
        """Return the kernel of the tensor times a number."""
        return replace(self, pairs=self.pairs * factor**2, mean=self.mean * factor)

    def merged(self, dim: int, *, resolved: bool = False) -> "Kernel":
        """Return the kernel with a dimension's atoms made one."""
        axes = self.axes(dim)
        if len(axes) <= 1:
            return self.resolve(dim) if resolved and axes else self
        made = self
        while len(made.axes(dim)) > 1:
            made = made._joined(dim)
        return made.resolve(dim) if resolved else made

    def _joined(self, dim: int) -> "Kernel":
        """Return the kernel with the first two atoms of a dimension made one in which places are not told apart."""
        plain = self.flat(self.axes(dim)[:2])
        first, second = plain.dims[dim][:2]
        axis = plain.axes(dim)[0]
        pairs = np.moveaxis(plain.pairs, (axis, axis + 1), (0, 1))
        n, m = float(first.size), float(second.size)
        weights = np.array([[(n - 1) * (m - 1), n - 1], [m - 1, 0.0]]) / max(n * m - 1, 1.0)
        differ = np.einsum("ij,ij...->...", weights, pairs)
        made = np.moveaxis(np.stack([differ, pairs[1, 1]]), 0, axis)
        dims = _replaced(plain.dims, dim, (Atom(first.size * second.size), *plain.dims[dim][2:]))
        return Kernel(dims, made, plain.mean.squeeze(axis), self.spread)

    def flat(self, axes: Iterable[int]) -> "Kernel":
        """Return the kernel in which places along these axes are not told apart."""
        made = self
        for axis in axes:
            atom = made.atoms[axis]
            if atom.resolved:
                agree = np.take(made.pairs, range(1, atom.entries), axis).mean(axis, keepdims=True)
                pairs = np.concatenate([np.take(made.pairs, [0], axis), agree], axis)
                dims = _with_atom(made.dims, axis, Atom(atom.size))
                made = Kernel(dims, pairs, made.mean.mean(axis, keepdims=True), made.spread)
        return made

    def resolve(self, dim: int) -> "Kernel":
        """Return the kernel in which places along a dimension, which has at most one atom, are told apart."""
        axes = self.axes(dim)
        if not axes or self.atoms[axes[0]].resolved:
            return self
        axis, size = axes[0], self.atoms[axes[0]].size
        pairs = np.take(self.pairs, [0, *[1] * size], axis)
        return Kernel(
            _with_atom(self.dims, axis, Atom(size, True)), pairs, np.repeat(self.mean, size, axis), self.spread
        )

    def cut(self, dim: int, sizes: Sequence[int]) -> "Kernel":
        """Return the kernel with a dimension in atoms of these sizes, as far as it can be; 1s are left out."""
        wanted = tuple(size for size in sizes if size > 1)
        have = tuple(atom.size for atom in self.dims[dim])
        if have == wanted:
            return self
        if common_factors([wanted, have]) != wanted:
            return self.merged(dim).cut(dim, sizes) if len(have) > 1 else self
        made, waiting = self, list(wanted)
        dims: list[Atom] = []
        axis = self.axes(dim)[0]
        for atom in self.dims[dim]:
            parts = [waiting.pop(0)]
            while math.prod(parts) < atom.size:
                parts.append(waiting.pop(0))
            made = made._split(axis, parts)
            dims += [atom] if len(parts) == 1 else [Atom(size) for size in parts]
            axis += len(parts)
        return replace(made, dims=_replaced(self.dims, dim, tuple(dims)))

    def _split(self, axis: int, parts: list[int]) -> "Kernel":
        """Return arrays with an axis in parts; dims are put right by the caller."""
        if len(parts) == 1:
            return self
        plain = self.flat([axis])
        shape = (*plain.pairs.shape[:axis], *[2] * len(parts), *plain.pairs.shape[axis + 1 :])
        differ, agree = np.take(plain.pairs, 0, axis), np.take(plain.pairs, 1, axis)
        made = np.empty(shape)
        made[...] = np.expand_dims(differ, tuple(range(axis, axis + len(parts))))
        made[(slice(None),) * axis + (1,) * len(parts)] = agree
        mean = np.expand_dims(plain.mean, tuple(range(axis, axis + len(parts) - 1)))
        return Kernel(self.dims, made, mean, self.spread)

    def permuted(self, order: Sequence[int]) -> "Kernel":
        """Return the kernel with dimensions in another order."""
        axes = [axis for dim in order for axis in self.axes(dim)]
        dims = tuple(self.dims[dim] for dim in order)
        return Kernel(dims, self.pairs.transpose(axes), self.mean.transpose(axes), self.spread)

    def reshaped(self, shape: Sequence[int]) -> "Kernel":
        """Return the kernel of the tensor read in another shape."""
        made = _aligned(replace(self, dims=(self.atoms,)), shape)
        atoms, dims = list(made.atoms), []
        for size in shape:
            dim: list[Atom] = []
            while math.prod(atom.size for atom in dim) < size:
                dim.append(atoms.pop(0))
            dims.append(tuple(dim))
        return replace(made, dims=tuple(dims))

    def broadcast(self, shape: Sequence[int]) -> "Kernel":
        """Return the kernel of the tensor expanded to a shape: copies along an axis are equal."""
        extra = len(shape) - len(self.dims)
        dims, pairs, mean, axis = list(self.dims), self.pairs, self.mean, 0
        dims = [()] * extra + dims
        for dim, size in enumerate(shape):
            if not dims[dim] and size > 1:
                pairs = np.repeat(np.expand_dims(pairs, axis), 2, axis)
                mean = np.expand_dims(mean, axis)
                dims[dim] = (Atom(size),)
            axis += len(dims[dim])
        return Kernel(tuple(dims), pairs, mean, self.spread)

    def mapped(self, dim: int, matrix: Array) -> "Kernel":
        """Return the kernel after a known linear map (out, in) along a dimension, which becomes one resolved atom."""
        made = self.merged(dim, resolved=True)
        if not made.dims[dim]:
            made = made.with_copies(dim)
        axis = made.axes(dim)[0]
        out = matrix.shape[0]
        pairs = np.moveaxis(np.tensordot(pair_map(matrix, made.profile(axis)), made.pairs, (1, axis)), 0, axis)
        mean = np.moveaxis(np.tensordot(matrix, made.mean, (1, axis)), 0, axis)
        if out == 1:
            pairs, mean = np.take(pairs, 1, axis), np.take(mean, 0, axis)
        dims = _replaced(made.dims, dim, (Atom(out, True),) if out > 1 else ())
        return Kernel(dims, pairs, mean, self.spread)

    def with_copies(self, dim: int) -> "Kernel":
        """Return the kernel with a resolved atom of one place in a dimension of size 1; only for `mapped`."""
        axis = sum(map(len, self.dims[:dim]))
        pairs = np.repeat(np.expand_dims(self.pairs, axis), 2, axis)
        return Kernel(_replaced(self.dims, dim, (Atom(1, True),)), pairs, np.expand_dims(self.mean, axis), self.spread)

    def resized(self, dim: int, size: int) -> "Kernel":
        """Return the kernel with places of a dimension left out or added at random: only their number changes."""
        made = self.merged(dim)
        if not made.dims[dim]:
            return made
        axis = made.axes(dim)[0]
        made = made.flat([axis])
        if size == 1:
            return Kernel(
                _replaced(made.dims, dim, ()), np.take(made.pairs, 1, axis), np.take(made.mean, 0, axis), self.spread
            )
        return replace(made, dims=_replaced(made.dims, dim, (Atom(size),)))


def length(dim: Dim) -> int:
    """Return the size of a dimension."""
    return math.prod(atom.size for atom in dim)


def constant(value: float, shape: Sequence[int] = ()) -> Kernel:
    """Return the kernel of a tensor that is one number everywhere.

    >>> constant(2.0, (3,)).second
    4.0
    """
    return Kernel((), np.array(value**2), np.array(float(value))).broadcast(shape)


def random(shape: Sequence[int], second: float, mean: float = 0.0) -> Kernel:
    """Return the kernel of independent numbers.

    >>> made = random((3, 1), 4.0)
    >>> made.second, made.pairs.tolist()
    (4.0, [0.0, 4.0])
    """
    dims = tuple((Atom(size),) if size > 1 else () for size in shape)
    atoms = sum(map(len, dims))
    pairs = np.full((2,) * atoms, mean**2)
    pairs[(1,) * atoms] = second
    return Kernel(dims, pairs, np.full((1,) * atoms, mean))


def observed(values: Array, resolved: Iterable[int] = ()) -> Kernel:
    """Return the kernel of numbers that are known; places along the resolved dimensions are told apart.

    >>> observed(np.array([1.0, -1.0, 1.0, -1.0])).pairs.round(3).tolist()
    [-0.333, 1.0]
    """
    told = set(resolved)
    dims = tuple((Atom(n, d in told),) if n > 1 else () for d, n in enumerate(values.shape))
    axes = [d for d, n in enumerate(values.shape) if n > 1]
    values = values.squeeze(axis=tuple(d for d, n in enumerate(values.shape) if n == 1))
    atoms = tuple(atom for dim in dims for atom in dim)
    pairs = np.empty(tuple(atom.entries for atom in atoms))
    for count in range(len(axes) + 1):
        for subset in combinations(range(len(axes)), count):
            means = (values.mean(axis=subset, keepdims=True) if subset else values) ** 2
            rest = tuple(i for i, atom in enumerate(atoms) if i not in subset and not atom.resolved)
            place = tuple(0 if i in subset else slice(1, None) for i in range(len(atoms)))
            pairs[place] = means.mean(axis=rest, keepdims=True).squeeze(axis=subset)
    plain = tuple(i for i, atom in enumerate(atoms) if not atom.resolved)
    return Kernel(dims, _of_unlike(pairs, atoms), np.asarray(values.mean(axis=plain, keepdims=True)))


def _of_unlike(pairs: Array, atoms: Dim) -> Array:
    """Return entries whose 'differ' are means over all pairs of places as those over pairs that differ."""
    for axis, atom in enumerate(atoms):
        agree = np.take(pairs, range(1, pairs.shape[axis]), axis).mean(axis)
        place = (slice(None),) * axis + (0,)
        pairs[place] = (atom.size * pairs[place] - agree) / (atom.size - 1)
    return pairs


def common_factors(factors: Sequence[tuple[int, ...]]) -> tuple[int, ...] | None:
    """Return the coarsest factors that all of these can be cut into, None where their cuts cross.

    >>> common_factors([(6,), (2, 3)]), common_factors([(2, 3), (3, 2)])
    ((2, 3), None)
    """
    cuts = sorted({math.prod(f[i:]) for f in factors for i in range(len(f) + 1)})
    if any(b % a for a, b in pairwise(cuts)):
        return None
    return tuple(b // a for a, b in pairwise(cuts))[::-1]


def _aligned(flat: Kernel, shape: Sequence[int]) -> Kernel:
    """Return a kernel of one dimension whose atoms can be grouped into a shape."""
    sizes = tuple(atom.size for atom in flat.atoms)
    wanted = tuple(size for size in shape if size > 1)
    common = common_factors([sizes, wanted])
    return flat.merged(0).cut(0, wanted) if common is None else flat.cut(0, common)


def _dotted(array: Array, axis: int, atom: Atom) -> Array:
    return np.expand_dims(np.tensordot(array, atom.counts / atom.size**2, (axis, 0)), axis)


def _without(dims: tuple[Dim, ...], axes: Sequence[int]) -> tuple[Dim, ...]:
    made, axis = [], 0
    for dim in dims:
        made.append(tuple(atom for i, atom in enumerate(dim, axis) if i not in axes))
        axis += len(dim)
    return tuple(made)


def _replaced(dims: tuple[Dim, ...], index: int, dim: Dim) -> tuple[Dim, ...]:
    index %= len(dims)
    return (*dims[:index], dim, *dims[index + 1 :])


def _with_atom(dims: tuple[Dim, ...], axis: int, atom: Atom) -> tuple[Dim, ...]:
    made, start = [], 0
    for dim in dims:
        made.append(tuple(atom if i == axis else old for i, old in enumerate(dim, start)))
        start += len(dim)
    return tuple(made)
