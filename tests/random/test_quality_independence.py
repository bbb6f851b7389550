"""Values do not depend on each other: along a stream, inside a tile, across tiles, names, seeds and neighbouring keys.

A correlation of n independent pairs, times sqrt(n), is a standard normal, so m of them have squares whose sum has mean m and
standard deviation sqrt(2 m), and the largest stays below the normal's quantile at 1 - 0.0005 / m. Every check has a control
with a planted dependence that it must find.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import fft, special, stats

from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill
from firstlight.random.parameters import LANES, TILE
from firstlight.random.reference import philox

COUNT = 2**21
LAWS: dict[str, Law] = {"uniform": Uniform(-1.0, 1.0), "normal": Normal(), "truncated": TruncatedNormal()}
TILES = {torch.float32: TILE, torch.float64: TILE // 2}


def draw(law: Law, *, seed: int = 0, name: str = "w", count: int = COUNT, dtype: torch.dtype = torch.float32) -> Any:
    return fill(torch.empty(count, dtype=dtype), law, seed=seed, name=name).double().numpy()


def standard(values: Any) -> Any:
    return (values - values.mean(-1, keepdims=True)) / values.std(-1, keepdims=True)


def unrelated(scores: Any) -> bool:
    """Tell whether correlations times sqrt(n) look like independent standard normals: the largest, and all together."""
    m = scores.size
    largest = stats.norm.isf(0.0005 / m)
    return bool(np.abs(scores).max() < largest and abs((scores**2).sum() - m) < 3.3 * math.sqrt(2 * m))


def lag_scores(values: Any, lags: int) -> Any:
    """Return the correlation at lags 1 to `lags`, times sqrt(n), by one Fourier transform."""
    x = standard(values)
    power = np.abs(fft.rfft(x, 2 * x.size)) ** 2
    return fft.irfft(power)[1 : lags + 1] / math.sqrt(x.size)


@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", TILES)
@pytest.mark.parametrize("power", [1, 2])
def test_no_lag_up_to_four_tiles_shows_a_correlation(label: str, dtype: torch.dtype, power: int) -> None:
    """8,192 lags at once; squares catch what Box-Muller pairs might share. 2**21 values show a correlation of 0.4 %."""
    assert unrelated(lag_scores(draw(LAWS[label], dtype=dtype) ** power, 4 * TILE))


@pytest.mark.parametrize("lag", [1, LANES - 1, LANES, LANES + 1, TILE // 2, TILE - 1, TILE, TILE + 1, 4 * TILE])
def test_the_lag_checker_finds_half_a_percent_at_any_lag(lag: int) -> None:
    sample = draw(Normal())
    planted = sample.copy()
    planted[lag:] += 0.005 * sample[:-lag]
    assert not unrelated(lag_scores(planted, 4 * TILE))


def row_scores(values: Any, tile: int) -> Any:
    """Return the correlations of the rows of a tile, lane by lane, in values, squares and a value with another's square."""
    rows = values.reshape(-1, tile // LANES, LANES).transpose(1, 0, 2).reshape(tile // LANES, -1)
    x, y = standard(rows), standard(rows**2)
    n = rows.shape[1]
    upper = np.triu_indices(len(rows), 1)
    both = ~np.eye(len(rows), dtype=bool)
    return np.concatenate([(x @ x.T)[upper], (y @ y.T)[upper], (x @ y.T)[both]]) / math.sqrt(n)


@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", TILES)
def test_the_rows_of_a_tile_are_unrelated(label: str, dtype: torch.dtype) -> None:
    assert unrelated(row_scores(draw(LAWS[label], dtype=dtype), TILES[dtype]))


def test_the_row_checker_finds_a_shared_radius() -> None:
    """As if rows 0 and 2 had, once in a hundred lanes, one word between them: their squares go together."""
    rows = draw(Normal()).reshape(-1, 4, LANES)
    rows[:, 2, ::100] = rows[:, 0, ::100]
    assert not unrelated(row_scores(rows, TILE))


@pytest.mark.parametrize("dtype", TILES)
def test_pairs_of_rows_are_a_uniform_angle_and_an_exponential_square(dtype: torch.dtype) -> None:
    """2**19 pairs and more: a distribution function 0.3 % off is found; a power of 1.015 puts it 0.55 % off."""
    rows = draw(Normal(), dtype=dtype).reshape(-1, TILES[dtype] // LANES, LANES)
    even, odd = rows[:, 0].ravel(), rows[:, 1].ravel()
    angle, share = np.arctan2(odd, even) / (2 * np.pi) + 0.5, np.exp(-(even**2 + odd**2) / 2)
    assert uniform(angle)
    assert uniform(share)
    assert unrelated(pair_scores(np.stack([angle, share])))
    assert not uniform(angle**1.015)
    assert not uniform(share**1.015)
    assert not unrelated(pair_scores(np.stack([angle, share + 0.02 * angle])))


def uniform(shares: Any) -> bool:
    """Tell whether values are uniform over (0, 1), by Kolmogorov and Smirnov at p = 0.001."""
    steps = np.arange(shares.size + 1) / shares.size
    x = np.sort(shares)
    return float(max((steps[1:] - x).max(), (x - steps[:-1]).max())) * math.sqrt(x.size) < 1.95


def pair_scores(streams: Any) -> Any:
    x = standard(streams)
    return (x @ x.T)[np.triu_indices(len(x), 1)] / math.sqrt(x.shape[1])


NAMES = ["w", "W", "w ", "w/q", "layers.0.weight", "layers.1.weight", "layers.10.weight", "重み"]
SEEDS = [0, 1, 2, 3, 2**32, 2**63, 2**64 - 2, 2**64 - 1]


@pytest.mark.parametrize("power", [1, 2])
def test_names_and_seeds_give_unrelated_streams(power: int) -> None:
    """64 streams, 2,016 pairs, 2**16 values each: a correlation of 2 % between any two is found."""
    streams = np.stack([draw(Normal(), seed=seed, name=name, count=2**16) for name in NAMES for seed in SEEDS])
    assert unrelated(pair_scores(streams**power))
    streams[9] += 0.03 * streams[50]
    assert not unrelated(pair_scores(streams))


def column(tiles: int, lane: int) -> Any:
    """Return one element of each of the first tiles."""
    return (
        fill(torch.empty(tiles, 1), Normal(), seed=0, name="w", shape=(tiles, TILE), offset=(0, lane)).double().numpy()
    )


def test_neighbours_across_the_border_of_a_tile_are_unrelated() -> None:
    """The last element of a tile and the first of the next have consecutive counters: 2**18 borders."""
    last, first = column(2**18, TILE - 1)[:-1, 0], column(2**18, 0)[1:, 0]
    assert unrelated(pair_scores(np.stack([last, first])))
    assert unrelated(pair_scores(np.stack([last**2, first**2])))
    assert not unrelated(pair_scores(np.stack([last, first + 0.02 * last])))


def test_nothing_happens_where_the_low_word_of_the_counter_overflows() -> None:
    """Block 2**32 begins element 2**34. The stream goes on there, and does not begin again."""
    around = {
        start: fill(torch.empty(2**19), Normal(), seed=0, name="w", shape=(2**40,), offset=(start,)).double().numpy()
        for start in (0, 2**34 - 2**19, 2**34, 2**35)
    }
    joined = np.concatenate([around[2**34 - 2**19], around[2**34]])
    assert uniform(special.ndtr(joined))
    assert unrelated(lag_scores(joined, 4 * TILE))
    assert unrelated(pair_scores(np.stack(list(around.values()))))
    assert not unrelated(pair_scores(np.stack([around[0], around[0]])))


def flips(blocks: int, key: int, bit: int) -> Any:
    """Return how often each of the 128 bits of a block changes, when one bit of the key, or of the counter, does."""
    low, high = np.random.default_rng(0).integers(0, 2**32, (2, blocks), np.uint64)  # no two of them a flip apart
    counter = [low, high, np.zeros(blocks, np.uint64), np.zeros(blocks, np.uint64)]
    before = np.stack(philox(counter, key))
    if bit < 64:
        after = np.stack(philox(counter, key ^ (1 << bit)))
    else:
        counter[(bit - 64) // 32] = counter[(bit - 64) // 32] ^ np.uint64(1 << (bit - 64) % 32)
        after = np.stack(philox(counter, key))
    changed = np.unpackbits((before ^ after).view(np.uint8).reshape(4, blocks, 4), axis=-1)
    return changed.sum(axis=1).ravel()


def test_every_bit_of_key_and_counter_changes_half_of_the_bits() -> None:
    """Neighbouring keys, and neighbouring counters, give words as far apart as any: 128 x 128 shares of 2,048 blocks."""
    blocks = 2048
    scores = np.concatenate(
        [(flips(blocks, 0x0123456789ABCDEF, bit) - blocks / 2) / math.sqrt(blocks / 4) for bit in range(128)]
    )
    assert unrelated(scores)
    biased = scores.copy()
    biased[77] += 0.15 * math.sqrt(blocks)  # a bit that changes in 57 % of the blocks
    assert not unrelated(biased)


def test_neighbouring_keys_give_unrelated_words() -> None:
    """Keys that differ in one bit or by one, as hashing never makes them on purpose: 31 streams of 2**16 words."""
    count = 2**16
    counter = [np.arange(count, dtype=np.uint64), *(np.zeros(count, np.uint64) for _ in range(3))]
    keys = sorted({*range(16), *(1 << bit for bit in range(0, 64, 4))})
    words = np.stack([philox(counter, key)[0] for key in keys]).astype(float)
    assert unrelated(pair_scores(words))
    words[3] += 0.03 * words[7]
    assert not unrelated(pair_scores(words))
