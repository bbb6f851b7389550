"""Rules on activations inside modules, that no row of the table shows: attention's softmax, gates of recurrent layers."""

import math
from collections.abc import Iterator

from torch import nn

from firstlight.diagnose.bounds import BOUNDS
from firstlight.diagnose.case import Case, layer_name, rms
from firstlight.diagnose.cause import layers
from firstlight.diagnose.finding import Finding

SHARP = BOUNDS["attention-saturation"].warning or 0.0
SIGMOID_FLAT, TANH_FLAT = 4.36, 2.18  # |z| beyond which the slope is below 5 % of its largest
MUCH_FLAT = BOUNDS["gate-saturation"].warning or 1.0
REMEDY = "Scale the weights: `diag.prescribe().apply(model)`."


def attention_saturation(case: Case) -> Iterator[Finding]:
    """Yield a finding when softmax over keys picks one key from the start, so that no gradient reaches queries and keys."""
    seen = case.probed.attention
    order = sorted(seen, key=lambda found: found.entropy)
    if not order or (severity := case.judge("attention-saturation", order[(len(order) - 1) // 2].entropy)) is None:
        return
    sharp = [found for found in seen if found.entropy < SHARP]
    middle = order[(len(sharp) - 1) // 2]
    yield Finding(
        "attention-saturation",
        severity,
        tuple(dict.fromkeys(found.layer or "model" for found in sharp)),
        {
            "entropy_share": middle.entropy,
            "logit_std": middle.spread,
            "attentions": float(len(sharp)),
            "of": float(len(seen)),
        },
        f"In {len(sharp)} of {len(seen)} attentions each query looks at one key only: the logits have std {middle.spread:.3g}, "
        f"the entropy is {middle.entropy:.1%} of that of looking everywhere. The softmax is flat there and passes no gradient "
        "to queries and keys: their weights, or what they are multiplied with, are too large.",
        REMEDY,
    )


def gate_saturation(case: Case) -> Iterator[Finding]:
    """Yield a warning for recurrent layers whose gates, by the stds of weights, states and inputs, lie on their flat parts."""
    shares: dict[str, float] = {}
    modules = dict(case.model.named_modules())
    rows = list(case.signals)
    for place, row in enumerate(rows):
        module = modules.get(layer_name(row))
        if isinstance(module, nn.LSTM | nn.GRU | nn.RNN):
            given = rms(rows[place - 1]) if place else rms(case.signals.input) if case.signals.input else None
            shares[row.layer] = _flat_share(module, given or 1.0, rms(row) or 0.0)
    worst = max(shares.values(), default=None)
    if worst is not None and (severity := case.judge("gate-saturation", worst)) is not None:
        bad = {layer: share for layer, share in shares.items() if share >= MUCH_FLAT}
        yield Finding(
            "saturation",
            severity,
            tuple(bad),
            {"largest_share_of_gates": worst, "layers": float(len(bad))},
            f"In {layers(len(bad))} about {worst:.0%} of the gates' inputs lie where sigmoid and tanh are flat (slope below 5 "
            "% of its largest): the weights or biases of the gates are too large.",
            REMEDY,
        )


def _flat_share(module: nn.RNNBase, given: float, state: float) -> float:
    """Return the share of gate inputs on flat parts: they are sums of many numbers, so about normal."""
    numbers = {name: p.detach().float() for name, p in module.named_parameters(recurse=False)}
    size = {"weight_ih_l0": given, "weight_hh_l0": state, "bias_ih_l0": 1.0, "bias_hh_l0": 1.0}
    power = sum(
        float(p.square().mean()) * (p.shape[1] if p.ndim > 1 else 1) * size[name] ** 2
        for name, p in numbers.items()
        if name in size
    )
    std = math.sqrt(power)
    if std == 0 or not math.isfinite(std):
        return 0.0
    sigmoid, tanh = (math.erfc(bound / std / math.sqrt(2)) for bound in (SIGMOID_FLAT, TANH_FLAT))
    tanh_part = {"LSTM": 1 / 4, "GRU": 1 / 3}.get(module.mode, 1.0)
    return (1 - tanh_part) * sigmoid + tanh_part * tanh
