"""The default start of well-known models is never called faulty: Hugging Face's from small configs, residual nets, a U-Net."""

import warnings

import pytest
import torch
from benchmarks.findings.published import PUBLISHED

import firstlight as fl

pytest.importorskip("transformers")


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_default_starts_raise_neither_error_nor_warning(name: str) -> None:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers on kernels that are not installed
        torch.manual_seed(0)
        model, batch, options = PUBLISHED[name]()
        diagnosis = fl.diagnose(model, batch, **options)
    assert [finding for finding in diagnosis.findings if finding.severity != "info"] == []
    assert {"initial-loss", "initial-squares"} & set(diagnosis.statistics) or name == "CLIP"
