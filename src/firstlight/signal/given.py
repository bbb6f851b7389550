"""What a prediction starts from: kernels of parameters, by plan or by their values, and of the example."""

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from firstlight.apply.compute import compute
from firstlight.errors import PlanError
from firstlight.model.operators.graph import Graph, Value
from firstlight.model.roles import entries
from firstlight.plan import Plan
from firstlight.recipes.row import PlanRow
from firstlight.signal.kernel import Kernel, constant, observed, random
from firstlight.signal.maps import Array
from firstlight.signal.rules.table import State

_WHOLE = 1 << 22  # elements of a weight of which everything is observed; of larger ones mean and power
_ISOMETRIES = frozenset(["orthogonal", "delta-orthogonal", "identity", "dirac", "hadamard"])
_UNEVEN = 1.15  # ratio of the powers of two parts of a weight beyond which they are told apart
_BLOCKS = (12, 8, 6, 4, 3, 2)


def parameters(model: nn.Module, graph: Graph, plan: Plan | None) -> tuple[dict[Value, State], set[Value]]:
    """Return the states of parameters and buffers, and which of them keep norms.

    Raises:
        PlanError: if a parameter has neither a row that draws it nor values.
    """
    held = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}
    computed = _computed(model)
    states: dict[Value, State] = {}
    orthogonal: set[Value] = set()
    for name, value in graph.named.items():
        row = plan[name] if plan is not None and name in plan else None
        if row is not None and row.drawn:
            states[value] = State(made=_planned(row))
            if _keeps_norms(row):
                orthogonal.add(value)
            continue
        tensor = computed.get(name, held[name])
        states[value] = _held(name, value, tensor)
    return states, orthogonal


def _keeps_norms(row: PlanRow) -> bool:
    """Whether a row draws a square matrix, or one at the centre of a kernel, that is a multiple of an isometry."""
    square = row.distribution in _ISOMETRIES and max(row.shape[:2], default=0) == min(row.shape[:2], default=0)
    if row.distribution != "identity":
        return square
    return square and row.options.get("form") != "near-zero" and (len(row.shape) == 2 or _at_centre(row))


def _at_centre(row: PlanRow) -> bool:
    if row.distribution == "identity":
        return row.options.get("kernel") == "centre"
    return row.distribution in ("delta-orthogonal", "looks-linear", "dirac")


def _computed(model: nn.Module) -> dict[str, Tensor]:
    """Return buffers on the meta device that their module's code determines."""
    wanted = [entry for entry in entries(model) if entry.is_buffer and entry.tensor.device.type == "meta"]
    found, _ = compute(model, wanted, None, 0)
    return {name: found[entry.names[0]] for entry in wanted if entry.names[0] in found for name in entry.names}


def _held(name: str, value: Value, tensor: Tensor) -> State:
    if tensor.device.type == "meta":
        if value.source == "parameter":
            raise PlanError(
                f"'{name}' {tuple(tensor.shape)} is on the meta device and no plan says what it gets. "
                "Give plan=, a recipe such as 'he' or a plan. Nothing was changed."
            )
        return State(made=_unknown(name, value))
    if value.source == "buffer":
        return State(known=tensor.detach().cpu())
    return State(made=seen(tensor.detach()))


def _unknown(name: str, value: Value) -> Kernel:
    local = name.rpartition(".")[2]
    if local == "running_mean":
        return constant(0.0, value.shape)
    if local == "running_var":
        return constant(1.0, value.shape)
    return random(value.shape, 1e4)


def seen(tensor: Tensor) -> Kernel:
    """Return the kernel of a parameter by its values: parts of unlike power along its first or last axis are told apart."""
    if tensor.numel() == 0:
        return random(tensor.shape, 0.0)
    if tensor.numel() > _WHOLE:
        flat = tensor.float()
        return random(tensor.shape, float(flat.square().mean()), float(flat.mean()))
    numbers = tensor.double().cpu().numpy()
    shape, dims = _uneven(numbers)
    if shape is None:
        return observed(numbers)
    return observed(numbers.reshape(shape), dims).reshaped(numbers.shape)


def _uneven(numbers: Array) -> tuple[tuple[int, ...] | None, list[int]]:
    """Return the shape and its axes in which a weight has parts of unlike power."""
    if numbers.ndim >= 3:
        taps = (numbers**2).mean((0, 1))
        if taps.size > 1 and taps.max() > 1.5 * taps.min() and numbers.shape[0] * numbers.shape[1] >= 64:
            return numbers.shape, list(range(2, numbers.ndim))
        return None, []
    if numbers.ndim != 2:
        return None, []
    for dim in (0, 1):
        for blocks in _BLOCKS:
            size = numbers.shape[dim]
            if size % blocks or size // blocks < 4:
                continue
            shape = (*numbers.shape[:dim], blocks, size // blocks, *numbers.shape[dim + 1 :])
            powers = (numbers.reshape(shape) ** 2).mean(tuple(d for d in range(3) if d != dim))
            noise = 1 + 6 * math.sqrt(2 / (numbers.size / blocks))
            if powers.max() > max(_UNEVEN, noise) * max(powers.min(), 1e-300):
                return shape, [dim]
    return None, []


def _planned(row: PlanRow) -> Kernel:
    if row.distribution == "constant":
        return _constant(row)
    mean = float(row.options.get("mean", 0.0))
    if row.slices and any(part.std is not None for part in row.slices):
        return _sliced(row, mean)
    made = random(row.shape, (row.std or 0.0) ** 2 + mean**2, mean)
    return _structured(row, made)


def _constant(row: PlanRow) -> Kernel:
    """Return the kernel of a constant, which may be another in each slice."""
    value = float(row.options.get("value", 0.0))
    if not any("value" in part.options for part in row.slices):
        return constant(value, row.shape)
    axis = row.slices[0].axis % len(row.shape)
    step = math.gcd(*(edge for part in row.slices for edge in (part.start, part.stop)))
    values = np.full(row.shape[axis] // step, value)
    for part in row.slices:
        values[part.start // step : part.stop // step] = float(part.options.get("value", value))
    shape = (*[1] * axis, len(values), *[1] * (len(row.shape) - axis))
    blocks = observed(values.reshape(shape), [axis])
    return blocks.broadcast((*row.shape[:axis], len(values), step, *row.shape[axis + 1 :])).reshaped(row.shape)


def _sliced(row: PlanRow, mean: float) -> Kernel:
    """Return the kernel of a packed weight: blocks of rows as long as all slices allow, told apart."""
    axis = row.slices[0].axis % len(row.shape)
    step = math.gcd(*(edge for part in row.slices for edge in (part.start, part.stop)))
    blocks = row.shape[axis] // step
    powers = np.empty(blocks)
    for part in row.slices:
        std = part.std if part.std is not None else row.std or 0.0
        powers[part.start // step : part.stop // step] = std**2
    shape = (*row.shape[:axis], blocks, step, *row.shape[axis + 1 :])
    made = random(shape, 1.0 + mean**2, mean).resolve(axis)
    if blocks == 1 or not made.dims[axis]:
        return random(row.shape, float(powers.mean()) + mean**2, mean)
    place = made.axes(axis)[0]
    index = tuple(slice(1, None) if a == place else 1 for a in range(made.pairs.ndim))
    made.pairs[index] = powers + mean**2
    return made.reshaped(row.shape)


def _structured(row: PlanRow, made: Kernel) -> Kernel:
    """Return a kernel with what a distribution's structure adds: rows that sum to 0, mirrored blocks, a centre tap."""
    taps = row.shape[2:]
    if row.distribution == "centred-orthogonal" and made.pairs.ndim == 2:
        made.pairs[1, 0] = -made.pairs[1, 1] / (row.shape[1] - 1)
    elif row.distribution == "looks-linear" and len(row.shape) >= 2:
        made = _mirrored(row, made)
    if taps and _at_centre(row):
        made = _centre_tap(made, taps)
    return made


def _mirrored(row: PlanRow, made: Kernel) -> Kernel:
    mirror = str(row.options.get("mirror", "both"))
    shape = list(row.shape)
    halves = [d for d, word in ((0, "rows"), (1, "columns")) if mirror in (word, "both") and shape[d] % 2 == 0]
    cut = [part for d, size in enumerate(shape) for part in ((2, size // 2) if d in halves else (size,))]
    made = random(cut, made.second)
    where = [d + sum(h < d for h in halves) for d in halves]
    for place in np.ndindex(*[2] * len(where)):
        index = [1] * made.pairs.ndim
        for d, bit in zip(where, place, strict=True):
            if made.dims[d]:
                index[made.axes(d)[0]] = bit
        made.pairs[tuple(index)] = made.second * (-1) ** place.count(0)
    return made.reshaped(row.shape)


def _centre_tap(made: Kernel, taps: tuple[int, ...]) -> Kernel:
    first = len(made.dims) - len(taps)
    count = math.prod(taps)
    for i, size in enumerate(taps):
        matrix = np.zeros(size)
        matrix[size // 2] = 1.0
        made = made.resolve(first + i)
        if not made.dims[first + i]:
            continue
        place = made.axes(first + i)[0]
        shape = [1] * made.pairs.ndim
        shape[place] = size + 1
        made = Kernel(made.dims, made.pairs * np.concatenate([[0.0], matrix]).reshape(shape), made.mean)
    return made.scaled(math.sqrt(count))


def inputs(graph: Graph, example: Mapping[Value, Tensor]) -> dict[Value, State]:
    """Return the states of the example's tensors: their numbers, or standard normal ones where it has none.

    Token numbers without values have no state of their own: rows are looked up at random.
    """
    states: dict[Value, State] = {}
    for value, tensor in example.items():
        if tensor.device.type != "meta":
            states[value] = State(known=tensor.detach().cpu())
        else:
            states[value] = State(made=random(value.shape, 1.0) if value.floating else random(value.shape, 1.0, 0.5))
    return states
