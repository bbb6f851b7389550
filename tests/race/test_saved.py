"""Races are saved run by run and go on after any end: killed, interrupted, or a full disk."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import firstlight as fl
from firstlight.cli import run
from firstlight.errors import FileError, MeasureError, OptionError

SMALL: dict[str, Any] = {
    "inits": ["zeros", "he", "xavier"], "optimizers": ["adam"], "lrs": [0.01, 0.03], "steps": 20, "seeds": 2,
    "model": "mlp:depth=3,width=16", "program": "loop",
}  # fmt: skip


def outcomes(result: Any) -> list[Any]:
    return [(row.init, row.lr, row.seed, row.status, row.curve) for row in result]


def test_every_run_is_a_line_and_a_finished_race_is_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "race"
    first = fl.race(**SMALL, save=folder)
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == 12 == len(first.rows)
    assert json.loads(lines[0])["curve"]["validation_steps"][0] == 0
    told: list[tuple[int, int, str]] = []
    again = fl.race(**SMALL, save=folder, resume=True, progress=lambda *news: told.append(news))
    assert told == [(12, 12, "")]
    assert outcomes(again) == outcomes(first)
    assert again.rows == first.rows


@pytest.mark.parametrize("program", ["loop", "batched"])
def test_a_race_that_was_cut_off_goes_on_to_the_same_result(program: str, tmp_path: Path) -> None:
    options = SMALL | {"program": program}
    whole = fl.race(**options, save=tmp_path / "whole")
    fl.race(**options, save=tmp_path / "cut")
    file = tmp_path / "cut" / "results.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:5]) + lines[5][:100])  # the sixth line was being written
    assert outcomes(fl.race(**options, save=tmp_path / "cut", resume=True)) == outcomes(whole)
    assert len(file.read_bytes().splitlines()) == 12


def test_another_race_and_a_strange_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "race"
    fl.race(**SMALL, save=folder)
    before = (folder / "results.jsonl").read_bytes()
    with pytest.raises(FileError, match=r"holds a race\. Go on with it by resume.*Nothing was trained"):
        fl.race(**SMALL, save=folder)
    with pytest.raises(OptionError, match=r"holds another race: schedule, grid differ"):
        fl.race(**(SMALL | {"steps": 21, "lrs": [0.1]}), save=folder, resume=True)
    with pytest.raises(OptionError, match="holds another race: starts differ"):
        fl.race(**(SMALL | {"inits": ["he"]}), save=folder, resume=True)
    assert (folder / "results.jsonl").read_bytes() == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileError, match="is not empty and holds no race"):
        fl.race(**SMALL, save=tmp_path / "mine")
    with pytest.raises(FileError, match=r"there is no race in .* to resume"):
        fl.race(**SMALL, save=tmp_path / "nowhere", resume=True)
    assert not (tmp_path / "nowhere").exists()
    (folder / "race.json").write_text("{")
    with pytest.raises(FileError, match="cannot be read"):
        fl.race(**SMALL, save=folder, resume=True)


def test_the_table_holds_every_run(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    result = fl.race(**SMALL, save=tmp_path / "race")
    table = parquet.read_table(tmp_path / "race" / "results.parquet")
    assert table.column("init").to_pylist() == [row.init for row in result]
    assert table.column("validation_loss").to_pylist()[3] == list(result.rows[3].curve.validation_loss)


BATCH: dict[str, Any] = SMALL | {
    "inits": ["he"],
    "optimizers": ["sgd", "adam"],
    "lrs": [1e30, 0.01],
    "program": "batched",
}


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[int]]:
    """Return cut(step): from then on batches stop short of that step (None: of none); it gives the steps that are taken."""
    batched = import_module("firstlight.race.batched")
    whole = batched._Batch.step

    def cut(last: int | None) -> list[int]:
        taken: list[int] = []

        def step(self: Any, number: int) -> None:
            if last is not None and number > last:
                raise KeyboardInterrupt
            taken.append(number)
            whole(self, number)

        monkeypatch.setattr(batched._Batch, "step", step)
        return taken

    return cut


def test_a_batch_saves_each_run_as_it_leaves(tmp_path: Path, power: Callable[[int | None], list[int]]) -> None:
    power(10)
    with pytest.raises(KeyboardInterrupt):
        fl.race(**BATCH, save=tmp_path / "race")
    rows = [json.loads(line) for line in (tmp_path / "race" / "results.jsonl").read_text().splitlines()]
    assert sorted((row["status"], row["optimizer"], row["seed"]) for row in rows) == [
        ("diverged", name, seed) for name in ("adam", "sgd") for seed in (0, 1)
    ]
    assert list((tmp_path / "race").glob("*.halfway")) == []  # a moment's work is not worth a file


def test_a_batch_kept_half_way_goes_on_from_there_to_the_same_bits(
    tmp_path: Path, power: Callable[[int | None], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EVERY", "WORTH"):
        monkeypatch.setattr(import_module("firstlight.race.halfway"), name, -1.0)
    whole = fl.race(**BATCH)
    power(10)
    with pytest.raises(KeyboardInterrupt):
        fl.race(**BATCH, save=tmp_path / "race")
    (file,) = (tmp_path / "race").glob("*.halfway")
    (tmp_path / "race" / "results.jsonl").unlink()  # it is told again of runs that had left
    steps = power(None)
    again = fl.race(**BATCH, save=tmp_path / "race", resume=True)
    assert steps == list(range(11, 21))
    assert repr(outcomes(again)) == repr(outcomes(whole))  # NaN is not equal to itself, but is written alike
    assert not file.exists()
    assert all(row.seconds > 0 for row in again)


def test_a_damaged_half_way_file_and_a_full_disk_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halfway = import_module("firstlight.race.halfway")
    kept = halfway.Halfway(tmp_path / "key.halfway")
    kept.write({"behind": 3})
    assert kept.read() == {"behind": 3}

    def full(*given: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data.pkl: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        FileError, match=r"cannot be written: PytorchStreamWriter failed.* Make room, then go on with resume"
    ):
        kept.write({"behind": 4})
    assert kept.read() == {"behind": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["key.halfway"]
    kept.file.write_bytes(b"half a zip")
    with pytest.raises(FileError, match=r"cannot be read\. Remove it, and its runs begin again\. Nothing was trained"):
        kept.read()


COMMAND = [
    sys.executable, "-m", "firstlight", "race", "--model", "mlp:depth=3,width=16", "--init", "he", "--init", "xavier",
    "--optimizer", "adam", "--lr", "0.01", "--seeds", "60", "--steps", "40", "--program", "loop",
]  # fmt: skip


def started(folder: Path, *, runs: int) -> "subprocess.Popen[str]":
    """Return the command after so many runs are saved; 120 take it a second or more."""
    process = subprocess.Popen(
        [*COMMAND, "--save", str(folder)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 120
    while not (folder / "results.jsonl").exists() or len((folder / "results.jsonl").read_bytes().splitlines()) < runs:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "race"
    process = started(folder, runs=5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    saved = len((folder / "results.jsonl").read_text().splitlines())
    assert said == f"interrupted. {saved} of 120 runs are saved; go on with: firstlight race --resume {folder}\n"
    assert 5 <= saved < 120


@pytest.mark.slow
def test_an_interrupted_batch_is_kept_half_way_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "race"
    code = (
        "import importlib, sys\nhalfway = importlib.import_module('firstlight.race.halfway')\n"
        "halfway.EVERY = halfway.WORTH = 0.05\n"
        "from firstlight.cli import run\nsys.exit(run(sys.argv[1:]))"
    )
    words = ["race", "--model", "mlp:depth=3,width=16", "--init", "he", "--optimizer", "adam", "--lr", "0.01",
             "--seeds", "4", "--patience", "9999", "--steps", "800", "--save", str(folder)]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 120
    while not list(folder.glob("*.halfway")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said == (
        f"interrupted. 0 of 4 runs are saved, and 1 batch half way; go on with: firstlight race --resume {folder}\n"
    )
    assert run(["race", "--resume", str(folder), "--json"]) == 0
    assert [row["steps"] for row in json.loads(capsys.readouterr().out)["rows"]] == [800] * 4
    assert list(folder.glob("*.halfway")) == []


@pytest.mark.slow
def test_a_killed_race_is_resumed_from_its_folder_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "race"
    process = started(folder, runs=5)
    process.kill()
    process.communicate(timeout=60)
    assert run(["race", "--resume", str(folder), "--steps", "5"]) == 2
    said = f"error: --resume takes the race from '{folder}': leave out --steps. Nothing was trained.\n"
    assert capsys.readouterr().err == said
    assert run(["race", "--resume", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len({(row["init"], row["seed"]) for row in rows}) == 120 == len(rows)
    assert len((folder / "results.jsonl").read_text().splitlines()) == 120


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_runs_before_it_are_whole(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the same write fails, with another word for it."""
    folder = tmp_path / "race"
    code = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from firstlight.cli import run\nsys.exit(run(sys.argv[1:]))"
    )
    words = [*COMMAND[3:], "--save", str(folder)]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False,
        env=os.environ | {"NUMBA_DISABLE_JIT_CACHE": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"error: '{folder / 'results.jsonl'}' cannot be written: File too large. Make room, then"
    )
    assert done.stderr.count("\n") == 1
    lines = (folder / "results.jsonl").read_bytes().split(b"\n")
    assert lines[-1] == b""
    assert all(json.loads(line)["steps"] for line in lines[:-1])
    assert len(lines) > 2


def test_a_race_nobody_asked_to_save_leaves_nothing_unless_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    words = [
        "race",
        "--model",
        "mlp:depth=2,width=8",
        "--init",
        "he",
        "--optimizer",
        "adam",
        "--seeds",
        "2",
        "--steps",
        "4",
    ]
    assert run(words) == 0
    assert list(tmp_path.glob("firstlight-*")) == []  # torch may leave a folder of its own here
    jobs = import_module("firstlight.race.jobs")
    train, calls = jobs.train, []

    def interrupted(*given: Any, **options: Any) -> Any:
        calls.append(options["seed"])
        if len(calls) > 3:
            raise KeyboardInterrupt
        return train(*given, **options)

    monkeypatch.setattr(jobs, "train", interrupted)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        capsys.readouterr()
        assert run([*words, "--program", "loop"]) == 130
    finally:
        torch.set_num_threads(threads)
    (left,) = tmp_path.glob("firstlight-*")
    assert (
        capsys.readouterr().err == f"interrupted. 3 of 8 runs are saved; go on with: firstlight race --resume {left}\n"
    )
    monkeypatch.setattr(jobs, "train", train)
    assert run(["race", "--resume", str(left)]) == 0
    assert len((left / "results.jsonl").read_text().splitlines()) == 8


def test_a_target_that_is_never_reached_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["race", "--model", "mlp:depth=2,width=8", "--init", "zeros", "--optimizer", "adam", "--steps", "4"]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "no run reached 90% validation accuracy within 4 steps" in out
    assert run([*words, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["summary"][0]["metrics"]["steps_to_target"] == {"median": None, "low": None, "high": None}


class Fails(nn.Module):
    """Trains for sixty steps, in all runs together, and then cannot."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Fails.steps += self.training
        if Fails.steps > 60:
            raise ValueError("no more\npaper.")
        out: torch.Tensor = self.layer(x.flatten(1))
        return out


def test_a_model_that_fails_as_it_trains_is_named_and_what_was_saved_stays(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with pytest.raises(
            MeasureError, match=r"Fails failed as it trained on task 'digits' .*: ValueError: no more paper\. Mend"
        ):
            fl.race(**(SMALL | {"model": Fails}), save=tmp_path / "race")
    finally:
        torch.set_num_threads(threads)
    assert 1 <= len((tmp_path / "race" / "results.jsonl").read_text().splitlines()) <= 3
