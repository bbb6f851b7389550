"""Forward and backward pass of a chain of linear layers and activations in Numba: all layers of all copies in one call.

Nothing of Python runs between the layers and no lock is held, so two threads train two batches at once. Activations are kept
turned, (features, examples), and a product is cut by rows into pieces of at most 10^6 multiplications: up to that size OpenBLAS
has kernels for AVX-512 that read matrices as they lie instead of copying them first, for every form of product but a · bᵀ,
which is not used here. Imported only when used, because Numba is slow to import.
"""

from typing import Any

import numpy as np
from numba import njit

WEIGHT, BIAS, IN, OUT, ACTIVATION, KEPT = range(6)  # columns of a table of layers; KEPT: a place in features
LINEAR, TANH, RELU, SIGMOID = range(4)
ACTIVATIONS = {"linear": LINEAR, "tanh": TANH, "relu": RELU, "sigmoid": SIGMOID}
NO_BIAS = -1
_PIECE, _LANES = 10**6, 16  # multiplications of a piece at most; its rows are a multiple of a vector's lanes

f32: Any = np.float32
_HALF, _ONE, _TWO = f32(0.5), f32(1), f32(2)
_FLAT = f32(9.5)  # from here on tanh is 1 in float32
# (u + u³/9 + u⁵/945) / (1 + 4u²/9 + u⁴/63): Lambert's fraction x / (1 + x² / (3 + x² / (5 + …))) up to the 9, multiplied out
_N1, _N2, _D1, _D2 = f32(1 / 9), f32(1 / 945), f32(4 / 9), f32(1 / 63)
_LOW = f32(-87)  # the sigmoid of less is that of this, 1.6e-38: float32's normal numbers end there
_WHOLE = f32(1.5 * 2**23 + 127)  # the last bit of a float32 of this size stands for 1; 127 is the exponent's offset
# ln 2 in two parts, as Cephes has it: the first has nine bits, so a whole number of up to 15 bits times it is exact
_LOG2_E, _LN2_HIGH, _LN2_LOW = f32(1.4426950408889634), f32(0.693359375), f32(-2.12194440e-4)

Array = np.ndarray[Any, Any]


@njit(nogil=True, cache=True, error_model="numpy")
def forward(x: Array, rows: Array, table: Array, kept: Array, logits: Array) -> None:
    """Write every copy's logits, and what its layers give, turned.

    Args:
        x: (R, N, in), or one copy's (1, N, in) for all.
        rows: (R, P): the weights of a copy side by side.
        table: (L, 6): a line a layer.
        kept: (R, …), room for N examples where the table's last column says, or (1, …) that all copies write over.
        logits: (R, N, out).
    """
    examples, width = x.shape[1:]
    first = np.empty((width, examples), f32)
    for copy in range(len(rows)):
        before = first
        _turn(x[copy % len(x)], before)
        for layer in table:
            out = _output(kept[copy % len(kept)], layer, examples)
            _product(_weight(rows[copy], layer), before, out)
            _activate(out, rows[copy], layer)
            before = out
        _turn(before, logits[copy])


@njit(nogil=True, cache=True, error_model="numpy")
def backward(x: Array, rows: Array, table: Array, kept: Array, above: Array, gradient: Array) -> None:
    """Write the gradient of every copy's weights.

    Args:
        x, rows, table: as `forward` had them.
        kept: what it wrote, of all copies.
        above: (R, N, out): the gradient of the logits.
        gradient: (R, P).
    """
    examples = x.shape[1]
    widest = max(table[:, IN].max(), table[:, OUT].max()) * examples
    scratch = np.empty((4, widest), f32)
    here, below, part, turned = scratch[0], scratch[1], scratch[2], scratch[3]
    ones = np.ones(examples, f32)
    for copy in range(len(rows)):
        _turn(above[copy], here[: above[copy].size].reshape(above.shape[2], examples))
        for place in range(len(table) - 1, -1, -1):
            layer = table[place]
            out = _output(kept[copy], layer, examples)
            _derive(here, out.reshape(-1), layer[ACTIVATION])
            arrived = here[: out.size].reshape(out.shape)
            given = x[copy]
            if place > 0:
                given = turned[: layer[IN] * examples].reshape(examples, layer[IN])
                _turn(_output(kept[copy], table[place - 1], examples), given)
            _product(arrived, given, _weight(gradient[copy], layer))
            if layer[BIAS] != NO_BIAS:
                np.dot(arrived, ones, gradient[copy, layer[BIAS] : layer[BIAS] + layer[OUT]])
            if place > 0:
                _pull(_weight(rows[copy], layer), arrived, below, part)
                here, below = below, here


@njit(error_model="numpy")
def _weight(row: Array, layer: Array) -> Any:
    size = layer[OUT] * layer[IN]
    return row[layer[WEIGHT] : layer[WEIGHT] + size].reshape(layer[OUT], layer[IN])


@njit(error_model="numpy")
def _output(kept: Array, layer: Array, examples: int) -> Any:
    first = layer[KEPT] * examples
    return kept[first : first + layer[OUT] * examples].reshape(layer[OUT], examples)


@njit(error_model="numpy")
def _turn(a: Array, out: Array) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = a[j, i]


@njit(error_model="numpy")
def _rows_of_a_piece(rows: int, others: int) -> int:
    """Return into how many rows a product is cut whose rows take so many multiplications; all, if pieces would be too thin."""
    fit = _PIECE // others // _LANES * _LANES
    return fit if 0 < fit < rows else rows


@njit(error_model="numpy")
def _product(a: Array, b: Array, out: Array) -> None:
    """Write a · b."""
    piece = _rows_of_a_piece(len(a), b.size)
    for first in range(0, len(a), piece):
        np.dot(a[first : first + piece], b, out[first : first + piece])


@njit(error_model="numpy")
def _pull(weight: Array, above: Array, below: Array, part: Array) -> None:
    """Write weightᵀ · above into the beginning of below, as a sum over pieces of their rows."""
    wide, examples = weight.shape[1], above.shape[1]
    size = wide * examples
    piece = _rows_of_a_piece(len(weight), size)
    for first in range(0, len(weight), piece):
        into = below if first == 0 else part
        out = into[:size].reshape(wide, examples)
        np.dot(weight[first : first + piece].T, above[first : first + piece], out)
        if first > 0:
            for i in range(size):
                below[i] += part[i]


@njit(error_model="numpy")
def _activate(out: Array, row: Array, layer: Array) -> None:
    """Add the bias and apply the activation."""
    kind = layer[ACTIVATION]
    for feature in range(len(out)):
        values = out[feature]
        bias = row[layer[BIAS] + feature] if layer[BIAS] != NO_BIAS else f32(0)
        for i in range(values.size):
            values[i] += bias
        if kind == TANH:
            for i in range(values.size):
                values[i] = _tanh(values[i])
        elif kind == RELU:
            for i in range(values.size):
                values[i] = f32(0) if values[i] < f32(0) else values[i]
        elif kind == SIGMOID:
            for i in range(values.size):
                values[i] = _sigmoid(values[i])


@njit(error_model="numpy")
def _derive(gradient: Array, out: Array, kind: int) -> None:
    """Multiply the beginning of the gradient by the activation's derivative, which its output tells."""
    if kind == TANH:
        for i in range(out.size):
            gradient[i] *= _ONE - out[i] * out[i]
    elif kind == RELU:
        for i in range(out.size):
            gradient[i] = f32(0) if out[i] <= f32(0) else gradient[i]
    elif kind == SIGMOID:
        for i in range(out.size):
            gradient[i] *= (_ONE - out[i]) * out[i]


@njit(error_model="numpy")
def _fraction(u: Any) -> Any:
    """Return two numbers whose ratio is tanh u; all terms have one sign, so nothing cancels."""
    z = u * u
    return u * (_ONE + z * (_N1 + z * _N2)), _ONE + z * (_D1 + z * _D2)


@njit(error_model="numpy")
def _tanh(x: Any) -> Any:
    """Return tanh, right to 5e-7 of itself, from that of x / 4: tanh 2u = 2 tanh u / (1 + tanh² u), twice."""
    x = _FLAT if x > _FLAT else x
    x = -_FLAT if x < -_FLAT else x
    n, d = _fraction(x * f32(0.25))
    n, d = _TWO * n * d, n * n + d * d
    n, d = _TWO * n * d, n * n + d * d
    return n / d


@njit(error_model="numpy")
def _sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e⁻ˣ), right to 5e-7 of itself, from e⁻ˣ = 2ᵏ · (1 - tanh u) / (1 + tanh u) with x = 2u - k ln 2."""
    x = _LOW if x < _LOW else x
    x = -_LOW if x > -_LOW else x
    shifted = _WHOLE - x * _LOG2_E  # k in its last bits: adding so large a number rounds
    k = shifted - _WHOLE
    n, d = _fraction(_HALF * ((x + k * _LN2_HIGH) + k * _LN2_LOW))
    power = np.uint32(f32(shifted).view(np.uint32) << np.uint32(23)).view(f32)  # the last bits become the exponent
    return (d + n) / ((d + n) + power * (d - n))
