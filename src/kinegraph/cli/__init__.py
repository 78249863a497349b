"""The command line: one module per command, thin wrappers of the library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from kinegraph.cli import (
    bench,
    compare,
    convert,
    demo,
    draw,
    evaluate,
    export,
    fuse,
    import_weights,
    inspect,
    list_,
    predict,
    score,
    serve,
    stream,
    train,
    watch,
)
from kinegraph.errors import KinegraphError

app = typer.Typer(
    name="kinegraph",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("convert", context_settings=convert.CONTEXT)(convert.convert)
app.command("inspect")(inspect.inspect)
app.command("import")(import_weights.import_weights)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.command("fuse")(fuse.fuse)
app.command("score")(score.score)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("stream")(stream.stream)
app.command("watch")(watch.watch)
app.command("serve")(serve.serve)
app.add_typer(draw.app, name="draw")
app.add_typer(bench.app, name="bench")
app.command("list", no_args_is_help=True)(list_.list_kind)


def _print_version(is_given: bool) -> None:
    if is_given:
        from kinegraph import __version__

        print(f"kinegraph {__version__}")
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
    """Run a command; print a user error as one sentence and exit with code 2."""
    try:
        app(arguments)
    except KinegraphError as error:
        print(f"kinegraph: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"kinegraph: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        cause = getattr(end.__context__, "__cause__", None)  # typer converts it to an exit
        interrupt = end if isinstance(end, KeyboardInterrupt) else cause
        if not isinstance(interrupt, KeyboardInterrupt):
            raise
        print(f"kinegraph: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
