"""Activations: one canonical name for each, its function, and which torch.nn module is which."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstlight.errors import OptionError, did_you_mean


@dataclass(frozen=True, slots=True)
class Activation:
    """An elementwise function of (x, param). param is the default of its one parameter, None where it has none."""

    function: Callable[[Tensor, float], Tensor]
    param: float | None = None


ACTIVATIONS: dict[str, Activation] = {
    "celu": Activation(lambda x, alpha: F.celu(x, alpha), 1.0),
    "elu": Activation(lambda x, alpha: F.elu(x, alpha), 1.0),
    "exp": Activation(lambda x, _: torch.exp(x)),
    "gelu": Activation(lambda x, _: F.gelu(x)),
    "gelu_tanh": Activation(lambda x, _: F.gelu(x, approximate="tanh")),
    "hardshrink": Activation(lambda x, width: F.hardshrink(x, width), 0.5),
    "hardsigmoid": Activation(lambda x, _: F.hardsigmoid(x)),
    "hardswish": Activation(lambda x, _: F.hardswish(x)),
    "hardtanh": Activation(lambda x, _: F.hardtanh(x)),
    "leaky_relu": Activation(lambda x, slope: F.leaky_relu(x, slope), 0.01),
    "linear": Activation(lambda x, _: x * 1.0),
    "logsigmoid": Activation(lambda x, _: F.logsigmoid(x)),
    "mish": Activation(lambda x, _: F.mish(x)),
    "prelu": Activation(lambda x, slope: F.leaky_relu(x, slope), 0.25),
    "quickgelu": Activation(lambda x, _: x * torch.sigmoid(1.702 * x)),
    "relu": Activation(lambda x, _: F.relu(x)),
    "relu6": Activation(lambda x, _: F.relu6(x)),
    "relu_squared": Activation(lambda x, _: F.relu(x).square()),
    "selu": Activation(lambda x, _: F.selu(x)),
    "sigmoid": Activation(lambda x, _: torch.sigmoid(x)),
    "silu": Activation(lambda x, _: F.silu(x)),
    "sin": Activation(lambda x, _: torch.sin(x)),
    "softplus": Activation(lambda x, beta: F.softplus(x, beta), 1.0),
    "softshrink": Activation(lambda x, width: F.softshrink(x, width), 0.5),
    "softsign": Activation(lambda x, _: F.softsign(x)),
    "tanh": Activation(lambda x, _: torch.tanh(x)),
    "tanhshrink": Activation(lambda x, _: F.tanhshrink(x)),
}
SYNONYMS = {"swish": "silu", "identity": "linear", "hard_swish": "hardswish", "relu2": "relu_squared", "sine": "sin"}

_MODULES: dict[type[nn.Module], tuple[str, str | None]] = {
    nn.CELU: ("celu", "alpha"),
    nn.ELU: ("elu", "alpha"),
    nn.Hardshrink: ("hardshrink", "lambd"),
    nn.Hardsigmoid: ("hardsigmoid", None),
    nn.Hardswish: ("hardswish", None),
    nn.LeakyReLU: ("leaky_relu", "negative_slope"),
    nn.LogSigmoid: ("logsigmoid", None),
    nn.Mish: ("mish", None),
    nn.ReLU: ("relu", None),
    nn.ReLU6: ("relu6", None),
    nn.SELU: ("selu", None),
    nn.Sigmoid: ("sigmoid", None),
    nn.SiLU: ("silu", None),
    nn.Softplus: ("softplus", "beta"),
    nn.Softshrink: ("softshrink", "lambd"),
    nn.Softsign: ("softsign", None),
    nn.Tanh: ("tanh", None),
    nn.Tanhshrink: ("tanhshrink", None),
}


def canonical(name: str) -> str:
    """Return the canonical name of an activation, or raise OptionError with the nearest one."""
    word = SYNONYMS.get(name, name)
    if word not in ACTIVATIONS:
        near = did_you_mean(str(name), [*ACTIVATIONS, *SYNONYMS])
        raise OptionError(f"'{name}' is not a known activation. Choose one of {', '.join(ACTIVATIONS)}.{near}")
    return word


def function(name: str, param: float | None = None) -> Callable[[Tensor], Tensor]:
    """Return the activation as a function of a tensor, differentiable, with its parameter filled in.

    Raises:
        OptionError: if the name is unknown, or a parameter is given to an activation that has none.
    """
    word = canonical(name)
    activation = ACTIVATIONS[word]
    if param is not None and activation.param is None:
        raise OptionError(f"activation '{word}' has no parameter, got {param}. Leave it out.")
    value = activation.param if param is None else float(param)
    return lambda x: activation.function(x, 0.0 if value is None else value)


def activation_of(module: nn.Module) -> tuple[str, float | None] | None:
    """Return (canonical name, parameter) of a torch.nn activation module, None for any other module.

    Example:
        >>> activation_of(nn.LeakyReLU(0.2)), activation_of(nn.Linear(1, 1))
        (('leaky_relu', 0.2), None)
    """
    if isinstance(module, nn.GELU):
        return ("gelu" if module.approximate == "none" else "gelu_tanh"), None
    if isinstance(module, nn.Hardtanh) and type(module) is nn.Hardtanh:
        return ("hardtanh", None) if (module.min_val, module.max_val) == (-1.0, 1.0) else None
    if isinstance(module, nn.PReLU):
        return "prelu", float(module.weight.detach().float().mean()) if module.weight.device.type != "meta" else 0.25
    if isinstance(module, nn.RReLU):
        return "leaky_relu", (module.lower + module.upper) / 2
    found = _MODULES.get(type(module))
    if found is None:
        return None
    name, attribute = found
    return name, None if attribute is None else float(getattr(module, attribute))
