"""Learning rates that suit a start, from one backward pass and no label."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firstlight.errors import MeasureError, OptionError
from firstlight.model.example import arguments
from firstlight.random.stream import key
from firstlight.signal.call import check_model

LOSSES = ("cross-entropy", "squared-error")
_EXAMPLES = 128  # of the batch that was used when the two constants were chosen

# Chosen on the zoo under `auto` (benchmarks/learning_rates.py, docs/learning-rates.md).
_ADAM = 0.5  # change of the loss, to first order, in Adam's first step
_MOMENTUM = 0.01  # length of the first step of SGD with momentum 0.9


def learning_rates(
    model: nn.Module, example: Any, *, loss: Literal["cross-entropy", "squared-error"] = "cross-entropy", seed: int = 0
) -> dict[str, float]:
    """Return learning rates for Adam and for SGD with momentum 0.9 that suit the model's weights as they are.

    No label is looked at: labels are drawn from the model's own prediction, and g is the gradient of the loss on them.
    Adam's first step is lr · sign(g), and changes the loss by lr ‖g‖₁ to first order: lr = 0.5 / ‖g‖₁. The first step of SGD
    is to have length 0.01: lr = 0.01 / ‖g‖₂. A gradient of n examples counts as that of 128: it is multiplied by √(n/128). For
    short training at a constant rate, as in a race; what suits long schedules was not measured.

    Args:
        model: with its first weights. It is copied, and left as it is; the copy is in the same mode, training or evaluation.
        example: what forward takes, (examples, ...): a tensor, a tuple of arguments or a dict of keywords; of a tensor alone
            at most 128 examples are used. forward gives a tensor (..., classes), or something with such a tensor as `logits`.
        loss: 'squared-error' for outputs that are numbers, whose labels are the output plus N(0, 1).
        seed: of the labels.

    Returns:
        {'adam': rate, 'momentum': rate}, by the race's names of optimizers: momentum is SGD with momentum 0.9.

    Raises:
        OptionError: if there is no such loss or seed.
        MeasureError: if the model is no module with values, forward fails or gives something else, or the gradient is 0 or
            not finite.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> found = learning_rates(nn.Linear(8, 4), torch.randn(128, 8))
        >>> sorted(found), found["adam"] > found["momentum"] > 0
        (['adam', 'momentum'], True)
    """
    if loss not in LOSSES:
        raise OptionError(f"loss='{loss}' is not known. Choose one of {', '.join(LOSSES)}.")
    check_model(model)
    key(seed, "labels")  # refuses what is no seed
    trial = copy.deepcopy(model).requires_grad_(True)
    args, kwargs = arguments(example[:_EXAMPLES] if isinstance(example, Tensor) and example.ndim > 1 else example)
    given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim), None)
    gradients = _gradients(trial, args, kwargs, loss, seed)
    scale = math.sqrt((len(given) if given is not None else 1) / _EXAMPLES)
    total = scale * math.fsum(float(g.double().abs().sum()) for g in gradients)
    length = scale * math.sqrt(math.fsum(float(g.double().square().sum()) for g in gradients))
    if not (math.isfinite(total) and total > 0):
        raise MeasureError(
            f"the gradient on the example adds up to {total:g}, so that no learning rate follows from it. "
            "Give the model weights with which signals arrive, such as those of 'auto'."
        )
    return {"adam": _ADAM / total, "momentum": _MOMENTUM / length}


def _gradients(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], loss: str, seed: int) -> list[Tensor]:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            made = model(*args, **kwargs)
        except Exception as error:
            words = " ".join(str(error).split())
            raise MeasureError(
                f"the forward pass on the example failed: {type(error).__name__}: {words}. Give what forward takes."
            ) from error
        output = getattr(made, "logits", made)
        if not isinstance(output, Tensor) or not output.ndim or not output.requires_grad:
            raise MeasureError(
                f"forward gave {type(made).__name__}, needs a tensor (..., classes) that depends on the model's parameters. "
                "Wrap the model in one whose forward gives that."
            )
        value = _loss(output, loss, seed)
        parameters = list(model.parameters())
        found = torch.autograd.grad(value, parameters, allow_unused=True)
    return [g for g in found if g is not None]


def _loss(output: Tensor, loss: str, seed: int) -> Tensor:
    """Return the loss on labels drawn from what the model predicts; they are drawn on the CPU, the same on any device."""
    generator = torch.Generator().manual_seed(seed)
    if loss == "squared-error":
        noise = torch.randn(output.shape, generator=generator, dtype=torch.float32)
        return F.mse_loss(output, output.detach() + noise.to(output))
    flat = output.reshape(-1, output.shape[-1])
    shares = flat.detach().float().softmax(-1).cpu()
    if not bool(shares.isfinite().all()):
        raise MeasureError("the model's output on the example is not finite. Give the model weights with which it is.")
    return F.cross_entropy(flat, torch.multinomial(shares, 1, generator=generator).flatten().to(flat.device))
