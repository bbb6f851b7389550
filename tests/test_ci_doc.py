"""docs/ci.md is true: its YAML is YAML, its commands run on a project as it describes, its Python runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from firstlight.cli import run

pytest_plugins = ["pytester"]
TEXT = (Path(__file__).parent.parent / "docs" / "ci.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
"""


def recipes() -> tuple[Any, Any]:
    workflow, hooks = (yaml.safe_load(body) for kind, body in BLOCKS if kind == "yaml")
    return workflow, hooks


def test_its_commands_run_on_a_project_as_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    draw = np.random.default_rng(0)
    np.savez("data.npz", x=draw.normal(size=(200, 8)).astype("float32"), y=draw.integers(3, size=200))
    workflow, hooks = recipes()
    lines = [step["run"] for step in workflow["jobs"]["start"]["steps"] if "firstlight diagnose" in step.get("run", "")]
    lines += [hook["entry"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line.removesuffix("|| true"))
        assert run(words[1:]) == 0, capsys.readouterr().err
    assert Path("diagnosis.html").is_file()
    assert re.search(hooks["repos"][0]["hooks"][0]["files"], "net.py")


@pytest.mark.slow
def test_its_test_passes_and_its_loop_runs(pytester: pytest.Pytester) -> None:
    test, loop = (body for kind, body in BLOCKS if kind == "python")
    pytester.makepyfile(test_start=test)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    done = subprocess.run([sys.executable, "-c", loop], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
