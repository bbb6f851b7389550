"""The thread pool that fills are spread over. Kernels release the GIL; a forked child starts with a pool of its own."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

CHUNK = 2**18  # values: about 0.2 ms of work, far above the cost of handing it over

_lock = threading.Lock()
_pools: dict[int, ThreadPoolExecutor] = {}


def spread(job: Callable[[int, int], None], count: int, threads: int) -> None:
    """Call job(first, last) over chunks of range(count) on `threads` threads; alone where that is not worth it."""
    if threads == 1 or count <= CHUNK:
        job(0, count)
        return
    with _lock:
        pool = _pools.setdefault(threads, ThreadPoolExecutor(threads, "firstlight-fill"))
    firsts = range(0, count, CHUNK)
    list(pool.map(job, firsts, (min(first + CHUNK, count) for first in firsts)))


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
