"""The capacity of the server follows the machine and the latency."""

from __future__ import annotations

import math
import time

import pytest

from inference.test_streaming_backends import recognizer
from kinegraph.server.admission import (
    UPDATE_INTERVAL_S,
    AdmissionController,
    CostModel,
    Usage,
    measure_cost,
)
from kinegraph.server.limits import Limits
from server.serving import running

COST = CostModel(per_batch_s=0.001, per_person_s=0.0004)
FREE = int(COST.capacity(30.0))
IDLE = [Usage(0, 0, 0.0)]


def load(persons: int, slowdown: float) -> list[Usage]:
    """Return the usage of one worker in an interval with so many persons."""
    frames = int(persons * 30 * UPDATE_INTERVAL_S)
    usage = Usage(int(90 * UPDATE_INTERVAL_S), frames, 0.0)
    return [usage._replace(busy_seconds=slowdown * COST.seconds(usage))]


def run(one: AdmissionController, seconds: float, persons: int, latency: float, usage: list) -> int:
    """Update a controller for so many seconds and return its capacity."""
    for _ in range(math.ceil(seconds / UPDATE_INTERVAL_S)):
        one.update(1, persons, latency, usage)
    return one.capacity(1)


def test_the_capacity_rises_after_a_start_on_a_busy_machine():
    one = AdmissionController(COST, 8.0, Limits())
    assert one.capacity(1) <= FREE / 8
    in_use = AdmissionController(COST, 8.0, Limits())
    assert run(in_use, 20, 2, 0.005, load(2, 1.0)) >= 0.9 * FREE  # with two persons on it
    assert run(one, 120, 0, 0.0, IDLE) >= 0.9 * FREE  # and without any


def test_the_capacity_falls_when_other_processes_run_and_rises_after_them():
    one = AdmissionController(COST, 1.0, Limits())
    assert one.capacity(1) == FREE
    assert run(one, 20, 5, 0.0, load(5, 4.0)) < FREE / 3
    assert run(one, 20, 5, 0.0, load(5, 1.0)) >= 0.9 * FREE


def test_nobody_is_admitted_while_the_latency_is_too_high():
    one = AdmissionController(COST, 1.0, Limits(latency_target=0.033))
    assert run(one, UPDATE_INTERVAL_S, FREE - 2, 0.030, load(FREE - 2, 1.0)) <= FREE - 2
    low = run(one, 60, FREE - 2, 0.030, load(FREE - 2, 1.0))
    assert low == pytest.approx(FREE / 2, abs=1)  # the persons that stream now may be few
    assert run(one, 120, FREE // 2, 0.010, load(FREE // 2, 1.0)) == FREE


def test_a_full_server_that_answers_quickly_takes_more():
    one = AdmissionController(COST, 1.0, Limits())
    assert run(one, 20, FREE // 2, 0.005, load(FREE // 2, 1.0)) == FREE  # not full
    assert FREE < run(one, 20, FREE, 0.005, load(FREE, 1.0)) <= 1.5 * FREE + 1
    assert run(one, 600, 10 * FREE, 0.005, load(FREE, 1.0)) <= 1.5 * FREE + 1


def test_a_fixed_number_of_persons_is_not_exceeded():
    one = AdmissionController(COST, 20.0, Limits(max_persons=7))
    assert one.capacity(1) == one.capacity(2) == 7 and one.capacity(0) == 0
    assert run(one, 60, 7, 0.005, load(7, 1.0)) == 7


def test_the_capacity_grows_with_the_workers():
    one = AdmissionController(COST, 1.0, Limits())
    assert one.capacity(2) == pytest.approx(2 * FREE, abs=1)


def test_the_cost_is_measured_in_cpu_time():
    """A machine that does other things gives the same cost, and a slowdown."""
    cost, slowdown = measure_cost(recognizer([]))
    assert 0 < cost.per_person_s < 0.1 and cost.per_batch_s >= 0
    assert slowdown > 0.9
    assert cost.capacity(30.0, 10.0) < cost.capacity(30.0)


def test_the_server_adapts_in_use():
    """The loop runs: a server that was measured as slow takes more without any client."""
    with running(max_persons=None) as one:
        one.service._admission.slowdown = before = 40.0
        until = time.monotonic() + 60
        while one.service._admission.slowdown > 0.95 * before and time.monotonic() < until:
            time.sleep(0.05)
        assert one.service._admission.slowdown <= 0.95 * before
        assert one.service.capacity >= 1
