"""What dieharder is given is the stream: its words in the order of elements, and the bits of its values."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from firstlight.random import Normal, Uniform, key
from firstlight.random.reference import philox, values

TOOL = Path(__file__).parent.parent.parent / "tools" / "dieharder.py"


@pytest.fixture(scope="module")
def tool() -> Any:
    spec = importlib.util.spec_from_file_location("dieharder_tool", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def given(source: Any, count: int, seed: int = 5) -> Any:
    """Return the first bytes of a source: they run over the end of its first piece."""
    pieces = source(seed, "name")
    found = np.concatenate([np.frombuffer(next(pieces), np.uint8).copy() for _ in range(2)])
    return found[:count]


def test_words_are_those_of_the_specification_in_the_order_of_elements(tool: Any) -> None:
    count = tool.TILES * 2048 + 10_000
    index = np.arange(count)
    block, row = ((index >> 11 << 9) | (index & 511)).astype(np.uint64), (index >> 9) & 3
    zero = np.zeros_like(block)
    wanted = np.take_along_axis(np.stack(philox((block, zero, zero, zero), key(5, "name"))), row[None], axis=0)[0]
    np.testing.assert_array_equal(given(tool.words, 4 * count).view(np.uint32), wanted)


def test_uniform_values_give_their_24_bits(tool: Any) -> None:
    count = tool.TILES * 2048 + 1000
    bits = (values(Uniform(), np.arange(count), seed=5, name="name") * 2**24).astype(np.uint32)
    wanted = bits.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].ravel()
    np.testing.assert_array_equal(given(tool.uniform, 3 * count), wanted)


def test_normal_values_give_their_place_among_256_likely_intervals(tool: Any) -> None:
    count = tool.TILES * 2048 + 1000
    drawn = values(Normal(), np.arange(count), seed=5, name="name").astype(float)
    exact = special.ndtr(drawn) * 256
    clear = np.abs(exact - np.rint(exact)) > 1e-4  # a border is a float32 number
    np.testing.assert_array_equal(given(tool.normal, count)[clear], np.floor(exact[clear]).astype(np.uint8))


RESULT = re.compile(r"^ *(\w+)\| *(\d+)\| *\d+\| *\d+\|([\d.]+)\| +(\w+) *$", re.MULTILINE)


def test_the_page_says_what_the_records_say() -> None:
    docs = TOOL.parent.parent / "docs"
    page = (docs / "dieharder.md").read_text().replace("\n", " ")
    for record in ("uniform", "words"):
        first = RESULT.findall((docs / "dieharder" / f"{record}.txt").read_text())
        verdicts = [verdict for *_, verdict in first]
        passed, weak, failed = (verdicts.count(word) for word in ("PASSED", "WEAK", "FAILED"))
        assert f"**{len(first)} results, {passed} passed, {weak} weak, {failed} failed.**" in page
    again = RESULT.findall((docs / "dieharder" / "words-again.txt").read_text())
    weak_ones = [(test, bits, p) for test, bits, p, verdict in first if verdict == "WEAK"]
    assert [(test, bits) for test, bits, _ in weak_ones] == [(test, bits) for test, bits, *_ in again]
    for (test, bits, p), (*_, p_again, verdict) in zip(weak_ones, again, strict=True):
        row = f"| {test} | {bits} | {float(p):.4f} weak | {float(p_again):.4f} {verdict.lower()} |"
        assert row in page
