"""The target table: every row is measured, printed, and written between the page's markers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinegraph.bench import targets
from kinegraph.bench.fixtures import write_synthetic_ntu_files
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import BenchResult, BenchSide
from kinegraph.bench.roofline import compute_lower_bounds
from kinegraph.bench.targets import (
    TABLE_BEGIN,
    TABLE_END,
    TARGETS,
    BenchInputs,
    Target,
    TargetResult,
    format_table,
    measure_targets,
    select_targets,
    update_page,
)
from kinegraph.bench.timing import Spread
from kinegraph.errors import BenchError, UnknownNameError

INPUTS = BenchInputs(Path("store.arrow"), Path("raw"))
REVERSED = f"{TABLE_END} {TABLE_BEGIN}"
PAGE = Path(__file__).parents[2] / "docs" / "performance.md"


def result(ratio: float | None = 2.0, **figures: float) -> BenchResult:
    side = BenchSide("ours", Spread.of([1.0]))
    return BenchResult(
        "w", "ms", (side,), ratio and Spread(ratio, ratio - 0.1, ratio + 0.1), figures
    )


def target(key="stgcn", precision="fp32", unit="x", answer=2.0, **figures) -> Target:
    def measure(inputs, options):
        assert inputs is INPUTS
        if answer is None and unit == "x":
            raise BenchError("the two | sides differ")
        return result(answer if options.precision == precision else 3.0, **figures)

    return Target(key, f"the {key}", 1.5, 2.5, measure, precision, unit)


def test_targets_have_unique_names_and_sensible_values():
    assert len({r.key for r in TARGETS}) == len({r.what for r in TARGETS}) == len(TARGETS)
    assert all(0 < r.minimum < r.goal for r in TARGETS)
    assert {r.precision for r in TARGETS} == set(PRECISIONS)


def test_targets_are_selected_by_key():
    assert select_targets() == list(TARGETS)
    assert [r.key for r in select_targets(["bytes", "stgcn"])] == ["bytes", "stgcn"]
    with pytest.raises(UnknownNameError, match=r"unknown target 'byte' .did you mean 'bytes'"):
        select_targets(["byte"])


def test_a_failure_does_not_stop_the_other_targets():
    seen = []
    chosen = [target("one"), target("two", answer=None), target("three")]
    found = measure_targets(chosen, INPUTS, None, lambda *done: seen.append(done))
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert [m.measured for m in found] == [2.0, None, 2.0]
    assert "not measured | the two / sides differ" in format_table(found)[3]
    assert json.loads(json.dumps([m.to_dict() for m in found]))[1]["failure"]


def test_a_value_that_reaches_its_minimum_is_bold_and_quartiles_follow():
    good, bad = format_table(measure_targets([target(), target(answer=1.2)], INPUTS))[2:]
    assert good == "| the stgcn | 1.5x | 2.5x | **2x** (1.9-2.1) |  |"
    assert "| 1.2x (1.1-1.3) |" in bad


def test_counts_in_place_of_ratios():
    many = target("persons", unit="persons", answer=None, persons=24)
    many = replace(many, measure=lambda *_: result(None, persons=24, **{"p99 of a tick (ms)": 31}))
    (line,) = format_table(measure_targets([many], INPUTS))[2:]
    assert line == "| the persons | 2 | 2 | **24** | p99 31 ms a tick |"


def test_where_bf16_would_be_emulated_fp32_is_measured_instead(monkeypatch):
    half = target(precision="bf16", answer=0.5, **{"relative error": 4e-3})
    monkeypatch.setattr(targets, "has_bf16", lambda: False)
    (line,) = format_table(measure_targets([half], INPUTS))[2:]
    notes = "in fp32 3x (2.9-3.1); largest relative error 4e-03"
    assert line.endswith(f"| no bf16 units | {notes} |")
    monkeypatch.setattr(targets, "has_bf16", lambda: True)
    assert measure_targets([half], INPUTS)[0].in_fp32 is None


def test_the_table_is_written_between_the_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{TABLE_BEGIN}\nold\n{TABLE_END}\nafter\n")
    update_page(page, [TargetResult(target(), result())], "some machine, 1 threads")
    text = page.read_text()
    assert text.startswith(f"before\n{TABLE_BEGIN}\n| what |")
    assert text.endswith(f".\n{TABLE_END}\nafter\n")
    assert "old" not in text
    assert "\n\nMeasured on: some machine, 1 threads.\n" in text


@pytest.mark.parametrize("content", [None, b"nothing", b"\xff\xfe", REVERSED.encode()])
def test_a_page_without_the_table_is_refused(tmp_path, content):
    page = tmp_path / "page.md"
    if content is not None:
        page.write_bytes(content)
    with pytest.raises(BenchError, match=r"page.md"):
        update_page(page, [], "some machine")


def test_the_page_has_every_target():
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(TABLE_BEGIN) == text.count(TABLE_END) == 1
    for r in TARGETS:
        goals = " | ".join(targets._format_value(r, v) for v in (r.minimum, r.goal))
        assert f"| {r.what} | {goals} |" in text


def test_every_target_has_its_lower_bounds(synthetic_store, tmp_path):
    write_synthetic_ntu_files(tmp_path, 2)
    found = {b.target: b for b in compute_lower_bounds(BenchInputs(synthetic_store, tmp_path))}
    assert list(found) == [r.key for r in TARGETS]
    dense = found["stgcn"]
    assert dense.operations_ms == pytest.approx(10 * dense.gflop)  # at 1e11 a second
    assert dense.bytes_ms == pytest.approx(dense.megabytes / 10)  # at 1e10 a second
    assert found["frame"].gflop == pytest.approx(dense.gflop / 600)
    assert found["train-stgcn-bf16"].gflop == pytest.approx(3 * dense.gflop)
    assert found["stgcn-bf16"].megabytes == pytest.approx(dense.megabytes / 2)
    assert found["real-bf16"].gflop < dense.gflop / 3
    assert found["convert"].gflop == 0
    assert found["convert"].megabytes > 0.1
