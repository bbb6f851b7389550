"""Ray does the jobs of a race: the same result as here, also when a worker is killed in mid-run or the race is resumed."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import firstlight as fl
from firstlight.cli import run
from firstlight.errors import OptionError
from firstlight.race.jobs import cut
from firstlight.race.question import Run

NET = """
import os, pathlib, signal
from torch import nn

class Net(nn.Module):
    '''Kills the first process, other than the one that asks, in which it has trained for ten steps.'''

    def __init__(self):
        super().__init__()
        self.flat, self.inner, self.out, self.calls = nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 10), 0

    def forward(self, x):
        self.calls += self.training
        marker = pathlib.Path({marker!r})
        if self.calls > 10 and os.getpid() != {driver} and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.out(self.inner(self.flat(x)).tanh())
"""


@pytest.mark.slow
def test_a_race_resumed_on_ray_survives_a_killed_worker_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "killed"
    Path("net.py").write_text(NET.format(marker=str(marker), driver=os.getpid()))
    words = (
        "race --model net.py:Net --init he --init xavier --optimizer adam --lr 0.01 --seeds 2 --steps 30 --program loop"
    )
    assert run([*words.split(), "--save", "race", "--json"]) == 0
    here = json.loads(capfd.readouterr().out)
    assert not marker.exists()
    results = Path("race/results.jsonl")
    whole = results.read_text().splitlines()
    results.write_text(whole[0] + "\n" + whole[1][:50])  # the process that asked died as it wrote its second run
    assert run(["race", "--resume", "race", "--runner", "ray", "--json"]) == 0
    there = json.loads(capfd.readouterr().out)  # nothing of Ray's own is among the data
    assert marker.exists()
    assert not ray.is_initialized()

    def told(row: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in row.items() if not name.startswith("seconds")}

    assert [told(row) for row in there["rows"]] == [told(row) for row in here["rows"]]
    curves = [{(d["init"], d["seed"]): d["curve"] for d in map(json.loads, text)} for text in
              (whole, results.read_text().splitlines())]  # fmt: skip
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_a_race_on_ray_whose_asking_process_is_killed_goes_on_from_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.chdir(tmp_path)
    words = [
        *(
            "race",
            "--model",
            "mlp:depth=3,width=16",
            "--init",
            "he",
            "--optimizer",
            "adam",
            "--lr",
            "0.01",
            "--steps",
            "300",
        ),
        *("--program", "loop", "--seeds", "12", "--runner", "ray", "--save", "race"),
    ]
    results, limit = Path("race/results.jsonl"), time.monotonic() + 240
    process = subprocess.Popen(
        [sys.executable, "-m", "firstlight", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while not results.exists() or results.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.kill()
    process.communicate(timeout=60)
    before = results.read_bytes()
    assert 2 <= before.count(b"\n") < 12
    assert run(["race", "--resume", "race", "--runner", "ray", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert [row["seed"] for row in rows] == list(range(12))
    assert {row["status"] for row in rows} <= {"finished", "early-stopped"}
    assert results.read_bytes().startswith(before[: before.rfind(b"\n") + 1])


@pytest.mark.slow
def test_every_piece_asks_for_a_gpu_where_the_cluster_says_it_has_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster claims two GPUs that are not there: Ray hands out their numbers, and the pieces tell which they got."""
    ray = pytest.importorskip("ray", reason="ray is not installed")
    module = importlib.import_module("firstlight.race.runners.ray")

    def work(question: Any, job: Any, gpu: bool) -> list[Any]:
        import time

        time.sleep(0.2)
        return [(gpu, len(ray.get_gpu_ids()), ray.get_runtime_context().get_assigned_resources()) for _ in job.runs]

    monkeypatch.setattr(module, "_work", work)
    jobs, told = cut([Run("he", "adam", 0.1, seed) for seed in range(4)], batched=False), []
    ray.init(num_cpus=4, num_gpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    try:
        module.run(None, jobs, lambda job, rows: told.extend(rows.values()))
    finally:
        ray.shutdown()
    assert [(gpu, count, needs["GPU"], needs["CPU"]) for gpu, count, needs in told] == [(True, 1, 1.0, 1.0)] * 4


def test_without_ray_it_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    module = importlib.import_module("firstlight.race.runners.ray")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(OptionError, match=r"needs Ray, which is not installed: pip install 'firstlight\[ray\]'"):
        fl.race(inits=["he"], runner="ray", model="mlp:depth=2,width=8")
