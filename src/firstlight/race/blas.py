"""SciPy's BLAS, which products in Numba call: held to one thread while batches train, each in a thread of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_lock = threading.Lock()
_held: list[threadpool_limits] = []  # one for each block that is under way; only the first has changed anything


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold every BLAS of this process to one thread inside the block; blocks of several threads may overlap.

    The number of threads belongs to the process: the first block to begin changes it, the last to end puts it back.
    """
    import scipy.linalg.cython_blas  # noqa: F401  # loads the library, which cannot be held before

    with _lock:
        _held.append(threadpool_limits(1, user_api="blas"))
    try:
        yield
    finally:
        with _lock:
            last = _held.pop()  # of equal ones, so that the first, which knows the number before, is the last to go
            if not _held:
                last.restore_original_limits()
