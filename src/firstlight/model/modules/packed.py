"""Tensors that hold several weights, along their first axis: gates of recurrent cells; q, k and v of attention."""

from typing import Any

from torch import nn

from firstlight.model.modules.use import Use
from firstlight.model.tensors import Slice

_GATES: dict[str, tuple[str, ...]] = {  # in torch's order
    "LSTM": ("input", "forget", "cell", "output"),
    "GRU": ("reset", "update", "new"),
    "RNN": ("hidden",),
}


def attention(module: nn.MultiheadAttention, local: str, shape: tuple[int, ...]) -> Use | None:
    """Return the use of a tensor of nn.MultiheadAttention; its output projection is a linear layer of its own."""
    if local == "in_proj_weight":
        slices = _slices(("query", "key", "value"), module.embed_dim, shape[1])
        return Use("weight", shape[1], module.embed_dim, slices, activation="linear")
    if local in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
        return Use("weight", shape[1], shape[0], activation="linear")
    if local in ("bias_k", "bias_v"):  # a key and a value that every query sees, of shape (1, 1, embed_dim)
        return Use("bias", None, None)
    return Use("bias") if local == "in_proj_bias" else None


def recurrent(module: nn.RNNBase, local: str, shape: tuple[int, ...]) -> Use | None:
    """Return the use of a tensor of nn.RNN, nn.LSTM or nn.GRU: gates are slices, each with the fans of one gate."""
    mode = module.mode
    gates = _GATES[mode.partition("_")[0]]
    activation = {"RNN_TANH": "tanh", "RNN_RELU": "relu"}.get(mode)
    return _gated(local, shape, gates, activation)


def recurrent_cell(module: Any, local: str, shape: tuple[int, ...]) -> Use | None:
    """Return the use of a tensor of nn.RNNCell, nn.LSTMCell or nn.GRUCell."""
    kind = type(module).__mro__
    gates = next(_GATES[base.__name__.removesuffix("Cell")] for base in kind if base.__name__[:-4] in _GATES)
    return _gated(local, shape, gates, getattr(module, "nonlinearity", None))


def _gated(local: str, shape: tuple[int, ...], gates: tuple[str, ...], activation: str | None) -> Use | None:
    if local.startswith("bias"):
        return Use("bias")
    if local.startswith("weight_hr"):  # the LSTM's projection of its hidden state
        return Use("recurrent-weight", shape[1], shape[0], activation="linear")
    if not local.startswith(("weight_ih", "weight_hh")):
        return None
    role = "weight" if local.startswith("weight_ih") else "recurrent-weight"
    rows = shape[0] // len(gates)
    slices = _slices(gates, rows, shape[1]) if len(gates) > 1 else ()
    return Use(role, shape[1], rows, slices, activation=activation)


def _slices(names: tuple[str, ...], rows: int, fan_in: int) -> tuple[Slice, ...]:
    return tuple(Slice(name, i * rows, (i + 1) * rows, fan_in, rows) for i, name in enumerate(names))
