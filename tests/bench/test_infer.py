"""Recognition is compared: dense clips by every family, recorded ones at their lengths."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from kinegraph.bench import infer
from kinegraph.bench.backends import FORMATS
from kinegraph.bench.baselines import settled
from kinegraph.bench.infer import agreement, bench_infer, bench_real, evenly, padded_clip, real_clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import BenchError, UnknownNameError


@pytest.mark.parametrize("name", ["stgcn", "shiftgcn", "asgcn"])
def test_dense_clips(name):
    result = bench_infer(name, batch=2, rounds=2)
    assert [side.name for side in result.sides] == ["plain fp32", "kinegraph fp32"]
    assert result.ratio.median > 0
    assert result.figures["relative error"] < 1e-5
    assert result.figures["rounds"] == 2
    theirs, ours = (side.figures["share of peak GEMM"] for side in result.sides)
    assert ours / theirs == pytest.approx(
        result.sides[0].amount.median / result.sides[1].amount.median
    )


def test_bf16_is_told_with_its_error():
    result = bench_infer("stgcn", precision="bf16", rounds=1)
    assert 1e-5 < result.figures["relative error"] < 5e-2
    assert result.sides[1].name == "kinegraph bf16"


@pytest.mark.parametrize(
    "against", ["module", *(pytest.param(n, marks=pytest.mark.slow) for n in FORMATS)]
)
def test_other_opponents(against):
    result = bench_infer("shiftgcn", against=against, rounds=1)
    assert result.sides[0].name == f"{against} fp32"


def test_an_unknown_opponent():
    with pytest.raises(UnknownNameError, match=r"unknown opponent 'onyx' .did you mean 'onnx'"):
        bench_infer("stgcn", against="onyx")


def test_recorded_clips_at_their_real_lengths(made_up, monkeypatch):
    monkeypatch.setattr(infer, "FRAMES", 60)
    monkeypatch.setattr(infer, "settled", partial(settled, channels=[16, 16], strides=[1, 2]))
    result = bench_real("stgcn", ClipStore(made_up), rounds=1, clips=3)
    assert result.figures["top-1 agreement, padded"] == 1
    assert result.figures["relative error, padded"] < 1e-5
    assert result.sides[0].name == "plain fp32, padded"


def test_clips_from_the_shortest_to_the_longest(made_up):
    store = ClipStore(made_up)
    frames = [int(store.frames[i]) for i in evenly(store, 5)]
    assert frames == sorted(frames)
    assert (frames[0], frames[-1]) == (store.frames.min(), store.frames.max())
    assert len(evenly(store, 500)) == len(store)


def test_a_clip_is_padded_with_zeros(made_up, monkeypatch):
    monkeypatch.setattr(infer, "FRAMES", 300)
    x = real_clip(ClipStore(made_up), 0)
    padded = padded_clip(x)
    assert padded.shape == (1, 3, 300, 25, 2)
    assert torch.equal(padded[:, :, : x.shape[2], :, : x.shape[4]], x)
    assert not padded[:, :, x.shape[2] :].any()


def test_two_sides_that_differ_are_not_timed():
    expected = torch.tensor([[1.0, -4.0]])
    assert agreement(expected, expected + 1e-5, "fp32") < 1e-5
    with pytest.raises(BenchError, match=r"differ by 0.2 of the largest, at most 1e-05 .* fp32"):
        agreement(expected, expected - 1, "fp32")
    with pytest.raises(BenchError, match="differ by nan"):
        agreement(expected, expected * torch.nan, "bf16")
