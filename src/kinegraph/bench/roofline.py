"""The two floors under each row of the table: operations, and bytes, at the best rates measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kinegraph.bench.baselines import FRAMES, PERSONS, baseline, dense_clips, released
from kinegraph.bench.count import Work, count
from kinegraph.bench.fixtures import skeleton_files
from kinegraph.bench.machine import PRECISIONS, roof
from kinegraph.bench.targets import ROWS, Given, Row
from kinegraph.clips.store import ClipStore

CROP = 64
JOINTS = 25
TRAINING = 3  # a backward pass takes two products where the forward pass takes one
MEGA, GIGA = 1e6, 1e9


@dataclass(frozen=True)
class Floor:
    """What one thing of a row takes at least on this machine.

    Attributes:
        row: its name.
        thing: what is done once.
        gflop: operations, in thousand millions.
        megabytes: that have to be moved.
        by_operations: milliseconds, at the measured peak of matrix products.
        by_bytes: milliseconds, at the measured bandwidth of a copy.
    """

    row: str
    thing: str
    gflop: float
    megabytes: float
    by_operations: float
    by_bytes: float


def floors(given: Given) -> list[Floor]:
    """Of every row, in its own precision; counted on the plain implementations."""
    return [_floor(row, given) for row in ROWS]


def _floor(row: Row, given: Given) -> Floor:
    if not row.model:
        thing, moved = _bytes_of(row, given)
        return _at_best(row, thing, 0.0, moved)
    work, thing, flops, reads = _work(row.model), "a clip", 1.0, 1.0
    if row.key == "real-bf16":
        share = float(np.median(ClipStore(given.store).frames)) / FRAMES / PERSONS
        thing, flops = "a median clip, 1 person", share
    elif row.key in ("frame", "persons"):
        thing, flops = "a frame, 1 person", 1 / FRAMES / PERSONS
    elif row.key.startswith("train"):
        thing, flops, reads = "a clip, both ways", TRAINING, TRAINING
    size = PRECISIONS[row.precision].itemsize
    return _at_best(row, thing, work.flops * flops, work.least * reads * size)


def _at_best(row: Row, thing: str, flops: float, moved: float) -> Floor:
    best = roof(PRECISIONS[row.precision])
    times = (1000 * flops / best.gemm, 1000 * moved / best.copy)
    return Floor(row.key, thing, flops / GIGA, moved / MEGA, *times)


@cache
def _work(model: str) -> Work:
    return count(baseline(released(model)).eval(), dense_clips())


def _bytes_of(row: Row, given: Given) -> tuple[str, float]:
    if row.key == "convert":
        return "a file read once", _mean_size(given.raw)
    if row.key == "bytes":
        store = ClipStore(given.store)
        numbers = float(np.mean(store.persons * store.frames)) * JOINTS * store.num_channels
        return "a clip in float16", 2 * numbers
    return "a crop, 1 person", 4.0 * CROP * JOINTS * 3


def _mean_size(raw: Path) -> float:
    return float(np.mean([path.stat().st_size for path in skeleton_files(raw)]))
