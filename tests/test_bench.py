"""The bench measures what it says: every kind, dtype and model once, with consistent ratios."""

from typing import Any

import pytest
import torch
from torch import nn

from firstlight.bench import (
    DTYPES,
    KINDS,
    MODELS,
    bench,
    bench_measure,
    bench_models,
    bench_orthogonal,
    cold_start,
    empty_cache_start,
    has_transformers,
)
from firstlight.bench.passes import CASES
from firstlight.cli import run


def test_every_kind_and_dtype_is_measured_once() -> None:
    rows = list(bench(count=2**12, rounds=1))
    assert [(row.kind, row.dtype) for row in rows] == [(kind, dtype) for kind in KINDS for dtype in DTYPES]
    for row in rows:
        assert row.device == "cpu"
        assert min(row.firstlight, row.torch, row.constant) > 0
        assert row.against_torch == pytest.approx(row.firstlight / row.torch)
        assert row.to_json()["against_constant"] == pytest.approx(row.firstlight / row.constant)


def test_an_orthogonal_matrix_is_measured() -> None:
    (row,) = bench_orthogonal(side=64, rounds=1)
    assert (row.kind, row.count) == ("orthogonal", 64 * 64)
    assert min(row.firstlight, row.torch, row.constant) > 0


@pytest.mark.skipif(not has_transformers(), reason="transformers is not installed")
def test_models_are_measured_against_from_config_and_against_their_memory() -> None:
    from transformers import LlamaConfig

    small = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    (row,) = bench_models({"small": lambda: small}, rounds=1)
    assert (row.model, row.threads) == ("small", torch.get_num_threads())
    assert row.parameters == 2 * 64 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    assert row.against_transformers == pytest.approx(row.transformers / row.firstlight)
    assert row.to_json()["against_touching"] == pytest.approx(row.touching / row.firstlight)


def test_measuring_is_timed_and_weighed_beside_a_plain_pass() -> None:
    def case() -> tuple[nn.Module, Any, Any]:
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
        return model, torch.randn(512, 64), torch.randint(10, (512,))

    (row,) = bench_measure({"small": case}, rounds=2)
    assert (row.model, row.parameters) == ("small", 64 * 256 + 256 + 256 * 256 + 256 + 2570)
    assert min(row.plain, row.measure) > 0
    held = 4 * 512 * 256 * 4  # outputs of four layers, as float32, live at the end of the forward pass
    assert held < row.plain_bytes < 3 * held
    assert row.to_json()["memory_ratio"] == pytest.approx(row.measure_bytes / row.plain_bytes)


@pytest.mark.slow
def test_measuring_a_resnet_takes_no_more_memory_than_a_twentieth_beyond_a_plain_pass() -> None:
    (row,) = bench_measure({"resnet-18": CASES["resnet-18"]}, rounds=1)
    assert row.memory_ratio < 1.05


@pytest.mark.skipif(not has_transformers(), reason="transformers is not installed")
def test_the_models_have_the_sizes_that_their_names_say() -> None:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        models = {name: AutoModelForCausalLM.from_config(config()) for name, config in MODELS.items()}  # type: ignore[no-untyped-call]
    sizes = {name: model.num_parameters() for name, model in models.items()}
    assert sizes == {"gpt2-small": 124_439_808, "llama-1.1b": 1_100_048_384}


def test_without_transformers_the_bench_says_which_part_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("firstlight.bench.has_transformers", lambda: False)
    assert run(["bench", "--only", "models"]) == 2
    assert "Install the extra firstlight[hf]. No model was measured." in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device, so it is measured")
def test_without_a_device_the_bench_says_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--only", "cuda"]) == 2
    assert "--only cuda: torch finds no CUDA device here. Nothing was measured." in capsys.readouterr().err


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; there is none here")
def test_a_device_is_measured_under_its_name() -> None:
    rows = list(bench(count=2**20, rounds=1, device="cuda"))
    assert len(rows) == len(DTYPES) * len(KINDS)
    assert {row.device for row in rows} == {torch.cuda.get_device_name()}


def test_cold_start_is_a_time() -> None:
    assert 0 < cold_start() < 120


@pytest.mark.slow
def test_a_start_without_compiled_kernels_takes_longer_than_one_with_them() -> None:
    assert cold_start() < empty_cache_start() < 300
