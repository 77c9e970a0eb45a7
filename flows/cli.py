"""`decloud`: the command line. One command a module; what they share is in `options`.

Exit status: 0 done, 1 some scene failed or is invalid (or a server did not answer), 2 wrong arguments or input,
130 interrupted. An error is one line on standard error. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import typer

from flows import backfill, demo, evaluate, export, interrupts, pairs, plan, report, run, status, train_command
from flows.imports import unused_left_out
from flows.warned import OneLineWarnings

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, interrupts.STATUS

app = typer.Typer(
    name="decloud",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Scene-scale cloud removal for Sentinel-2. Clear pixels leave as they came, and every pixel says where it comes from.",
    epilog="Begin with: decloud demo",
)
app.command("demo")(demo.demo)
app.command("plan", no_args_is_help=True)(plan.plan)
app.command("pairs", no_args_is_help=True)(pairs.pairs)
app.command("run", no_args_is_help=True)(run.run)
app.command("backfill", no_args_is_help=True)(backfill.backfill)
app.command("export", no_args_is_help=True)(export.export)
app.command("status", no_args_is_help=True)(status.status)
app.command("report", no_args_is_help=True)(report.report)
app.command("train", no_args_is_help=True)(train_command.train)
app.command("evaluate", no_args_is_help=True)(evaluate.evaluate)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),  # noqa: FBT001, FBT003
) -> None:
    if version:
        from importlib import metadata

        typer.echo(f"decloud {metadata.version('declouder')}")
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (this process's own if None) and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    interrupts.forget()
    with _one_line_warnings(), _logged(debug="--debug" in given), _interruptible(), unused_left_out():
        try:
            result = app(args=given, prog_name="decloud", standalone_mode=False)
        except KeyboardInterrupt:
            _say("interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has left; flushing it at exit would complain again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except typer.Abort:
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the last line of defence: each error ends as one line and a status
            if interrupts.asked():
                # Whatever it is, it came of the ctrl-C: an import that was broken off, for one.
                _say("interrupted")
                return INTERRUPTED
            if type(error).__name__ == "NoArgsIsHelpError":
                # Typer has click inside, where nobody is to import from.
                _say(str(error.format_message()))  # type: ignore[attr-defined]
                return WRONG
            if "--debug" in given:
                traceback.print_exception(error)
            _say(f"error: {_message(error)}")
            return _status(error)
    return result if isinstance(result, int) else DONE


def _status(error: Exception) -> int:
    from catalogs.errors import CatalogError, SourceUnavailable
    from pipeline.errors import ClusterFailed, PipelineError
    from srgan.errors import ModelError, NotFinite, NotSaved

    # Nothing was wrong with what was asked: the world did not play along.
    if isinstance(error, SourceUnavailable | ClusterFailed | NotSaved | NotFinite) or _disk_full(error):
        return FAILED
    # Wrong options are the parser's own errors, known by the message that they format.
    known = isinstance(error, CatalogError | PipelineError | ModelError) or hasattr(error, "format_message")
    return WRONG if known else FAILED


def _disk_full(error: Exception) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _message(error: Exception) -> str:
    from catalogs.errors import CatalogError
    from pipeline.errors import PipelineError
    from srgan.errors import ModelError

    if hasattr(error, "format_message"):
        text = str(error.format_message())
        return " ".join(text.split()) or "see --help"
    text = " ".join(str(error).split())
    if isinstance(error, CatalogError | PipelineError | ModelError):
        return text
    return f"{type(error).__name__}: {text} (not foreseen: please report it with what --debug prints)"


@contextmanager
def _interruptible() -> Iterator[None]:
    """The first ctrl-C stops in order, the second at once. The first is kept in mind: an import may swallow it.

    SIGTERM is the same: what `timeout`, systemd and batch systems send.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    here = os.getpid()

    def first(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if os.getpid() != here:
            # A process that was forked from this one: whoever ends it means it, not the command.
            os._exit(INTERRUPTED)
        for each in interrupts.STOPS:
            signal.signal(each, second)
        interrupts.ask()
        _say("stopping: the blocks in flight are finished first; ctrl-C again leaves at once")
        raise KeyboardInterrupt

    def second(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        os._exit(INTERRUPTED)

    before = {each: signal.signal(each, first) for each in interrupts.STOPS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _logged(*, debug: bool) -> Iterator[None]:
    """What our packages log on standard error: with --debug all of it, tracebacks of what nobody foresaw too; else warnings, a line each."""
    handler: logging.Handler = logging.StreamHandler() if debug else OneLineWarnings()
    loggers = [logging.getLogger(name) for name in ("catalogs", "pipeline", "srgan")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Warnings as one line each, without the source line that nobody here can change."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _say(f"warning: {' '.join(str(message).split())}")

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
