"""Tensors that modules compute (rotary tables, masks, the A of a state space): made anew by the code that made them.

Either a builder makes the whole model again, its parameters without memory, or each module's own reset method runs on a
copy of the model in which nothing else holds memory. A method is run twice, on other rubbish in memory; what agrees is what
its code determines. Code that draws finds the global generators seeded from the seed and its module's name, and put back
afterwards. The model is not touched.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from firstlight.errors import PlanError
from firstlight.model.generators import own_generators
from firstlight.model.roles import Entry
from firstlight.random import key

Builder = Callable[[], nn.Module]

_METHODS = (  # without arguments; the names in use, those that mean buffers first
    "reset_buffers",
    "_reset_buffers",
    "init_buffers",
    "_init_buffers",
    "reset_running_stats",
    "reset_parameters",
    "_reset_parameters",
    "init_weights",
    "_init_weights",
)


def compute(
    model: nn.Module, wanted: Sequence[Entry], rebuild: Builder | None, seed: int
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the values of those tensors that code determines, on the CPU, and what went wrong with others; by first name.

    Args:
        model: only read.
        wanted: entries of the tensors that modules compute.
        rebuild: builds the model anew; without it the modules' own methods are tried.
        seed: of the global generators while code runs.

    Raises:
        PlanError: if `rebuild` raises, or makes another model.
    """
    if not wanted:
        return {}, {}
    if rebuild is not None:
        return _from_builder(wanted, rebuild, seed), {}
    return _from_methods(model, wanted, seed)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one shape and dtype hold the same bits, signs of zero and kinds of NaN included."""
    left, right = (t.detach().cpu().reshape(-1).contiguous().view(torch.uint8) for t in (one, other))
    return torch.equal(left, right)


def _from_builder(wanted: Sequence[Entry], rebuild: Builder, seed: int) -> dict[str, torch.Tensor]:
    owned = {(type(entry.module), entry.local) for entry in wanted}

    def without_memory(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or is_lazy(parameter) or (type(module), name) in owned:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook: Any = without_memory  # torch's annotation forgets that a hook may return a parameter
    handle = nn.modules.module.register_module_parameter_registration_hook(hook)
    try:
        with own_generators(seed), torch.device("cpu"):
            made = rebuild()
    except Exception as error:  # a user's code may raise anything
        raise PlanError(
            f"rebuild= raised {type(error).__name__}: {' '.join(str(error).split())}. It must build the model on the CPU; "
            "its parameters are put on the meta device as they are registered. No parameter was changed."
        ) from error
    finally:
        handle.remove()
    return {entry.names[0]: _rebuilt(made, entry) for entry in wanted}


def _rebuilt(made: nn.Module, entry: Entry) -> torch.Tensor:
    name, shape = entry.names[0], tuple(entry.tensor.shape)
    named = (*made.named_buffers(remove_duplicate=False), *made.named_parameters(remove_duplicate=False))
    found: torch.Tensor | None = dict(named).get(name)
    if found is None or found.is_meta or tuple(found.shape) != shape:
        what = "no such tensor" if found is None else f"it on {found.device} with shape {tuple(found.shape)}"
        raise PlanError(
            f"'{name}' {shape}: the model that rebuild= builds has {what}. Give the function that built this model, on the "
            "CPU. No parameter was changed."
        )
    return found.detach().to(entry.tensor.dtype)


def _from_methods(
    model: nn.Module, wanted: Sequence[Entry], seed: int
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    copies = [_Copy(model, wanted, rubbish) for rubbish in (0, 1)]
    values: dict[str, torch.Tensor] = {}
    failed: dict[str, str] = {}
    for owner in dict.fromkeys(entry.owner for entry in wanted):
        entries = [entry for entry in wanted if entry.owner == owner]
        for number in range(len(copies[0].ways(owner))):
            said = [copy.run(owner, number, key(seed, f"{owner}/recomputed")) for copy in copies]
            failed.update({entry.names[0]: said[0] for entry in entries if said[0]})
            for entry in entries:
                one, other = (copy.value(entry) for copy in copies)
                if one is not None and other is not None and same_bits(one, other):
                    values.setdefault(entry.names[0], one.clone())
            if all(entry.names[0] in values for entry in entries):
                break
    return values, failed


class _Copy:
    """A copy of a model in which only the wanted tensors have memory, filled with a number that means nothing."""

    def __init__(self, model: nn.Module, wanted: Sequence[Entry], rubbish: int) -> None:
        self._tensors: dict[int, torch.Tensor] = {}
        for entry in wanted:
            filled = torch.full(entry.tensor.shape, rubbish, dtype=entry.tensor.dtype, device="cpu")
            self._tensors[id(entry.tensor)] = _like(entry.tensor, filled)
        self._modules: dict[int, nn.Module] = {}
        self.model = self._module(model)

    def ways(self, owner: str) -> list[Callable[[], Any]]:
        """Return what may compute the tensors of a module, as calls on this copy.

        First what Hugging Face and timm write: the nearest model around it initialises the module, then those it stands in.
        """
        above = list(self._above(owner))
        depth = next((n for n, holder in enumerate(above) if _required(_init_weights(holder)) == 1), None)
        named = [getattr(above[0], name, None) for name in _METHODS]
        found = [method for method in named if callable(method) and _required(method) == 0]
        if depth is None:
            return found
        initialise = _init_weights(above[depth])
        return [lambda: [initialise(module) for module in above[: depth + 1]], *found]

    def run(self, owner: str, number: int, seed: int) -> str:
        """Run one of the ways; return what was raised, or ''."""
        try:
            with own_generators(seed), torch.device("cpu"), torch.no_grad():
                self.ways(owner)[number]()
        except Exception as error:  # a user's code may raise anything; what it said is told where no way is left
            return f"{type(error).__name__}: {' '.join(str(error).split())}"
        return ""

    def value(self, entry: Entry) -> torch.Tensor | None:
        """Return what the copy's tensor holds, or None where it has become something else."""
        owner = self.model.get_submodule(entry.owner)
        found = owner._buffers.get(entry.local) if entry.is_buffer else owner._parameters.get(entry.local)
        if found is None or found.is_meta or found.shape != entry.tensor.shape:
            return None
        return found.detach().to(device="cpu", dtype=entry.tensor.dtype)

    def _above(self, owner: str) -> Iterator[nn.Module]:
        """Yield the module and those it stands in, from the inside out."""
        parts = owner.split(".") if owner else []
        for length in range(len(parts), -1, -1):
            yield self.model.get_submodule(".".join(parts[:length]))

    def _module(self, module: nn.Module) -> nn.Module:
        if id(module) not in self._modules:
            copy = self._modules[id(module)] = object.__new__(type(module))
            for key, value in vars(module).items():
                copy.__dict__[key] = {} if "_hooks" in key and isinstance(value, dict) else self._value(value)
        return self._modules[id(module)]

    def _value(self, value: Any) -> Any:
        """Return what stands for an attribute's value: no tensor or module of the model itself is within reach."""
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, nn.Module):
            return self._module(value)
        if type(value) in (list, tuple):
            return type(value)(self._value(item) for item in value)
        if type(value) in (dict, OrderedDict):
            return type(value)((key, self._value(item)) for key, item in value.items())
        return set(value) if type(value) is set else value

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self._tensors:
            self._tensors[id(tensor)] = _like(tensor, torch.empty(tensor.shape, dtype=tensor.dtype, device="meta"))
        return self._tensors[id(tensor)]


def _like(tensor: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    return nn.Parameter(made, requires_grad=False) if isinstance(tensor, nn.Parameter) else made


def _init_weights(module: nn.Module) -> Any:
    return getattr(module, "_init_weights", None)


def _required(method: Any) -> int:
    """Return how many arguments a method must be given; -1 where it cannot be told."""
    try:
        parameters = inspect.signature(method).parameters.values()
    except (TypeError, ValueError):
        return -1
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return sum(p.default is inspect.Parameter.empty and p.kind not in free for p in parameters)
