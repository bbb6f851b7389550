"""Work is spread over threads whole, once, and without hiding what fails."""

import sys
import threading

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from firstlight.random import Normal, fill
from firstlight.random.parameters import TILE
from firstlight.random.threads import LARGEST, SMALLEST, chunk, spread


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("count", [0, 1, SMALLEST, 3 * SMALLEST + 1, 2**22 + 5])
def test_every_value_is_handed_out_once(count: int, threads: int) -> None:
    taken: list[tuple[int, int]] = []
    spread(lambda first, last: taken.append((first, last)), count, threads)
    taken.sort()
    assert [taken[0][0], *(last for _, last in taken)] == [*(first for first, _ in taken), count]


def test_the_caller_works_too() -> None:
    seen: set[int] = set()
    barrier = threading.Barrier(2, timeout=30)

    def job(first: int, last: int) -> None:
        seen.add(threading.get_ident())
        if first < 2 * chunk(2**22, 2):
            barrier.wait()  # two threads are here at once

    spread(job, 2**22, 2)
    assert threading.get_ident() in seen
    assert len(seen) == 2


def test_chunks_are_whole_tiles_within_their_bounds() -> None:
    for count in (1, 10**6, 10**7, 10**9):
        for threads in (1, 2, 64):
            assert SMALLEST <= chunk(count, threads) <= LARGEST
            assert chunk(count, threads) % TILE == 0


@pytest.mark.parametrize("bad", [0, 2**22 - 1])
def test_an_error_in_any_thread_reaches_the_caller(bad: int) -> None:
    def job(first: int, last: int) -> None:
        if first <= bad < last:
            raise ArithmeticError("seen")

    with pytest.raises(ArithmeticError, match="seen"):
        spread(job, 2**22, 3)


class Draws(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return fill(torch.empty(2**18), Normal(), seed=0, name=f"{index}")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_forked_loader_workers_fill_after_a_fill_in_the_parent() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        wanted = [Draws()[index] for index in range(4)]
        loader = DataLoader(Draws(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
        assert all(torch.equal(one, other) for one, other in zip(loader, wanted, strict=True))
    finally:
        torch.set_num_threads(before)
