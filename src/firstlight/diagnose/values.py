"""Rules on single values: NaN and infinity, an initial loss far from the uninformed one, parameters that do not learn."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case, is_finite, tensor_is_finite
from firstlight.diagnose.finding import Finding
from firstlight.diagnose.overflow import loss_of_standardised, overflow


def non_finite(case: Case) -> Iterator[Finding]:
    """Yield a finding for the first layer that makes NaN or infinity, and for tensors that hold them."""
    parameters = {name for name, _ in case.model.named_parameters(remove_duplicate=False)}
    held = tuple(
        name
        for name, tensor in case.tensors.items()
        if not (tensor_is_finite(tensor) if name in parameters else _no_nan(tensor))
    )
    made = [row for row in case.signals if not is_finite(row)]
    case.judge("non-finite", len(held) + len(made))
    if held:
        yield Finding(
            "non-finite",
            "error",
            held,
            {"tensors": float(len(held))},
            f"{len(held)} of {len(case.tensors)} tensors hold NaN or infinity: memory that nobody initialised, or a damaged "
            "checkpoint.",
            "Initialise them: `diag.prescribe().apply(model)`.",
        )
    elif made:
        why = overflow(case, made[0])
        numbers = {"layers_after_it": float(len(made) - 1)} | why.evidence
        yield Finding("non-finite", "error", (made[0].layer,), numbers, why.cause, why.remedy)


def _no_nan(tensor: Tensor) -> bool:
    """Whether a buffer holds no NaN: masks hold infinity on purpose."""
    return not tensor.is_floating_point() or not bool(torch.isnan(tensor).any())


def initial_loss(case: Case) -> Iterator[Finding]:
    """Yield a finding when the first loss is far above that of knowing nothing: ln C of C classes, E[t²] of numbers t."""
    loss, classes = case.signals.loss, case.seen.classes
    known = _uninformed(case)
    if loss is None or known is None or not math.isfinite(loss):
        return
    uninformed, words = known
    rule = "initial-loss" if classes else "initial-squares"
    if (severity := case.judge(rule, loss / uninformed)) is None:
        return
    because = f"The outputs are too large, so training starts by unlearning them.{_tied(case)}"
    remedy = "Scale the output layer down: `diag.prescribe().apply(model)`."
    standard = loss_of_standardised(case)
    cured = standard is not None and BOUNDS[rule].severity(standard / uninformed) != severity
    if cured:
        because = f"The inputs make the outputs too large: standardised, the first loss is {standard:.3g}."
        remedy = "Standardise the inputs to mean 0 and std 1; initialisation cannot cure it."
    yield Finding(
        "initial-loss",
        severity,
        (case.output_layer or "output",),
        {"loss": loss, "uninformed_loss": uninformed}
        | ({"loss_standardised": standard} if cured and standard is not None else {})
        | ({"classes": float(classes)} if classes else {}),
        f"The first loss is {loss:.3g}; {words} = {uninformed:.3g}. {because}",
        remedy,
    )


def _uninformed(case: Case) -> tuple[float, str] | None:
    """Return the loss of a network that knows nothing, and words that lead to the number."""
    classes = case.seen.classes
    if classes is not None:
        words = f"a network that knows nothing of {classes} classes has ln {classes}"
        return (math.log(classes), words) if classes > 1 else None
    if case.seen.loss_kind != "mse" or not isinstance(case.target, Tensor):
        return None
    square = float(case.target.double().square().mean())
    return (square, "outputs of 0 have the mean square of the targets") if square > 0 else None


def _tied(case: Case) -> str:
    """Return a sentence on a token embedding that is the output layer too and was drawn as an embedding."""
    tied = next((info for info in case.infos if info.tied_output), None)
    if tied is None:
        return ""
    std, width = float(case.tensors[tied.name].float().std()), tied.shape[-1]
    if std * math.sqrt(width) < 4:
        return ""
    return (
        f" '{tied.name}' is the token embedding and the output layer in one, with std {std:.2g}: as an output layer of fan_in "
        f"{width} it needs {1 / math.sqrt(width):.2g} or less."
    )


def unused_parameter(case: Case) -> Iterator[Finding]:
    """Yield a finding for parameters that no operator on the way to the output reads."""
    unused, count = _unused(case), len(case.seen.gradients)
    share = len(unused) / count if 0 < len(unused) < count else 0.0
    if (severity := case.judge("unused-parameter", share)) is not None:
        yield Finding(
            "unused-parameter",
            severity,
            unused,
            {"parameters": float(len(unused)), "of": float(count)},
            f"{len(unused)} of {count} parameters are read by nothing that the output depends on, so they never learn.",
            "Remove them, freeze them, or connect them; initialisation cannot cure it.",
        )


def _unused(case: Case) -> tuple[str, ...]:
    roles = {info.name: info.role for info in case.infos if info.found_by == "graph"}
    return tuple(
        name for name, gradient in case.seen.gradients.items() if gradient is None and roles.get(name) == "unused"
    )


def no_gradient(case: Case) -> Iterator[Finding]:
    """Yield a finding for parameters that the loss does not reach, and for a loss that nothing moves at all."""
    gradients = case.seen.gradients
    if case.signals.loss is None or not gradients:
        return
    unused = _unused(case)
    unused = unused if len(unused) < len(gradients) else ()
    unreached = tuple(name for name, gradient in gradients.items() if gradient is None and name not in unused)
    still = not any(bool(gradient.any()) for gradient in gradients.values() if gradient is not None)
    severity = case.judge("no-gradient", 1.0 if still else len(unreached) / len(gradients))
    if severity is not None and unreached:
        yield Finding(
            "no-gradient",
            "error" if len(unreached) == len(gradients) else "warning",
            unreached,
            {"parameters": float(len(unreached)), "of": float(len(gradients))},
            f"The loss does not depend on {len(unreached)} of {len(gradients)} parameters in this pass, so they "
            "do not learn: the graph is cut before them, or other inputs use them.",
            "Remove them, freeze them, or connect them; initialisation cannot cure it.",
        )
    elif severity is not None:
        yield Finding(
            "no-gradient",
            severity,
            tuple(gradients),
            {"largest_gradient": 0.0, "parameters": float(len(gradients)), "of": float(len(gradients))},
            f"The gradient of the loss is exactly 0 for all {len(gradients)} parameters, so nothing learns: the output is "
            "stuck where the loss, or an activation before it, is flat.",
            "Scale the weights for the activations: `diag.prescribe().apply(model)`.",
        )
