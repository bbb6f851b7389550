"""Uniform (Haar) orthogonal matrices as products of drawn reflections, a panel at a time, so that all work is in products.

Nothing but `haar` belongs here; the initializers that use it are in structured.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from firstlight.init.draws import gaussian

PANEL = 256  # reflections applied at once: narrower products are slower, wider ones do more work beside them


def haar(rows: int, columns: int, dtype: torch.dtype, seed: int, name: str, gain: float = 1.0) -> Tensor:
    """Return gain times a matrix with orthonormal rows or columns, whichever are fewer, uniform in the sense of Haar.

    It is the Q of a normal matrix, signs fixed so that R has a positive diagonal, without the factorisation: the vectors
    of the Householder reflections of such a matrix are normal themselves, in ever fewer dimensions, so they are drawn and
    multiplied. b reflections I - 2 v vᵀ / vᵀv are one I - V S⁻¹ Vᵀ with S upper triangular and S + Sᵀ = Vᵀ V, so Q grows from
    its lower right corner by two matrix products a panel.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        dtype: float64 is made in float64, all else in float32.
        seed: of the stream.
        name: of the stream.
        gain: norm of the rows or columns.

    Returns:
        A contiguous (rows, columns) CPU tensor in float32 or float64. The same on every run of one machine; another
        machine's BLAS may differ in the last bits.

    Source: Stewart, "The efficient generation of random orthogonal matrices", 1980; Joffrain, Low, Quintana-Ortí, van de
    Geijn and Van Zee, "Accumulating Householder transformations, revisited", 2006 (S).
    """
    vectors, halves, signs = _remembered(max(rows, columns), min(rows, columns), dtype, seed, name)
    matrix = torch.zeros(rows, columns, dtype=vectors.dtype)
    _multiply(vectors, halves, -gain * signs, matrix if rows >= columns else matrix.T)
    return matrix


@contextmanager
def remembering(most: int) -> Iterator[None]:
    """Keep what matrices are made of, up to so many numbers, so that the same one at another gain costs half as much."""
    token = _MEMORY.set(_Memory(most))
    try:
        yield
    finally:
        _MEMORY.reset(token)


@dataclass
class _Memory:
    """Reflections by shape, dtype, seed and name, and how many more numbers there is room for."""

    room: int
    kept: dict[Any, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)


_MEMORY: ContextVar[_Memory | None] = ContextVar("reflections", default=None)


def _remembered(rows: int, columns: int, dtype: torch.dtype, seed: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
    memory, key = _MEMORY.get(), (rows, columns, dtype, seed, name)
    if memory is None:
        return _reflections(*key)
    if key in memory.kept:
        return memory.kept[key]
    found = _reflections(*key)
    if rows * columns <= memory.room:
        memory.room -= rows * columns
        memory.kept[key] = found
    return found


def _reflections(rows: int, columns: int, dtype: torch.dtype, seed: int, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors v with ones on the diagonal and zeros above, half their squared norms, and the signs to undo."""
    vectors = gaussian((rows, columns), dtype, seed, name).tril_()
    norms, heads = vectors.square().sum(0).sqrt_(), vectors.diagonal().clone()
    missing = norms == 0  # a last vector of one number may be zero; any direction is as good
    norms, heads = norms.masked_fill_(missing, 1.0), heads.masked_fill_(missing, 1.0)
    signs = torch.where(heads < 0, -1.0, 1.0).to(vectors.dtype)
    vectors.div_(heads + signs * norms).diagonal().fill_(1.0)
    return vectors, norms / (norms + heads.abs()), signs


def _multiply(vectors: Tensor, halves: Tensor, ends: Tensor, out: Tensor) -> None:
    """Write the product of all reflections and of diag(ends) into out, which is zero and of the vectors' shape."""
    count = vectors.shape[1]
    for first in reversed(range(0, count, PANEL)):
        last = min(first + PANEL, count)
        panel, head = vectors[first:, first:last], vectors[first:last, first:last]
        beside = (panel.T @ panel).triu_(1)
        beside.diagonal().copy_(halves[first:last])
        through = torch.cat([head.T * ends[first:last], vectors[last:, first:last].T @ out[last:, last:]], 1)
        through = torch.linalg.solve_triangular(beside, through, upper=True)
        out.diagonal()[first:last].copy_(ends[first:last])
        out[first:, first:].addmm_(panel, through, alpha=-1)
