"""Other libraries' checks, each in a process of its own: JAX's threads and Keras' choice of a backend stay out of this one."""

import doctest
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_checks(file: str, **environment: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", str(HERE / file)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def need(library: str) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install 'firstlight[{library}]'")


@pytest.mark.slow
def test_jax_gets_the_bits_of_torch() -> None:
    need("jax")
    run_checks("jax_checks.py", XLA_FLAGS="--xla_force_host_platform_device_count=4")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_keras_gets_the_bits_of_torch(backend: str) -> None:
    need("keras")
    need(backend)
    run_checks("keras_checks.py", KERAS_BACKEND=backend)


def test_the_examples_of_the_page_are_true() -> None:
    page = HERE.parent.parent / "docs" / "other-libraries.md"
    assert doctest.testfile(str(page), module_relative=False).failed == 0
