"""How fast values and whole models are made and measured, against what else does it, in turn in one process."""

from firstlight.bench.models import MODELS, ModelRow, bench_models, has_transformers
from firstlight.bench.passes import MeasureRow, bench_measure, measure_cases
from firstlight.bench.values import DTYPES, KINDS, BenchRow, bench, bench_orthogonal, cold_start, empty_cache_start

__all__ = [
    "DTYPES",
    "KINDS",
    "MODELS",
    "BenchRow",
    "MeasureRow",
    "ModelRow",
    "bench",
    "bench_measure",
    "bench_models",
    "bench_orthogonal",
    "cold_start",
    "empty_cache_start",
    "has_transformers",
    "measure_cases",
]
