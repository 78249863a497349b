"""The table of docs/performance.md: targets, and what this machine reached, in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinegraph.bench.machine import has_bf16, in_words
from kinegraph.bench.result import Result
from kinegraph.bench.targets import ROWS, Given, Row
from kinegraph.errors import BenchError, KinegraphError, unknown_name

BEGIN, END = "<!-- targets: begin -->", "<!-- targets: end -->"
HEADER = ("what", "at least", "aim", "measured", "beside it")
#: Figures of a result that are told beside the ratio.
BESIDE = {
    "relative error": "largest relative error {:.0e}",
    "relative error, padded": "largest relative error on padded clips {:.0e}",
    "top-1 agreement, padded": "top-1 agreement on padded clips {:.0%}",
    "median frames": "median {:.0f} frames",
    "p99 of a frame (ms)": "p99 {:.2g} ms a frame",
    "p99 of a tick (ms)": "p99 {:.2g} ms a tick",
    "ratio in float32": "{:.3g}x in float32",
    "largest error": "largest error in float16 {:.1g}",
}


@dataclass(frozen=True)
class Measured:
    """A row and what came of it.

    Attributes:
        row: of the table.
        result: in the row's precision; None if it could not be measured.
        instead: in fp32, where the processor would only imitate bf16.
        failure: why there is no result.
    """

    row: Row
    result: Result | None = None
    instead: Result | None = None
    failure: str = ""

    @property
    def reached(self) -> float | None:
        """In the unit of the targets."""
        return None if self.result is None else self.row.reached(self.result)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "row": self.row.key,
            "at_least": self.row.at_least,
            "aim": self.row.aim,
            "reached": self.reached,
            "result": self.result and self.result.to_dict(),
            "in_fp32": self.instead and self.instead.to_dict(),
            "failure": self.failure or None,
        }


def chosen_rows(keys: Sequence[str] = ()) -> list[Row]:
    """Rows by their names; all of them if none is named.

    Raises:
        UnknownNameError: no such row.
    """
    known = {row.key: row for row in ROWS}
    for key in keys:
        if key not in known:
            raise unknown_name("row", key, known)
    return [known[key] for key in keys or known]


def measure(
    rows: Sequence[Row], given: Given, started: Callable[[Row], None] | None = None
) -> list[Measured]:
    """Every row, one after the other; one that fails does not keep the others from it.

    Args:
        rows: of `ROWS`.
        given: what they work on.
        started: called with each row before it is measured.
    """
    found = []
    for row in rows:
        if started:
            started(row)
        try:
            if row.precision == "bf16" and not has_bf16():  # imitated, up to 100 times slower
                found.append(Measured(row, instead=row.measure(given, "fp32")))
            else:
                found.append(Measured(row, row.measure(given, row.precision)))
        except KinegraphError as error:
            found.append(Measured(row, failure=str(error)))
    return found


def lines(found: Sequence[Measured]) -> list[str]:
    """The table as Markdown."""
    head = [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    return head + [f"| {' | '.join(_cells(measured))} |" for measured in found]


def check_page(page: Path) -> tuple[str, str]:
    """What stands before and after the table of a page.

    Raises:
        BenchError: the page cannot be read, or has no markers around the table.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot read the page {page}: {error}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{page}: expected the lines {BEGIN} and {END} around the table")
    return before, after


def write_table(page: Path, found: Sequence[Measured]) -> None:
    """Put the table and the machine between the page's markers.

    Raises:
        BenchError: see `check_page`.
    """
    before, after = check_page(page)
    table = "\n".join(lines(found))
    page.write_text(
        f"{before}{BEGIN}\n{table}\n\nMeasured on: {in_words()}.\n{END}{after}", encoding="utf-8"
    )


def _cells(measured: Measured) -> tuple[str, ...]:
    row = measured.row
    goals = (_amount(row, row.at_least), _amount(row, row.aim))
    if measured.result is None and measured.instead is None:
        return (row.what, *goals, "not measured", measured.failure.replace("|", "/"))
    if measured.result is None:
        return (row.what, *goals, "no bf16 units", _beside(measured))
    return (row.what, *goals, _reached(row, measured.result), _beside(measured))


def _amount(row: Row, value: float) -> str:
    return f"{value:.3g}x" if row.unit == "x" else f"{value:.0f}"


def _reached(row: Row, result: Result) -> str:
    value = row.reached(result)
    text = f"**{_amount(row, value)}**" if value >= row.at_least else _amount(row, value)
    if row.unit == "x" and result.ratio and result.ratio.low != result.ratio.high:
        text += f" ({result.ratio.low:.3g}-{result.ratio.high:.3g})"
    return text


def _beside(measured: Measured) -> str:
    result, told = measured.result, []
    if measured.instead is not None:
        result = measured.instead
        told.append(f"in fp32 {_reached(measured.row, result).replace('**', '')}")
    figures = {} if result is None else result.figures
    told += [text.format(figures[name]) for name, text in BESIDE.items() if name in figures]
    return "; ".join(told)
