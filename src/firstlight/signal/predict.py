"""Signals from theory: kernels sent through the operator graph, without a weight drawn. Rules are in rules/."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from firstlight.errors import DataError, MeasureError, OptionError, did_you_mean
from firstlight.model.example import arguments, made_up, on_meta
from firstlight.model.generators import own_generators
from firstlight.model.nested import tensors
from firstlight.model.operators.graph import Graph, Value, ValueOf, record
from firstlight.model.operators.replica import replica
from firstlight.plan import Plan
from firstlight.plan import plan as make_plan
from firstlight.recipes import Composition, Recipe
from firstlight.signal.describe import describe, one_line
from firstlight.signal.given import inputs, parameters
from firstlight.signal.kernel import constant
from firstlight.signal.propagate import backward, forward
from firstlight.signal.readout import Seen, row
from firstlight.signal.rules import FORWARD, losses
from firstlight.signal.rules.table import Run
from firstlight.signal.spread import root
from firstlight.signal.statistics import channels_second
from firstlight.signal.statistics import row as observed_row
from firstlight.signal.table import SignalRow, Signals
from firstlight.signal.watch import Watch, first_floating, leaves, watching

LOSSES = ("cross-entropy", "mse")


class Places(Watch):
    """Notes which values of a graph are the outputs of layers, in the order and under the names of `measure`."""

    def __init__(self, value_of: ValueOf) -> None:
        super().__init__()
        self.value_of = value_of
        self.seen: list[Seen] = []
        self.arrived: Value | None = None

    def enter(self, name: str, module: nn.Module, given: Any, *, leaf: bool) -> None:
        """Note what arrives at a layer with weights."""
        before = self.arriving
        super().enter(name, module, given, leaf=leaf)
        if self.arriving is not None and self.arriving is not before:
            self.arrived = self.value_of(self.arriving)

    def _record(self, layer: str, module: nn.Module, output: Any, owner: nn.Module | None) -> None:
        found = first_floating(output)
        if found is None:
            return
        self._channels_second = channels_second(module, found, self._channels_second)
        axis = 1 if self._channels_second else -1
        self.seen.append(Seen(layer, module, owner, self.value_of(found), axis))


def predict(
    model: nn.Module,
    *,
    example: Any = None,
    plan: "Plan | Recipe | Composition | str | None" = None,
    loss: str | None = "cross-entropy",
    target: Tensor | None = None,
) -> Signals:
    """Return the signals and gradients by layer that theory expects, in the table that `measure` fills.

    The model is recorded once without its weights, and second moments of pairs of elements are sent through its
    operators: forward, and back from the loss. No weight is drawn and no memory is used for any.

    Args:
        model: any module, on any device, the meta device included; it is only read.
        example: what forward takes; values count where there are any, tensors on the meta device stand for standard
            normal numbers and for tokens at random. Models of transformers need none.
        plan: the plan, recipe or its name that weights are to be drawn by; without it the model's own values count.
        loss: 'cross-entropy' or 'mse' of the first output, or None for no gradients. Targets are independent of inputs.
            A model that returns a `loss` of its own, as those of transformers do when they are given labels, is taken at its
            word unless 'mse' or a target is given.
        target: the wanted outputs; without them classes are even, and numbers standard normal.

    Returns:
        One row for every call of a leaf module, as `measure` has them; what is not predicted is None. An operator that has
        no rule is sampled alone on normal inputs and named in `not_observed`; `found_by` is 'sampled' from there on.

    Raises:
        OptionError: if there is no such loss.
        DataError: if there is no example and the model does not say what it takes.
        MeasureError: if the model does not run on the example.
        PlanError: if a plan does not fit, or a tensor on the meta device has no row.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        >>> signals = predict(model, example=torch.empty(32, 64, device="meta"), plan="he")
        >>> [(row.layer, round(row.forward_second_moment, 1)) for row in signals]
        [('0', 2.0), ('1', 1.0), ('2', 2.0)]
    """
    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, nn.Module):
        raise MeasureError(f"the model is a {type(model).__name__}, not an nn.Module. Give a module. Nothing was run.")
    if loss is not None and loss not in LOSSES:
        near = did_you_mean(str(loss), LOSSES)
        raise OptionError(f"loss={loss!r} is not known. Choose {', '.join(map(repr, LOSSES))} or None.{near}")
    tries = made_up(model) if example is None else [example]
    if not tries:
        raise DataError(
            f"{type(model).__name__} does not say what it takes. Give example=, such as a batch or a tensor on the meta "
            "device. Nothing was run."
        )
    with own_generators(0):  # operators that draw are run when constants are folded
        chosen = plan if plan is None or isinstance(plan, Plan) else make_plan(model, plan, example=example)
        graph, places, fed, batch = _first_recorded(model, tries)
        states, orthogonal = parameters(model, graph, chosen)
        run = forward(graph, {**states, **inputs(graph, fed)}, orthogonal)
        value = _back(run, graph, loss, target)
        return _table(model, graph, run, places, batch, value)


def _first_recorded(model: nn.Module, tries: list[Any]) -> tuple[Graph, Places, dict[Value, Tensor], Any]:
    """Return what is recorded of the first example that the model takes, and that example."""
    for batch in tries[:-1]:
        try:
            return *_recorded(model, batch), batch
        except MeasureError:  # a fuller example than the model takes; the last one's error is told
            continue
    return *_recorded(model, tries[-1]), tries[-1]


def _recorded(model: nn.Module, batch: Any) -> tuple[Graph, Places, dict[Value, Tensor]]:
    """Return the graph of one call in the model's own mode, its layers' outputs, and the example's tensors by value."""
    places: list[Places] = []
    fed: dict[Value, Tensor] = {}
    with own_generators(0):
        try:
            return _record(model, batch, places, fed, meta=True)
        except Exception as error:  # whatever forward raises: it may look at values
            valued = all(t.device.type != "meta" for t in (*tensors(arguments(batch)), *model.parameters()))
            if valued:
                places.clear()
                fed.clear()
                try:
                    return _record(model, batch, places, fed, meta=False)
                except Exception as second:
                    raise _not_run(model, batch, second) from second
            raise _not_run(model, batch, error) from error


def _not_run(model: nn.Module, batch: Any, error: Exception) -> MeasureError:
    return MeasureError(
        f"{type(model).__name__} does not run on the example ({describe(batch)}): {one_line(error)}. Give an example that "
        "its forward takes; one with values, and a model with values, where forward looks at them. Nothing was changed."
    )


def _record(
    model: nn.Module, batch: Any, places: list[Places], fed: dict[Value, Tensor], *, meta: bool
) -> tuple[Graph, Places, dict[Value, Tensor]]:
    copy, _ = replica(model, shrink=False, meta=meta)
    for ours, theirs in zip(copy.modules(), model.modules(), strict=True):
        ours.training = theirs.training
    args, kwargs, values = on_meta(*arguments(batch)) if meta else (*arguments(batch), [])
    real = list(tensors(arguments(batch)))
    bare = list(tensors((args, kwargs)))

    @contextmanager
    def within(value_of: ValueOf) -> Iterator[None]:
        fed.update({value_of(b): r for b, r in zip(bare, real, strict=True)})
        places.append(Places(value_of))
        with watching(copy, places[0]):
            yield

    graph = record(copy, args, kwargs, within, values=values)
    return graph, places[0], fed


def _back(run: Run, graph: Graph, loss: str | None, target: Tensor | None) -> float | None:
    """Send gradients back from the loss; return the loss."""
    if loss == "cross-entropy" and target is None and graph.loss is not None:
        backward(run, graph, {graph.loss: constant(1.0, graph.loss.shape)})
        return float(run.kernel(graph.loss).mean.mean())
    outputs = [value for value in graph.outputs if value.floating and value.shape]
    if loss is None or not outputs:
        return None
    output = outputs[0]
    kernel = run.kernel(output)
    if loss == "mse":
        gradient, value = losses.squared_error(kernel, target)
        along = losses.error_along(output.shape)
    else:
        dim = _class_axis(output.shape, target)
        gradient, value = losses.cross_entropy(kernel, dim, target)
        along = losses.chances_along(kernel, dim)
    run.along[output] = along.scaled(root(1.0, kernel.spread))  # in a draw of the usual size, not in rare large ones
    backward(run, graph, {output: gradient})
    return value


def _class_axis(shape: tuple[int, ...], target: Tensor | None) -> int:
    """Return the axis of the classes: the last, but for pictures of logits (N, C, H, W) the second."""
    if target is not None and len(shape) > 2 and tuple(target.shape) == shape[:1] + shape[2:]:
        return 1
    return 1 if len(shape) == 4 and target is None else len(shape) - 1


def _table(model: nn.Module, graph: Graph, run: Run, places: Places, batch: Any, loss: float | None) -> Signals:
    rows = tuple(row(run, graph, seen) for seen in places.seen)
    called = {seen.layer for seen in places.seen}
    missing = [name for name, _ in leaves(model) if name not in called and places.calls[name] == 0]
    words = [f"layer '{name}' was not called, or not as a module" for name in missing]
    words += [
        f"operator '{op}' {'has no rule that fits here' if op in FORWARD else 'has no rule'} and was sampled, {count} times"
        for op, count in sorted(run.sampled.items())
    ]
    words += [
        f"operator '{op}' has no rule and cannot run alone: its output is taken to have the power of its input, {n} times"
        for op, n in sorted(run.guessed.items())
    ]
    arriving = None
    if places.arrived is not None:
        arriving = row(run, graph, Seen("arriving", nn.Identity(), None, places.arrived))
    return Signals(rows, loss, "predicted", tuple(words), _input_row(run, batch), arriving)


def _input_row(run: Run, batch: Any) -> SignalRow | None:
    found = first_floating(batch)
    if found is None:
        return None
    if found.device.type == "meta":
        return SignalRow("input", "Identity", 0.0, 1.0, 1.0, size=math.prod(found.shape[1:]))
    return observed_row("input", nn.Identity(), found)
