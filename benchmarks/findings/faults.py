"""Faults of graded strength, one kind at a time, put into healthy networks: what the recall of each rule is measured on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.findings.healthy import ACTS, Made, Rows, Stream, cnn, digits, numbers, seeded
from benchmarks.findings.inject import (
    Act,
    Averaging,
    Cut,
    Packed,
    Spare,
    by_width,
    coarse,
    columns,
    constant,
    copies,
    good,
    gradient,
    holes,
    language,
    made,
    misgained,
    off_centre,
    quiet,
    rates,
    relabelled,
    rubbish,
    scaled,
    shifted,
    stuck,
    unreachable,
)
from torch import nn


@dataclass(frozen=True)
class Fault:
    """A fault that some rules must name. what: the words of a strength. make: a network of a strength and an activation."""

    rules: tuple[str, ...]
    what: str
    strengths: tuple[float, ...]
    make: Callable[[float, Act], Made]
    acts: tuple[Act, ...] = ("relu", "tanh", "gelu")

    def networks(self) -> Iterator[tuple[float, Made]]:
        """Yield (strength, network)."""
        for strength in self.strengths:
            for act in self.acts:
                yield strength, self.make(strength, act)


VANISH, EXPLODE = ("vanishing-signal", "lost-inputs", "vanishing-gradient"), ("exploding-signal", "exploding-gradient")
FAULTS = (
    Fault(VANISH, "weights of 20 layers × …", (0.9, 0.8, 0.7, 0.5), lambda f, a: made(scaled(good(a, 20), f))),
    Fault(VANISH, "weights of 8 layers × …", (0.7, 0.5, 0.35, 0.2), lambda f, a: made(scaled(good(a, 8), f))),
    Fault(
        ("lost-inputs",), "weights of 3 layers × …", (0.3, 0.1, 0.03, 0.01), lambda f, a: made(scaled(good(a, 3), f))
    ),
    Fault(EXPLODE, "weights of 20 layers × …", (1.1, 1.25, 1.5, 2.0), lambda f, a: made(scaled(good(a, 20), f))),
    Fault(EXPLODE, "weights of 8 layers × …", (1.5, 2.0, 3.0, 5.0), lambda f, a: made(scaled(good(a, 8), f))),
    Fault(("vanishing-gradient",), "gradient at 12 layers × …", (0.8, 0.7, 0.6, 0.4), gradient),
    Fault(("exploding-gradient",), "gradient at 12 layers × …", (1.2, 1.4, 1.6, 2.0), gradient),
    Fault(("rank-collapse",), "biases of 8 layers, std …", (0.5, 3.0, 30.0, 300.0), off_centre),
    Fault(
        ("token-collapse",),
        "layers of attention without skips: …",
        (1, 2, 4, 8),
        lambda n, a: made(seeded(lambda: Averaging(int(n)))),
        ("tanh",),
    ),
    Fault(("exchangeable-units",), "share of units copied", (0.05, 0.15, 0.3, 0.6, 1.0), copies),
    Fault(
        ("dead-units",),
        "hidden biases …",
        (-1.0, -2.0, -4.0, -10.0),
        lambda b, a: made(shifted(good(a, 4), b)),
        ("relu",),
    ),
    Fault(
        ("saturation",),
        "weights of 4 layers × …",
        (2.0, 4.0, 8.0, 20.0),
        lambda f, a: made(scaled(good(a, 4), f)),
        ("tanh",),
    ),
    Fault(
        ("gate-saturation",),
        "std of the gates' weights",
        (0.2, 0.5, 1.0, 2.0),
        lambda s, a: made(seeded(lambda: Rows(a, 32, s))),
        ("LSTM", "GRU", "RNN"),
    ),
    Fault(("non-finite",), "weights that are NaN", (1, 100), holes),
    Fault(
        ("initial-loss",),
        "output weights × …",
        (3.0, 10.0, 30.0, 100.0),
        lambda f, a: made(scaled(good(a, 4), f, slice(-1, None))),
    ),
    Fault(
        ("initial-squares",),
        "output weights × …",
        (3.0, 10.0, 30.0, 100.0),
        lambda f, a: made(scaled(good(a, 4, outputs=1), f, slice(-1, None)), target=numbers(digits()[1])),
    ),
    Fault(("no-gradient",), "share of layers cut off", (0.25, 0.5, 1.0), lambda s, a: made(Cut(good(a, 4), s))),
    Fault(("unused-parameter",), "layers that nobody calls", (1, 4), lambda n, a: made(Spare(good(a, 4), int(n)))),
    Fault(
        ("attention-saturation",),
        "attention's matrices × …",
        (2.0, 5.0, 10.0, 30.0),
        lambda f, a: language(a, f),
        ("gpt:", "bert:"),
    ),
    Fault(
        ("chaos", "exploding-gradient"),
        "weights of 20 layers × …",
        (1.2, 1.6, 2.2, 3.0),
        lambda f, a: made(scaled(good(a, 20), f)),
        ("tanh",),
    ),
    Fault(
        ("strong-branches",),
        "branches as strong as the stream",
        (4, 8, 16, 32),
        lambda n, a: made(seeded(lambda: Stream(int(n)))),
        ("relu",),
    ),
    Fault(("uninitialized-memory",), "share of a weight that is rubbish", (5e-4, 2e-3, 0.05, 1.0), rubbish),
    Fault(("low-precision",), "distinct values of a draw", (2048, 256, 64, 16), coarse),
    Fault(("far-tails",), "stds of five stray weights", (8.0, 13.0, 20.0), stuck),
    Fault(
        ("wrong-fan",), "outputs of maps packed in one tensor", (2, 4, 16, 64), lambda n, a: made(Packed(8, int(n), a))
    ),
    Fault(("wrong-gain",), "layers with another's gain", (3, 5, 8, 16), misgained, ("relu", "selu", "elu")),
    Fault(("input-small",), "inputs × …", (0.3, 0.05, 0.01, 1e-4), lambda s, a: quiet(good(a, 4), s)),
    Fault(("input-large",), "inputs × …", (5.0, 30.0, 255.0, 1e4), lambda s, a: quiet(good(a, 4), s)),
    Fault(
        ("uneven-features",),
        "one of 12 features × …",
        (10.0, 90.0, 200.0, 1e4),
        lambda s, a: columns(s, 0.0),
        ("relu",),
    ),
    Fault(
        ("off-centre-features",),
        "means of features, in stds",
        (3.0, 9.0, 20.0, 1e3),
        lambda s, a: columns(1.0, s),
        ("relu",),
    ),
    Fault(
        ("constant-input",), "share of examples that are one", (0.5, 0.9, 1.0), lambda s, a: quiet(good(a, 4), 1.0, s)
    ),
    Fault(("one-label",), "share of labels that are one", (0.5, 0.9, 1.0), relabelled),
    Fault(
        ("far-targets",),
        "std of the targets",
        (10.0, 50.0, 300.0, 3000.0),
        lambda s, a: made(good(a, 4, outputs=1), target=numbers(digits()[1], s)),
    ),
    Fault(
        ("loss-not-finite",),
        "a root of a negative number",
        (1,),
        lambda s, a: made(good(a, 4), loss=lambda out, y: (out.mean() - 1e9).sqrt()),
    ),
    Fault(("out-of-reach",), "share of targets beyond a sigmoid", (0.02, 0.1, 0.5, 1.0), unreachable),
    Fault(
        ("softmax-twice",),
        "softmax before cross-entropy",
        (1,),
        lambda s, a: made(nn.Sequential(*good(a, 4), nn.Softmax(-1))),
    ),
    Fault(("learning-rate", "loss-peak", "large-update"), "SGD, learning rate …", (0.3, 1.0, 3.0, 30.0), rates("sgd")),
    Fault(
        ("learning-rate", "loss-peak", "large-update"), "Adam, learning rate …", (0.01, 0.03, 0.1, 1.0), rates("adam")
    ),
    Fault(("small-update",), "Adam, learning rate …", (1e-4, 1e-5, 1e-6, 1e-7), rates("adam")),
    Fault(("width-scaling",), "stds by width to the power …", (0.45, 0.35, 0.2, 0.0), by_width),
    Fault(
        ("vanishing-signal", "exchangeable-units", "dead-units"),
        "a CNN of 6 layers, all weights …",
        (0.0, 0.1),
        lambda v, a: made(constant(cnn(6, 16, ACTS[a][0], norm=False), v)),
    ),
)
