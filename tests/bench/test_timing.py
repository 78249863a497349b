"""Timing turn by turn: the order of the turns, medians and quartiles, a limit on the whole."""

from __future__ import annotations

import time

import pytest
import torch

from kinegraph.bench.timing import (
    Comparison,
    Spread,
    interleave,
    percentile,
    threads,
    timed,
)


def test_a_spread_is_the_median_and_the_quartiles():
    assert Spread.of([3.0, 1.0, 2.0, 5.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0)
    assert Spread(3.0, 2.0, 4.0).to_dict() == {"median": 3.0, "low": 2.0, "high": 4.0}


def test_the_ratio_is_of_each_round_by_itself():
    slow_second_round = Comparison((2.0, 20.0, 2.0), (1.0, 10.0, 1.0))
    assert slow_second_round.ratio == Spread(2.0, 2.0, 2.0)


def test_the_sides_take_turns_after_a_warm_up_that_is_not_timed():
    turns, told = [], []
    comparison = interleave(
        lambda n: turns.append(f"a{n}"),
        lambda n: turns.append(f"b{n}"),
        3,
        lambda done, total: told.append((done, total)),
    )
    assert turns == ["a0", "b0", "a0", "b0", "a1", "b1", "a2", "b2"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert len(comparison.baseline) == len(comparison.ours) == 3


def test_no_further_round_is_begun_when_the_time_is_up():
    comparison = interleave(lambda _: time.sleep(0.02), lambda _: None, 100, seconds=0.03)
    assert 1 <= len(comparison.ours) <= 2


def test_seconds_of_a_call():
    assert 0.01 <= timed(time.sleep, 0.01) < 5


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 51), (0.99, 100), (1.0, 100)])
def test_percentiles(share, value):
    assert percentile([float(v) for v in range(100, 0, -1)], share) == value


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), threads(before + 1) as count:
        assert count == torch.get_num_threads() == before + 1
        _ = 1 / 0
    assert torch.get_num_threads() == before
    with threads(None) as count:
        assert count == before
