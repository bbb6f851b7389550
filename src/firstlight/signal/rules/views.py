"""Rules for operators that move elements: views, slices, joins, and what is chosen by known or random places."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial, reduce

import numpy as np

from firstlight.model.operators.graph import Node, Value
from firstlight.signal.combine import exclusive, total
from firstlight.signal.kernel import Atom, Kernel
from firstlight.signal.maps import Array
from firstlight.signal.rules.reductions import summed_to
from firstlight.signal.rules.table import Run, State, argument, axis, backward, forward

_RESHAPES = "view _unsafe_view reshape _reshape_alias unsqueeze squeeze flatten unflatten view_copy"
_TURNS = "t transpose permute movedim numpy_T mT swapaxes"
_SLICES = "slice select narrow split split_with_sizes unsafe_split unsafe_split_with_sizes chunk unsafe_chunk unbind"


@forward(_RESHAPES)
def reshaped(run: Run, node: Node) -> State:
    """Regroup the atoms."""
    value = node.inputs[0]
    state = run.state(value)
    return State(made=run.kernel(value).reshaped(node.out.shape), allowed=_last_two(state.allowed, value, node.out))


def _last_two(allowed: Array | None, value: Value, out: Value) -> Array | None:
    return allowed if allowed is not None and value.shape[-2:] == out.shape[-2:] else None


@backward(_RESHAPES)
def reshaped_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Regroup back."""
    run.push(node.inputs[0], gradient.reshaped(node.inputs[0].shape))


def _order(node: Node) -> list[int]:
    rank = len(node.inputs[0].shape)
    order = list(range(rank))
    if node.op == "permute":
        return [d % rank for d in node.args[1]]
    if node.op in ("transpose", "swapaxes"):
        a, b = node.args[1] % rank, node.args[2] % rank
    elif node.op == "mT" or rank == 2:
        a, b = rank - 2, rank - 1
    else:
        a, b = 0, 0
    order[a], order[b] = order[b], order[a]
    return order


@forward(_TURNS)
def turned(run: Run, node: Node) -> State:
    """Put dimensions in another order."""
    return State(made=run.kernel(node.inputs[0]).permuted(_order(node)))


@backward(_TURNS)
def turned_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Put them back."""
    order = _order(node)
    run.push(node.inputs[0], gradient.permuted([order.index(d) for d in range(len(order))]))


@forward("expand expand_as broadcast_to")
def expanded(run: Run, node: Node) -> State:
    """Copies along new axes."""
    return State(made=run.kernel(node.inputs[0]).broadcast(node.out.shape))


@backward("expand expand_as broadcast_to")
def expanded_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Sum over the copies."""
    run.push(node.inputs[0], summed_to(gradient, node.inputs[0].shape))


def _pieces(node: Node) -> tuple[int, list[tuple[int, int, int]]]:
    """Return the dimension and (start, stop, step) of every output of a slicing operator."""
    value = node.inputs[0]
    if node.op in ("slice", "select", "narrow"):
        dim = axis(argument(node, 1, "dim", 0), value)
        size = value.shape[dim]
        if node.op == "select":
            start = argument(node, 2, "index", 0) % size
            return dim, [(start, start + 1, 1)]
        start = argument(node, 2, "start", 0) or 0
        start = max(start + size, 0) if start < 0 else min(start, size)
        count = node.out.shape[dim]
        step = 1 if node.op == "narrow" else argument(node, 4, "step", 1)
        return dim, [(start, start + (count - 1) * step + 1, step)]
    place = {"unbind": 1}.get(node.op, 2)
    dim = axis(argument(node, place, "dim", 0), value)
    pieces, start = [], 0
    for out in node.outputs:
        size = 1 if node.op == "unbind" else out.shape[dim]
        pieces.append((start, start + size, 1))
        start += size
    return dim, pieces


def sliced(kernel: Kernel, dim: int, piece: tuple[int, int, int]) -> Kernel:
    """Return the kernel of a slice (start, stop, step) along a dimension, which stays."""
    start, stop, step = piece
    size, count = kernel.shape[dim], len(range(start, stop, step))
    if count == size:
        return kernel
    atoms = kernel.dims[dim]
    if atoms and atoms[0].resolved and step == 1:
        inner = size // atoms[0].size
        if start % inner == 0 and stop % inner == 0:
            return _taken(kernel, dim, start // inner, stop // inner)
    if len(atoms) == 1 and atoms[0].resolved:
        return kernel.mapped(dim, np.eye(size)[start:stop:step])
    return kernel.resized(dim, count)


def _taken(kernel: Kernel, dim: int, start: int, stop: int) -> Kernel:
    """Return the kernel of some places of the outermost atom of a dimension, which is resolved."""
    place = kernel.axes(dim)[0]
    atoms = kernel.dims[dim]
    if stop - start == 1:
        pairs, mean = np.take(kernel.pairs, 1 + start, place), np.take(kernel.mean, start, place)
        new = atoms[1:]
    else:
        pairs = np.take(kernel.pairs, [0, *range(1 + start, 1 + stop)], place)
        mean = np.take(kernel.mean, range(start, stop), place)
        new = (Atom(stop - start, True), *atoms[1:])
    return Kernel((*kernel.dims[:dim], new, *kernel.dims[dim + 1 :]), pairs, mean, kernel.spread)


def _dropped(kernel: Kernel, dim: int) -> Kernel:
    return replace(kernel, dims=tuple(d for i, d in enumerate(kernel.dims) if i != dim))


@forward(_SLICES)
def pieces(run: Run, node: Node) -> list[State]:
    """Some places along a dimension."""
    value = node.inputs[0]
    dim, found = _pieces(node)
    allowed = run.state(value).allowed
    made = [sliced(run.kernel(value), dim, piece) for piece in found]
    if node.op in ("select", "unbind"):
        made = [_dropped(kernel, dim) for kernel in made]
    if found[0] == (0, value.shape[dim], 1) and node.op == "slice":
        return [State(made=made[0], allowed=allowed)]
    return [State(made=kernel) for kernel in made]


def placed(gradient: Kernel, dim: int, piece: tuple[int, int, int], size: int, atoms: tuple[Atom, ...]) -> Kernel:
    """Return the kernel of a gradient with zeros around it along a dimension."""
    start, stop, step = piece
    count = len(range(start, stop, step))
    if count == size:
        return gradient
    inner = size // atoms[0].size if atoms and atoms[0].resolved else 0
    if inner > 1 and step == 1 and start % inner == 0 and stop % inner == 0:
        outer = atoms[0].size
        blocks = count // inner
        cut = gradient.cut(dim, [blocks, *[atom.size for atom in atoms[1:]]])
        return _spread_blocks(cut, dim, start // inner, blocks, outer)
    if inner == 1 or size <= 16:
        return gradient.mapped(dim, np.eye(size)[:, start:stop:step])
    return _thinned(gradient, dim, size)


def _spread_blocks(gradient: Kernel, dim: int, start: int, blocks: int, outer: int) -> Kernel:
    place = gradient.axes(dim)[0] if gradient.dims[dim] else sum(map(len, gradient.dims[:dim]))
    atoms = gradient.dims[dim]
    pairs, mean = gradient.pairs, gradient.mean
    if blocks == 1:
        pairs = np.repeat(np.expand_dims(pairs, place), 2, place)
        mean = np.expand_dims(mean, place)
        rest = atoms
    else:
        rest = atoms[1:]
    flat = Kernel((*gradient.dims[:dim], (Atom(blocks, True),), rest, *gradient.dims[dim + 1 :]), pairs, mean)
    if blocks > 1:
        flat = replace(flat, dims=(*gradient.dims[:dim], atoms[:1], rest, *gradient.dims[dim + 1 :]))
    made = flat.mapped(dim, np.eye(outer)[:, start : start + blocks])
    dims = (*made.dims[:dim], made.dims[dim] + made.dims[dim + 1], *made.dims[dim + 2 :])
    return replace(made, dims=dims, spread=gradient.spread)


def _thinned(gradient: Kernel, dim: int, size: int) -> Kernel:
    """Return a gradient among zeros at places that are not told apart."""
    count = gradient.shape[dim]
    made = gradient.merged(dim)
    if not made.dims[dim]:
        made = made.with_copies(dim)
    place = made.axes(dim)[0]
    made = made.flat([place])
    share, pair = count / size, count * (count - 1) / (size * (size - 1))
    shape = [1] * made.pairs.ndim
    shape[place] = 2
    pairs = made.pairs * np.array([pair, share]).reshape(shape)
    return Kernel((*made.dims[:dim], (Atom(size),), *made.dims[dim + 1 :]), pairs, made.mean * share, gradient.spread)


def pieces_backward(run: Run, node: Node, gradients: Sequence[Kernel | None]) -> None:
    """Put the gradients of all slices side by side, zeros elsewhere."""
    value = node.inputs[0]
    dim, found = _pieces(node)
    parts = []
    for gradient, piece in zip(gradients, found, strict=True):
        if gradient is None:
            continue
        if node.op in ("select", "unbind"):
            gradient = replace(gradient, dims=(*gradient.dims[:dim], (), *gradient.dims[dim:]))
        parts.append(placed(gradient, dim, piece, value.shape[dim], run.kernel(value).dims[dim]))
    if parts:
        run.push(value, total(*parts))


def joined(kernels: Sequence[Kernel], dim: int) -> Kernel:
    """Return the kernel of tensors side by side along a dimension."""
    size = sum(kernel.shape[dim] for kernel in kernels)
    beside = partial(exclusive, dim=dim)
    if any(atom.resolved for kernel in kernels for atom in kernel.dims[dim]) and size <= 1024:
        made, start = [], 0
        for kernel in kernels:
            width = kernel.shape[dim]
            matrix = np.zeros((size, width))
            matrix[start : start + width] = np.eye(width)
            made.append(kernel.mapped(dim, matrix))
            start += width
        return reduce(beside, made)
    return reduce(beside, (_thinned(kernel, dim, size) for kernel in kernels))


@forward("cat stack")
def cat(run: Run, node: Node) -> State:
    """Side by side; parts are independent, or their means alone are shared."""
    values = node.args[0]
    dim = argument(node, 1, "dim", 0)
    dim %= len(node.out.shape)
    kernels = []
    for value in values:
        if 0 in value.shape:
            continue
        kernel = run.kernel(value)
        if node.op == "stack":
            kernel = replace(kernel, dims=(*kernel.dims[:dim], (), *kernel.dims[dim:]))
        kernels.append(kernel)
    if node.op == "stack" and len(kernels) <= 1024:
        kernels = [kernel.with_copies(dim) for kernel in kernels]
    return State(made=joined(kernels, dim) if len(kernels) > 1 else kernels[0])


@backward("cat stack")
def cat_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Give each part its slice."""
    dim = argument(node, 1, "dim", 0) % len(node.out.shape)
    start = 0
    for value in node.args[0]:
        width = 1 if node.op == "stack" else value.shape[dim] if len(value.shape) > dim else 0
        if 0 in value.shape:
            continue
        part = sliced(gradient, dim, (start, start + width, 1))
        run.push(value, _dropped(part, dim) if node.op == "stack" else part)
        start += width


@forward("flip roll")
def moved(run: Run, node: Node) -> State:
    """Places along axes change theirs; their kernel stays as it is, places no longer told apart."""
    kernel = run.kernel(node.inputs[0])
    return State(made=kernel.flat(range(kernel.pairs.ndim)))


@backward("flip roll")
def moved_backward(run: Run, node: Node, gradient: Kernel) -> None:
    """Move back."""
    run.push(node.inputs[0], gradient.flat(range(gradient.pairs.ndim)))
