"""How `kinegraph bench` tells what it measured: tables, JSON, pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinegraph.cli.console import print_table, progress
from kinegraph.errors import BenchError

if TYPE_CHECKING:
    from kinegraph.bench.result import Result
    from kinegraph.bench.table import Measured
    from kinegraph.bench.timing import Progress
    from kinegraph.reports.draw_bench import Bar

PICTURES = (".png", ".svg", ".pdf", ".jpg")


def tell(
    title: str,
    measured: Callable[[Progress], Result],
    threads: int | None,
    as_json: bool,
    picture: Path | None,
    more: dict[str, dict[str, Any]] | None = None,
) -> None:
    """Measure under a progress bar, then say it as asked for.

    Args:
        title: of the bar.
        measured: does it, given a bar to move.
        threads: of PyTorch; None for its own choice.
        as_json: one JSON object in place of tables.
        picture: to write.
        more: further figures, by what they are of.
    """
    from kinegraph.bench.timing import threads as with_threads

    check_picture(picture)

    with with_threads(threads), progress(title) as bar:
        result = measured(bar)
    if picture is not None:
        _draw_result(result, picture)
    if as_json:
        print(json.dumps({**result.to_dict(), **(more or {})}))
        return
    _print(result)
    for name, figures in (more or {}).items():
        print(f"{name}: {', '.join(_told(key, value) for key, value in figures.items())}")


def _print(result: Result) -> None:
    shown = list(dict.fromkeys(name for side in result.sides for name in side.figures))
    header = ("", result.unit, *(name.split(" of ")[-1] for name in shown))
    rows = [
        (side.name, f"{side.amount.median:.4g}", *(_value(n, side.figures.get(n)) for n in shown))
        for side in result.sides
    ]
    print(result.what)
    print_table("", header, rows)
    if result.ratio is not None:
        ratio = result.ratio
        print(f"ratio {ratio.median:.3g} (quartiles {ratio.low:.3g} to {ratio.high:.3g})")
    print(", ".join(_told(name, value) for name, value in result.figures.items()))
    print(result.machine)


def _told(name: str, value: Any) -> str:
    return f"{name} {_value(name, value)}"


def _value(name: str, value: Any) -> str:
    """A figure in as many digits as it deserves."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if name.startswith(("share", "top-")):
        return f"{value:.1%}"
    if "error" in name:
        return f"{value:.1e}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _draw_result(result: Result, path: Path) -> None:
    from kinegraph.reports.draw_bench import Bar

    ratio = result.ratio
    if ratio is None:
        bar = Bar(result.what, float(result.figures["persons"]), unit="persons")
    else:
        bar = Bar(result.what, ratio.median, ratio.low, ratio.high)
    draw([bar], result.machine, path)


def row_bar(measured: Measured) -> Bar:
    """A row of the target table as a bar of the picture."""
    from kinegraph.reports.draw_bench import Bar

    row, ratio = measured.row, measured.result and measured.result.ratio
    low, high = (ratio.low, ratio.high) if ratio else (None, None)
    name = row.what.replace("`", "")
    return Bar(name, measured.reached, low, high, row.at_least, row.aim, row.unit)


def draw(bars: Sequence[Bar], machine: str, path: Path) -> None:
    """Write the picture."""
    from kinegraph.reports.draw_bench import draw_bench

    draw_bench(bars, machine).savefig(path, dpi=120)


def check_picture(path: Path | None) -> None:
    """Refuse a picture that cannot be written before anything is measured.

    Raises:
        BenchError: another kind of picture, a folder that is not there.
    """
    if path is None:
        return
    if path.suffix not in PICTURES:
        raise BenchError(f"expected a picture named {', '.join(PICTURES)}, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"{path}: there is no folder {path.parent} to write the picture into")
