"""Jobs spread over a Ray cluster, which schedules them, gives each a GPU where it has any, and does lost ones again.

Connects to the cluster that RAY_ADDRESS names, or that runs on this machine; where there is none, one is started here and
stopped afterwards.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from firstlight.errors import MeasureError, OptionError
from firstlight.race.jobs import Job, execute
from firstlight.race.question import Question
from firstlight.race.row import RaceRow

if TYPE_CHECKING:
    from firstlight.race.runners import Done

RETRIES = 3  # times that a job is done again after its worker was lost


def check_installed() -> None:
    """Raise unless Ray is installed.

    Raises:
        OptionError: if not.
    """
    if find_spec("ray") is None:
        raise OptionError(
            "runner='ray' needs Ray, which is not installed: pip install 'firstlight[ray]'. Nothing was trained."
        )


def run(question: Question, jobs: Sequence[Job], done: "Done") -> None:
    """Do every job as a task of Ray; done(job, rows) is called here as each one ends.

    Raises:
        MeasureError: if a job's worker was lost more often than Ray does it again.
    """
    import ray

    ours = not ray.is_initialized()
    with contextlib.redirect_stdout(sys.stderr):  # Ray tells of lost workers on stdout, where the data go
        if ours:
            _connect(ray)
        try:
            _spread(ray, question, jobs, done)
        finally:
            if ours:
                ray.shutdown()


def _spread(ray: Any, question: Question, jobs: Sequence[Job], done: "Done") -> None:
    shared = ray.put(question)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(_work).options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
    pending = {task.remote(shared, job, bool(gpus)): job for job in jobs}
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        job = pending.pop(ready[0])
        done(job, dict(zip(job.runs, _rows(ray, ready[0]), strict=True)))


def _connect(ray: Any) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    if os.environ.get("RAY_ADDRESS"):
        options.pop("include_dashboard")
    ray.init(**options)


def _rows(ray: Any, reference: Any) -> list[RaceRow]:
    try:
        found: list[RaceRow] = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from error
    except ray.exceptions.RayError as error:
        words = " ".join(str(error).split())[:300]
        raise MeasureError(
            f"a worker of Ray was lost {RETRIES + 1} times: {words}. The runs saved before are kept."
        ) from error
    return found


def _work(question: Question, job: Job, gpu: bool) -> list[RaceRow]:
    """What a worker does: the job, with one torch thread, as a local one does it, on the GPU that Ray gave it if any."""
    import torch

    torch.set_num_threads(1)
    return execute(question.on("cuda") if gpu else question, job)
