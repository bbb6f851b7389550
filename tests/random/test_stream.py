"""The stream: published vectors, golden values, and kernels equal to the reference bit for bit."""

import json
import math
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from firstlight.errors import DtypeError, OptionError
from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill, fresh_seed, key
from firstlight.random.parameters import normal_tail
from firstlight.random.reference import philox, values

GOLDENS = json.loads((Path(__file__).parent / "data" / "goldens-1.json").read_text())
INF = math.inf
KINDS: dict[str, Any] = {"Uniform": Uniform, "Normal": Normal, "TruncatedNormal": TruncatedNormal}
LAWS: dict[str, Law] = {label: KINDS[kind](**options) for label, (kind, options) in GOLDENS["laws"].items()}
MORE_LAWS: dict[str, Law] = {
    "uniform-empty": Uniform(0.25, 0.25),
    "normal-zero": Normal(0.5, 0.0),
    "truncated-far": TruncatedNormal(0.0, 1.0, -INF, -20.0),
    "truncated-uneven": TruncatedNormal(0.0, 1.0, -1.0, 8.0),
    "truncated-left-half": TruncatedNormal(0.0, 1.0, -2.0, 0.0),
    "truncated-uncut": TruncatedNormal(0.0, 1.0, -INF, INF),
    "truncated-narrow": TruncatedNormal(0.0, 1.0, -1e-25, 1e-25),
    "truncated-zero-std": TruncatedNormal(1.0, 0.0, 0.0, 2.0),
}


def bits(array: Any) -> Any:
    return array.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[array.dtype.itemsize])


@pytest.mark.parametrize(
    ("counter", "stream_key", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0xA4093822 | 0x299F31D0 << 32,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_published_vectors(counter: Any, stream_key: int, words: Any) -> None:
    drawn = philox([np.array([c], np.uint64) for c in counter], stream_key)
    assert tuple(int(word[0]) for word in drawn) == words


@pytest.mark.parametrize("case", GOLDENS["keys"], ids=lambda case: case["key"])
def test_keys_equal_the_golden_ones(case: Any) -> None:
    assert f"{key(case['seed'], case['name']):016x}" == case["key"]


@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reference_equals_the_golden_values(label: str, dtype: str) -> None:
    index = np.array(GOLDENS["indices"], np.uint64)
    drawn = values(LAWS[label], index, seed=0, name="fc.weight", double=dtype == "float64")
    width = 8 if dtype == "float32" else 16
    assert [f"{b:0{width}x}" for b in bits(drawn).tolist()] == GOLDENS["values"][label][dtype]


@pytest.mark.parametrize("label", LAWS | MORE_LAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_equal_the_reference_bit_for_bit(label: str, dtype: torch.dtype) -> None:
    law, count = (LAWS | MORE_LAWS)[label], 20_001
    filled = fill(torch.empty(count, dtype=dtype), law, seed=11, name="a.b").numpy()
    wanted = values(law, np.arange(count), seed=11, name="a.b", double=dtype == torch.float64)
    np.testing.assert_array_equal(bits(filled), bits(wanted))


def test_wide_and_narrow_cuts_share_one_function() -> None:
    """A cut at 2.05 stds is on the edge between the two kernels; the reference has only one."""
    for cut in (2.0, 2.04, 2.05, 2.06, 2.1):
        law = TruncatedNormal(0.0, 1.0, -cut, cut)
        filled = fill(torch.empty(100_000), law, seed=5, name="edge").numpy()
        np.testing.assert_array_equal(bits(filled), bits(values(law, np.arange(100_000), seed=5, name="edge")))


@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_the_float32_value_rounded_once(label: str, dtype: torch.dtype) -> None:
    low = fill(torch.empty(10_000, dtype=dtype), LAWS[label], seed=2, name="w")
    single = fill(torch.empty(10_000), LAWS[label], seed=2, name="w")
    assert torch.equal(low.view(torch.int16), single.to(dtype).view(torch.int16))


def test_float8_is_the_float32_value_rounded_once() -> None:
    low = fill(torch.empty(1000, dtype=torch.float8_e4m3fn), Normal(), seed=2, name="w")
    single = fill(torch.empty(1000), Normal(), seed=2, name="w")
    assert torch.equal(low.view(torch.uint8), single.to(torch.float8_e4m3fn).view(torch.uint8))


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_region_equals_that_region_of_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 17), min_size=1, max_size=4))
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    step = data.draw(st.lists(st.integers(1, 4), min_size=len(shape), max_size=len(shape)))
    cut = tuple(slice(start, stop, stride) for (start, stop), stride in zip(bounds, step, strict=True))
    label = data.draw(st.sampled_from(sorted(LAWS)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    whole = fill(torch.empty(shape, dtype=dtype), LAWS[label], seed=3, name="w")
    region = torch.empty(whole[cut].shape, dtype=dtype)
    fill(region, LAWS[label], seed=3, name="w", shape=shape, offset=[start for start, _ in bounds], step=step)
    assert torch.equal(region, whole[cut])


def test_a_region_of_a_huge_tensor_is_filled_alone() -> None:
    part = fill(torch.empty(2, 300), Normal(), seed=0, name="w", shape=(10**7, 10**6), offset=(10**7 - 2, 10**6 - 300))
    index = np.array([[r * 10**6 + c for c in range(10**6 - 300, 10**6)] for r in (10**7 - 2, 10**7 - 1)])
    np.testing.assert_array_equal(bits(part.numpy()), bits(values(Normal(), index, seed=0, name="w")))


def test_threads_do_not_change_a_bit() -> None:
    count, before = 3 * 2**18 + 5, torch.get_num_threads()
    drawn = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            drawn.append(fill(torch.empty(count), Normal(), seed=0, name="w"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in pairwise(drawn))


def test_a_fill_inside_a_worker_thread_gives_the_same_bits() -> None:
    def job(_: int) -> torch.Tensor:
        return fill(torch.empty(2**19), Uniform(), seed=0, name="w")

    with ThreadPoolExecutor(3) as pool:
        drawn = list(pool.map(job, range(3)))
    assert all(torch.equal(one, job(0)) for one in drawn)


def test_layout_in_memory_does_not_matter() -> None:
    straight = fill(torch.empty(6, 10), Normal(), seed=0, name="w")
    turned = fill(torch.empty(10, 6).t(), Normal(), seed=0, name="w")
    spaced = fill(torch.empty(12, 20)[::2, ::2], Normal(), seed=0, name="w")
    assert torch.equal(straight, turned)
    assert torch.equal(straight, spaced)


def test_filling_a_parameter_needs_no_grad_and_tells_autograd() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    product = parameter * parameter
    fill(parameter, Normal(), seed=0, name="w")
    assert parameter.requires_grad
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.sum().backward()  # type: ignore[no-untyped-call]


def test_meta_and_empty_tensors_are_left_alone() -> None:
    assert fill(torch.empty(3, device="meta"), Normal(), seed=0, name="w").is_meta
    assert fill(torch.empty(0, 3), Normal(), seed=0, name="w").numel() == 0
    assert fill(torch.empty(()), Normal(), seed=0, name="w").shape == ()


def test_torchs_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    fill(torch.empty(100), Normal(), seed=0, name="w")
    assert torch.equal(before, torch.get_rng_state())


def test_fresh_seed_follows_manual_seed_and_generator() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = fresh_seed()
        torch.manual_seed(3)
        assert fresh_seed() == first != fresh_seed()
    generator = torch.Generator().manual_seed(3)
    assert fresh_seed(generator) == first
    assert 0 <= first < 2**64


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, None])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    with pytest.raises(OptionError, match="must be an integer with 0 <= seed"):
        key(seed, "w")


def test_refused_input_leaves_every_byte() -> None:
    tensor = torch.full((4,), 7.0)
    with pytest.raises(OptionError, match=r"does not lie in tensor 'w' of shape"):
        fill(tensor, Normal(), seed=0, name="w", shape=(6,), offset=(3,))
    with pytest.raises(OptionError, match=r"region \(4,\) at offset \(0,\) and step \(3,\) does not lie in"):
        fill(tensor, Normal(), seed=0, name="w", shape=(9,), step=(3,))
    with pytest.raises(OptionError, match="one number an axis"):
        fill(tensor, Normal(), seed=0, name="w", shape=(6, 6))
    with pytest.raises(OptionError, match="does not fit float32"):
        fill(tensor, Normal(std=1e300), seed=0, name="w")
    with pytest.raises(OptionError, match="more than 37 stds from mean"):
        fill(tensor, TruncatedNormal(0.0, 1.0, 40.0, 41.0), seed=0, name="w")
    assert tensor.tolist() == [7.0] * 4
    with pytest.raises(DtypeError, match=r"dtype torch\.int64; random values need a floating dtype"):
        fill(torch.zeros(3, dtype=torch.int64), Normal(), seed=0, name="w")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(std=-1.0), "std = -1.0, must be >= 0"),
        (lambda: Normal(mean=math.nan), "mean = nan, must be a finite number"),
        (lambda: Uniform(1.0, 0.0), "low = 1.0 is above high = 0.0"),
        (lambda: TruncatedNormal(low=2.0, high=2.0), "must be below high"),
    ],
)
def test_a_law_is_checked_when_it_is_made(make: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


def test_normal_tail_agrees_with_scipy() -> None:
    for z in (0.0, 1e-9, 0.5, 2.0, 5.0, 9.99, 10.01, 20.0, 36.9):
        assert float(normal_tail(z)) == pytest.approx(special.ndtr(-z), rel=2e-14)
    assert normal_tail(INF) == 0


def test_the_cut_normals_quantile_is_accurate() -> None:
    """Each value is the quantile of its word; scipy's ndtri is an independent way to compute it."""
    for law in (TruncatedNormal(0.0, 1.0, 0.0, 2.0), TruncatedNormal(0.0, 1.0, 0.0, INF)):
        double = values(law, np.arange(4096), seed=1, name="w", double=True)
        mass = special.ndtr(law.high) - 0.5
        w0, w1, w2, w3 = (word.astype(np.uint64) for word in _words(np.arange(4096)))
        odd = (np.arange(4096) >> 9) & 1 == 1
        k = np.where(odd, w2 | w3 << np.uint64(32), w0 | w1 << np.uint64(32)) >> np.uint64(11)
        wanted = special.ndtri(0.5 + (k.astype(float) + 0.5) * 2.0**-53 * mass)
        np.testing.assert_allclose(double, wanted, rtol=2e-12)


def test_the_cut_normals_quantile_is_accurate_in_single_precision() -> None:
    """The quantile of the same word by scipy's ndtri; 8e-7 is what docs/stream.md states."""
    index = np.arange(2**20)
    block, row = ((index >> 11 << 9) | (index & 511)).astype(np.uint64), (index >> 9) & 3
    zero = np.zeros_like(block)
    word = np.take_along_axis(np.stack(philox((block, zero, zero, zero), key(1, "w"))), row[None], axis=0)[0]
    for high in (2.0, 3.0, INF):
        single = values(TruncatedNormal(0.0, 1.0, 0.0, high), index, seed=1, name="w").astype(float)
        mass = special.ndtr(high) - 0.5
        tail = special.ndtr(-high) + (2.0**32 - 1 - word.astype(float) + 0.5) * 2.0**-32 * mass
        np.testing.assert_allclose(single, -special.ndtri(tail), rtol=8e-7)


def _words(index: Any) -> Any:
    block = ((index >> 10 << 9) | (index & 511)).astype(np.uint64)
    zero = np.zeros_like(block)
    return philox((block, zero, zero, zero), key(1, "w"))


def _child(sender: Any) -> None:
    sender.send(fill(torch.empty(2**19), Normal(), seed=0, name="w").numpy().tobytes())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform does not fork")
def test_a_forked_child_fills_with_threads_of_its_own() -> None:
    """As DataLoader workers do after a fill in the parent: the parent's threads do not exist in the child."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = fill(torch.empty(2**19), Normal(), seed=0, name="w").numpy().tobytes()
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(sender,))
        child.start()
        assert receiver.poll(60), "the child hangs"
        assert receiver.recv() == wanted
        child.join(10)
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(before)
