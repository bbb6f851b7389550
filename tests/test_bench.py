"""The bench measures what it says: every kind and dtype once, with consistent ratios."""

import pytest

from firstlight.bench import DTYPES, KINDS, bench, cold_start


def test_every_kind_and_dtype_is_measured_once() -> None:
    rows = list(bench(count=2**12, rounds=1))
    assert [(row.dtype, row.kind) for row in rows] == [(dtype, kind) for dtype in DTYPES for kind in KINDS]
    for row in rows:
        assert min(row.firstlight, row.torch, row.constant) > 0
        assert row.against_torch == pytest.approx(row.firstlight / row.torch)
        assert row.to_json()["against_constant"] == pytest.approx(row.firstlight / row.constant)


def test_cold_start_is_a_time() -> None:
    assert 0 < cold_start() < 120
