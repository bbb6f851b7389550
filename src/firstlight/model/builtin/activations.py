"""The `act` option of built-in models: canonical names of activations, those of them that are torch.nn modules."""

from collections.abc import Callable

from torch import nn

from firstlight.model.spec import Option

_MODULES: dict[str, Callable[[], nn.Module]] = {
    "celu": nn.CELU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"),
    "hardshrink": nn.Hardshrink,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardtanh": nn.Hardtanh,
    "leaky_relu": nn.LeakyReLU,
    "linear": nn.Identity,
    "logsigmoid": nn.LogSigmoid,
    "mish": nn.Mish,
    "prelu": nn.PReLU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "softshrink": nn.Softshrink,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "tanhshrink": nn.Tanhshrink,
}


def act_option(default: str) -> Option:
    """Return the option `act` with this default."""
    return Option("act", default, "activation between layers", "word", choices=tuple(sorted(_MODULES)))


def activation(name: str) -> nn.Module:
    """Return a new module for an activation's canonical name, with torch's default parameters."""
    return _MODULES[name]()


ACT = act_option("relu")
