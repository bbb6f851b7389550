"""The zoo: many small networks, each trained from several starts over one grid of learning rates; which start is best.

    python benchmarks/zoo.py --out zoo.jsonl            # every row, method and seed; what is in the file is not run again
    python benchmarks/zoo.py --out bad.jsonl --change shifted --rows mlp6  # on data that is scaled badly
    python benchmarks/zoo.py --out zoo.jsonl --cost     # what planning costs, in training steps
    python benchmarks/zoo.py --out zoo.jsonl --summary  # docs/zoo.md from what is there

The networks are in zoo_rows.py, what is made of the results in zoo_page.py. The runs of a row are trained side by side, by
torch.func over stacked parameters, where its layers can be; each run's numbers are its own.
"""

import argparse
import copy
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from zoo_data import DATA, Inputs, arguments, parts
from zoo_page import write
from zoo_rows import CHANGES, Row, held_out, rows

import firstlight as fl

METHODS = ("torch-default", "xavier", "he", "orthogonal", "lsuv", "auto")
GRID = (*(("sgd", lr) for lr in (1e-3, 1e-2, 1e-1)), *(("adam", lr) for lr in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)))
STEPS, EVALUATED = 100, 256
Page = Callable[[Sequence[Any], Callable[[Any], float]], None]  # writes a page from records and what judges one


def batch(row: Row, count: int, generator: torch.Generator) -> tuple[Inputs, Tensor]:
    """Return `count` examples of a row's data."""
    inputs, target = DATA[row.data].draw(count, generator)
    return (CHANGES[row.change](inputs) if row.change and isinstance(inputs, Tensor) else inputs), target


def started(row: Row, method: str, seed: int) -> tuple[nn.Module, float]:
    """Return the network as a method starts it, and the seconds of the processor that took."""
    torch.manual_seed(seed)
    model = row.make()
    example = batch(row, 256, torch.Generator().manual_seed(10_000 + seed))[0]
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fl.initialize(model, method, seed=seed, example=example)
    return model, time.process_time() - begun


def train_stacked(row: Row, models: Sequence[nn.Module], grid: Sequence[tuple[str, float]], seed: int) -> list[float]:
    """Train each model with each entry of the grid, all side by side; return the losses, model by model."""
    base = copy.deepcopy(models[0]).to("meta")
    ordered = sorted(range(len(grid)), key=lambda i: grid[i][0])  # adam first
    split = len(models) * sum(name == "adam" for name, _ in grid)
    pairs = [(m, i) for i in ordered for m in range(len(models))]
    states = [dict(model.named_parameters()) for model in models]
    stacked = {name: torch.stack([states[m][name].detach() for m, _ in pairs]).requires_grad_() for name in states[0]}
    held = [dict(model.named_buffers()) for model in models]
    buffers = {name: torch.stack([held[m][name] for m, _ in pairs]) for name in held[0]}
    rates = torch.tensor([grid[i][1] for _, i in pairs])
    data = DATA[row.data]

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Inputs, y: Tensor) -> Tensor:
        return data.loss(torch.func.functional_call(base, (parameters, buffers), arguments(x)), y)

    every = torch.func.vmap(one, in_dims=(0, 0, None, None), randomness="same")
    update = _Update(list(stacked.values()), rates, split)
    generator = torch.Generator().manual_seed(seed)
    for step in range(STEPS):
        x, y = batch(row, row.batch, generator)
        grads = torch.autograd.grad(every(stacked, buffers, x, y).sum(), list(stacked.values()), allow_unused=True)
        update(step + 1, grads)
    x, y = batch(row, EVALUATED, torch.Generator().manual_seed(20_000))
    with torch.no_grad():
        pieces = zip(parts(x, 128), y.split(128), strict=True)
        final = sum(every(stacked, buffers, a, b) for a, b in pieces) / (EVALUATED / 128)
    found = {pair: float(value) for pair, value in zip(pairs, final, strict=True)}
    return [found[m, i] for m in range(len(models)) for i in range(len(grid))]


class _Update:
    """Adam for the runs before `split`, SGD with momentum 0.9 for those after it, each run with its own rate."""

    def __init__(self, parameters: Sequence[Tensor], rates: Tensor, split: int) -> None:
        self.parameters, self.split = parameters, split
        self.rates = [rates.reshape(-1, *[1] * (p.ndim - 1)) for p in parameters]
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p[:split]) for p in parameters]

    @torch.no_grad()
    def __call__(self, step: int, grads: Sequence[Tensor | None]) -> None:
        n = self.split
        for p, rate, m, v, g in zip(self.parameters, self.rates, self.first, self.second, grads, strict=True):
            if g is None:
                continue
            m[:n].mul_(0.9).add_(g[:n], alpha=0.1)
            v.mul_(0.999).addcmul_(g[:n], g[:n], value=0.001)
            m[n:].mul_(0.9).add_(g[n:])
            root = (v / (1 - 0.999**step)).sqrt_().add_(1e-8)
            p[:n].sub_(rate[:n] * (m[:n] / (1 - 0.9**step)) / root)
            p[n:].sub_(rate[n:] * m[n:])


def train_each(row: Row, models: Sequence[nn.Module], grid: Sequence[tuple[str, float]], seed: int) -> list[float]:
    """Train one run after another: for layers that torch.func cannot stack."""
    found = []
    data = DATA[row.data]
    for model in models:
        for name, rate in grid:
            net = copy.deepcopy(model)
            parameters = list(net.parameters())
            optimizer: torch.optim.Optimizer = (
                torch.optim.Adam(parameters, rate)
                if name == "adam"
                else torch.optim.SGD(parameters, rate, momentum=0.9)
            )
            generator = torch.Generator().manual_seed(seed)
            torch.manual_seed(seed)  # for dropout
            for _ in range(STEPS):
                x, y = batch(row, row.batch, generator)
                optimizer.zero_grad()
                value = data.loss(net(*arguments(x)), y)
                if not torch.isfinite(value):
                    break
                value.backward()
                optimizer.step()
            x, y = batch(row, EVALUATED, torch.Generator().manual_seed(20_000))
            with torch.no_grad():
                found.append(float(data.loss(net(*arguments(x)), y)))
    return found


def step_seconds(row: Row, model: nn.Module) -> float:
    """Return the seconds of the processor for one training step with Adam, the least of five."""
    net = copy.deepcopy(model)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)
    data = DATA[row.data]
    x, y = batch(row, row.batch, torch.Generator().manual_seed(0))
    times = []
    for _ in range(5):
        begun = time.process_time()
        optimizer.zero_grad()
        data.loss(net(*arguments(x)), y).backward()
        optimizer.step()
        times.append(time.process_time() - begun)
    return min(times)


def cost(row: Row) -> dict[str, Any]:
    """Return the seconds that planning and applying `auto` takes, the least of three after a first, and those of a step."""
    models = [started(row, "auto", seed=seed) for seed in range(4)]
    step = min(step_seconds(row, models[0][0]) for _ in range(3))
    return {"cost": row.name, "plan_seconds": min(seconds for _, seconds in models[1:]), "step_seconds": step}


def run(row: Row, methods: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """Yield a record for each method: the loss for each entry of the grid, infinite where the start or training failed."""
    models: list[nn.Module] = []
    records: list[dict[str, Any]] = []
    for method in methods:
        record: dict[str, Any] = {"row": row.name, "kind": row.kind, "method": method, "seed": seed, "losses": None}
        record["chance"] = DATA[row.data].chance()
        try:
            model, record["plan_seconds"] = started(row, method, seed)
            models.append(model)
        except fl.errors.FirstlightError as error:
            record["refused"] = str(error)[:200]
        records.append(record)
    alone = row.loop or _is_tied(row)
    losses = (train_each if alone else train_stacked)(row, models, GRID, seed) if models else []
    for record in records:
        if "refused" not in record:
            record["losses"], losses = losses[: len(GRID)], losses[len(GRID) :]
        yield record


def _is_tied(row: Row) -> bool:
    """Whether a parameter has two names, of which torch.func would set one alone."""
    model = row.make()
    return len(list(model.named_parameters(remove_duplicate=False))) > len(list(model.parameters()))


def best(record: dict[str, Any]) -> float:
    """Return the least loss of a record, infinite where there is none."""
    found = [loss for loss in record["losses"] or () if loss is not None and math.isfinite(loss)]
    return min(found, default=math.inf)


def _keep(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def main(zoo: Sequence[Row], held: Sequence[Row], page: Page, out: str) -> None:
    """Run what is missing in the file, or write the page."""
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--rows", default="", help="words; rows whose name holds one of them")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", action="store_true", help="the rows that were held out, too")
    parser.add_argument("--change", choices=CHANGES, default="", help="digits scaled badly, as rows of their own")
    parser.add_argument("--cost", action="store_true", help="measure what planning costs on every row")
    parser.add_argument("--summary", action="store_true", help="write the page in docs/ from the file")
    args = parser.parse_args()
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    words = [word for word in args.rows.split(",") if word]
    chosen = [row for row in (*zoo, *held) if not words or any(word in row.name for word in words)]
    if args.summary:
        page(done, best)
    elif args.cost:
        for row in chosen:
            record = cost(row)
            _keep(args.out, record)
            print(f"{row.name}: {record['plan_seconds'] / record['step_seconds']:.1f} steps", flush=True)
    else:
        known = {(r["row"], r["method"], r["seed"]) for r in done if "row" in r}
        asked = [row for row in chosen if row in zoo or args.held_out]
        if args.change:
            asked = [
                replace(r, name=f"{r.name}-{args.change}", change=args.change) for r in asked if r.data == "digits"
            ]
        _race(asked, args.methods.split(","), args.seeds, known, args.out)


def _race(chosen: Sequence[Row], methods: Sequence[str], seeds: int, known: Any, out: Path) -> None:
    for seed in range(seeds):
        for row in chosen:
            missing = [method for method in methods if (row.name, method, seed) not in known]
            begun = time.perf_counter()
            for record in run(row, missing, seed) if missing else ():
                _keep(out, record)
                print(f"{row.name} {record['method']} {seed}: {best(record):.4f}", flush=True)
            if missing:
                print(f"  {time.perf_counter() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(list(rows()), list(held_out()), write, "zoo.jsonl")
