"""Null distributions and recall of the rules of `diagnose`: healthy networks of many kinds, and the same with faults put in.

Run: python tools/calibrate_findings.py [--quick] [--out docs/calibration.json]. A few minutes on one core; --quick takes a
fiftieth. Healthy means an initialisation made for the network: He for ReLU, Xavier or the edge of chaos for tanh, LeCun for
SELU, orthogonal, torch's default where it is shallow or normalised; depth over width at most 0.4, above which the size of
signals is a matter of luck whatever the initialisation (Hanin and Rolnick 2018). Prints two Markdown tables.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import firstlight as fl
from firstlight.diagnose import KINDS, RULES, spread
from firstlight.diagnose.case import Case, rms, signal
from firstlight.diagnose.depth import _gradients, _points, _ratio, _way_back
from firstlight.diagnose.question import Question
from firstlight.errors import FirstlightError
from firstlight.model.targets import load
from firstlight.race import task

ACTS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "relu": (nn.ReLU, ("he", "orthogonal", "edge-of-chaos")),
    "tanh": (nn.Tanh, ("xavier", "orthogonal", "edge-of-chaos")),
    "gelu": (nn.GELU, ("he", "edge-of-chaos")),
    "silu": (nn.SiLU, ("he", "edge-of-chaos")),
    "selu": (nn.SELU, ("lecun",)),
    "elu": (nn.ELU, ("he", "edge-of-chaos")),
}
DEPTHS, WIDTHS, SEEDS = (2, 3, 5, 8, 12, 20, 30, 50), (32, 64, 128, 256), (0, 1)
NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
M = TypeVar("M", bound=nn.Module)
Made = tuple[str, nn.Module, Tensor, Tensor]


def mlp(depth: int, width: int, act: Callable[[], nn.Module], norm: str | None = None) -> nn.Sequential:
    """Return an MLP over the digits with `depth` linear layers."""
    parts: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise([64, *[width] * (depth - 1), 10]):
        parts += [nn.Linear(before, after), *([NORMS[norm](after)] if norm and after != 10 else []), act()]
    return nn.Sequential(*parts[:-1])


def cnn(depth: int, width: int, act: Callable[[], nn.Module], *, norm: bool) -> nn.Sequential:
    """Return a network of 3 x 3 convolutions, a mean over places, and a linear layer."""
    parts: list[nn.Module] = []
    for before, after in pairwise([1, *[width] * (depth - 1)]):
        parts += [nn.Conv2d(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if norm else []), act()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * width, 10))


def healthy(*, quick: bool) -> Iterator[Made]:
    """Yield (name, model, inputs, labels) of networks with an initialisation that suits them."""
    x, y = task("digits").batch(256)
    tokens = torch.randint(64, (16, 32), generator=torch.Generator().manual_seed(0))
    grid = [
        (depth, width, act, recipe, seed)
        for depth, width, act, seed in product(DEPTHS, WIDTHS, ACTS, SEEDS)
        for recipe in ACTS[act][1]
        if depth / width <= 0.4
    ]
    for number, (depth, width, act, recipe, seed) in enumerate(grid):
        if number % (200 if quick else 4) == seed:
            yield f"mlp {depth}x{width} {act} {recipe}", started(mlp(depth, width, ACTS[act][0]), recipe, seed, x), x, y
    for depth, width, act, norm, seed in product((3, 8, 16), (32, 128), ("relu", "gelu", "tanh"), NORMS, (0,)):
        if not quick or (depth, width, seed) == (3, 32, 0):
            torch.manual_seed(seed)
            yield f"mlp {depth}x{width} {act} {norm}-norm default", mlp(depth, width, ACTS[act][0], norm), x, y
    for depth, width, act, seed in product((2, 3, 4, 5), (64, 256), ACTS, (0,)):
        if not quick or (depth, width, seed) == (3, 64, 0):
            torch.manual_seed(seed)
            yield f"mlp {depth}x{width} {act} default", mlp(depth, width, ACTS[act][0]), x, y
    for depth, normed, seed in product((3, 6, 10), (False, True), SEEDS):
        if not quick or depth == 3:
            net = cnn(depth, 16, nn.ReLU, norm=normed)
            yield f"cnn {depth} norm={normed} he", started(net, "he", seed, x), x, y
    for spec, seed in product(("resnet:", "lstm:", "gpt:", "bert:", "gpt:tie=true"), SEEDS):
        if not quick or seed == 0:
            words = spec.startswith(("gpt", "bert"))
            model = load(spec).build(seed)
            yield f"{spec} default", model, tokens if words else x, tokens.roll(-1, 1) if words else y


def suited(name: str) -> bool:
    """Whether an initialisation turned out to be made for the network: He's gain is ReLU's, std 1 is no output layer's."""
    kind, size, *rest = name.split()[:4] if name.startswith("mlp") else (name, "0x0", "")
    deep = int(size.partition("x")[0]) > 5
    return not (kind.startswith("gpt:tie") or (deep and rest[0] in ("elu", "silu", "gelu") and rest[-1] == "he"))


def started(model: M, recipe: str, seed: int, x: Tensor) -> M:
    """Return the model with a recipe applied."""
    fl.initialize(model, recipe, seed=seed, example=x)
    return model


def numbers(case: Case) -> dict[str, float | None]:
    """Return the statistic of each rule that has one number."""
    signals, sizes, back = _points(case, signal, min), _points(case, rms, max), _gradients(case, max)[::-1]
    hidden, seen = case.hidden, case.probed
    classes = case.seen.classes
    tokens = [likeness for _, likeness in seen.tokens]
    entropies = sorted(found.entropy for found in seen.attention)
    return {
        "vanishing-signal": _ratio(signals),
        "exploding-signal": _ratio(sizes),
        "vanishing-gradient": _way_back(back),
        "exploding-gradient": _way_back(_gradients(case, min)[::-1]),
        "dead-units": max((row.dead or 0.0 for row in hidden if row.kind == "ReLU"), default=None),
        "saturation": max((row.saturated for row in hidden if row.saturated is not None), default=None),
        "initial-loss": case.signals.loss / math.log(classes) if case.signals.loss and classes else None,
        "chaos": spread._growth(case),
        "rank-collapse": (1 - tokens[-1]) / (1 - min(tokens[: max(1, len(tokens) // 4)])) if len(tokens) > 2 else None,
        "attention-saturation": entropies[len(entropies) // 2] if entropies else None,
        "input-scale": rms(case.signals.input) if case.signals.input else None,
    }


def faulty() -> Iterator[tuple[str, str, nn.Module, Tensor, Tensor, dict[str, Any]]]:
    """Yield (kind wanted, name, model, inputs, labels, options) of networks with one fault put in."""
    x, y = task("digits").batch(256)
    tokens = torch.randint(64, (16, 32), generator=torch.Generator().manual_seed(0))
    for depth, width, act in product((3, 20), (128,), ("relu", "tanh", "gelu")):
        make = ACTS[act][0]
        for kind, recipe, deep in (
            ("exchangeable-units", "zeros", 0),
            ("exchangeable-units", "constant:value=0.1", 0),
            ("vanishing-signal", "normal:std=0.01", 0),
            ("vanishing-signal", "torch-default", 20),
        ):
            if depth >= deep:
                yield kind, f"{recipe} {act} {depth}x{width}", started(mlp(depth, width, make), recipe, 0, x), x, y, {}
        loud = "saturation" if act == "tanh" else "initial-loss"
        yield loud, f"N(0,1) {act} {depth}x{width}", started(mlp(depth, width, make), "normal:std=1", 0, x), x, y, {}
        if act == "tanh" and depth == 20:
            chaotic = started(mlp(depth, width, make), f"normal:std={3 / width**0.5}", 0, x)
            yield "chaos", f"chaotic {act} {depth}x{width}", chaotic, x, y, {}
        suited = started(mlp(depth, width, make), ACTS[act][1][0], 0, x)
        for scale in (1e-6, 1e-2, 30.0):
            yield "input-scale", f"inputs x {scale:g} {act} {depth}x{width}", suited, scale * x, y, {}
        yield "constant-input", f"one example {act} {depth}x{width}", suited, x[:1].expand_as(x), y, {}
        yield "labels", f"one class {act} {depth}x{width}", suited, x, torch.zeros_like(y), {}
        yield "loss-mismatch", f"softmax {act} {depth}x{width}", nn.Sequential(*suited, nn.Softmax(-1)), x, y, {}
        yield "update-ratio", f"adam 1e-6 {act} {depth}x{width}", suited, x, y, {"optimizer": ("adam", 1e-6)}
        yield "learning-rate", f"sgd 30 {act} {depth}x{width}", suited, x, y, {"optimizer": ("sgd", 30.0)}
        if act == "relu":
            yield (
                "dead-units",
                f"biases -20 {depth}x{width}",
                biased(started(mlp(depth, width, make), "he", 0, x), -20.0),
                x,
                y,
                {},
            )
        yield "uninitialized-memory", f"rubbish {act} {depth}x{width}", rubbish(mlp(depth, width, make)), x, y, {}
    for spec in ("gpt:", "bert:"):
        loud_words = started(load(spec).build(0), "normal:std=1", 0, tokens)
        yield "attention-saturation", f"{spec} N(0,1)", loud_words, tokens, tokens.roll(-1, 1), {}


def biased(model: nn.Module, value: float) -> nn.Module:
    """Return the model with all hidden biases the same number."""
    for name, parameter in list(model.named_parameters())[:-1]:
        if "bias" in name:
            nn.init.constant_(parameter, value)
    return model


def rubbish(model: nn.Sequential) -> nn.Module:
    """Return the model with its first weight as memory that was never filled."""
    weight = model[1].weight
    assert isinstance(weight, Tensor)
    bits = torch.randint(
        -(2**31), 2**31 - 1, weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32
    )
    with torch.no_grad():
        weight.copy_(bits.view(torch.float32).nan_to_num(0.0, 0.0, 0.0))
    return model


def examine(model: nn.Module, x: Tensor, y: Tensor, options: dict[str, Any]) -> dict[str, str]:
    """Return severities by kind."""
    return {f.kind: f.severity for f in fl.diagnose(model, x, target=y, **options).findings}


def calibrate(*, quick: bool) -> dict[str, Any]:
    """Return null distributions, false alarms and recall as plain data."""
    nulls: dict[str, list[float]] = {}
    alarms: list[tuple[str, dict[str, str]]] = []
    count = unsuited = 0
    for name, model, x, y in healthy(quick=quick):
        count += 1
        unsuited += not suited(name)
        case = Question(model, x, y, None).ask(model)
        found: dict[str, str] = {f.kind: f.severity for rule in RULES for f in rule(case)}
        if any(severity != "info" for severity in found.values()):
            alarms.append((name, found))
        for kind, number in numbers(case).items():
            if number is not None and math.isfinite(number):
                nulls.setdefault(kind, []).append(number)
    recalls: dict[str, list[tuple[str, bool, bool]]] = {}
    for number, (kind, name, model, x, y, options) in enumerate(faulty()):
        if not quick or number % 25 == 0:
            try:
                found = examine(model, x, y, options)
            except FirstlightError as error:
                found = {str(error): "refused"}
            recalls.setdefault(kind, []).append((name, kind in found, any(s != "info" for s in found.values())))
    return {"networks": count, "unsuited": unsuited, "null": nulls, "alarms": alarms, "recall": recalls}


def tables(data: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    alarms = [found for name, found in data["alarms"] if suited(name)]
    errors = sum("error" in found.values() for found in alarms)
    lines = [
        f"{data['networks'] - data['unsuited']} healthy networks: {errors} with an error, {len(alarms)} with a finding. "
        f"{data['unsuited']} more, not suited after all: {len(data['alarms']) - len(alarms)} with a finding.",
        "",
        "| rule | healthy: 0.5 % | middle | 99.5 % | false errors | false warnings | faults | named | any finding |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        null = sorted(data["null"].get(kind, []))
        cells = [f"{null[int(q * (len(null) - 1))]:.2g}" if null else "–" for q in (0.005, 0.5, 0.995)]
        seen = data["recall"].get(kind, [])
        counts = [sum(found.get(kind) == word for found in alarms) for word in ("error", "warning")]
        share = [f"{sum(item[i] for item in seen) / len(seen):.0%}" if seen else "–" for i in (1, 2)]
        lines.append(f"| {' | '.join([kind, *cells, *map(str, counts), str(len(seen)) if seen else '–', *share])} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables and write the data."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="")
    options = parser.parse_args()
    begun = time.perf_counter()
    data = calibrate(quick=options.quick)
    print(tables(data))
    for name, found in data["alarms"]:
        print(f"- {name}: {', '.join(f'{k} ({s})' for k, s in found.items())}")
    for kind, seen in data["recall"].items():
        missed = [name for name, named, _ in seen if not named]
        if missed:
            print(f"- missed {kind}: {', '.join(missed)}")
    print(f"{time.perf_counter() - begun:.0f} s, torch {torch.__version__}")
    if options.out:
        data["null"] = {kind: [float(f"{n:.3g}") for n in sorted(numbers)] for kind, numbers in data["null"].items()}
        Path(options.out).write_text(json.dumps(data, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
