"""The vectors u and v of spectral normalisation: torch's own power iteration on the weight, once the weight has its values.

They cannot be computed before the weight is there, as other buffers are (compute.py). The iteration starts from what
torch draws under a seed of the module's own; the global generator is put back.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm, spectral_norm

from firstlight.model.generators import own_generators
from firstlight.model.roles import Entry
from firstlight.model.shards import is_sharded
from firstlight.random import key

_STEPS = 15  # of the power iteration, as torch's parametrization takes when it is registered


def is_spectral(model: nn.Module, entry: Entry) -> bool:
    """Whether a buffer is u or v of a spectral norm whose weight this process holds whole."""
    if not entry.is_buffer or (_hook(entry) is None and _list(model, entry) is None):
        return False
    return not is_sharded(_weight(model, entry))


def vector(model: nn.Module, entry: Entry, seed: int) -> torch.Tensor:
    """Return u or v for the weight as it now is; of the model nothing changes."""
    hook, owner = _hook(entry), entry.names[0].rpartition(".")[0]
    with own_generators(key(seed, f"{owner}/spectral")), torch.no_grad():
        if hook is not None:
            return _by_hook(entry, hook, _weight(model, entry))
        module: Any = entry.module
        made = _SpectralNorm(_input(model, entry), module.n_power_iterations, module.dim, module.eps)
        found: torch.Tensor = getattr(made, entry.local)
        return found


def _by_hook(entry: Entry, hook: SpectralNorm, weight: torch.Tensor) -> torch.Tensor:
    stand_in = nn.Module()
    stand_in.register_parameter(hook.name, nn.Parameter(weight.detach(), requires_grad=False))
    spectral_norm(stand_in, hook.name, _STEPS, hook.eps, hook.dim)
    next(iter(stand_in._forward_pre_hooks.values()))(stand_in, ())
    found: torch.Tensor = getattr(stand_in, entry.local)
    return found


def _hook(entry: Entry) -> SpectralNorm | None:
    hooks = (hook for hook in entry.module._forward_pre_hooks.values() if isinstance(hook, SpectralNorm))
    return next((hook for hook in hooks if entry.local in (f"{hook.name}_u", f"{hook.name}_v")), None)


def _list(model: nn.Module, entry: Entry) -> ParametrizationList | None:
    """Return the parametrizations of the weight that u or v is of."""
    if not isinstance(entry.module, _SpectralNorm) or entry.local not in ("_u", "_v"):
        return None
    around = model.get_submodule(entry.owner.rpartition(".")[0])
    return around if isinstance(around, ParametrizationList) else None


def _weight(model: nn.Module, entry: Entry) -> torch.Tensor:
    hook = _hook(entry)
    holder: Any = entry.module if hook is not None else _list(model, entry)
    weight: torch.Tensor = getattr(holder, f"{hook.name}_orig" if hook is not None else "original")
    return weight


def _input(model: nn.Module, entry: Entry) -> torch.Tensor:
    """Return what the parametrization is given: the weight as those before it have made it."""
    made = _weight(model, entry).detach()
    for before in _list(model, entry) or ():
        if before is entry.module:
            break
        made = before(made)
    return made
