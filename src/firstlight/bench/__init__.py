"""How fast values, orthogonal matrices and whole models are made, against what else makes them, in turn in one process."""

from firstlight.bench.models import MODELS, ModelRow, bench_models, has_transformers
from firstlight.bench.values import DTYPES, KINDS, BenchRow, bench, bench_orthogonal, cold_start, empty_cache_start

__all__ = [
    "DTYPES",
    "KINDS",
    "MODELS",
    "BenchRow",
    "ModelRow",
    "bench",
    "bench_models",
    "bench_orthogonal",
    "cold_start",
    "empty_cache_start",
    "has_transformers",
]
