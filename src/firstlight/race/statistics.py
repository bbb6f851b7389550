"""What runs say together: medians with bootstrap intervals, and paired tests with a correction for their number.

Seeds are pairs: the runs of one seed see the same batches in the same order, so starts are compared seed by seed.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from firstlight.errors import OptionError, did_you_mean
from firstlight.race.row import RaceRow

Verdict = Literal["first", "second", "no difference shown"]

LEVEL = 0.05  # of a whole family of comparisons
RESAMPLES = 2000
_EXACT = 14  # differences up to which all 2^n signs are tried
_SEED = 19_790_101  # of the resampling: the same rows give the same intervals

# of each metric, whether less is better, and what a run counts that has no value: never reached, or not finite
METRICS: dict[str, tuple[bool, float]] = {
    "best_validation_loss": (True, math.inf),
    "final_loss": (True, math.inf),
    "steps_to_target": (True, math.inf),
    "seconds_to_target": (True, math.inf),
    "final_accuracy": (False, 0.0),
    "best_accuracy": (False, 0.0),
    "area": (False, 0.0),
}


@dataclass(frozen=True, slots=True)
class Interval:
    """The median over seeds and its 95 % bootstrap interval; None where it lies among runs that have no value."""

    median: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A start with an optimizer at its best learning rate, over its seeds. reached: how many runs reached the target."""

    init: str
    optimizer: str
    lr: float
    seeds: int
    diverged: int
    reached: int
    metrics: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two starts under one optimizer, seed by seed. wins: seeds in which the first was better; ties count for none.

    p: of Wilcoxon's signed-rank test, two-sided, by all sign patterns, so that it is exact also with ties. holm: p corrected
    for all comparisons of the race. better: which is better at level 0.05, by the corrected p.
    """

    first: str
    second: str
    optimizer: str
    metric: str
    difference: float | None
    seeds: int
    wins: int
    losses: int
    p: float
    holm: float
    better: Verdict


def pick(rows: "Sequence[RaceRow]") -> "dict[tuple[str, str], tuple[RaceRow, ...]]":
    """Return, for each (init, optimizer), the runs at the learning rate with the lowest median best validation loss."""
    cells: dict[tuple[str, str], dict[float, list[RaceRow]]] = {}
    for row in rows:
        cells.setdefault((row.init, row.optimizer), {}).setdefault(row.lr, []).append(row)

    def score(runs: "Iterable[RaceRow]") -> float:
        return _median(np.array([_value(row, "best_validation_loss") for row in runs]))

    return {key: tuple(sorted(min(by_lr.values(), key=score), key=lambda r: r.seed)) for key, by_lr in cells.items()}


def summarise(rows: "Sequence[RaceRow]") -> tuple[Summary, ...]:
    """Return a summary for each start with each optimizer, in the order of rows."""
    return tuple(
        Summary(
            init,
            optimizer,
            runs[0].lr,
            len(runs),
            sum(row.status == "diverged" for row in runs),
            sum(row.steps_to_target is not None for row in runs),
            {metric: interval([_value(row, metric) for row in runs]) for metric in METRICS},
        )
        for (init, optimizer), runs in pick(rows).items()
    )


def interval(values: Sequence[float], *, resamples: int = RESAMPLES) -> Interval:
    """Return the median and its 95 % percentile bootstrap interval.

    An infinite value is one that was never reached. With a single value there is no interval.

    Example:
        >>> found = interval([1.0, 2.0, 3.0, 4.0, 100.0])
        >>> found.median, found.low, found.high
        (3.0, 1.0, 100.0)

    Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) < 2:
        return Interval(_finite(data[0]) if len(data) else None, None, None)
    drawn = np.random.default_rng(_SEED).choice(data, size=(resamples, len(data)))
    low, high = np.quantile(_medians(drawn), (0.025, 0.975), method="nearest")
    return Interval(_finite(_median(data)), _finite(low), _finite(high))


def compare(rows: "Sequence[RaceRow]", *, metric: str = "best_validation_loss") -> tuple[Comparison, ...]:
    """Compare every pair of starts under each optimizer, each start at its best learning rate, over the seeds of both.

    A run without a value (it diverged, or never reached the target) is worse than any that has one, and two such are equal.

    Raises:
        OptionError: if there is no such metric.

    Source: Wilcoxon, "Individual comparisons by ranking methods", 1945; Holm, "A simple sequentially rejective multiple
    test procedure", 1979.
    """
    if metric not in METRICS:
        raise OptionError(
            f"'{metric}' is not a metric. Choose from {', '.join(METRICS)}.{did_you_mean(metric, METRICS)}"
        )
    less, _ = METRICS[metric]
    chosen = pick(rows)
    pairs = [(a, b) for a, b in combinations(chosen, 2) if a[1] == b[1]]
    tests = [_Paired(chosen[a], chosen[b], metric, less) for a, b in pairs]
    corrected = holm([test.p for test in tests])
    return tuple(
        Comparison(
            a[0], b[0], a[1], metric, test.difference, len(test.gains), test.wins, test.losses, test.p, p,
            test.verdict(p),
        )
        for (a, b), test, p in zip(pairs, tests, corrected, strict=True)
    )  # fmt: skip


class _Paired:
    """The paired comparison of two starts. gains: by seed, how much better the first is; infinite where only it has a value."""

    def __init__(self, first: "Sequence[RaceRow]", second: "Sequence[RaceRow]", metric: str, less: bool) -> None:
        others = {row.seed: _value(row, metric) for row in second}
        pairs = [(_value(row, metric), others[row.seed]) for row in first if row.seed in others]
        self.gains = np.array([0.0 if a == b else (b - a if less else a - b) for a, b in pairs])
        self.wins, self.losses = int((self.gains > 0).sum()), int((self.gains < 0).sum())
        median = _median(self.gains) if len(self.gains) else math.nan
        self.difference = _finite(-median if less else median)
        self.p = sign_flip(signed_ranks(self.gains))

    def verdict(self, p: float) -> Verdict:
        if p > LEVEL:
            return "no difference shown"
        return "first" if signed_ranks(self.gains).sum() > 0 else "second"


def signed_ranks(differences: Any) -> Any:
    """Return the ranks of the absolute differences (ties share theirs) with the signs of the differences; zeros stay 0.

    Example:
        >>> signed_ranks([0.5, -2.0, 0.0, float("inf")]).tolist()
        [1.0, -2.0, 0.0, 3.0]
    """
    from scipy.stats import rankdata

    data = np.asarray(differences, dtype=np.float64)
    ranks = np.zeros(len(data))
    moved = data != 0
    ranks[moved] = rankdata(np.abs(data[moved]))
    return ranks * np.sign(data)


def sign_flip(values: Any, *, resamples: int = 20_000) -> float:
    """Return the two-sided p of the values' sum under random signs: of all 2^n signs, or of `resamples` drawn ones.

    It is exact: under "no difference" each difference is as likely to have either sign.

    Example:
        >>> sign_flip([1.0, 2.0, 3.0, 4.0, 5.0])
        0.0625
    """
    data = np.asarray(values, dtype=np.float64)
    data = data[data != 0]
    if not len(data):
        return 1.0
    if len(data) <= _EXACT:
        signs = 1 - 2 * ((np.arange(2 ** len(data))[:, None] >> np.arange(len(data))) & 1)
        return float((np.abs(signs @ data) >= abs(data.sum()) - 1e-9).mean())
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), size=(resamples, len(data)))
    return float((1 + (np.abs(signs @ data) >= abs(data.sum()) - 1e-9).sum()) / (1 + resamples))


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number, in the order given.

    Example:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    found, worst = [0.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        worst = max(worst, min(1.0, (len(values) - rank) * values[index]))
        found[index] = worst
    return found


def seeds_needed(comparisons: int) -> int:
    """Return the fewest seeds with which that many comparisons, all won, can be told from chance at level 0.05.

    n seeds that all agree give p = 2 / 2^n; Holm's first step asks for p <= 0.05 / comparisons.

    Example:
        >>> seeds_needed(1), seeds_needed(10)
        (6, 9)
    """
    return math.ceil(1 + math.log2(max(1, comparisons) / LEVEL))


def _value(row: RaceRow, metric: str) -> float:
    found = getattr(row, metric)
    return METRICS[metric][1] if found is None or not math.isfinite(found) else float(found)


def _median(values: Any) -> float:
    return float(_medians(np.asarray(values)[None])[0])


def _medians(samples: Any) -> Any:
    """Return the median of each row; of an even number the mean of the two in the middle, infinite if one of them is."""
    ordered = np.sort(samples, axis=1)
    low, high = ordered[:, (ordered.shape[1] - 1) // 2], ordered[:, ordered.shape[1] // 2]
    return np.where(low == high, low, low + high) / np.where(low == high, 1, 2)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
