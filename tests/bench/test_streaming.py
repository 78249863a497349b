"""Benchmarks of streaming: frames one by one, and many persons at once."""

from __future__ import annotations

import pytest

from kinegraph.bench import streaming
from kinegraph.bench.result import BenchOptions
from kinegraph.bench.streaming import bench_stream, bench_streams, find_largest
from kinegraph.errors import BenchError


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 20, 21, 100, 127])
def test_the_largest_number_that_fits_is_found_to_a_tenth(limit):
    tried = []

    def fits(number: int) -> bool:
        tried.append(number)
        return number <= limit

    found = find_largest(fits)
    assert found <= limit <= found + max(1, found // 10)
    assert len(tried) < 15


def test_what_always_fits_ends_somewhere():
    assert find_largest(lambda _: True, limit=64) == 64


@pytest.mark.parametrize("name", ["stgcn", "shiftgcn"])
def test_a_frame_against_the_window(name):
    result = bench_stream(name, BenchOptions(rounds=2))
    assert result.sides[1].name == "kinegraph fp32, StepStreams"
    assert result.figures["relative error after the last frame"] < 1e-5
    assert 0 < result.figures["p50 of a frame (ms)"] <= result.figures["p99 of a frame (ms)"]
    assert result.ratio.median > 0


def test_so_many_persons():
    result = bench_streams("stgcn", 3, ticks=8)
    assert result.figures["persons"] == 3
    assert result.ratio is None
    assert result.figures["p50 of a tick (ms)"] <= result.figures["p99 of a tick (ms)"]


def test_as_many_persons_as_there_can_be(monkeypatch):
    seconds = {"per stream": 0.004}
    monkeypatch.setattr(
        streaming, "measure_ticks", lambda _, n, ticks: [n * seconds["per stream"]] * ticks
    )
    seen = []
    result = bench_streams("stgcn", options=BenchOptions(progress=lambda *done: seen.append(done)))
    assert result.figures["persons"] == 8
    assert result.figures["within a frame"] is True
    assert seen[0] == (1, 2)
    seconds["per stream"] = 0.1
    none = bench_streams("stgcn")
    assert none.figures["persons"] == 0
    assert none.figures["within a frame"] is False


@pytest.mark.parametrize("bench", [bench_stream, bench_streams])
def test_a_model_that_has_no_step_network(bench):
    with pytest.raises(BenchError, match="asgcn has no step network"):
        bench("asgcn")
