"""Whether a model can be trained as one program with copies of itself: tried out on two copies, and said why not."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from firstlight.race.jobs import tensors
from firstlight.race.stack import Stack
from firstlight.race.tasks import Task

_EXAMPLES = 4
_SHOWN = 120  # letters of torch's own words


def why_alone(model: nn.Module, task: Task) -> str | None:
    """Return why runs of this model have to be trained one at a time, None if they can be one program.

    One training step of two copies, side by side, must give the losses, gradients and buffers that each gives alone.
    On a CPU a model that convolves is trained alone, because there batched convolutions are slower than single ones.
    """
    kinds = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if len(kinds) > 1:
        return f"its parameters have {len(kinds)} dtypes"
    inputs, targets = task.batch(_EXAMPLES)
    alone = copy.deepcopy(model).train()
    try:
        with _generator(), _Operators() as seen:
            loss = task.loss(alone(inputs), targets)
            wanted = torch.autograd.grad(loss, [p for p in alone.parameters() if p.requires_grad], allow_unused=True)
    except Exception as error:  # the user's code; what it says is told when a run of its own fails on it
        return _words(error)
    if any(gradient is None for gradient in wanted):
        return "some of its parameters get no gradient"
    if seen.convolves and inputs.device.type == "cpu":
        return "it convolves, and on a CPU that is faster one run at a time"
    stack = Stack(copy.deepcopy(model), [tensors(copy.deepcopy(model)) for _ in range(2)])
    try:
        with _generator(), warnings.catch_warnings():
            warnings.filterwarnings("error", "There is a performance drop")
            losses = stack.losses(task, inputs.expand(2, *inputs.shape), targets.expand(2, *targets.shape))
            stack.backward(losses)
    except Exception as error:  # whatever code of the user's does when it is given two models at once
        return _words(error)
    largest = max(float(gradient.abs().max()) for gradient in wanted if gradient.numel())
    same = _near(losses, loss) and all(_near(a, b, largest) for a, b in zip(stack.gradients, wanted, strict=True))
    same = same and all(
        _near(stack.fixed[name], value) for name, value in tensors(alone).items() if name in stack.fixed
    )
    return None if same else "its copies side by side do not give what it gives alone"


class _Operators(TorchDispatchMode):
    """Notes whether a convolution ran."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own is not annotated
        self.convolves = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.convolves = self.convolves or "convolution" in func.__name__
        return func(*args, **(kwargs or {}))


@contextmanager
def _generator() -> Iterator[None]:
    """Put the global generator back afterwards: a model with dropout draws from it."""
    with torch.random.fork_rng(devices=[]):
        yield


def _near(copies: Tensor, one: Tensor, size: float | None = None) -> bool:
    """Whether each copy is the one, to what another order of additions may change; size: that of what was added up."""
    largest = size if size is not None else float(one.detach().double().abs().max()) if one.numel() else 0.0
    return torch.allclose(
        copies.double(), one.double().expand_as(copies), rtol=1e-3, atol=1e-4 * largest, equal_nan=True
    )


def _words(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "randomness" in text:
        return "it draws random numbers as it trains (dropout)"
    if "performance drop" in text or "Batching rule not implemented" in text:
        name = next((word for word in text.replace(".", " ").split() if word.startswith("aten::")), "an operator")
        return f"torch cannot batch {name}"
    if "data-dependent" in text or ".item()" in text:
        return "what it does depends on values"
    return f"torch cannot batch it: {text[:_SHOWN]}"
