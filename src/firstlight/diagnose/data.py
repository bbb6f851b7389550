"""Rules on what is given: the scale of inputs, inputs that are all the same, labels, and a loss that does not fit the output.

None of these is a fault of the start, and initialisation cannot cure them: the remedy says so.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from firstlight.diagnose.case import Case, is_norm, layer_name, rms
from firstlight.diagnose.finding import Finding, Severity
from firstlight.signal.objective import IGNORED
from firstlight.signal.watch import first_floating

FEW_LABELS = 32  # targets from which a single class tells something
NO_CURE = "initialisation cannot cure it"


def input_scale(case: Case) -> Iterator[Finding]:
    """Yield a finding when inputs are far from mean 0 and std 1 and no normalisation divides their scale out."""
    given, row = _inputs(case), case.signals.input
    if given is None or row is None or (size := rms(row)) is None or _normalised(case):
        return
    uneven = _features(case, given) if given.ndim == 2 and len(given) >= FEW_LABELS else None
    severity = None if size == 0 else case.judge("input-small", size) or case.judge("input-large", size)
    if uneven is not None:
        yield uneven
    elif severity is not None:
        word = "small" if size < 1 else "large"
        yield Finding(
            "input-scale",
            severity,
            ("input",),
            {"input_rms": size, "input_mean": row.forward_mean or 0.0, "input_std": row.forward_std or 0.0},
            f"The inputs have root mean square {size:.2g}, which is too {word}: the gradient of the first layer's weights is "
            "that many times what it is for standardised inputs, so one learning rate does not fit all layers.",
            f"Standardise the inputs to mean 0 and std 1; {NO_CURE}.",
        )


def _features(case: Case, given: Tensor) -> Finding | None:
    """Return a finding on features that are on very different scales, or far off centre."""
    std = given.std(0, correction=0)
    live = std > 0
    if int(live.sum()) < 1:
        return None
    sizes = given[:, live].square().mean(0).sqrt()
    uneven = float(sizes.max() / sizes.median())
    centre = float((given[:, live].mean(0).abs() / std[live]).median())
    wide, off = case.judge("uneven-features", uneven), case.judge("off-centre-features", centre)
    if (severity := wide or off) is None:
        return None
    what = (
        f"One feature is {uneven:.2g} times as large as the middle one, so the first layer sees little else"
        if wide
        else f"The middle feature has a mean {centre:.2g} times its std, so all examples look alike to the first layer"
    )
    numbers = {"largest_over_middle": uneven, "mean_over_std": centre}
    return Finding(
        "input-scale",
        severity,
        ("input",),
        numbers,
        f"{what}.",
        f"Standardise each feature to mean 0 and std 1; {NO_CURE}.",
    )


def constant_input(case: Case) -> Iterator[Finding]:
    """Yield a finding when all examples of the batch are the same."""
    given = _inputs(case)
    if given is None or len(given) < 2:
        return
    same = (given == given[:1]).flatten(1).all(1).double().mean()
    if (severity := case.judge("constant-input", float(same))) is None:
        return
    yield Finding(
        "constant-input",
        severity,
        ("input",),
        {"examples": float(len(given)), "value": float(given.flatten()[0])},
        f"All {len(given)} examples of the batch are the same, so there is nothing to tell them apart by.",
        f"Look at what loads the data; {NO_CURE}.",
    )


def labels(case: Case) -> Iterator[Finding]:
    """Yield a finding on targets that teach nothing, or are far from the scale of outputs."""
    target, loss = case.target, case.signals.loss
    odd = loss is not None and not math.isfinite(loss) and _finite_output(case)
    if (severity := case.judge("loss-not-finite", float(odd))) is not None and loss is not None:
        yield Finding(
            "labels",
            severity,
            ("loss",),
            {"loss": loss},
            f"The loss is {loss} though all outputs are finite: the loss or its targets make it, not the weights.",
            f"Look at the targets and the loss; {NO_CURE}.",
        )
    if not isinstance(target, Tensor) or target.numel() < FEW_LABELS:
        return
    if not target.is_floating_point():
        kept = target[target != IGNORED]
        if case.seen.classes and kept.numel() >= FEW_LABELS:
            share = int(torch.unique(kept, return_counts=True)[1].max()) / kept.numel()
            if (severity := case.judge("one-label", share)) is not None:
                words = f"All {kept.numel()} labels are {int(kept.flatten()[0])}."
                yield _labels(severity, {"classes_seen": 1.0}, words)
    elif case.seen.loss_kind == "mse":
        yield from _targets(case, target)


def _targets(case: Case, target: Tensor) -> Iterator[Finding]:
    size, spread = float(target.double().square().mean().sqrt()), float(target.double().std(correction=0))
    if spread == 0:
        yield _labels("warning", {"target": size, "target_std": 0.0}, f"All {target.numel()} targets are {size:.3g}.")
    elif (severity := case.judge("far-targets", size)) is not None:
        words = f"The targets have root mean square {size:.3g}: outputs start near 0, and gradients are as large."
        yield _labels(severity, {"target_rms": size, "target_std": spread}, words)


def _labels(severity: Severity, numbers: dict[str, float], cause: str) -> Finding:
    remedy = f"Look at what makes the targets, shuffle them, standardise them if they are numbers; {NO_CURE}."
    return Finding("labels", severity, ("target",), numbers, cause, remedy)


def loss_mismatch(case: Case) -> Iterator[Finding]:
    """Yield a finding when the last activation keeps the output from where the loss wants it."""
    output, last = case.probed.output, _last_activation(case)
    if output is None or not output.numel() or not bool(torch.isfinite(output).all()):
        return
    sums = _sums_to_one(output, case.seen.classes)
    twice = case.seen.loss_kind == "cross-entropy" and (sums or last in ("Sigmoid", "ReLU", "Tanh"))
    if (severity := case.judge("softmax-twice", float(twice))) is not None:
        name = "softmax" if sums else (last or "").lower()
        yield _mismatch(
            severity,
            {"output_smallest": float(output.min()), "output_largest": float(output.max())},
            f"The output passes {name} before a cross-entropy that takes its own softmax: the network cannot become certain.",
            f"Give the loss the numbers before {name}",
        )
    elif output.ndim == 2 and output.shape[1] == 1 and bool((output == 1).all()):
        words = "A softmax over one output is always 1, whatever the network does, so nothing can be learned."
        yield _mismatch("error", {"outputs": 1.0}, words, "End in a sigmoid, or in an output for each class")
    else:
        yield from _unreachable(case, output, last)


def _unreachable(case: Case, output: Tensor, last: str | None) -> Iterator[Finding]:
    target = case.target
    if not isinstance(target, Tensor) or not target.is_floating_point() or target.numel() != output.numel():
        return
    low, high = {"Sigmoid": (0.0, 1.0), "Softmax": (0.0, 1.0), "Tanh": (-1.0, 1.0), "ReLU": (0.0, math.inf)}.get(
        last or "", (-math.inf, math.inf)
    )
    outside = float(((target < low) | (target > high)).double().mean())
    if (severity := case.judge("out-of-reach", outside)) is not None:
        yield _mismatch(
            severity,
            {
                "targets_out_of_reach": outside,
                "target_smallest": float(target.min()),
                "target_largest": float(target.max()),
            },
            f"{outside:.0%} of the targets lie where {last} never comes: it gives {low:g} to {high:g}.",
            f"Leave {last} out at the end, or scale the targets",
        )


def _mismatch(severity: Severity, numbers: dict[str, float], cause: str, remedy: str) -> Finding:
    return Finding("loss-mismatch", severity, ("output",), numbers, cause, f"{remedy}; {NO_CURE}.")


def _inputs(case: Case) -> Tensor | None:
    """Return the first floating tensor of the batch, None where a model is given tokens."""
    found = first_floating(case.batch)
    return None if found is None or found.ndim < 2 or len(found) < 2 else found.detach().double()


def _normalised(case: Case) -> bool:
    """Whether a normalisation comes before or right behind the first layer with weights."""
    for row in case.signals:
        if is_norm(row):
            return True
        if layer_name(row) in case.weights:
            return row.layer in case.before_norm
    return False


def _last_activation(case: Case) -> str | None:
    """Return the kind of the activation behind the output layer, where one was seen."""
    rows = list(case.signals)
    places = [i for i, row in enumerate(rows) if layer_name(row) == case.output_layer]
    after = [row.kind for row in rows[places[-1] + 1 :]] if places else []
    return after[-1] if after else None


def _sums_to_one(output: Tensor, classes: int | None) -> bool:
    if not classes or classes < 2 or float(output.min()) < 0:
        return False
    axis = next((a for a in (1, -1) if output.ndim > 1 and output.shape[a] == classes), None)
    return axis is not None and bool(((output.double().sum(axis) - 1).abs() < 1e-3).all())


def _finite_output(case: Case) -> bool:
    return case.probed.output is not None and bool(torch.isfinite(case.probed.output).all())
