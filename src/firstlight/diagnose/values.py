"""Rules on single values: NaN and infinity, an initial loss far from the uninformed one, parameters without a gradient."""

import math
from collections.abc import Iterator

from firstlight.diagnose.case import Case, is_finite, tensor_is_finite
from firstlight.diagnose.finding import Finding

FAR, VERY_FAR = 2.0, 10.0  # times ln C: warning, error


def non_finite(case: Case) -> Iterator[Finding]:
    """Yield a finding for the first layer that makes NaN or infinity, and for tensors that hold them."""
    held = tuple(name for name, tensor in case.tensors.items() if not tensor_is_finite(tensor))
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


def initial_loss(case: Case) -> Iterator[Finding]:
    """Yield a finding when the first cross-entropy is far above that of knowing nothing, ln C."""
    loss, classes = case.signals.loss, case.seen.classes
    if loss is None or classes is None or classes < 2 or not math.isfinite(loss):
        return
    uninformed = math.log(classes)
    if loss > FAR * uninformed:
        yield Finding(
            "initial-loss",
            "error" if loss > VERY_FAR * uninformed else "warning",
            (case.output_layer or "output",),
            {"loss": loss, "uninformed_loss": uninformed, "classes": float(classes)},
            f"The first loss is {loss:.3g}; a network that knows nothing of {classes} classes has ln {classes} = "
            f"{uninformed:.3g}. The outputs are too large, so training starts by unlearning them.",
            "Scale the output layer down: `diag.prescribe().apply(model)`.",
        )


def no_gradient(case: Case) -> Iterator[Finding]:
    """Yield a finding for parameters that the loss does not reach, and for a loss that nothing moves at all."""
    gradients = case.seen.gradients
    if case.signals.loss is None or not gradients:
        return
    unreached = tuple(name for name, gradient in gradients.items() if gradient is None)
    if unreached:
        yield Finding(
            "no-gradient",
            "error" if len(unreached) == len(gradients) else "warning",
            unreached,
            {"parameters": float(len(unreached)), "of": float(len(gradients))},
            f"The loss does not depend on {len(unreached)} of {len(gradients)} parameters in this pass, so they "
            "do not learn: they are not used, or the graph is cut before them.",
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
