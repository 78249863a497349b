"""Interleaved timing: the order of calls, medians and quartiles, and the time limit."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from kinegraph.bench import timing
from kinegraph.bench.timing import (
    Spread,
    TimedRounds,
    percentile,
    time_call,
    time_interleaved,
    use_threads,
)


def test_a_spread_is_the_median_and_the_quartiles():
    assert Spread.of([3.0, 1.0, 2.0, 5.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)


def test_the_ratio_is_of_each_round_by_itself():
    slow_second_round = TimedRounds((2.0, 20.0, 2.0), (1.0, 10.0, 1.0))
    assert slow_second_round.ratio == Spread(2.0, 2.0, 2.0)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `clock.sleep` moves."""
    clock = SimpleNamespace(now=0.0)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_the_sides_alternate_after_a_warm_up_that_is_not_timed(clock):
    calls, seen = [], []

    def side(name, seconds):
        def call(number):
            calls.append(f"{name}{number}")
            clock.sleep(seconds * len(calls))

        return call

    comparison = time_interleaved(
        side("a", 1), side("b", 2), 3, lambda done, total: seen.append((done, total)), 1000
    )
    assert calls == ["a0", "b0", "a0", "b0", "a1", "b1", "a2", "b2"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert comparison == TimedRounds((3, 5, 7), (8, 12, 16))


def test_no_further_round_begins_when_the_time_is_up(clock):
    comparison = time_interleaved(lambda _: clock.sleep(2), lambda _: None, 100, seconds=5)
    assert len(comparison.ours) == 2


def test_seconds_of_a_call(clock):
    assert time_call(clock.sleep, 0.25) == 0.25


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(share, value):
    assert percentile([float(v) for v in range(100, 0, -1)], share) == value


def test_the_number_of_threads_is_restored():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), use_threads(before + 1) as count:
        assert count == torch.get_num_threads() == before + 1
        _ = 1 / 0
    assert torch.get_num_threads() == before
    with use_threads(None) as count:
        assert count == before
