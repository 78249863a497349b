"""Stages, starting weights, frozen backbones: what goes from one training into the next."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.inference.pose_errors import PoseScorer
from kinegraph.training.checkpoint import (
    LAST_FILE,
    find_checkpoint,
    load_header,
    training_seconds,
)
from kinegraph.training.history import read_history
from kinegraph.training.recipe import Recipe, parse_recipe
from kinegraph.training.train import train


def recipe(store, model: dict, **changes) -> Recipe:
    """A recipe that trains a small model on the tiny store for two epochs."""
    data = {
        "name": "tiny",
        "store": str(store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 12}}, "stream"],
        "model": {"channels": [8, 8], "strides": [1, 2], **model},
        "train": {"epochs": 2, "batch_size": 4, "optimizer": "adamw", "lr": 0.01},
        "validation": {"fraction": 0.25},
        **changes,
    }
    return parse_recipe(data, "tiny")


def asgcn(store, **changes) -> Recipe:
    """Link inference, then recognition with future poses."""
    return recipe(
        store,
        {"name": "asgcn", "link_frames": 6, "future": 3, "max_hop": 2},
        stages=[{"name": "links", "objective": {"name": "links"}, "train": {"epochs": 1}}],
        objective={"name": "recognition", "future_weight": 0.01},
        **changes,
    )


def forecaster(store, **changes) -> Recipe:
    """An auto-encoder that predicts."""
    return recipe(
        store,
        {"name": "stgcn_autoencoder", "future": 3},
        **{"objective": {"name": "predict_future"}, **changes},
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory, tiny_store):
    """An AS-GCN run."""
    settings = asgcn(tiny_store)
    return settings, train(settings, tmp_path_factory.mktemp("runs") / "asgcn")


@pytest.fixture(scope="module")
def foretold(tmp_path_factory, tiny_store):
    """A run that was trained to predict poses."""
    return train(forecaster(tiny_store), tmp_path_factory.mktemp("runs") / "forecast")


def links_of(folder) -> dict:
    """The link inference of a run."""
    state = load_file(folder / LAST_FILE)
    return {key: value for key, value in state.items() if key.startswith("links.")}


def test_one_command_trains_links_and_then_recognition(staged):
    _, run = staged
    first, second = read_history(run / "links"), read_history(run)
    assert {"train_nll", "train_kl", "val_nll"} <= first[0].keys()
    assert {"train_accuracy", "train_mpjpe", "val_baseline_mpjpe"} <= second[0].keys()
    assert (len(first), len(second)) == (1, 2)
    assert load_header(run / "links" / LAST_FILE).objective["name"] == "links"


def test_the_second_stage_starts_from_the_links_of_the_first_and_keeps_them(staged):
    _, run = staged
    before, after = links_of(run / "links"), links_of(run)
    assert before
    assert all(torch.equal(before[key], after[key]) for key in before)


class _StopError(Exception):
    pass


@pytest.mark.parametrize("stop_in", ["links", "recognition"])
def test_a_staged_run_resumes_where_it_broke_off(staged, tmp_path, stop_in):
    from kinegraph.training.callbacks import ProgressBar

    class Breaks(ProgressBar):
        def on_train_epoch_end(self, trainer, module):
            super().on_train_epoch_end(trainer, module)
            in_links = "train_nll" in trainer.callback_metrics
            if in_links == (stop_in == "links") and trainer.current_epoch == 0:
                raise _StopError

    settings, run = staged
    with pytest.raises(_StopError):
        train(settings, tmp_path / "broken", progress=Breaks())
    train(settings, tmp_path / "broken", resume=True)
    whole, resumed = load_file(run / LAST_FILE), load_file(tmp_path / "broken" / LAST_FILE)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_errors_in_a_stage_are_reported_with_its_name(tiny_store):
    stage = {"name": "links", "objective": {"name": "links"}, "train": {"epoch": 1}}
    with pytest.raises(RecipeError, match=r"stage 'links': unknown key 'train\.epoch'"):
        recipe(tiny_store, {"name": "asgcn"}, stages=[stage])
    with pytest.raises(RecipeError, match="needs a model with the method `link_loss`"):
        recipe(tiny_store, {"name": "stgcn"}, objective={"name": "links"})


def test_train_keys_that_do_not_go_with_a_stage_are_refused(tiny_store):
    def error_of(*stages: dict, model: str = "asgcn", **changes) -> str:
        with pytest.raises(RecipeError) as error:
            recipe(tiny_store, {"name": model}, stages=list(stages), **changes)
        return str(error.value)

    links = {"name": "links", "objective": {"name": "links"}}
    assert "stage 'links': another folder" in error_of(links, links)
    assert "stage 'tensorboard': another folder" in error_of({**links, "name": "tensorboard"})
    patient = {**links, "train": {"early_stop": 2}}
    whole = {"validation": {"fraction": 0}}
    assert "stage 'links': 'train.early_stop' needs" in error_of(patient, **whole)
    frozen = {**links, "train": {"freeze_backbone": True}}
    assert "objective 'links' does not use it" in error_of(frozen)


def test_a_run_that_stopped_early_stays_stopped_when_resumed(tiny_store, tmp_path):
    settings = forecaster(tiny_store)
    settings.train.epochs, settings.train.early_stop, settings.train.lr = 9, 1, 1e-12
    settings.train.weight_decay = 0
    run = train(settings, tmp_path / "run")
    history, weights = read_history(run), load_file(run / LAST_FILE)
    assert len(history) < 9
    train(settings, run, resume=True)
    assert read_history(run) == history
    assert all(
        torch.equal(weights[key], value) for key, value in load_file(run / LAST_FILE).items()
    )


def test_a_run_resumes_without_the_run_that_it_began_from(foretold, tiny_store, tmp_path):
    start = shutil.copytree(foretold, tmp_path / "start")
    settings = recipe(tiny_store, {"name": "stgcn"}, init_from=str(start))
    run = train(settings, tmp_path / "run")
    shutil.rmtree(start)
    assert train(settings, run, resume=True) == run


def test_a_recogniser_starts_from_the_encoder_that_learnt_poses(foretold, tiny_store, tmp_path):
    settings = recipe(tiny_store, {"name": "stgcn"}, init_from=str(foretold))
    settings.train.lr = 1e-12
    settings.train.weight_decay = 0
    run = train(settings, tmp_path / "tuned")
    source, weights = load_file(find_checkpoint(foretold)), load_file(run / LAST_FILE)
    key = "blocks.1.tcn.weight"
    torch.testing.assert_close(weights[key], source[f"encoder.{key}"])


def test_a_recognizer_starts_from_an_encoder_of_another_layout(tiny_store, tmp_path, capsys):
    """Trained without labels on clips of penn13, then on those of jhmdb15."""
    steps = [{"layout": {"to": "penn13"}}, {"jitter": {"std": 0.01}}, {"resize": {"frames": 12}}]
    without = {"objective": {"name": "contrast"}, "transforms": [*steps, "stream"]}
    start = train(recipe(tiny_store, {"name": "stgcn"}, **without), tmp_path / "start")
    assert {"train_found", "val_found"} <= read_history(start)[0].keys()
    run = train(recipe(tiny_store, {"name": "stgcn"}, init_from=str(start)), tmp_path / "run")
    assert load_header(find_checkpoint(run)).layout["name"] == "jhmdb15"
    told = capsys.readouterr().err
    assert f"weights of {start}, copied: " in told
    assert "mapped by joints and channels: " in told
    assert "not taken: 0 tensors" in told  # the classes are the same


def test_a_frozen_backbone_stays_as_it_is_and_the_head_learns(foretold, tiny_store, tmp_path):
    settings = recipe(tiny_store, {"name": "stgcn"}, init_from=str(foretold))
    settings.train.freeze_backbone = True
    weights = load_file(train(settings, tmp_path / "probe") / LAST_FILE)
    source = load_file(find_checkpoint(foretold))
    for key, value in weights.items():
        same = torch.equal(value, source[f"encoder.{key}"])
        assert same != key.startswith("head."), key


def test_weights_that_do_not_fit_are_no_start(foretold, tiny_run, tiny_store, tmp_path):
    wide = recipe(tiny_store, {"name": "stgcn", "channels": [8, 16]}, init_from=str(foretold))
    with pytest.raises(CheckpointError, match=r"cannot initialize .* the first: 'blocks"):
        train(wide, tmp_path / "run")
    agcn = recipe(tiny_store, {"name": "stgcn", "strategy": "agcn"}, init_from=str(foretold))
    with pytest.raises(CheckpointError, match=r"the first: 'blocks\.0\.gcn\.A'"):
        train(agcn, tmp_path / "run")
    absent = recipe(tiny_store, {"name": "stgcn"}, init_from=str(tmp_path / "absent"))
    with pytest.raises(CheckpointError, match="does not exist"):
        train(absent, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_poses_are_learnt_without_labels(tiny_store, tmp_path):
    from conftest import made_up_clips
    from kinegraph.clips.clip import Clip
    from kinegraph.clips.writer import StoreWriter

    path = tmp_path / "nameless.arrow"
    clips = made_up_clips()
    with StoreWriter(path, clips[0].layout, None, {}) as writer:
        for clip in clips:
            writer.write(Clip(clip.joints, clip.layout, id=clip.id, meta=clip.meta))
    objective = {"name": "denoise"}
    run = train(forecaster(path, objective=objective), tmp_path / "run")
    errors = PoseScorer.load(run).score(clips[:3])
    assert errors.ids == ("clip000", "clip001", "clip002")
    assert (errors.error > 0).all()


def test_stages_are_changed_by_their_name(tmp_path, tiny_store):
    import yaml

    from kinegraph.training.recipe import load_recipe

    file = tmp_path / "asgcn.yaml"
    file.write_text(yaml.safe_dump(asgcn(tiny_store).model_dump()))
    changed = load_recipe(file, ["stages.links.train.epochs=7", "train.epochs=3"])
    assert changed.stage(0).train.epochs == 7
    assert changed.train.epochs == 3
    with pytest.raises(RecipeError, match="no 'link' in the list; known: links"):
        load_recipe(file, ["stages.link.train.epochs=7"])
    with pytest.raises(RecipeError, match=r"expected stages\.NAME\.KEY"):
        load_recipe(file, ["stages.links=7"])


def test_what_cannot_work_is_found_before_a_folder_is_made(tmp_path, tiny_store):
    from kinegraph.errors import ModelError

    settings = forecaster(tiny_store)
    settings.model = settings.model.model_copy(update={"future": 0})
    with pytest.raises(ModelError, match=r"model\.future=10"):
        train(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_training_time_is_that_of_all_stages(staged):
    _, run = staged
    parts = [load_header(folder / LAST_FILE).training["seconds"] for folder in (run, run / "links")]
    assert training_seconds(run) == pytest.approx(sum(parts))
