"""The command line: one file a command, a thin shell over the library. Torch loads inside commands, so `--help` is instant.

Data go to stdout, messages to stderr. Exit codes: 0 done, 1 findings, 2 an error or wrong usage, 130 interrupted. An error
is one line; `--debug` shows the trace.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

import typer

from firstlight import __version__
from firstlight.cli import bench, create, data, diagnose, doctor, gains, init, plan, predict, race, recipes, tasks
from firstlight.cli.console import StoppedError
from firstlight.errors import FirstlightError, did_you_mean

app = typer.Typer(
    name="firstlight",
    help="Gives a neural network a good start, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _module in (doctor, plan, init, create, diagnose, predict, race, tasks, recipes, gains, bench):
    app.command(_module.__name__.rpartition(".")[2])(_module.command)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"firstlight {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="On an error show the whole trace.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = run(sys.argv[1:])
    except Exception:  # comes this far only with --debug; Python's own exit code, 1, means findings here
        traceback.print_exc()
        code = 2
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Every error becomes one line on stderr."""
    words = [word for word in arguments if word != "--debug"]
    debug = len(words) < len(arguments)
    if not words:
        return _fail("no command was given. See 'firstlight --help'.", 2)
    with _interrupts() as seen:
        return _run(words, seen, debug=debug)


def _run(words: Sequence[str], seen: Sequence[int], *, debug: bool) -> int:
    try:
        result = app(words, standalone_mode=False)
    except FirstlightError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except StoppedError as interrupted:
        return _fail(str(interrupted), 130)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted. No file is left half-written.", 130)
    except typer.Exit as leave:
        return leave.exit_code
    except (Exception, SystemExit) as error:
        if seen:
            return _fail("interrupted. No file is half written.", 130)
        if debug:
            raise
        usage = getattr(error, "format_message", None)  # what typer raises for wrong usage, under either of its parsers
        if usage is not None:
            return _fail(_usage(usage(), words), 2)
        what = f"{type(error).__name__}: {error}".removesuffix(": ").removesuffix(".")
        return _fail(f"{what}. This is not foreseen: run again with --debug for the trace, and report it.", 2)
    if result == 130:  # what typer returns for an interrupt
        return _fail("interrupted. No file is left half-written.", 130)
    return result if isinstance(result, int) else 0


@contextmanager
def _interrupts() -> Iterator[Sequence[int]]:
    """Yield a list in which an interrupt is noted: libraries swallow one while they are imported, and fail later on."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    typer.echo(line if code == 130 else f"error: {line}", err=True)
    return code


def _usage(message: str, words: Sequence[str]) -> str:
    """Return a usage error in one line, with the nearest command when the command is unknown."""
    commands = [command.name or "" for command in app.registered_commands]
    commands += [group.name or "" for group in app.registered_groups]
    near = (
        did_you_mean(words[0], commands)
        if words and "No such command" in message and "Did you mean" not in message
        else ""
    )
    stop = "" if message.endswith((".", "?")) else "."
    return f"{message}{stop}{near} See 'firstlight --help'."
