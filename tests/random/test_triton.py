"""The Triton kernels give the bits of the reference.

Without a GPU the kernels' own source runs in NumPy, under the stand-in beside this file: this shows that the source says what
docs/stream.md says, and not what a compiler makes of it. The tests marked `cuda` run the compiled kernels.
"""

import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from firstlight.random import Law, Normal, TruncatedNormal, Uniform, fill, key
from firstlight.random.devices import maker
from firstlight.random.fill import _run_kernel, _runs
from firstlight.random.parameters import Parameters, parameters
from firstlight.random.reference import values

HERE = Path(__file__).parent
GOLDENS = json.loads((HERE / "data" / "goldens-1.json").read_text())
KINDS: dict[str, Any] = {"Uniform": Uniform, "Normal": Normal, "TruncatedNormal": TruncatedNormal}
INF = math.inf
LAWS: dict[str, Law] = {label: KINDS[kind](**options) for label, (kind, options) in GOLDENS["laws"].items()} | {
    "uniform-empty": Uniform(0.25, 0.25),
    "normal-zero": Normal(0.5, 0.0),
    "normal-tiny": Normal(0.0, 1e-38),
    "truncated-far": TruncatedNormal(0.0, 1.0, -INF, -20.0),
    "truncated-uneven": TruncatedNormal(0.0, 1.0, -1.0, 8.0),
    "truncated-left-half": TruncatedNormal(0.0, 1.0, -2.0, 0.0),
    "truncated-uncut": TruncatedNormal(0.0, 1.0, -INF, INF),
    "truncated-narrow": TruncatedNormal(0.0, 1.0, -1e-25, 1e-25),
    "truncated-on-the-edge": TruncatedNormal(0.0, 1.0, -2.05, 2.05),
    "truncated-zero-std": TruncatedNormal(1.0, 0.0, 0.0, 2.0),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
NAMES = ("triton_double", "triton_kernels", "triton_fill")


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stand_in() -> Any:
    return load(HERE / "triton_stand_in.py")


@pytest.fixture(scope="module")
def kernels(stand_in: Any) -> dict[str, Any]:
    """Import the kernels with the stand-in in triton's place, and leave no trace of either."""
    patch = pytest.MonkeyPatch()
    for name, module in stand_in.modules().items():
        patch.setitem(sys.modules, name, module)
    for name in NAMES:
        patch.delitem(sys.modules, f"firstlight.random.{name}", raising=False)
    made = {name: importlib.import_module(f"firstlight.random.{name}") for name in NAMES}
    for name in NAMES:
        del sys.modules[f"firstlight.random.{name}"]
    patch.undo()
    return made


def bits(tensor: torch.Tensor) -> Any:
    carrier = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().cpu().contiguous().view(carrier).numpy()


def reference(law: Law, index: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return the reference's values, rounded by torch's own conversion into the dtype."""
    drawn = torch.from_numpy(values(law, index, seed=11, name="a.b", double=dtype == torch.float64))
    return drawn.to(dtype)


def launched(
    kernels: dict[str, Any], law: Law, dtype: torch.dtype, starts: list[int], length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the kernels write for runs of a logical tensor, and what the reference says."""
    rule = parameters(law, 53 if dtype == torch.float64 else 32)
    made = torch.float64 if rule.double else dtype
    out = torch.full((len(starts) * length,), 7.0, dtype=made)
    run(kernels, out, rule, starts, length)
    index = np.concatenate([np.arange(start, start + length) for start in starts])
    got = out if dtype == torch.float64 else out.to(torch.float32).to(dtype)
    return got, reference(law, index, dtype)


def run(kernels: dict[str, Any], out: torch.Tensor, rule: Parameters, starts: list[int], length: int) -> None:
    numbers = np.zeros(9, np.float64 if rule.double else np.float32)
    numbers[: len(rule.numbers)] = rule.numbers
    kernels["triton_fill"].run(out, rule, numbers, key(11, "a.b"), np.array(starts, np.int64), length)


@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_source_of_the_kernels_gives_the_bits_of_the_reference(
    kernels: dict[str, Any], label: str, dtype: torch.dtype
) -> None:
    for starts, length in (([0], 20_001), ([5, 3000, 1021], 37)):  # by tiles, and element by element
        got, wanted = launched(kernels, LAWS[label], dtype, starts, length)
        np.testing.assert_array_equal(bits(got), bits(wanted))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "law", [Uniform(), Normal(), TruncatedNormal(), TruncatedNormal(0.0, 1.0, -INF, INF)], ids=["u", "n", "t", "wide"]
)
def test_places_beyond_32_bits_are_reached(kernels: dict[str, Any], law: Law, dtype: torch.dtype) -> None:
    """Of elements, at 2**31 and 2**32, and of Philox's counters, at 2**34 (float64: 2**33) and above."""
    for start in (2**31 - 100, 2**32 - 1500, 2**33 - 1000, 2**34 - 1000, 2**43 - 777, 2**62 + 5):
        for length in (50, 3000):
            got, wanted = launched(kernels, law, dtype, [start, start + 10_000], length)
            np.testing.assert_array_equal(bits(got), bits(wanted))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_strided_region_is_that_of_the_whole(kernels: dict[str, Any], data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    shape.append(data.draw(st.integers(1, 700)))
    begin = [data.draw(st.integers(0, n - 1)) for n in shape]
    step = [data.draw(st.integers(1, 4)) for _ in shape]
    law, dtype = LAWS[data.draw(st.sampled_from(sorted(LAWS)))], data.draw(st.sampled_from(DTYPES[:3]))
    rule = parameters(law, 53 if dtype == torch.float64 else 32)
    part = np.ix_(*(range(first, size, by) for first, size, by in zip(begin, shape, step, strict=True)))
    places = np.arange(math.prod(shape)).reshape(shape)[part]
    out = torch.full(places.shape, 7.0, dtype=torch.float64 if rule.double else dtype)
    starts, length = _runs(out, "a.b", shape, begin, step)
    run(kernels, out, rule, starts.tolist(), length)
    np.testing.assert_array_equal(
        bits(out.to(dtype)), bits(reference(law, places.ravel(), dtype)).reshape(places.shape)
    )


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_runs_are_those_of_the_whole(kernels: dict[str, Any], data: st.DataObject) -> None:
    law = LAWS[data.draw(st.sampled_from(sorted(LAWS)))]
    dtype = data.draw(st.sampled_from(DTYPES))
    length = data.draw(st.one_of(st.integers(1, 300), st.integers(1, 5000)))
    starts = data.draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=4))
    got, wanted = launched(kernels, law, dtype, starts, length)
    np.testing.assert_array_equal(bits(got), bits(wanted))


def test_words_at_the_ends_of_their_range_give_the_bits_of_the_reference(
    kernels: dict[str, Any], stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words that no short run meets: the smallest and largest, and those around the split of a cut normal."""
    module = kernels["triton_kernels"]
    edges = [0, 1, 2, 255, 256, 2**29 - 1, 2**29, 2**30, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
    for law in (Uniform(-1.0, 3.0), Normal(0.5, 2.0), TruncatedNormal(), TruncatedNormal(0.0, 1.0, -INF, INF)):
        rule = parameters(law, 32)
        numbers = np.zeros(9, np.float32)
        numbers[: len(rule.numbers)] = rule.numbers
        a, b = (np.array(pair, np.uint32) for pair in zip(*((x, y) for x in edges for y in edges), strict=True))
        table = np.array(module.TABLE32, np.float32)
        split = stand_in.Tensor(np.uint32(rule.split))
        places = (stand_in.Pointer(numbers), split, stand_in.Pointer(table), rule.kind)
        even, odd = module.pair32(stand_in.Tensor(a), stand_in.Tensor(b), *places)
        monkeypatch.setattr("firstlight.random.reference.philox", lambda counter, _, a=a, b=b: (a, b, a, b))
        lanes = np.arange(a.size)
        for made, index in ((even, lanes), (odd, lanes + 512)):
            wanted = values(law, index, seed=11, name="a.b")
            np.testing.assert_array_equal(made.values.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("fault", ["sqrt_rn", "div_rn", "umulhi"])
def test_the_comparison_sees_an_approximation(
    kernels: dict[str, Any], stand_in: Any, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """As CUDA's own `sqrt` and `/` of float32 are: an error in the last bit now and then."""
    wrong = {
        "sqrt_rn": lambda x: stand_in.Tensor(x.values * (np.float32(1) / np.sqrt(x.values))),
        "div_rn": lambda a, b: stand_in.Tensor(a.values * (np.float32(1) / b.values)),
        "umulhi": lambda a, b: stand_in.umulhi(a, b - 1),
    }
    monkeypatch.setattr(kernels["triton_kernels"].tl, fault, wrong[fault])
    law = TruncatedNormal() if fault == "div_rn" else Normal()
    with np.errstate(all="ignore"):
        got, wanted = launched(kernels, law, torch.float32, [0], 4096)
    assert not np.array_equal(bits(got), bits(wanted))


def proven(kernels: dict[str, Any], law: Law, dtype: torch.dtype, length: int) -> bool:
    rule = parameters(law, 53 if dtype == torch.float64 else 32)
    numbers = np.zeros(9, np.float64 if rule.double else np.float32)
    numbers[: len(rule.numbers)] = rule.numbers
    kernels["triton_fill"]._proven.clear()
    made = torch.float64 if rule.double else dtype
    return bool(kernels["triton_fill"].proven(torch.device("cpu"), made, rule, numbers, length, _run_kernel))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", [1, 5000])
def test_before_its_first_use_a_kernel_is_compared_with_the_cpu(
    kernels: dict[str, Any], dtype: torch.dtype, length: int
) -> None:
    assert all(proven(kernels, law, dtype, length) for law in LAWS.values())


def test_a_kernel_that_gives_other_bits_is_not_used_and_that_is_said(
    kernels: dict[str, Any], stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tl, warning = kernels["triton_kernels"].tl, kernels["triton_fill"].KernelWarning
    monkeypatch.setattr(tl, "sqrt_rn", lambda x: stand_in.Tensor(x.values * (np.float32(1) / np.sqrt(x.values))))
    with np.errstate(all="ignore"), pytest.warns(warning, match=r"does not give the bits of the specification on cpu"):
        assert not proven(kernels, Normal(), torch.float32, 5000)
    monkeypatch.setattr(tl, "sqrt_rn", lambda x: x.no_such_operation)
    with pytest.warns(warning, match="cannot be compiled or run .AttributeError"):
        assert not proven(kernels, Normal(), torch.float32, 5000)


def test_the_stand_in_lets_no_types_mix(stand_in: Any) -> None:
    word, number = stand_in.Tensor(np.arange(4, dtype=np.uint32)), stand_in.Tensor(np.ones(4, np.float32))
    with pytest.raises(AssertionError):
        _ = word + number
    with pytest.raises(AssertionError):
        _ = number + 1
    with pytest.raises(AssertionError, match=r"0\.1 is not a number of float32"):
        _ = number * 0.1
    with pytest.raises(OverflowError):
        _ = word + 2**32
    assert ((word - 1).values == np.array([2**32 - 1, 0, 1, 2], np.uint32)).all()


def test_only_cuda_tensors_are_made_where_they_are() -> None:
    assert maker(torch.device("cpu")) == torch.device("cpu")
    assert maker(torch.device("meta")) == torch.device("cpu")
    if not has_gpu():
        assert maker(torch.device("cuda", 0)) == torch.device("cpu")


def has_gpu() -> bool:
    return torch.cuda.is_available() and importlib.util.find_spec("triton") is not None


needs_gpu = pytest.mark.skipif(
    not has_gpu(), reason="the compiled kernels need a CUDA device and triton; there are none here"
)


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("label", LAWS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float8_e4m3fn], ids=str)
def test_a_gpu_gives_the_bits_of_the_reference(label: str, dtype: torch.dtype) -> None:
    for count in (1, 100, 2**20 + 17):
        made = fill(torch.empty(count, dtype=dtype, device="cuda"), LAWS[label], seed=11, name="a.b")
        np.testing.assert_array_equal(bits(made), bits(reference(LAWS[label], np.arange(count), dtype)))


@pytest.mark.cuda
@needs_gpu
@pytest.mark.parametrize("label", LAWS)
def test_a_gpu_gives_the_bits_of_the_cpu_for_many_values(label: str) -> None:
    """2**28 float32 values meet every exponent of every intermediate; 2**24 float64 ones."""
    for dtype, count in ((torch.float32, 2**28), (torch.float64, 2**24)):
        made = fill(torch.empty(count, dtype=dtype, device="cuda"), LAWS[label], seed=3, name="w")
        wanted = fill(torch.empty(count, dtype=dtype), LAWS[label], seed=3, name="w").cuda()
        carrier = torch.int64 if dtype == torch.float64 else torch.int32
        assert torch.equal(made.view(carrier), wanted.view(carrier))


@pytest.mark.cuda
@needs_gpu
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_region_on_a_gpu_is_that_of_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    step = [data.draw(st.integers(1, 3)) for _ in shape]
    law, dtype = LAWS[data.draw(st.sampled_from(sorted(LAWS)))], data.draw(st.sampled_from(DTYPES))
    whole = fill(torch.empty(shape, dtype=dtype), law, seed=3, name="w")
    wanted = whole[tuple(slice(start, stop, by) for (start, stop), by in zip(bounds, step, strict=True))]
    region = torch.empty(wanted.shape, dtype=dtype, device="cuda")
    fill(region, law, seed=3, name="w", shape=shape, offset=[start for start, _ in bounds], step=step)
    np.testing.assert_array_equal(bits(region), bits(wanted))


@pytest.mark.cuda
@needs_gpu
def test_layout_on_a_gpu_does_not_matter_and_autograd_is_told() -> None:
    straight = fill(torch.empty(60, 100, device="cuda"), Normal(), seed=0, name="w")
    turned = fill(torch.empty(100, 60, device="cuda").t(), Normal(), seed=0, name="w")
    assert torch.equal(straight, turned)
    parameter = torch.nn.Parameter(torch.zeros(3, device="cuda"))
    before = parameter._version
    fill(parameter, Normal(), seed=0, name="w")
    assert parameter._version > before
