"""Several processes: who works on what, how figures become one, and what a step of two computes."""

from __future__ import annotations

import itertools

import pytest
import torch
from safetensors.torch import load_file

import killed_training
from kinegraph.clips.store import ClipStore
from kinegraph.errors import RecipeError, TrainingError
from kinegraph.training.checkpoint import LAST_FILE
from kinegraph.training.data import EpochSampler
from kinegraph.training.distributed import (
    MeanMetrics,
    ProcessLayout,
    is_rank_zero,
    resolve_processes,
)
from kinegraph.training.history import read_history
from kinegraph.training.recipe import TrainConfig, parse_recipe
from kinegraph.training.train import train


def shares(length: int, size: int, processes: int, seed: int | None) -> list[list[int]]:
    """The positions that each process is given in epoch 1."""
    given = []
    for number in range(processes):
        sampler = EpochSampler(
            length, seed=seed, batch_size=size, rank=number, world_size=processes
        )
        sampler.set_epoch(1)
        positions = [position for _, position in sampler]
        assert len(positions) == len(sampler)
        given.append(positions)
    return given


def test_a_step_of_two_processes_is_two_batches_of_one():
    (alone,) = shares(12, 3, 1, seed=5)
    one, two = shares(12, 3, 2, seed=5)
    assert one[:3] + two[:3] + one[3:] + two[3:] == alone
    assert sorted(alone) == list(range(12))


def test_all_draws_of_a_clip_are_in_one_process():
    for rank in range(2):
        sampler = EpochSampler(20, seed=5, batch_size=3, rank=rank, world_size=2, draws=2)
        positions = [position for _, position in sampler]
        assert len(positions) == len(sampler) == 10
        assert positions[1::2] == [position + 1 for position in positions[::2]]
        assert not any(position % 2 for position in positions[::2])


def test_training_shares_are_even_and_held_out_clips_are_seen_once():
    trained = shares(11, 2, 4, seed=5)
    assert {len(share) for share in trained} == {3}
    assert set(itertools.chain(*trained)) == set(range(11))
    held_out = shares(11, 2, 4, seed=None)
    assert sorted(itertools.chain(*held_out)) == list(range(11))
    assert all(held_out)


def test_means_are_over_clips_and_start_afresh():
    means = MeanMetrics()
    means.add("loss", torch.tensor(4.0), 2)
    means.add("loss", torch.tensor(2.0), 1)
    assert means.compute_and_reset() == {"loss": 2.0}
    assert means.compute_and_reset() == {}


def started(monkeypatch, **places: int) -> None:
    """As if torchrun had started this process."""
    for key, value in places.items():
        monkeypatch.setenv(key, str(value))


def test_the_process_layout_is_what_the_recipe_and_torchrun_agree_on(monkeypatch):
    monkeypatch.setattr("kinegraph.training.distributed.device_count", lambda: None)
    assert is_rank_zero()
    assert resolve_processes(TrainConfig(devices=3)) == ProcessLayout(3, 1)
    assert resolve_processes(TrainConfig(devices="auto")) == ProcessLayout(1, 1)
    with pytest.raises(RecipeError, match=r"a start on every node, such as: torchrun --nnodes 2"):
        resolve_processes(TrainConfig(devices=8, nodes=2))
    started(monkeypatch, RANK=5, WORLD_SIZE=6, LOCAL_WORLD_SIZE=3)
    assert not is_rank_zero()
    assert resolve_processes(TrainConfig(devices="auto", nodes=2)) == ProcessLayout(3, 2)
    with pytest.raises(RecipeError, match=r"set train\.devices=3 train\.nodes=2"):
        resolve_processes(TrainConfig())


def test_no_more_devices_than_there_are(monkeypatch):
    monkeypatch.setattr("kinegraph.training.distributed.device_count", lambda: 2)
    monkeypatch.setattr("kinegraph.training.distributed.device_name", lambda: "A100")
    assert resolve_processes(TrainConfig(devices="auto")).world_size == 2
    with pytest.raises(RecipeError, match=r"train\.devices=4, but this machine has 2 \(A100\)"):
        resolve_processes(TrainConfig(devices=4))


def test_devices_may_be_chosen_by_their_ids(monkeypatch):
    monkeypatch.setattr("kinegraph.training.distributed.device_count", lambda: 3)
    monkeypatch.setattr("kinegraph.training.distributed.device_name", lambda: "A100")
    assert resolve_processes(TrainConfig(devices=[0, 2])) == ProcessLayout(2, 1)
    with pytest.raises(RecipeError, match=r"devices=\[1, 3\], but .* are 0, 1, 2 \(A100\)$"):
        resolve_processes(TrainConfig(devices=[1, 3]))
    started(monkeypatch, RANK=0, WORLD_SIZE=3, LOCAL_WORLD_SIZE=3)
    with pytest.raises(RecipeError, match=r"torchrun started 3 processes .* set train\.devices=3"):
        resolve_processes(TrainConfig(devices=[0, 2]))
    monkeypatch.setattr("kinegraph.training.distributed.device_count", lambda: None)
    with pytest.raises(RecipeError, match=r"devices=\[0\] names accelerators, but .* has none"):
        resolve_processes(TrainConfig(devices=[0]))


def test_the_trainer_is_given_the_ids_of_the_devices(monkeypatch, tiny_recipe, tmp_path):
    given = {}

    class StopError(Exception):
        pass

    def trainer(**options):
        given.update(options)
        raise StopError

    monkeypatch.setattr("kinegraph.training.train.Trainer", trainer)
    monkeypatch.setattr("kinegraph.training.distributed.device_count", lambda: 3)
    tiny_recipe["train"]["devices"] = [2]
    with pytest.raises(StopError):
        train(parse_recipe(tiny_recipe, "tiny"), tmp_path / "run")
    assert given["devices"] == [2]


def test_devices_are_a_number_or_auto_and_those_of_the_whole_run(tiny_recipe):
    tiny_recipe["train"]["devices"] = 0
    with pytest.raises(RecipeError, match=r"expected a number above 0, a list .*, or auto, got 0"):
        parse_recipe(tiny_recipe, "tiny")
    for wrong in ([], [0, 0], [-1], ["a"], [True]):
        tiny_recipe["train"]["devices"] = wrong
        with pytest.raises(RecipeError, match="a list of different device ids"):
            parse_recipe(tiny_recipe, "tiny")
    tiny_recipe["train"]["devices"] = 2
    stage = {"name": "first", "objective": {"name": "recognition"}, "train": {"nodes": 2}}
    with pytest.raises(RecipeError, match=r"stage 'first': 'train\.nodes' applies to the"):
        parse_recipe(tiny_recipe | {"stages": [stage]}, "tiny")


def recipe(store, model: dict, **settings) -> dict:
    """12 training clips: with batches of 3, two processes have two even steps an epoch."""
    return {
        "name": "shared",
        "store": str(store),
        "protocol": "odd-even-subjects",
        "transforms": [{"jitter": {"std": 0.01}}, {"resize": {"frames": 12}}, "stream"],
        "model": {"channels": [8, 8], "strides": [1, 2], "dropout": 0.1, **model},
        "train": {"epochs": 3, "batch_size": 3, "lr": 0.05, "threads": 1, **settings},
        "validation": {"fraction": 0},
    }


ASGCN = {"name": "asgcn", "link_frames": 6, "future": 3, "max_hop": 2}
LINKS = {"name": "links", "objective": {"name": "links"}, "train": {"epochs": 1, "lr": 1e-6}}
STAGED = {"stages": [LINKS], "objective": {"name": "recognition", "future_weight": 0.01}}


# AS-GCN infers links by running statistics, which two processes average and one takes in turn
@pytest.mark.parametrize(
    ("model", "further", "close"),
    [
        pytest.param({"name": "stgcn"}, {}, 1e-4, id="stgcn"),
        pytest.param(ASGCN, STAGED, 5e-3, id="asgcn"),
    ],
)
@pytest.mark.slow
def test_two_processes_learn_what_one_does_in_two_batches_a_step(
    tiny_store, tmp_path, model, further, close
):
    settings = recipe(tiny_store, model, devices=2, workers=1) | further
    assert killed_training.run(settings, tmp_path / "two") == 0
    settings = recipe(tiny_store, model, accumulate=2) | further
    assert killed_training.run(settings, tmp_path / "one") == 0
    for folder in (".", *(stage["name"] for stage in further.get("stages", ()))):
        two, one = tmp_path / "two" / folder, tmp_path / "one" / folder
        losses = [[row["train_loss"] for row in read_history(run)] for run in (two, one)]
        assert losses[0] == pytest.approx(losses[1], rel=close)
        assert losses[0][-1] < losses[0][0] or len(losses[0]) == 1
        state, expected = load_file(two / LAST_FILE), load_file(one / LAST_FILE)
        for key in (key for key in state if "running" not in key and "num_batches" not in key):
            torch.testing.assert_close(state[key], expected[key], rtol=close, atol=close)


@pytest.mark.slow
def test_a_training_of_three_processes_resumes_to_the_same_bits(tiny_store, tmp_path):
    settings = recipe(tiny_store, {"name": "stgcn"}, devices=3, batch_size=2)
    assert killed_training.run(settings, tmp_path / "whole") == 0
    assert killed_training.run(settings, tmp_path / "run", kill_at=30) < 0
    assert killed_training.run(settings, tmp_path / "run", resume=True) == 0
    whole, run = (load_file(tmp_path / name / LAST_FILE) for name in ("whole", "run"))
    assert all(torch.equal(whole[key], value) for key, value in run.items())


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised_in_rank_zero(tiny_store, tmp_path, monkeypatch):
    """The store is gone once the first process has opened it."""
    from kinegraph.training import train as training

    path = tmp_path / "store.arrow"
    path.write_bytes(tiny_store.read_bytes())
    opened = ClipStore(path)
    path.unlink()
    monkeypatch.setattr(training, "ClipStore", lambda _: opened)
    settings = parse_recipe(recipe(path, {"name": "stgcn"}, devices=2), "shared")
    with pytest.raises(TrainingError, match="there is no clip store"):
        train(settings, tmp_path / "run")


def test_processes_without_clips_are_refused(tiny_store, tmp_path, monkeypatch):
    from kinegraph.training.data import split_training_clips
    from kinegraph.training.train import _check_enough_clips

    settings = parse_recipe(recipe(tiny_store, {"name": "stgcn"}), "shared")
    settings.validation.fraction = 0.25
    splits = split_training_clips(settings, ClipStore(tiny_store))
    _check_enough_clips(splits, ProcessLayout(3, 1))
    with pytest.raises(RecipeError, match="4 processes cannot share 9 training and 3 held-out"):
        _check_enough_clips(splits, ProcessLayout(4, 1))
