"""Console output shared by the commands: text, progress bars, tables, options, free folders."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.errors import FigureError, RecipeError
from kinegraph.files import atomic_path, exclusive_lock

FIGURE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg")

ClusterOption = Annotated[
    str | None,
    typer.Option(
        help="Run on a Ray cluster: HOST:PORT, auto, or local for all cores of this machine."
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

EventsOption = Annotated[
    Path | None,
    typer.Option(
        help="Append each action segment to this file, as a line of JSON; - for standard output."
    ),
]

WebhookOption = Annotated[
    str | None, typer.Option(help="Send each action segment to this URL, in a POST of JSON.")
]

WebhookSecretOption = Annotated[
    str | None, typer.Option(envvar="KINEGRAPH_WEBHOOK_SECRET", help="Key that signs these POSTs.")
]

PrecisionOption = Annotated[
    str, typer.Option(help="Precision: fp32, bf16, or auto (bf16 if it is fast here).")
]


#: Characters that control a terminal or cannot be encoded: control characters except tab and line
#: feed, changes of the writing direction, and surrogates.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    r"""Return text with its control characters shown as escapes.

    Names of classes, clips and files come from others, and a terminal would obey them.

    >>> escape_controls("wave\x1b[2J")
    'wave\\x1b[2J'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def echo(text: object = "", *, error: bool = False, flush: bool = False) -> None:
    """Print text on standard output or standard error, with its control characters escaped."""
    print(escape_controls(str(text)), file=sys.stderr if error else sys.stdout, flush=flush)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar if standard error is a terminal; yield update(done, total or None)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), Remaining())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def number_folders(folder: Path) -> Iterator[Path]:
    """Yield FOLDER, FOLDER-2, FOLDER-3, ..."""
    yield folder
    for number in itertools.count(2):
        yield folder.with_name(f"{folder.name}-{number}")


def find_free_folder(folder: Path) -> Path:
    """Return the first numbered folder that does not exist."""
    return next(path for path in number_folders(folder) if not path.exists())


def check_figure_path(path: Path | None, suffixes: Sequence[str] = FIGURE_SUFFIXES) -> None:
    """Refuse a figure that cannot be written, before anything is computed.

    Raises:
        FigureError: an unknown format, or the folder does not exist.
    """
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise FigureError(f"expected a figure named {', '.join(suffixes)}, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise FigureError(f"{path}: the folder {path.parent} does not exist; create it first")


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """Write a matplotlib figure as a file of its suffix; a failure leaves the old file.

    Raises:
        OSError: the file cannot be written.
        LockedError: another process is writing it.
    """
    with exclusive_lock(path), atomic_path(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=120, **options)


def parse_weights(text: str) -> list[float]:
    """Return the numbers of an option ``--weights``.

    Raises:
        RecipeError: a part is not a number.
    """
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(
            f"expected weights joined by commas, such as 0.6,0.4, got {text!r}"
        ) from error


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on standard output."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=escape_controls(title), title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(escape_controls(name), overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*(escape_controls(str(cell)) for cell in row))
    Console(highlight=False, markup=False).print(table)
