"""The command line: one module per command, thin wrappers of the library."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from kinegraph.cli import (
    assess,
    bench,
    compare,
    convert,
    count,
    demo,
    draw,
    evaluate,
    explain,
    export,
    fuse,
    import_weights,
    inspect,
    list_,
    pose_model,
    predict,
    score,
    segment,
    serve,
    stream,
    teach,
    train,
    watch,
    web,
)
from kinegraph.cli.console import echo
from kinegraph.errors import KinegraphError

app = typer.Typer(
    name="kinegraph",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("convert", context_settings=convert.CONTEXT)(convert.convert)
app.command("inspect")(inspect.inspect)
app.command("import")(import_weights.import_weights)
app.command("train")(train.train)
app.command("teach")(teach.teach)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("fuse")(fuse.fuse)
app.command("score")(score.score)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("explain")(explain.explain)
app.command("segment")(segment.segment)
app.command("stream")(stream.stream)
app.command("watch")(watch.watch)
app.command("count")(count.count)
app.command("assess")(assess.assess)
app.command("serve")(serve.serve)
app.command("web")(web.web)
app.command("pose-model")(pose_model.pose_model)
app.add_typer(draw.app, name="draw")
app.add_typer(bench.app, name="bench")
app.command("list", no_args_is_help=True)(list_.list_kind)


def _print_version(is_given: bool) -> None:
    if is_given:
        from kinegraph import __version__

        echo(f"kinegraph {__version__}")
        raise typer.Exit


@app.callback()
def _kinegraph(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Skeleton-based action recognition: from raw skeleton files and videos to named actions."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; print a user error as one sentence and exit with code 2.

    Ctrl-C exits with 130 and SIGTERM with 143, both after partial files are deleted.
    """
    try:
        with _exit_on_sigterm():
            try:
                app(arguments)
            finally:
                sys.stdout.flush()  # at the exit of the interpreter an error would be a traceback
    except KinegraphError as error:
        _exit(2, str(error))
    except BrokenPipeError:
        _exit(0)
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        _exit(2, f"{where}{error.strerror or error}")
    except (KeyboardInterrupt, SystemExit) as end:
        cause = getattr(end.__context__, "__cause__", None)  # typer converts it to an exit
        interrupt = end if isinstance(end, KeyboardInterrupt) else cause
        if not isinstance(interrupt, KeyboardInterrupt):
            raise
        _exit(130, str(interrupt) or "interrupted")


def _exit(code: int, message: str = "") -> NoReturn:
    """Print a message and exit, whether or not the output can still be written."""
    for output in (sys.stdout, sys.stderr):
        try:
            if message and output is sys.stderr:
                echo(f"kinegraph: {message}", error=True)
            output.flush()
        except OSError:  # what is left in its buffer would be written again at the exit
            with Path(os.devnull).open("w") as nowhere, suppress(OSError):
                os.dup2(nowhere.fileno(), output.fileno())
    sys.exit(code)


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Exit with 143 on SIGTERM, by an exception, so that partial files are deleted.

    Some packages catch every exception and raise another one, which then means the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return

    received: list[int] = []

    def terminate(number: int, _: object) -> None:
        received.append(number)
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except BaseException:
        if received:
            sys.exit(128 + received[0])
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
