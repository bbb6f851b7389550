"""Sharded models in real processes: FSDP2, tensor parallel, both, replicas and parts, equal to one process bit for bit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_process_holds_the_bits_of_the_unsharded_model(world: int, tmp_path: Path) -> None:
    run("ranks.py", str(world), str(tmp_path / "store"))


@pytest.mark.slow
def test_a_process_that_does_not_come_or_comes_with_something_else_is_told_and_nobody_hangs() -> None:
    run("strays.py")


def run(script: str, *arguments: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as launched:
        try:
            said, _ = launched.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(launched.pid, signal.SIGKILL)
            raise
    assert launched.returncode == 0, said
