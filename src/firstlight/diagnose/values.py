"""Rules on single values: NaN and infinity, an initial loss far from the uninformed one, parameters that do not learn."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from firstlight.diagnose.case import Case, is_finite, tensor_is_finite
from firstlight.diagnose.finding import Finding

FAR, VERY_FAR = 2.0, 10.0  # times ln C: warning, error
FAR_SQUARES, VERY_FAR_SQUARES = 10.0, 100.0  # times the mean square of the targets: warning, error


def non_finite(case: Case) -> Iterator[Finding]:
    """Yield a finding for the first layer that makes NaN or infinity, and for tensors that hold them."""
    parameters = {name for name, _ in case.model.named_parameters(remove_duplicate=False)}
    held = tuple(
        name
        for name, tensor in case.tensors.items()
        if not (tensor_is_finite(tensor) if name in parameters else _no_nan(tensor))
    )
    made = [row for row in case.signals if not is_finite(row)]
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
        yield Finding(
            "non-finite",
            "error",
            (made[0].layer,),
            {"layers_after_it": float(len(made) - 1)},
            f"'{made[0].layer}' ({made[0].kind}) is the first layer whose output is NaN or infinite: the signal outgrew the "
            "dtype, or the layer divides by zero or takes the root or logarithm of a negative number.",
            "If the signal grows before it, apply the prescription; otherwise mend that layer.",
        )


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
    far, very_far = (FAR, VERY_FAR) if classes else (FAR_SQUARES, VERY_FAR_SQUARES)
    if loss > far * uninformed:
        yield Finding(
            "initial-loss",
            "error" if loss > very_far * uninformed else "warning",
            (case.output_layer or "output",),
            {"loss": loss, "uninformed_loss": uninformed} | ({"classes": float(classes)} if classes else {}),
            f"The first loss is {loss:.3g}; {words} = {uninformed:.3g}. The outputs are too large, so training starts by "
            f"unlearning them.{_tied(case)}",
            "Scale the output layer down: `diag.prescribe().apply(model)`.",
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
    unused = _unused(case)
    if unused and len(unused) < len(case.seen.gradients):
        yield Finding(
            "unused-parameter",
            "warning",
            unused,
            {"parameters": float(len(unused)), "of": float(len(case.seen.gradients))},
            f"{len(unused)} of {len(case.seen.gradients)} parameters are read by nothing that the output depends on, so they "
            "never learn.",
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
    if unreached:
        yield Finding(
            "no-gradient",
            "error" if len(unreached) == len(gradients) else "warning",
            unreached,
            {"parameters": float(len(unreached)), "of": float(len(gradients))},
            f"The loss does not depend on {len(unreached)} of {len(gradients)} parameters in this pass, so they "
            "do not learn: the graph is cut before them, or other inputs use them.",
            "Remove them, freeze them, or connect them; initialisation cannot cure it.",
        )
    elif not any(bool(gradient.any()) for gradient in gradients.values() if gradient is not None):
        yield Finding(
            "no-gradient",
            "error",
            tuple(gradients),
            {"parameters": float(len(gradients)), "of": float(len(gradients))},
            f"The gradient of the loss is exactly 0 for all {len(gradients)} parameters, so nothing learns: the output is "
            "stuck where the loss, or an activation before it, is flat.",
            "Scale the weights for the activations: `diag.prescribe().apply(model)`.",
        )
