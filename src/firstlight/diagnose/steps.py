"""Rules on the optimizer that will be used: how far its first step moves the weights, and whether its learning rate diverges.

They train a copy for a few steps on the same batch, and only when an optimizer is given.
"""

import copy
import math
from collections.abc import Iterator
from statistics import median

import torch
from torch import Tensor, nn

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case
from firstlight.diagnose.finding import Finding
from firstlight.errors import OptionError, did_you_mean
from firstlight.signal.wrapped import apart, cut_as, whole

Optimizer = torch.optim.Optimizer
Given = Optimizer | tuple[str, float] | None
NAMES: dict[str, type[Optimizer]] = {
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
    "sgd": torch.optim.SGD,
}
STEPS = 20
LARGE, SMALL = BOUNDS["large-update"].warning or math.inf, BOUNDS["small-update"].warning or 0.0
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
    """Yield findings on the given optimizer: the size of its first step, and a loss that its learning rate drives up.

    A loss that rises and does not come down to where it began is an error, one that comes down a warning. It is the rate's
    fault when a hundredth of it, or a ten thousandth, makes the loss fall.
    """
    if case.optimizer is None or case.signals.loss is None or not math.isfinite(case.signals.loss):
        return
    ratios, losses = _train(case, 1.0)
    if not ratios:
        return
    middle, lr = median(ratios.values()), _rate(case.optimizer)
    others = tuple(dict.fromkeys(BOUNDS[rule].kind for rule in case.errors))
    yield from _driven_up(case, losses, lr, others)
    large, small = case.judge("large-update", middle), case.judge("small-update", middle or None)  # 0: no gradient
    if (severity := large or small) is not None:
        word = "large" if large else "small"
        yield Finding(
            "update-ratio",
            "warning" if others else severity,
            tuple(name for name, ratio in ratios.items() if (ratio >= LARGE if large else ratio < SMALL)),
            {"update_over_weight": middle, "lr": lr, "layers": float(len(ratios))} | _counted(others),
            f"The first step moves the middle weight by {middle:.1g} of its norm; between {SMALL:g} and {LARGE:g} is usual. "
            f"For these weights lr {lr:g} is too {word}.",
            _first(others, f"{'Lower' if large else 'Raise'} the learning rate; {NO_CURE}."),
        )


def _first(others: tuple[str, ...], remedy: str) -> str:
    """Return what to do first: a step is small where the gradient vanishes, and large where weights or data are too large."""
    return f"Mend {', '.join(others)} first and diagnose again: the learning rate may suit then." if others else remedy


def _counted(others: tuple[str, ...]) -> dict[str, float]:
    return {"other_errors": float(len(others))} if others else {}


def _driven_up(case: Case, losses: list[float], lr: float, others: tuple[str, ...]) -> Iterator[Finding]:
    """Yield a finding where the loss of the batch rises, and falls with a smaller learning rate.

    Beside other errors it is a warning: faults of weights, inputs or targets make a usual learning rate too high.
    """
    numbers = [math.inf if math.isnan(loss) else loss / losses[0] for loss in losses] if losses[0] > 0 else [1.0]
    rule = "learning-rate" if numbers[-1] >= 1 else "loss-peak"
    rates = SMALLER if BOUNDS[rule].severity(max(numbers)) is not None else ()
    fitting = next((share for share in rates if _fell(_train(case, share)[1])), None)
    severity = case.judge(rule, 1.0 if rates and fitting is None else max(numbers))
    if severity is None or fitting is None:
        return
    steps, peak = len(losses) - 1, losses[numbers.index(max(numbers))]
    words = f"to {peak:.3g} in" if rule == "learning-rate" else f"up to {peak:.3g}, before it falls, in"
    yield Finding(
        "learning-rate",
        "warning" if others else severity,
        ("optimizer",),
        {"lr": lr, "first_loss": losses[0], "largest_loss": peak, "loss_after": losses[-1], "steps": float(steps)}
        | _counted(others),
        f"With lr {lr:g} the loss of this very batch goes from {losses[0]:.3g} {words} {steps} steps; with lr "
        f"{lr * fitting:.1g} it falls. The learning rate is too high.",
        _first(others, f"Lower the learning rate, or warm it up; {NO_CURE}."),
    )


def _train(case: Case, share: float) -> tuple[dict[str, float], list[float]]:
    """Return the relative size of the first step by weight, and the losses before each step and after the last."""
    with apart(case.model) as model:
        kept = {name: parameter.grad for name, parameter in model.named_parameters()}
        try:
            return _steps(case, model, share)
        finally:
            for name, parameter in model.named_parameters():
                parameter.grad = kept[name]


def _steps(case: Case, model: nn.Module, share: float) -> tuple[dict[str, float], list[float]]:
    update = _optimizer(case, model)
    for group in update.param_groups:
        group["lr"] = group["lr"] * share
    ratios: dict[str, float] = {}
    losses: list[float] = []
    loss, gradients = case.signals.loss, case.seen.gradients
    for _ in range(STEPS):
        losses.append(math.nan if loss is None else loss)
        before = {} if ratios else _weights(case, model)
        for name, parameter in model.named_parameters():
            gradient = gradients.get(name)
            parameter.grad = None if gradient is None else cut_as(gradient.detach().clone(), parameter)
        update.step()
        ratios = ratios or _ratios(before, model, _momentum(update))
        if not all(bool(torch.isfinite(whole(p.detach())).all()) for p in model.parameters()):
            return ratios, [*losses, math.inf]
        loss, gradients = case.plain(model)
        if loss is not None and not math.isfinite(loss):
            break
    return ratios, [*losses, math.nan if loss is None else loss]


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
        name: whole(p.detach()).clone()
        for name, p in model.named_parameters()
        if p.requires_grad and roles.get(name) in ("weight", "output-weight", "recurrent-weight")
    }


def _ratios(before: dict[str, Tensor], model: nn.Module, momentum: float) -> dict[str, float]:
    now = dict(model.named_parameters())
    norms = {name: float(weight.double().norm()) for name, weight in before.items()}
    return {
        name: momentum * float((whole(now[name].detach()) - weight).double().norm()) / norms[name]
        for name, weight in before.items()
        if norms[name] > 0
    }


def _rate(given: Given) -> float:
    if isinstance(given, Optimizer):
        return float(max(group["lr"] for group in given.param_groups))
    return given[1] if given else math.nan


def _fell(losses: list[float]) -> bool:
    return math.isfinite(losses[-1]) and losses[-1] < losses[0]
