"""Jobs side by side on this machine: one Python thread a job, one torch thread each.

Small layers gain nothing from several threads inside an operator and lose a lot to waiting: eight runs of a 30-layer MLP of
width 128 took 9.8 s with two torch threads, 5.3 s with one, and 2.2 s as two runs side by side, on 2 cores.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

import torch

from firstlight.race.halfway import forget
from firstlight.race.jobs import Job, execute
from firstlight.race.question import Question, Run
from firstlight.race.row import RaceRow

if TYPE_CHECKING:
    from firstlight.race.runners import Done

News = tuple[Job, dict[Run, RaceRow]] | Future[list[RaceRow]]  # runs that have ended, or a job


def run(question: Question, jobs: Sequence[Job], done: "Done") -> None:
    """Do every job; an error or Ctrl-C ends all at their next step."""
    threads, stop, news = torch.get_num_threads(), threading.Event(), SimpleQueue[News]()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, "firstlight-race")
    try:
        pending = {pool.submit(execute, question, job, stop, partial(_tell, news, job)): job for job in jobs}
        for future in pending:
            future.add_done_callback(news.put)
        while pending:
            item = news.get()
            if isinstance(item, Future):
                item.result()
                forget(pending.pop(item).halfway)
            else:
                done(*item)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _tell(news: "SimpleQueue[News]", job: Job, rows: dict[Run, RaceRow]) -> None:
    news.put((job, rows))
