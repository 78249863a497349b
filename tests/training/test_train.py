"""Training end to end on a tiny store: what a run holds, determinism, resuming."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from lightning.pytorch import Callback
from safetensors.torch import load_file

from conftest import made_up_clips
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import CheckpointError, RecipeError, TrainingError
from kinegraph.inference.evaluate import evaluate_run
from kinegraph.training.checkpoint import (
    BEST_FILE,
    LAST_FILE,
    find_checkpoint,
    load_header,
    load_model,
)
from kinegraph.training.history import read_history
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train


def weights(run) -> dict:
    """All tensors of the last checkpoint."""
    return load_file(run / LAST_FILE)


def equal(one: dict, two: dict) -> bool:
    """Bit for bit."""
    return one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_store):
    """A run of the tiny recipe with averaged weights."""
    recipe = parse_recipe(_recipe(tiny_store), "tiny")
    return recipe, train(recipe, tmp_path_factory.mktemp("runs") / "tiny")


def _recipe(store) -> dict:
    return {
        "name": "tiny",
        "store": str(store),
        "protocol": "odd-even-subjects",
        "transforms": [{"jitter": {"std": 0.01}}, {"resize": {"frames": 8}}, "stream"],
        "model": {"channels": [8, 8], "strides": [1, 2], "dropout": 0.1},
        "train": {"epochs": 5, "batch_size": 4, "lr": 0.05, "ema": 0.9},
        "validation": {"fraction": 0.25},
    }


def test_a_run_holds_what_it_promises(trained):
    _, run = trained
    names = {path.name for path in run.iterdir()}
    assert {
        "recipe.yaml",
        "environment.json",
        "history.csv",
        BEST_FILE,
        LAST_FILE,
        "resume.ckpt",
    } <= names
    assert not [name for name in names if name.endswith(".partial")]
    history = read_history(run)
    assert [row["epoch"] for row in history] == [0, 1, 2, 3, 4]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    header = load_header(run / LAST_FILE)
    assert header.classes == ["here", "there", "away"]
    assert header.training["epoch"] == 4
    best = min(reversed(history), key=lambda row: row["val_loss"])
    assert load_header(run / BEST_FILE).training["epoch"] == best["epoch"]


def test_the_same_recipe_gives_the_same_weights_with_workers(trained, tmp_path):
    recipe, run = trained
    again = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": 2})})
    assert equal(weights(train(again, tmp_path / "again")), weights(run))


def test_sigterm_keeps_its_handler_in_the_training(trained, tmp_path):
    class Handler(Callback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            found.append(signal.getsignal(signal.SIGTERM))

    recipe, _ = trained
    short = recipe.model_copy(update={"train": recipe.train.model_copy(update={"epochs": 1})})
    found: list = []
    train(short, tmp_path / "short", progress=Handler())
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_another_seed_gives_other_weights(trained, tmp_path):
    recipe, run = trained
    other = train(recipe.model_copy(update={"seed": 1}), tmp_path / "other")
    assert not equal(weights(other), weights(run))


def test_the_test_split_is_evaluated_every_few_epochs_and_changes_nothing(trained, tmp_path):
    recipe, usual = trained
    settings = recipe.train.model_copy(update={"evaluate_every": 2})
    run = train(recipe.model_copy(update={"train": settings}), tmp_path / "run")
    assert equal(weights(run), weights(usual))
    rows = read_history(run)
    assert [row["epoch"] for row in rows if "test_loss" in row] == [1, 3, 4]
    scores, result = evaluate_run(run / LAST_FILE)
    assert rows[-1]["test_accuracy"] == pytest.approx(result.top1)
    losses = -np.log(scores.probabilities[np.arange(len(scores.ids)), scores.labels])
    assert rows[-1]["test_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    logged = b"".join(path.read_bytes() for path in (run / "tensorboard").glob("events.*"))
    assert all(tag in logged for tag in (b"test_loss", b"test_accuracy", b"clips_per_second"))


def test_evaluations_have_the_top_five_of_more_classes(tmp_path):
    clips = made_up_clips(classes=7, per_class=4)
    path = tmp_path / "seven.arrow"
    with StoreWriter(path, clips[0].layout, tuple("abcdefg"), {"reader": "arrays"}) as writer:
        for clip in clips:
            writer.write(clip)
    settings = _recipe(path)
    settings["train"] = {"epochs": 1, "batch_size": 4, "evaluate_every": 1}
    run = train(parse_recipe(settings, "seven"), tmp_path / "run")
    (row,) = read_history(run)
    _, result = evaluate_run(run / LAST_FILE)
    assert row["test_top5"] == pytest.approx(result.top5)
    assert row["val_accuracy"] <= row["val_top5"] <= 1
    assert "train_top5" not in row


def test_the_speed_is_recorded_and_every_epoch_has_a_line_where_no_terminal_is(
    trained, tmp_path, capsys, monkeypatch
):
    recipe, _ = trained
    monkeypatch.setattr("kinegraph.training.callbacks.LOG_INTERVAL_S", 0.0)
    settings = recipe.train.model_copy(update={"epochs": 2})
    run = train(recipe.model_copy(update={"train": settings}), tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    ends = [line for line in lines if "validation:" in line]
    assert [line.split("  loss")[0] for line in ends] == ["epoch   1/2", "epoch   2/2"]
    for row, line in zip(read_history(run), ends, strict=True):
        assert row["clips_per_second"] > 9 / row["seconds"]  # validation is not in it
        assert line.endswith(f"  {row['clips_per_second']:.0f} clips/s")
    inside = [line for line in lines if "of the epoch" in line]
    assert [line.rpartition("  ")[2] for line in inside[:2]] == [
        "33% of the epoch",
        "67% of the epoch",
    ]


class _StopError(Exception):
    pass


def test_a_run_that_broke_off_resumes_to_the_same_weights(trained, tmp_path):
    from kinegraph.training.callbacks import ProgressBar

    class Breaks(ProgressBar):
        def on_train_epoch_start(self, trainer, *rest):
            super().on_train_epoch_start(trainer, *rest)
            if trainer.current_epoch == 3:
                raise _StopError

    recipe, run = trained
    with pytest.raises(_StopError):
        train(recipe, tmp_path / "broken", progress=Breaks())
    train(recipe, tmp_path / "broken", resume=True)
    assert equal(weights(tmp_path / "broken"), weights(run))
    assert [row["epoch"] for row in read_history(tmp_path / "broken")] == [0, 1, 2, 3, 4]


def test_folders_that_hold_something_else(trained, tmp_path):
    recipe, run = trained
    with pytest.raises(CheckpointError, match="is not empty"):
        train(recipe, run)
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(recipe, tmp_path / "new", resume=True)
    with pytest.raises(CheckpointError, match="another recipe"):
        train(recipe.model_copy(update={"seed": 9}), run, resume=True)
    assert train(recipe.model_copy(update={"about": "Reworded."}), run, resume=True) == run


def test_checkpoints_that_are_none(trained, tmp_path):
    _, run = trained
    with pytest.raises(CheckpointError, match="does not exist"):
        find_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="does not contain a checkpoint"):
        find_checkpoint(tmp_path)
    whole = (run / LAST_FILE).read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"not a checkpoint, or it is damaged"):
            load_model(path)


def test_a_checkpoint_of_another_model_is_refused(trained, tmp_path):
    import dataclasses

    from kinegraph.training.checkpoint import save_checkpoint

    _, run = trained
    header = load_header(run / LAST_FILE)
    other = dataclasses.replace(header, model={"name": "stgcn", "options": {"channels": [4, 4]}})
    save_checkpoint(tmp_path / "other.safetensors", weights(run), other)
    with pytest.raises(CheckpointError, match="do not fit their header"):
        load_model(tmp_path / "other.safetensors")


def test_without_a_held_out_part_the_last_epoch_counts(trained, tmp_path):
    recipe, _ = trained
    validation = recipe.validation.model_copy(update={"fraction": 0})
    settings = recipe.train.model_copy(update={"epochs": 1})
    run = train(
        recipe.model_copy(update={"validation": validation, "train": settings}), tmp_path / "all"
    )
    assert not (run / BEST_FILE).exists()
    assert find_checkpoint(run).name == LAST_FILE
    assert load_header(run / LAST_FILE).training["clips"] == 12


def test_clips_without_labels_cannot_be_trained_on(tmp_path, tiny_store):
    from conftest import made_up_clips
    from kinegraph.clips.clip import Clip
    from kinegraph.clips.writer import StoreWriter

    path = tmp_path / "nameless.arrow"
    clips = made_up_clips()
    with StoreWriter(path, clips[0].layout, None, {}) as writer:
        for clip in clips:
            writer.write(Clip(clip.joints, clip.layout, id=clip.id, meta=clip.meta))
    recipe = parse_recipe(_recipe(path), "tiny")
    with pytest.raises(RecipeError, match="no training clip has a label"):
        train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_early_stopping_ends_a_run_that_no_longer_improves(trained, tmp_path):
    recipe, _ = trained
    settings = {"epochs": 50, "lr": 1e-9, "ema": None, "early_stop": 2, "clip_grad": 1.0}
    early = recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})
    run = train(early, tmp_path / "early")
    losses = [row["val_loss"] for row in read_history(run)]
    assert len(losses) == losses.index(min(losses)) + 3 < 50


@pytest.mark.parametrize(
    "settings",
    [
        {"accumulate": 2},
        {"precision": "bf16-mixed", "clip_grad": 1.0},
        {"optimizer": "adamw", "lr": 1e-3},
    ],
)
def test_other_ways_to_step_also_learn(trained, tmp_path, settings):
    recipe, usual = trained
    other = recipe.model_copy(update={"train": recipe.train.model_copy(update=settings)})
    run = train(other, tmp_path / "other")
    history = read_history(run)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert not equal(weights(run), weights(usual))


def test_a_training_that_diverges_ends_in_a_sentence_and_saves_no_broken_weights(
    tiny_store, tmp_path
):
    settings = _recipe(tiny_store)
    settings["train"] = {"epochs": 9, "batch_size": 4, "lr": 1e12, "optimizer": "sgd"}
    with pytest.raises(TrainingError, match=r"has diverged: lower train\.lr \(now 1e\+12\)"):
        train(parse_recipe(settings, "tiny"), tmp_path / "run")
    for path in (tmp_path / "run").glob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_clips_of_one_class_are_nothing_to_learn_from(tmp_path):
    clips = made_up_clips(classes=1)
    with StoreWriter(tmp_path / "s.arrow", clips[0].layout, ("here",), {}) as writer:
        for clip in clips:
            writer.write(clip)
    with pytest.raises(RecipeError, match="clips of only one class"):
        train(parse_recipe(_recipe(tmp_path / "s.arrow"), "tiny"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_balanced_classes_log_their_mean_accuracy(tmp_path, tiny_store, trained):
    recipe = _recipe(tiny_store)
    recipe["train"] |= {"class_weights": "balanced", "epochs": 1}
    history = read_history(train(parse_recipe(recipe, "tiny"), tmp_path / "run"))
    for split in ("train", "val"):
        assert all(0 <= row[f"{split}_mean_class"] <= 1 for row in history)
    assert "val_mean_class" not in read_history(trained[1])[0]
