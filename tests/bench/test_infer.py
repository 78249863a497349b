"""Benchmarks of recognition: dense clips of every family, recorded clips at their own lengths."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from kinegraph.bench import baselines
from kinegraph.bench.baselines import create_warmed_up_model
from kinegraph.bench.infer import (
    EXPORT_FORMATS,
    bench_infer,
    bench_recorded,
    check_agreement,
    load_clip,
    pad_clip,
    select_evenly,
)
from kinegraph.bench.result import BenchOptions
from kinegraph.clips.store import ClipStore
from kinegraph.errors import BenchError, UnknownNameError


@pytest.mark.parametrize("name", ["stgcn", "shiftgcn", "asgcn"])
def test_dense_clips(name):
    result = bench_infer(name, BenchOptions(rounds=2), batch=2)
    assert [side.name for side in result.sides] == ["reference fp32", "kinegraph fp32"]
    assert result.ratio.median > 0
    assert result.figures["relative error"] < 1e-5
    assert result.figures["rounds"] == 2
    theirs, ours = (side.figures["share of peak GEMM"] for side in result.sides)
    assert ours / theirs == pytest.approx(
        result.sides[0].amount.median / result.sides[1].amount.median
    )


def test_bf16_has_a_larger_error():
    result = bench_infer("stgcn", BenchOptions("bf16", rounds=1))
    assert 1e-5 < result.figures["relative error"] < 5e-2
    assert result.sides[1].name == "kinegraph bf16"


@pytest.mark.parametrize(
    "against", ["module", *(pytest.param(n, marks=pytest.mark.slow) for n in EXPORT_FORMATS)]
)
def test_other_backends(against):
    result = bench_infer("shiftgcn", BenchOptions(rounds=1), against=against)
    assert result.sides[0].name == f"{against} fp32"


def test_an_unknown_backend():
    with pytest.raises(UnknownNameError, match=r"unknown backend 'onyx' .did you mean 'onnx'"):
        bench_infer("stgcn", against="onyx")


def test_recorded_clips_at_their_own_lengths(synthetic_store, monkeypatch):
    monkeypatch.setattr(baselines, "CLIP_FRAMES", 60)
    monkeypatch.setattr(
        baselines,
        "create_warmed_up_model",
        partial(create_warmed_up_model, channels=[16, 16], strides=[1, 2]),
    )
    result = bench_recorded("stgcn", ClipStore(synthetic_store), BenchOptions(rounds=1), clips=3)
    assert result.figures["top-1 agreement, padded"] == 1
    assert result.figures["relative error, padded"] < 1e-5
    assert result.sides[0].name == "reference fp32, padded"


def test_clips_from_the_shortest_to_the_longest(synthetic_store):
    store = ClipStore(synthetic_store)
    frames = [int(store.frames[i]) for i in select_evenly(store, 5)]
    assert frames == sorted(frames)
    assert (frames[0], frames[-1]) == (store.frames.min(), store.frames.max())
    assert len(select_evenly(store, 500)) == len(store)


def test_a_clip_is_padded_with_zeros(synthetic_store, monkeypatch):
    monkeypatch.setattr(baselines, "CLIP_FRAMES", 300)
    x = load_clip(ClipStore(synthetic_store), 0)
    padded = pad_clip(x)
    assert padded.shape == (1, 3, 300, 25, 2)
    assert torch.equal(padded[:, :, : x.shape[2], :, : x.shape[4]], x)
    assert not padded[:, :, x.shape[2] :].any()


def test_two_sides_that_differ_are_not_timed():
    expected = torch.tensor([[1.0, -4.0]])
    assert check_agreement(expected, expected + 1e-5, "fp32") < 1e-5
    with pytest.raises(BenchError, match=r"differ by 0.2 of the largest, at most 1e-05 .* fp32"):
        check_agreement(expected, expected - 1, "fp32")
    with pytest.raises(BenchError, match="differ by nan"):
        check_agreement(expected, expected * torch.nan, "bf16")
