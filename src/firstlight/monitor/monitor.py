"""`Monitor`: hooks on a model and on the optimizers that move it, for the first updates; then every hook is removed."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from firstlight.errors import MeasureError, OptionError
from firstlight.monitor.record import Record
from firstlight.monitor.sinks import Sink, To, sink
from firstlight.monitor.updates import Scale, Updates, gradients
from firstlight.signal.call import check_model
from firstlight.signal.table import SignalRow, Signals
from firstlight.signal.watch import Functions, Watch, leaves

_SCALED = "gradients at layers' outputs: they were scaled and clipped. Give scaler=, the GradScaler"


class Monitor:
    """Watches the first `steps` updates of any training loop, and then removes its hooks.

    An update is a call of an optimizer that owns parameters of the model, whoever makes it: accumulation over several
    passes is one update, a step that a GradScaler skips is none. Passes in eval mode or without gradients are not looked at.
    With several optimizers, or parameters that none owns, it stays until each has made `steps` updates, or one twice as
    many. While it is attached,
    compiled code runs as written (`torch.compiler.set_stance`), since hooks do not run inside compiled code.

    Args:
        model: any module; wrappers (DDP, DataParallel, torch.compile) are looked through.
        steps: updates to watch.
        every: look at each such update only.
        to: 'x.csv', a folder for TensorBoard, a SummaryWriter, a function of a Record, or a list of these.
        scaler: the GradScaler in use. Without it a scale is recognised when gradients are not clipped too.
        layers: patterns of names, such as ['encoder.*']; default: all.

    Raises:
        OptionError: if steps or every is not positive, no layer has a name like that, or `to` is no place for records.
        MeasureError: if the model is no module, or has layers that hooks do not see.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with Monitor(model, steps=2) as monitor:
        ...     for _ in range(5):
        ...         optimizer.zero_grad()
        ...         model(torch.ones(16, 4)).square().mean().backward()
        ...         optimizer.step()
        >>> [record.step for record in monitor.records], monitor.attached
        ([1, 2], False)
        >>> sorted(monitor.records[0].updates)[:2]
        ['0.bias', '0.weight']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int = 100,
        every: int = 1,
        to: To | Sequence[To] = (),
        scaler: Any = None,
        layers: Sequence[str] | None = None,
    ) -> None:
        for name, value in (("steps", steps), ("every", every)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise OptionError(f"{name}={value!r}: needed a whole number >= 1. No hook was set.")
        self.model = _unwrapped(model)
        check_model(self.model)
        self.steps, self.every, self.scaler = steps, every, scaler
        self.to = list(to) if isinstance(to, list | tuple) else [to]
        self.records: list[Record] = []
        self._leaves = _chosen(self.model, layers)
        self._parameters = {id(p): (n, p) for n, p in self.model.named_parameters() if p.requires_grad}
        self._handles: list[Any] = []
        self._sinks: list[Sink] = []
        self._updates: dict[int, int] = {}  # by id of the optimizer
        self._moved: set[int] = set()
        self._names: dict[int, str] = {}
        self._before: dict[int, Updates] = {}
        self._watch: Watch | None = None
        self._seeing: Functions | None = None
        self._depth = 0
        self._scale = Scale()
        self._probe = next((p for _, p in self._parameters.values()), None)
        self._stance: Any = None

    @property
    def attached(self) -> bool:
        """Whether hooks are set."""
        return bool(self._handles)

    def __enter__(self) -> "Monitor":
        self.attach()
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def attach(self) -> None:
        """Set the hooks and open what is written to; twice is once."""
        if self.attached:
            return
        for to in self.to:
            self._sinks.append(sink(to))
        for name, module in self.model.named_modules():
            self._handles += self._hooks(name, module)
        self._handles += [
            register_optimizer_step_pre_hook(self._will_step),
            register_optimizer_step_post_hook(self._has_stepped),
        ]
        if self._probe is not None:
            self._handles.append(self._probe.register_post_accumulate_grad_hook(self._scale.note))
        if "torch._dynamo" in sys.modules or _compiled(self.model):
            self._stance = torch.compiler.set_stance("force_eager")

    def detach(self) -> None:
        """Remove every hook, close what was opened, and let compiled code run again; twice is once."""
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()
        sinks, self._sinks = self._sinks, []
        for opened in sinks:
            opened.close()
        self._stop_seeing()
        self._watch, self._before, self._depth = None, {}, 0
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None

    def _hooks(self, name: str, module: nn.Module) -> list[Any]:
        leaf = name in self._leaves

        def enter(module: nn.Module, args: Any) -> None:
            self._depth += 1
            if self._depth == 1:
                self._begin(module)
            if self._watch is not None and self._seeing is not None:
                self._watch.enter(name, module, (), leaf=False)

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self._depth = max(0, self._depth - 1)
            if self._watch is not None and self._seeing is not None:
                self._watch.leave(name, module, output, leaf=leaf)
            if self._depth == 0:
                self._stop_seeing()

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]

    def _begin(self, module: nn.Module) -> None:
        """Start on a pass: with a clean sheet when the model is called, or when the backward pass of the last came by."""
        in_backward = torch._C._current_graph_task_id() != -1  # activation checkpointing runs layers again
        if in_backward or not (module.training and torch.is_grad_enabled()):
            return
        if not any(self._due(done + 1) for done in self._updates.values() or [0]):
            self._watch = None
            return
        if self._watch is None or module is self.model or self._watch.gradient:
            self._watch = Watch()
        self._seeing = Functions(self._watch)
        self._seeing.__enter__()  # type: ignore[no-untyped-call]

    def _stop_seeing(self) -> None:
        if self._seeing is not None:
            self._seeing.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._seeing = None

    def _owned(self, optimizer: Optimizer) -> dict[str, nn.Parameter]:
        ids = [id(p) for group in optimizer.param_groups for p in group["params"]]
        return dict(self._parameters[i] for i in ids if i in self._parameters)

    def _will_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        owned = self._owned(optimizer)
        if owned and self._due(self._updates.get(id(optimizer), 0) + 1):
            self._before[id(optimizer)] = Updates.of(owned)

    def _has_stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        owned, key = self._owned(optimizer), id(optimizer)
        if not owned:
            return
        self._updates[key] = self._updates.get(key, 0) + 1
        name = type(optimizer).__name__
        self._names.setdefault(key, name if not self._names else f"{name}#{len(self._names) + 1}")
        before = self._before.pop(key, None)
        if before is not None:
            signals = self._signals()
            record = Record(self._updates[key], self._names[key], signals, gradients(owned), before.ratios(owned))
            self.records.append(record)
            for place in self._sinks:
                place.write(record)
        self._moved |= {id(parameter) for parameter in owned.values()}
        if self._done():
            self.detach()

    def _done(self) -> bool:
        """Whether each optimizer has made its updates. One not seen yet owns the parameters that nobody has moved."""
        least, most = min(self._updates.values()), max(self._updates.values())
        return most >= 2 * self.steps or (least >= self.steps and self._moved == self._parameters.keys())

    def _due(self, step: int) -> bool:
        return step % self.every == 0

    def _signals(self) -> Signals:
        watch = self._watch
        if watch is None:
            return Signals((), not_observed=("signals: no pass in training mode came before this update",))
        scale = self._scale.factor(self._probe) if self._probe is not None else 1.0
        if self.scaler is not None and self.scaler.is_enabled():
            scale = self.scaler.get_scale()
        rows = tuple(_unscaled(row, scale) for row in watch.rows())
        missing = tuple(f"layer '{n}' was not called, or not as a module" for n in self._leaves if not watch.calls[n])
        return Signals(rows, not_observed=(*missing, *(() if scale else (_SCALED,))))


def _unscaled(row: SignalRow, scale: float | None) -> SignalRow:
    if row.gradient_std is None or scale == 1.0:
        return row
    return replace(row, gradient_std=row.gradient_std / scale if scale else None)


def _chosen(model: nn.Module, patterns: Sequence[str] | None) -> dict[str, nn.Module]:
    found = dict(leaves(model))
    if patterns is None:
        return found
    chosen = {name: m for name, m in found.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    if not chosen:
        raise OptionError(
            f"layers={list(patterns)}: no layer has such a name. Names are such as {', '.join(list(found)[:3])}. "
            "No hook was set."
        )
    return chosen


def _unwrapped(model: Any) -> Any:
    while True:
        if isinstance(model, nn.DataParallel) and len(model.device_ids or ()) > 1:
            raise MeasureError(
                f"DataParallel over {len(model.device_ids)} devices runs copies of the model that are gone after each pass. "
                "Use DistributedDataParallel. No hook was set."
            )
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(model, nn.Module) and hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def _compiled(model: nn.Module) -> bool:
    return any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
