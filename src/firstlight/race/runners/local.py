"""Jobs side by side on this machine: one Python thread a job, one torch thread each.

Small layers gain nothing from several threads inside an operator and lose a lot to waiting: eight runs of a 30-layer MLP of
width 128 took 9.8 s with two torch threads, 5.3 s with one, and 2.2 s as two runs side by side, on 2 cores.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

import torch

from firstlight.race.jobs import Job, execute
from firstlight.race.question import Question

if TYPE_CHECKING:
    from firstlight.race.runners import Done


def run(question: Question, jobs: Sequence[Job], done: "Done") -> None:
    """Do every job; an error or Ctrl-C ends all at their next step."""
    threads, stop = torch.get_num_threads(), threading.Event()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, "firstlight-race")
    try:
        pending = {pool.submit(execute, question, job, stop): job for job in jobs}
        for future in as_completed(pending):
            done(pending[future], future.result())
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
