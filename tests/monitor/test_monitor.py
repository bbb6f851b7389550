"""The monitor sees what a loop does, in any loop, writes it down, and is gone after its steps."""

import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.device_mesh
import torch.distributed.fsdp
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils.checkpoint import checkpoint

import firstlight as fl
from firstlight.errors import FileError, MeasureError, OptionError

X = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers, an activation called as a function, and a method of its own for its first half."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(F.relu(self.first(x)))
        return out


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


def step(model: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, x: Tensor = X) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def hooks(model: nn.Module) -> int:
    count = len(_global_optimizer_pre_hooks) + len(_global_optimizer_post_hooks)
    for module in model.modules():
        count += len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
    return count + sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


def test_a_record_has_the_signals_gradients_and_updates_of_its_step() -> None:
    model = Net()
    optimizer = sgd(model)
    wanted = fl.measure(model, X, loss=lambda output: output.square().mean())
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with fl.Monitor(model, steps=1) as monitor:
        step(model, optimizer)
    (record,) = monitor.records
    assert [row.layer for row in record.signals] == ["first", "relu", "last"]
    for row in record.signals:
        assert row.forward_std == pytest.approx(wanted[row.layer].forward_std)
        assert row.gradient_std == pytest.approx(wanted[row.layer].gradient_std)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        change, size = (parameter.detach() - before[name]).norm(), before[name].norm()
        assert record.updates[name] == pytest.approx(float(change / size), rel=1e-4)
        assert record.gradients[name] == pytest.approx(float(parameter.grad.square().mean().sqrt()), rel=1e-5)


def test_after_its_steps_no_hook_is_left_and_a_step_takes_the_usual_time() -> None:
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(60)))
    optimizer = sgd(model)
    before = hooks(model)
    bare = [_timed(model, optimizer) for _ in range(15)]
    with fl.Monitor(model, steps=3) as monitor:
        watched = [_timed(model, optimizer) for _ in range(3)]
        assert not monitor.attached
        assert hooks(model) == before
        after = [_timed(model, optimizer) for _ in range(15)]
    assert len(monitor.records) == 3
    assert min(watched) > 1.5 * min(bare)  # the control: what is watched is slower in a model of tiny layers
    assert min(after) < 1.3 * min(bare)


def _timed(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    start = time.thread_time()
    step(model, optimizer)
    return time.thread_time() - start


def test_training_is_the_same_to_the_bit_with_and_without() -> None:
    plain, watched = Net(), Net()
    for model in (plain, watched):
        optimizer = sgd(model)
        if model is watched:
            monitor = fl.Monitor(model, steps=2)
            monitor.attach()
        for _ in range(4):
            step(model, optimizer)
    assert not monitor.attached
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))


def test_accumulated_passes_are_one_update_with_their_whole_gradient() -> None:
    model = Net()
    optimizer = sgd(model)
    with fl.Monitor(model, steps=2) as monitor:
        for i in range(8):
            (model(X).square().mean() / 4).backward()
            if i % 4 == 3:
                whole = model.first.weight.grad.square().mean().sqrt()  # type: ignore[union-attr]
                optimizer.step()
                optimizer.zero_grad()
    assert [record.step for record in monitor.records] == [1, 2]
    assert monitor.records[1].gradients["first.weight"] == pytest.approx(float(whole))
    assert [row.layer for row in monitor.records[1].signals] == [
        "first",
        "relu",
        "last",
    ]  # of the last pass, not of four


def test_evaluation_in_between_is_not_looked_at() -> None:
    model = Net()
    optimizer = sgd(model)
    with fl.Monitor(model, steps=2) as monitor:
        for _ in range(2):
            model.eval()
            model(100 * X)
            model.train()
            with torch.no_grad():
                model(100 * X)
            optimizer.zero_grad()
            model(X).square().mean().backward()
            model.eval()
            model(100 * X)
            model.train()
            optimizer.step()
    assert max(row.forward_std or 0 for record in monitor.records for row in record.signals) < 5


def test_two_optimizers_are_told_apart_and_parts_called_by_themselves_are_seen() -> None:
    model = nn.ModuleDict({"a": Net(), "b": Net()})
    first, second = sgd(model["a"]), torch.optim.Adam(model["b"].parameters())
    other = nn.Linear(8, 1)
    stranger = sgd(other)
    with fl.Monitor(model, steps=2) as monitor:
        for _ in range(3):
            step(model["a"], first)
            step(other, stranger)
            step(model["b"], second)
    assert [(record.optimizer, record.step) for record in monitor.records] == [
        ("SGD", 1), ("Adam#2", 1), ("SGD", 2), ("Adam#2", 2)
    ]  # fmt: skip
    assert [[row.layer for row in record.signals] for record in monitor.records[:2]] == [
        [f"{part}.first", f"{part}/relu", f"{part}.last"] for part in "ab"
    ]
    assert set(monitor.records[1].updates) == {f"b.{name}" for name, _ in Net().named_parameters()}


def test_two_optimizers_after_one_pass_both_see_it() -> None:
    model = Net()
    optimizers = [sgd(model.first), sgd(model.last)]
    with fl.Monitor(model, steps=1) as monitor:
        model(X).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    assert [len(record.signals) for record in monitor.records] == [3, 3]


@pytest.mark.parametrize("given", [True, False])
def test_gradients_are_those_of_the_loss_under_a_grad_scaler(given: bool) -> None:
    plain, scaled = Net(), Net()
    with fl.Monitor(plain, steps=1) as wanted:
        step(plain, sgd(plain))
    scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    optimizer = sgd(scaled)
    with fl.Monitor(scaled, steps=1, scaler=scaler if given else None) as got:
        scaler.scale(scaled(X).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    for row, true in zip(got.records[0].signals, wanted.records[0].signals, strict=True):
        assert row.gradient_std == pytest.approx(true.gradient_std, rel=1e-5)
    assert got.records[0].gradients == pytest.approx(wanted.records[0].gradients, rel=1e-5)


def test_parameters_that_no_optimizer_owns_keep_it_no_longer_than_twice_its_steps() -> None:
    model = Net()
    optimizer = sgd(model.last)
    with fl.Monitor(model, steps=2) as monitor:
        for _ in range(6):
            step(model, optimizer)
        assert not monitor.attached
    assert len(monitor.records) == 4


def test_clipping_is_no_scale() -> None:
    model = Net()
    optimizer = sgd(model)
    with fl.Monitor(model, steps=1) as monitor:
        model(X).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    wanted = fl.measure(Net(), X, loss=lambda output: output.square().mean())
    assert monitor.records[0].signals["last"].gradient_std == pytest.approx(wanted["last"].gradient_std)


def test_a_scale_that_cannot_be_told_from_clipping_is_not_observed() -> None:
    model = Net()
    optimizer = sgd(model)
    with fl.Monitor(model, steps=1) as monitor:
        (65536 * model(X).square().mean()).backward()
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.mul_(0.7 / 65536)
        optimizer.step()
    signals = monitor.records[0].signals
    assert {row.gradient_std for row in signals} == {None}
    assert any("Give scaler=" in words for words in signals.not_observed)


def test_a_step_that_the_scaler_skips_is_no_update() -> None:
    model = Net()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=2.0)
    with fl.Monitor(model, steps=5) as monitor:
        scaler.scale(model(X * float("inf")).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
    assert monitor.records == []


def test_compiled_models_are_seen_layer_by_layer_and_run_compiled_afterwards() -> None:
    runs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            runs.append(1)
            return graph.forward(*args)

        return run

    model = Net()
    compiled: Any = torch.compile(model, backend=backend)
    optimizer = sgd(model)
    with fl.Monitor(compiled, steps=2) as monitor:
        for _ in range(2):
            step(compiled, optimizer)
    assert runs == []
    assert [row.layer for row in monitor.records[1].signals] == ["first", "relu", "last"]
    step(compiled, optimizer)
    assert runs == [1]


def test_autocast_checkpointing_and_wrappers_are_looked_through() -> None:
    class Saving(Net):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(checkpoint(lambda y: F.relu(self.first(y)), x, use_reentrant=False))
            return out

    model = Saving()
    with fl.Monitor(nn.DataParallel(model), steps=1) as monitor, torch.autocast("cpu", torch.bfloat16):
        step(nn.DataParallel(model), sgd(model))
    assert [row.layer for row in monitor.records[0].signals] == ["first", "relu", "last"]


def test_a_shared_layer_is_recorded_for_each_call_and_moved_once() -> None:
    layer = nn.Linear(8, 8)
    model = nn.Sequential(layer, nn.Tanh(), layer)
    with fl.Monitor(model, steps=1) as monitor:
        step(model, sgd(model))
    assert [row.layer for row in monitor.records[0].signals] == ["0", "1", "0#2"]
    assert set(monitor.records[0].updates) == {"0.weight", "0.bias"}


def test_every_and_layers_leave_out_the_rest() -> None:
    model = Net()
    optimizer = sgd(model)
    with fl.Monitor(model, steps=6, every=3, layers=["la*"]) as monitor:
        for _ in range(7):
            step(model, optimizer)
    assert [record.step for record in monitor.records] == [3, 6]
    assert [row.layer for row in monitor.records[0].signals if row.kind == "Linear"] == ["last"]


def test_csv_has_a_line_for_every_number(tmp_path: Path) -> None:
    model = Net()
    with fl.Monitor(model, steps=1, to=tmp_path / "m.csv") as monitor:
        step(model, sgd(model))
    with (tmp_path / "m.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list(monitor.records[0].scalars()))
    found = {(row["quantity"], row["name"]): float(row["value"]) for row in rows}
    assert found["update_ratio", "first.weight"] == monitor.records[0].updates["first.weight"]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = Net()
    optimizer = sgd(model)
    with fl.Monitor(model, steps=2, to=str(tmp_path / "runs")) as monitor:
        for _ in range(2):
            step(model, optimizer)
    events = EventAccumulator(str(tmp_path / "runs"))
    events.Reload()
    scalars = events.Scalars("firstlight/update_ratio/first.weight")
    assert [scalar.step for scalar in scalars] == [1, 2]
    assert [s.value for s in scalars] == pytest.approx([r.updates["first.weight"] for r in monitor.records])


def test_functions_and_several_places_get_each_record(tmp_path: Path) -> None:
    seen: list[Any] = []
    model = Net()
    with fl.Monitor(model, steps=1, to=[seen.append, tmp_path / "m.csv"]) as monitor:
        step(model, sgd(model))
    assert seen == monitor.records
    assert seen[0].to_json()["signals"]["rows"][0]["layer"] == "first"


def test_an_error_in_forward_or_in_the_loop_leaves_no_hook() -> None:
    model = Net()
    before = hooks(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), fl.Monitor(model):
        model(torch.ones(2, 3))
    assert hooks(model) == before
    F.relu(X)  # would be written down if the mode were still there
    with fl.Monitor(model, steps=1) as monitor:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            model(torch.ones(2, 3))
        step(model, sgd(model))
    assert [row.layer for row in monitor.records[0].signals] == ["first", "relu", "last"]


def test_wrong_options_set_no_hook(tmp_path: Path) -> None:
    model = Net()
    before = hooks(model)
    (tmp_path / "old.csv").write_text("mine")
    with pytest.raises(OptionError, match=r"steps=0: needed a whole number >= 1. No hook was set"):
        fl.Monitor(model, steps=0)
    with pytest.raises(OptionError, match=r"no layer has such a name. Names are such as first, last"):
        fl.Monitor(model, layers=["encoder.*"])
    with pytest.raises(OptionError, match="to=3 is no place for records"):
        fl.Monitor(model, to=3).attach()
    with pytest.raises(FileError, match=r"cannot be written: File exists.*Nothing was written"):
        fl.Monitor(model, to=tmp_path / "old.csv").attach()
    with pytest.raises(MeasureError, match=r"not an nn.Module"):
        fl.Monitor("model")  # type: ignore[arg-type]
    assert hooks(model) == before
    assert (tmp_path / "old.csv").read_text() == "mine"


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of one, with gloo: wrappers and sharded tensors are as in a large one."""
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=HashStore())
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp2"])
def test_data_parallel_and_sharded_models_are_seen_as_the_model_alone(wrapper: str) -> None:
    alone, model = Net(), Net()
    with fl.Monitor(alone, steps=1) as wanted:
        step(alone, sgd(alone))
    wrapped: nn.Module = model
    if wrapper == "ddp":
        wrapped = nn.parallel.DistributedDataParallel(model)
    else:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        torch.distributed.fsdp.fully_shard(model, mesh=mesh)
    with fl.Monitor(wrapped, steps=1) as got:
        step(wrapped, sgd(wrapped))
    assert not got.attached
    assert got.records[0].updates == pytest.approx(wanted.records[0].updates)
    assert got.records[0].gradients == pytest.approx(wanted.records[0].gradients)
    for row, true in zip(got.records[0].signals, wanted.records[0].signals, strict=True):
        assert (row.layer, row.kind) == (true.layer, true.kind)
        assert row.forward_std == pytest.approx(true.forward_std)
        assert row.gradient_std == pytest.approx(true.gradient_std)
