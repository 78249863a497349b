"""What is told of a comparison: per item, per second, and the ratio of the items."""

from __future__ import annotations

import json

import pytest

from kinegraph.bench import result as results
from kinegraph.bench.count import Work
from kinegraph.bench.machine import Roof
from kinegraph.bench.result import roofline, timed_result
from kinegraph.bench.timing import Comparison, Spread


def test_items_and_ratio():
    comparison = Comparison((1.0, 1.0, 1.0), (0.2, 0.2, 0.2))
    told = timed_result(
        "frames",
        comparison,
        item="frames",
        names=("re-run", "step"),
        each=(1, 40),
        figures={"a": 1},
    )
    assert [side.amount.median for side in told.sides] == [1000.0, 5.0]
    assert [side.figures["frames/s"] for side in told.sides] == [1.0, 200.0]
    assert told.ratio == Spread(200.0, 200.0, 200.0)
    assert told.figures == {"a": 1, "rounds": 3}
    assert json.loads(json.dumps(told.to_dict()))["sides"][1]["name"] == "step"


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2)])
def test_the_roofline_is_a_share_of_what_was_measured(monkeypatch, precision, size):
    monkeypatch.setattr(results, "roof", lambda _: Roof(gemm=100.0, copy=50.0))
    shares = roofline(Work(flops=20.0, least=1.0, moved=5.0, parameters=1), 0.4, precision)
    assert shares["share of peak GEMM"] == pytest.approx(0.5)
    assert shares["share of bandwidth"] == pytest.approx(5 * size / 0.4 / 50)
