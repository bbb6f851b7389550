"""Rules on the optimizer that will be used: how far its first step moves the weights, and whether its learning rate diverges.

They train a copy for a few steps on the same batch, and only when an optimizer is given.
"""

import copy
import math
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor, nn

from firstlight.diagnose.case import Case
from firstlight.diagnose.finding import Finding
from firstlight.errors import OptionError, did_you_mean

Optimizer = torch.optim.Optimizer
Given = Optimizer | tuple[str, float] | None
NAMES: dict[str, type[Optimizer]] = {
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
STEPS = 6
LARGE, VERY_LARGE = 0.3, 3.0  # of a weight's norm in one step: warning, error
SMALL = 1e-4
ROSE = 2.0  # times the first loss after the steps
SMALLER = (1e-2, 1e-4)  # of the learning rate, with which it must fall for the rate to be the cause
NO_CURE = "initialisation cannot cure it"


def check_optimizer(given: Given) -> Given:
    """Return the optimizer, or raise OptionError for what is neither one nor a (name, learning rate)."""
    if given is None or isinstance(given, Optimizer):
        return given
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], str):
        raise OptionError(
            f"optimizer={given!r} is neither a torch optimizer nor (name, learning rate). Give optimizer=('adam', 1e-3) or "
            "the optimizer itself. Nothing was run."
        )
    name, lr = given
    if name not in NAMES:
        near = did_you_mean(name, NAMES)
        raise OptionError(
            f"optimizer '{name}' is not known. Choose {', '.join(map(repr, NAMES))}.{near} Nothing was run."
        )
    if not isinstance(lr, int | float) or not (math.isfinite(lr) and lr > 0):
        raise OptionError(f"learning rate {lr!r} of '{name}' must be a positive number. Nothing was run.")
    return given


def learning_rate(case: Case) -> Iterator[Finding]:
    """Yield findings on the given optimizer: the size of its first step, and a loss that its learning rate drives up."""
    if case.optimizer is None or case.signals.loss is None or not math.isfinite(case.signals.loss):
        return
    ratios, losses = _train(case, 1.0)
    if not ratios:
        return
    middle, lr = median(ratios.values()), _rate(case.optimizer)
    fitting = next((s for s in SMALLER if _fell(_train(case, s)[1])), None) if _rose(losses) else None
    if fitting is not None:
        yield Finding(
            "learning-rate",
            "error",
            ("optimizer",),
            {"lr": lr, "first_loss": losses[0], "loss_after": losses[-1], "steps": float(len(losses) - 1)},
            f"With lr {lr:g} the loss of this very batch goes from {losses[0]:.3g} to {losses[-1]:.3g} in {len(losses) - 1} "
            f"steps; with lr {lr * fitting:.1g} it falls. The learning rate is too high.",
            f"Lower the learning rate, or warm it up; {NO_CURE}.",
        )
    if middle > LARGE or middle < SMALL:
        word = "large" if middle > LARGE else "small"
        yield Finding(
            "update-ratio",
            "error" if middle > VERY_LARGE else "warning",
            tuple(name for name, ratio in ratios.items() if (ratio > LARGE if middle > LARGE else ratio < SMALL)),
            {"update_over_weight": middle, "lr": lr, "layers": float(len(ratios))},
            f"The first step moves the middle weight by {middle:.1g} of its norm; between {SMALL:g} and {LARGE:g} is usual. "
            f"For these weights lr {lr:g} is too {word}.",
            f"{'Lower' if word == 'large' else 'Raise'} the learning rate, or give weights of another scale if other findings "
            f"say that theirs is wrong; if they do not, {NO_CURE}.",
        )


def _train(case: Case, share: float) -> tuple[dict[str, float], list[float]]:
    """Return the relative size of the first step by weight, and the losses before each step and after the last."""
    model = copy.deepcopy(case.model)
    update = _optimizer(case, model)
    for group in update.param_groups:
        group["lr"] = group["lr"] * share
    ratios: dict[str, float] = {}
    losses: list[float] = []
    seen = case.seen
    for _ in range(STEPS):
        losses.append(seen.signals.loss if seen.signals.loss is not None else math.nan)
        before = {} if ratios else _weights(case, model)
        for name, parameter in model.named_parameters():
            gradient = seen.gradients.get(name)
            parameter.grad = None if gradient is None else gradient.detach().clone()
        update.step()
        ratios = ratios or _ratios(before, model, _momentum(update))
        if not all(bool(torch.isfinite(p).all()) for p in model.parameters()):
            return ratios, [*losses, math.inf]
        seen = case.again(model)
    return ratios, [*losses, seen.signals.loss if seen.signals.loss is not None else math.nan]


def _optimizer(case: Case, model: nn.Module) -> Optimizer:
    """Return the given optimizer for a copy of the model, in the state it is in."""
    given = case.optimizer
    if isinstance(given, tuple):
        return NAMES[given[0]]([p for p in model.parameters() if p.requires_grad], lr=given[1])  # type: ignore[call-arg]  # each has lr
    copies = dict(model.named_parameters())
    memo = {id(p): copies[name] for name, p in case.asked.named_parameters()}
    made: Optimizer = copy.deepcopy(given, memo)  # by id, as deepcopy keeps it
    return made


def _momentum(update: Optimizer) -> float:
    """Return by how much momentum multiplies a step in the long run."""
    if not isinstance(update, torch.optim.SGD):
        return 1.0
    return float(1 / (1 - min(0.99, max(group.get("momentum", 0.0) for group in update.param_groups))))


def _weights(case: Case, model: nn.Module) -> dict[str, Tensor]:
    roles = {info.name: info.role for info in case.infos}
    return {
        name: p.detach().clone()
        for name, p in model.named_parameters()
        if p.requires_grad and roles.get(name) in ("weight", "output-weight", "recurrent-weight")
    }


def _ratios(before: dict[str, Tensor], model: nn.Module, momentum: float) -> dict[str, float]:
    now = dict(model.named_parameters())
    norms = {name: float(weight.double().norm()) for name, weight in before.items()}
    return {
        name: momentum * float((now[name].detach() - weight).double().norm()) / norms[name]
        for name, weight in before.items()
        if norms[name] > 0
    }


def _rate(given: Given) -> float:
    if isinstance(given, Optimizer):
        return float(max(group["lr"] for group in given.param_groups))
    return given[1] if given else math.nan


def _rose(losses: list[float]) -> bool:
    return not math.isfinite(losses[-1]) or losses[-1] > ROSE * losses[0]


def _fell(losses: list[float]) -> bool:
    return math.isfinite(losses[-1]) and losses[-1] < losses[0]
