"""Roofline model: lower bounds of the time of each target by operations and by bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from kinegraph.bench import baselines
from kinegraph.bench.baselines import CLIP_FRAMES, CLIP_PERSONS
from kinegraph.bench.count import NetworkCost, count_cost
from kinegraph.bench.data import CROP_FRAMES
from kinegraph.bench.fixtures import find_skeleton_files
from kinegraph.bench.machine import PRECISIONS, measure_peak_rates
from kinegraph.bench.targets import TARGETS, BenchInputs, Target
from kinegraph.clips.store import ClipStore
from kinegraph.readers.ntu.skeleton_file import NUM_JOINTS

TRAINING_PRODUCTS = 3  # a backward pass takes two products where the forward pass takes one


@dataclass(frozen=True)
class LowerBound:
    """The least time that one item of a target takes on this machine.

    Attributes:
        target: its key.
        item: what is processed once.
        gflop: billions of floating-point operations.
        megabytes: that are moved.
        operations_ms: at the measured peak of matrix products.
        bytes_ms: at the measured bandwidth of a copy.
    """

    target: str
    item: str
    gflop: float
    megabytes: float
    operations_ms: float
    bytes_ms: float


def compute_lower_bounds(inputs: BenchInputs) -> list[LowerBound]:
    """Compute the bounds of every target in its own precision, counted on reference networks."""
    return [_compute_bound(target, inputs) for target in TARGETS]


def _compute_bound(target: Target, inputs: BenchInputs) -> LowerBound:
    if target.model:
        item, flops, moved = _network_work(target, inputs)
    else:
        flops, (item, moved) = 0.0, _data_work(target, inputs)
    peak = measure_peak_rates(PRECISIONS[target.precision])
    times = (1000 * flops / peak.gemm, 1000 * moved / peak.copy)
    return LowerBound(target.key, item, flops / 1e9, moved / 1e6, *times)


def _network_work(target: Target, inputs: BenchInputs) -> tuple[str, float, float]:
    cost, item, flops, reads = _count_model(target.model), "a clip", 1.0, 1.0
    if target.key == "real-bf16":
        share = float(np.median(ClipStore(inputs.store).frames)) / CLIP_FRAMES / CLIP_PERSONS
        item, flops = "a median clip, 1 person", share
    elif target.key in ("frame", "persons"):
        item, flops = "a frame, 1 person", 1 / CLIP_FRAMES / CLIP_PERSONS
    elif target.key.startswith("train"):
        item, flops, reads = "a clip, forward and backward", TRAINING_PRODUCTS, TRAINING_PRODUCTS
    size = PRECISIONS[target.precision].itemsize
    return item, cost.flops * flops, cost.min_values * reads * size


@cache
def _count_model(model: str) -> NetworkCost:
    released = baselines.create_released_model(model)
    network = baselines.create_reference(released).eval()
    return count_cost(network, baselines.random_clips_for(model, released))


def _data_work(target: Target, inputs: BenchInputs) -> tuple[str, float]:
    if target.key == "convert":
        sizes = [path.stat().st_size for path in find_skeleton_files(inputs.raw)]
        return "a file read once", float(np.mean(sizes))
    if target.key == "bytes":
        store = ClipStore(inputs.store)
        values = float(np.mean(store.persons * store.frames)) * NUM_JOINTS * store.num_channels
        return "a clip in float16", 2 * values
    return "a crop, 1 person", 4.0 * CROP_FRAMES * NUM_JOINTS * 3
