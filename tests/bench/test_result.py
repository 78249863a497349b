"""Results of comparisons: time per item, items per second, and the ratio between them."""

from __future__ import annotations

import json

import pytest

from kinegraph.bench import result as results
from kinegraph.bench.count import NetworkCost
from kinegraph.bench.machine import PeakRates
from kinegraph.bench.result import peak_shares, summarize_comparison
from kinegraph.bench.timing import Spread, TimedRounds


def test_items_and_ratio():
    comparison = TimedRounds((1.0, 1.0, 1.0), (0.2, 0.2, 0.2))
    result = summarize_comparison(
        "frames",
        comparison,
        item="frames",
        names=("re-run", "step"),
        items_per_round=(1, 40),
        figures={"a": 1},
    )
    assert [side.amount.median for side in result.sides] == [1000.0, 5.0]
    assert [side.figures["frames/s"] for side in result.sides] == [1.0, 200.0]
    assert result.ratio == Spread(200.0, 200.0, 200.0)
    assert result.figures == {"a": 1, "rounds": 3}
    assert json.loads(json.dumps(result.to_dict()))["sides"][1]["name"] == "step"


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2)])
def test_shares_of_the_peak_rates(monkeypatch, precision, size):
    monkeypatch.setattr(results, "measure_peak_rates", lambda _: PeakRates(gemm=100.0, copy=50.0))
    shares = peak_shares(
        NetworkCost(flops=20.0, min_values=1.0, moved_values=5.0, parameters=1), 0.4, precision
    )
    assert shares["share of peak GEMM"] == pytest.approx(0.5)
    assert shares["share of bandwidth"] == pytest.approx(5 * size / 0.4 / 50)
