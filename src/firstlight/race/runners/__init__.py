"""Runners: who does the jobs of a race. Each is a file with `run(question, jobs, done)`."""

from collections.abc import Callable, Mapping, Sequence

from firstlight.errors import OptionError, did_you_mean
from firstlight.race.jobs import Job
from firstlight.race.question import Question, Run
from firstlight.race.row import RaceRow

RUNNERS = ("local", "ray")
Done = Callable[[Job, Mapping[Run, RaceRow]], None]  # a job, and those of its runs that have ended


def check_runner(name: str) -> None:
    """Raise unless there is such a runner and what it needs is installed.

    Raises:
        OptionError: if not.
    """
    if name not in RUNNERS:
        near = did_you_mean(name, RUNNERS)
        raise OptionError(f"'{name}' is not a runner. Choose from {', '.join(RUNNERS)}.{near} Nothing was trained.")
    if name == "ray":
        from firstlight.race.runners.ray import check_installed

        check_installed()


def run_jobs(name: str, question: Question, jobs: Sequence[Job], done: Done) -> None:
    """Do all jobs with a runner; done(job, rows) is called here, in this thread, as runs end."""
    if name == "ray":
        from firstlight.race.runners import ray

        ray.run(question, jobs, done)
        return
    from firstlight.race.runners import local

    local.run(question, jobs, done)
