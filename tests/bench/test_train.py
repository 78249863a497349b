"""Benchmarks of training: steps from equal weights, and the demo."""

from __future__ import annotations

import pytest

from kinegraph.bench.result import BenchOptions
from kinegraph.bench.train import _check_losses, bench_demo, bench_recipe, bench_train
from kinegraph.errors import BenchError
from kinegraph.training.recipe import parse_recipe


@pytest.mark.parametrize(
    "name", ["stgcn", "shiftgcn", pytest.param("asgcn", marks=pytest.mark.slow)]
)
def test_a_step_of_both_sides(name):
    result = bench_train(name, BenchOptions(rounds=2), batch=2)
    assert result.figures["relative error of the first loss"] < 1e-4
    assert result.figures["step (ms)"] == pytest.approx(2 * result.sides[1].amount.median)
    assert result.ratio.median > 0


def test_mixed_precision_is_of_our_side():
    result = bench_train("stgcn", BenchOptions("bf16", rounds=1), batch=1)
    assert [side.name for side in result.sides] == ["reference fp32", "kinegraph bf16"]
    assert 0 < result.figures["relative error of the first loss"] < 5e-2


def test_sides_that_do_not_train_the_same_are_not_timed():
    with pytest.raises(BenchError, match=r"first losses .* differ: 4 and 4.1; nothing was timed"):
        _check_losses(4.0, 4.1, "fp32")


@pytest.mark.slow
def test_the_demo(tmp_path):
    small = ("model.channels=[8, 8]", "model.strides=[1, 2]")
    figures = bench_demo(tmp_path, epochs=2, overrides=small)
    assert figures["FPS"] > 0
    assert figures["step (ms)"] > 0
    assert 0 <= figures["top-1"] <= figures["top-5"] <= 1


def test_a_recipe_on_its_own_clips(tmp_path, tiny_recipe):
    tiny_recipe["train"]["epochs"] = 3
    figures = bench_recipe(parse_recipe(tiny_recipe, "tiny"), tmp_path)
    assert (figures["epochs"], figures["devices"], figures["clips an epoch"]) == (3, 1, 9)
    # three batches of nine clips
    assert figures["step (ms)"] == pytest.approx(1000 * 9 / figures["FPS"] / 3)
    assert 0 <= figures["share waiting for data"] < 1
    assert 0 <= figures["top-1"] <= figures["top-5"] <= 1


def test_only_the_last_stage_is_timed_and_poses_have_no_accuracy(tmp_path, tiny_recipe):
    tiny_recipe["model"] = {"name": "stgcn_autoencoder", "channels": [8], "strides": [1]}
    tiny_recipe["objective"] = {"name": "reconstruct"}
    stage = {"name": "first", "objective": {"name": "reconstruct"}, "train": {"epochs": 2}}
    tiny_recipe |= {"stages": [stage], "train": {"epochs": 1, "batch_size": 4}}
    figures = bench_recipe(parse_recipe(tiny_recipe, "tiny"), tmp_path)
    assert figures["epochs"] == 1
    assert "top-1" not in figures
