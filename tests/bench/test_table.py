"""The target table: every row is measured, told, and written between the page's markers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinegraph.bench import table
from kinegraph.bench.fixtures import made_up_texts
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import Result, Side
from kinegraph.bench.roofline import floors
from kinegraph.bench.table import BEGIN, END, Measured, chosen_rows, lines, measure, write_table
from kinegraph.bench.targets import ROWS, Given, Row
from kinegraph.bench.timing import Spread
from kinegraph.errors import BenchError, UnknownNameError

GIVEN = Given(Path("store.arrow"), Path("raw"))
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def result(ratio: float | None = 2.0, **figures: float) -> Result:
    side = Side("ours", Spread.of([1.0]))
    return Result("w", "ms", (side,), ratio and Spread(ratio, ratio - 0.1, ratio + 0.1), figures)


def row(key="stgcn", precision="fp32", unit="x", answer=2.0, **figures) -> Row:
    def measured(given, asked):
        assert given is GIVEN
        if answer is None and unit == "x":
            raise BenchError("the two | sides differ")
        return result(answer if asked == precision else 3.0, **figures)

    return Row(key, f"the {key}", 1.5, 2.5, measured, precision, unit)


def test_rows_have_names_of_their_own_and_targets_that_make_sense():
    assert len({r.key for r in ROWS}) == len({r.what for r in ROWS}) == len(ROWS) == 14
    assert all(0 < r.at_least < r.aim for r in ROWS)
    assert {r.precision for r in ROWS} == set(PRECISIONS)


def test_rows_are_chosen_by_name():
    assert chosen_rows() == list(ROWS)
    assert [r.key for r in chosen_rows(["bytes", "stgcn"])] == ["bytes", "stgcn"]
    with pytest.raises(UnknownNameError, match=r"unknown row 'byte' .did you mean 'bytes'"):
        chosen_rows(["byte"])


def test_a_row_that_fails_does_not_keep_the_others_from_it():
    started = []
    rows = [row("one"), row("two", answer=None), row("three")]
    found = measure(rows, GIVEN, lambda r: started.append(r.key))
    assert started == ["one", "two", "three"]
    assert [m.reached for m in found] == [2.0, None, 2.0]
    assert "not measured | the two / sides differ" in lines(found)[3]
    assert json.loads(json.dumps([m.to_dict() for m in found]))[1]["failure"]


def test_a_target_that_is_reached_is_bold_and_quartiles_are_told():
    good, bad = lines(measure([row(), row(answer=1.2)], GIVEN))[2:]
    assert good == "| the stgcn | 1.5x | 2.5x | **2x** (1.9-2.1) |  |"
    assert "| 1.2x (1.1-1.3) |" in bad


def test_numbers_that_are_no_ratios():
    many = row("persons", unit="persons", answer=None, persons=24)
    many = replace(many, measure=lambda *_: result(None, persons=24, **{"p99 of a tick (ms)": 31}))
    (line,) = lines(measure([many], GIVEN))[2:]
    assert line == "| the persons | 2 | 2 | **24** | p99 31 ms a tick |"


def test_where_bf16_would_be_imitated_fp32_is_measured_instead(monkeypatch):
    half = row(precision="bf16", answer=0.5, **{"relative error": 4e-3})
    monkeypatch.setattr(table, "has_bf16", lambda: False)
    (line,) = lines(measure([half], GIVEN))[2:]
    beside = "in fp32 3x (2.9-3.1); largest relative error 4e-03"
    assert line.endswith(f"| no bf16 units | {beside} |")
    monkeypatch.setattr(table, "has_bf16", lambda: True)
    assert measure([half], GIVEN)[0].instead is None


def test_the_table_is_written_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(page, [Measured(row(), result())])
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| what |")
    assert text.endswith(f".\n{END}\nafter\n")
    assert "old" not in text
    assert "\n\nMeasured on: " in text


@pytest.mark.parametrize("content", [None, b"nothing", b"\xff\xfe", f"{END} {BEGIN}".encode()])
def test_a_page_without_the_table_is_refused(tmp_path, content):
    page = tmp_path / "page.md"
    if content is not None:
        page.write_bytes(content)
    with pytest.raises(BenchError, match=r"page.md"):
        write_table(page, [])


def test_the_page_has_every_row_with_its_targets():
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    for r in ROWS:
        goals = " | ".join(table._amount(r, v) for v in (r.at_least, r.aim))
        assert f"| {r.what} | {goals} |" in text


def test_every_row_has_its_floors(made_up, tmp_path):
    made_up_texts(tmp_path, 2)
    found = {f.row: f for f in floors(Given(made_up, tmp_path))}
    assert list(found) == [r.key for r in ROWS]
    dense = found["stgcn"]
    assert dense.by_operations == pytest.approx(10 * dense.gflop)  # at 1e11 a second
    assert dense.by_bytes == pytest.approx(dense.megabytes / 10)  # at 1e10 a second
    assert found["frame"].gflop == pytest.approx(dense.gflop / 600)
    assert found["train-stgcn-bf16"].gflop == pytest.approx(3 * dense.gflop)
    assert found["stgcn-bf16"].megabytes == pytest.approx(dense.megabytes / 2)
    assert found["real-bf16"].gflop < dense.gflop / 3
    assert found["convert"].gflop == 0
    assert found["convert"].megabytes > 0.1
