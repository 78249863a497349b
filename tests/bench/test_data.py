"""Stores are compared with dense arrays: bytes, and crops that hold the same frames."""

from __future__ import annotations

import pytest

from kinegraph.bench import data
from kinegraph.bench.data import bench_bytes, bench_crops
from kinegraph.clips.store import ClipStore
from kinegraph.errors import BenchError


def test_bytes(made_up):
    result = bench_bytes(ClipStore(made_up))
    dense = 30 * 3 * 300 * 25 * 2 * 4
    assert [side.name for side in result.sides] == [
        "dense float32",
        "store float32",
        "store float16",
    ]
    assert result.sides[0].amount.median == dense / 1e6
    assert result.figures["ratio in float32"] == pytest.approx(
        dense / made_up.stat().st_size, rel=0.01
    )
    assert result.ratio.median > 1.7 * result.figures["ratio in float32"]
    assert 0 < result.figures["largest error"] < 0.01


def test_crops(made_up):
    result = bench_crops(ClipStore(made_up), rounds=2)
    assert result.figures["rounds"] == 2
    assert all(side.figures["crops/s"] > 0 for side in result.sides)


def test_crops_that_differ_are_not_timed(made_up, monkeypatch):
    crops = data.dense_crops
    monkeypatch.setattr(data, "dense_crops", lambda *given: crops(*given) + 1)
    with pytest.raises(BenchError, match="do not give the same frames"):
        bench_crops(ClipStore(made_up), rounds=1)


def test_clips_that_are_all_too_short(tiny_store):
    with pytest.raises(BenchError, match="expected clips of 64 frames or more, found none"):
        bench_crops(ClipStore(tiny_store))
