"""Held-out clips select the number of epochs, then all clips are trained on; auto settings."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import Linear

from conftest import made_up_clips
from kinegraph.cli.run_summary import evaluate_and_report, format_selection
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.training import auto_settings, callbacks
from kinegraph.training.auto_settings import describe_settings, fit_recipe
from kinegraph.training.callbacks import Checkpoints, ProgressBar
from kinegraph.training.checkpoint import (
    BEST_FILE,
    LAST_FILE,
    find_checkpoint,
    load_header,
    load_model,
    save_checkpoint,
)
from kinegraph.training.history import append_history, read_history
from kinegraph.training.objectives import RecognitionObjective
from kinegraph.training.recipe import Recipe, load_recipe, parse_recipe
from kinegraph.training.stages import Selection
from kinegraph.training.train import train


def recipe(store, **changes) -> Recipe:
    """A recipe that selects the epochs of a tiny model."""
    data = {
        "name": "tiny",
        "store": str(store),
        "protocol": "odd-even-subjects",
        "transforms": [{"jitter": {"std": 0.01}}, {"resize": {"frames": 8}}, "stream"],
        "model": {"channels": [8], "strides": [1], "dropout": 0.1},
        "train": {"epochs": 4, "batch_size": 4, "optimizer": "adamw", "lr": 0.01},
        "validation": {"fraction": 0.25, "by": "auto", "retrain": True},
        **changes,
    }
    return parse_recipe(data, "tiny")


def write(path, clips) -> ClipStore:
    """A store of these clips."""
    with StoreWriter(path, clips[0].layout, ("here", "there", "away"), {}) as writer:
        for clip in clips:
            writer.write(clip)
    return ClipStore(path)


def restated(clip: Clip, **meta) -> Clip:
    """The clip with other facts."""
    return Clip(clip.joints, clip.layout, None, clip.label, clip.id, clip.fps, meta)


@pytest.fixture(scope="module")
def selected(tmp_path_factory, tiny_store):
    """A recipe and its run."""
    settings = recipe(tiny_store)
    return settings, train(settings, tmp_path_factory.mktemp("runs") / "tiny")


def test_the_best_epoch_has_the_smallest_loss_and_of_equal_ones_is_the_latest(
    tmp_path, monkeypatch
):
    saved = []
    monkeypatch.setattr(callbacks, "append_history", lambda *_: None)
    monkeypatch.setattr(callbacks, "save_checkpoint", lambda path, *_: saved.append(path.name))
    header = load_header(find_checkpoint(_penn_action()))
    best_by = RecognitionObjective().best_metric
    watcher = Checkpoints(tmp_path, header, 0.0, best_by)
    module = SimpleNamespace(eval_model=SimpleNamespace(state_dict=dict))
    kept = []
    for epoch, (loss, accuracy) in enumerate([(0.5, 0.9), (0.4, 0.8), (0.4, 0.7), (0.6, 1.0)]):
        saved.clear()
        watcher.epoch_started = 0.0
        metrics = {"val_loss": loss, "val_accuracy": accuracy}
        watcher.on_train_epoch_end(_trainer(epoch, metrics), module)
        kept.append(BEST_FILE in saved)
    assert kept == [True, True, True, False]


def _penn_action():
    from kinegraph.training.model_zoo import bundled_weights

    return bundled_weights("penn-action")


def _trainer(epoch: int, metrics: dict) -> SimpleNamespace:
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    return SimpleNamespace(
        current_epoch=epoch,
        callback_metrics=metrics,
        is_global_zero=True,
        optimizers=[optimizer],
        max_epochs=9,
        should_stop=False,
        save_checkpoint=lambda path: None,
    )


def test_epochs_whose_losses_few_clips_cannot_tell_apart_are_equal(tmp_path):
    model, header = load_model(_penn_action())
    facts = header.training | {"epoch": 2, "clips": 9, "held_out": 16}
    settings = header.recipe | {"validation": {"by": None}}
    header = dataclasses.replace(header, training=facts, recipe=settings)
    save_checkpoint(tmp_path / BEST_FILE, model.state_dict(), header)
    for epoch, loss in enumerate([0.9, 0.5, 0.4, 0.55, 0.49, 0.51, 0.7]):
        append_history(tmp_path, {"epoch": epoch, "val_loss": loss, "val_loss_std": 0.4})
    found = Selection.load(tmp_path)
    assert (found.best, found.epochs, found.metrics["val_loss"]) == (3, 5, 0.49)


@pytest.mark.parametrize("weights", [None, (1.5, 0.75)])
def test_the_deviation_of_the_losses_is_logged(weights):
    from torch import tensor

    from kinegraph.training.batch import Batch
    from kinegraph.training.lightning_module import TrainingModule
    from kinegraph.training.objectives import LossOutput
    from kinegraph.training.recipe import TrainConfig

    logits = tensor([[2.0, 0.0], [0.0, 1.0], [0.5, 0.0]])
    losses = np.array([math.log(1 + math.exp(-x)) for x in (2.0, 1.0, -0.5)])
    if weights is not None:
        losses *= np.array(weights)[[0, 1, 1]]
    batch = Batch(tensor([]), tensor([0, 1, 1]), tensor([]))
    objective = SimpleNamespace(
        compute_loss=lambda *_, **__: LossOutput(tensor(losses.mean()), logits)
    )
    given = None if weights is None else {"val": tensor(weights)}
    module = TrainingModule(
        Linear(1, 1), objective, TrainConfig(), steps_per_epoch=1, seed=0, class_weights=given
    )
    logged = {}
    module.log = lambda name, value, **_: logged.update({name: value})
    module.validation_step(batch, 0)
    module.on_validation_epoch_end()
    assert logged["val_loss_std"] == pytest.approx(np.std(losses), rel=1e-4)


def test_the_model_is_trained_on_all_clips_for_the_selected_epochs(selected):
    _, run = selected
    history = read_history(run / "selection")
    best = min(reversed(history), key=lambda row: row["val_loss"])
    error = best["val_loss_std"] / math.sqrt(3)
    near = [row for row in history if row["val_loss"] <= best["val_loss"] + error]
    chosen = int(near[-1]["epoch"]) + 1
    final = load_header(find_checkpoint(run))
    facts = final.training["selection"]
    assert (facts["epochs"], facts["of"], len(history)) == (chosen, 4, 4)
    assert facts["metrics"]["val_loss"] == near[-1]["val_loss"]
    assert (facts["held_out"], facts["best"]) == (3, best["epoch"] + 1)
    assert (facts["clips"] + facts["held_out"], facts["by"]) == (12, "subject")
    assert (final.training["clips"], final.training["held_out"]) == (12, 0)
    assert not (run / BEST_FILE).exists()
    rows = read_history(run)
    assert len(rows) == chosen and "val_loss" not in rows[0]
    pairs = zip(rows, history, strict=False)
    assert all(math.isclose(one["lr"], two["lr"], abs_tol=5e-3) for one, two in pairs)
    line = format_selection(final.training)
    assert f"epochs: {chosen} of 4" in line and "subjects" in line and "all 12" in line


def test_a_run_is_resumed_in_its_selection_between_and_after_it(selected, tmp_path):
    class Breaks(ProgressBar):
        def __init__(self, at: int) -> None:
            super().__init__()
            self.left = at

        def on_train_epoch_start(self, trainer, *rest):
            super().on_train_epoch_start(trainer, *rest)
            self.left -= 1
            if self.left < 0:
                raise KeyError("broken off")

    settings, run = selected
    whole = load_file(run / LAST_FILE)
    for at in (2, 4):
        folder = tmp_path / str(at)
        with pytest.raises(KeyError, match="broken off"):
            train(settings, folder, progress=Breaks(at))
        assert not (folder / LAST_FILE).exists()
        train(settings, folder, resume=True)
        again = load_file(folder / LAST_FILE)
        assert all((again[key] == whole[key]).all() for key in whole)
    before = (folder / LAST_FILE).stat().st_mtime_ns
    train(settings, folder, resume=True)
    assert (folder / LAST_FILE).stat().st_mtime_ns == before
    (folder / "selection" / BEST_FILE).unlink()
    (folder / "selection" / LAST_FILE).unlink()
    with pytest.raises(CheckpointError, match="another recipe"):
        train(settings.model_copy(update={"seed": 3}), folder, resume=True)


def test_subjects_are_held_out_where_three_or_more_are_known(tmp_path, tiny_store):
    known = fit_recipe(recipe(tiny_store), ClipStore(tiny_store))
    assert known.validation.by == "subject"
    clips = made_up_clips()
    two = [restated(clip, subject=i % 2) for i, clip in enumerate(clips)]
    some = [restated(clip, **({"subject": i} if i else {})) for i, clip in enumerate(clips)]
    for name, these in {"two": two, "some": some}.items():
        settings = recipe(tmp_path / name, protocol="all")
        assert fit_recipe(settings, write(tmp_path / name, these)).validation.by is None


def test_protocol_persons_and_epochs_follow_the_store(tmp_path, tiny_store):
    settings = recipe(
        tiny_store,
        protocol="auto",
        persons=0,
        train={"epochs": 10, "batch_size": 4, "min_steps": 100, "warmup_epochs": 3},
    )
    plain = fit_recipe(settings, ClipStore(tiny_store))
    clips = len(made_up_clips())
    assert (plain.protocol, plain.persons) == ("holdout", 1)
    assert 100 / (clips / 4) <= plain.train.epochs <= 100 / (0.6 * clips / 4)
    assert plain.train.warmup_epochs == pytest.approx(0.3 * plain.train.epochs)
    pairs = [
        restated(clip, split="test" if i % 4 == 3 else "train")
        for i, clip in enumerate(made_up_clips(persons=2))
    ]
    fitted = fit_recipe(settings, write(tmp_path / "pairs.arrow", pairs))
    assert (fitted.protocol, fitted.persons, fitted.train.epochs) == ("official", 2, 20)
    told = describe_settings(settings, fitted)
    assert told == "protocol=official, persons=2, validation.by=clip, train.epochs=20"
    assert describe_settings(fitted, fitted) == ""
    assert fit_recipe(fitted, ClipStore(tmp_path / "pairs.arrow")) == fitted


def test_without_held_out_clips_nothing_is_said_of_them(tiny_store):
    settings = recipe(tiny_store, validation={"fraction": 0, "by": "auto"})
    assert "validation" not in describe_settings(
        settings, fit_recipe(settings, ClipStore(tiny_store))
    )


def test_offsets_between_two_persons_are_left_out_where_clips_show_one(tiny_store, tmp_path):
    settings = recipe(tiny_store, persons=0, transforms=["pair_offsets", "stream"])
    assert fit_recipe(settings, ClipStore(tiny_store)).transforms == ["stream"]
    pairs = write(tmp_path / "pairs.arrow", made_up_clips(persons=2))
    assert fit_recipe(settings, pairs).transforms == ["pair_offsets", "stream"]


def test_clips_stated_for_validation_select_the_epochs_and_are_then_trained_on(tmp_path):
    clips = [
        restated(clip, split=("train", "train", "val", "test")[i % 4])
        for i, clip in enumerate(made_up_clips())
    ]
    write(tmp_path / "stated.arrow", clips)
    settings = recipe(
        tmp_path / "stated.arrow", protocol="auto", train={"epochs": 1, "batch_size": 12}
    )
    facts = load_header(find_checkpoint(train(settings, tmp_path / "run"))).training
    chosen = facts["selection"]
    assert (chosen["clips"], chosen["held_out"], facts["clips"]) == (12, 6, 18)


@pytest.mark.parametrize(
    ("classes", "mirrored"),
    [
        (("wave", "bow", "bright"), False),  # "right" in another word: no mirror is the safe side
        (("wave", "bow", "slide"), True),
        (("swipe-l", "swipe-r", "bow"), False),
        (("SwipeLeft", "wave", "bow"), False),
        (None, False),
    ],
)
def test_clips_are_mirrored_if_class_names_do_not_tell_left_from_right(tmp_path, classes, mirrored):
    clips = made_up_clips(4)
    with StoreWriter(tmp_path / "a.arrow", clips[0].layout, classes, {}) as writer:
        for clip in clips:
            writer.write(clip)
    settings = load_recipe("own_data", [f"store={tmp_path / 'a.arrow'}", "protocol=all"])
    fitted = fit_recipe(settings, ClipStore(tmp_path / "a.arrow"))
    assert ("mirror" in fitted.transforms) is mirrored
    assert f"mirror={'yes' if mirrored else 'no'}" in describe_settings(settings, fitted)
    tested = fit_recipe(
        settings.model_copy(update={"test_mirror": True}), ClipStore(tmp_path / "a.arrow")
    )
    assert ({"mirror": {"p": 0.0}} in tested.transforms) is not mirrored  # the place stays
    assert f"mirror={'yes' if mirrored else 'no'}" in describe_settings(settings, tested)


def test_a_protocol_without_test_clips_trains_on_every_clip(tmp_path, tiny_store, capsys):
    from kinegraph.cli.run_summary import print_summary

    settings = recipe(tiny_store, protocol="all", train={"epochs": 1, "batch_size": 12})
    run = train(settings, tmp_path / "run")
    assert load_header(find_checkpoint(run)).training["clips"] == 24
    results = evaluate_and_report(run)
    assert not any(results) and (run / "report.html").is_file()
    print_summary(run, *results)
    assert "protocol all has no test clips" in capsys.readouterr().out


@pytest.mark.parametrize("coordinates", [2, 3])
def test_the_recipe_of_own_data_does_not_depend_on_place_size_and_names(coordinates):
    layout = SkeletonLayout("own", ("a", "b", "c", "d"), ((1, 0), (2, 1), (3, 2)), center=1)
    settings = load_recipe("own_data", ["persons=2"])
    steps = [step for step in settings.transforms if step != "mirror"]
    preprocess = settings.model_copy(update={"transforms": steps}).preprocessor()
    joints = np.random.default_rng(0).normal(size=(2, 40, 4, coordinates)).astype(np.float32)
    joints[1, :, 2] = joints[0, :3] = np.nan
    plain, moved = (Clip(place, layout, label=0) for place in (joints, 300 * joints + 900))
    x, y = preprocess(plain).x, preprocess(moved).x
    assert x.shape == (3 * (3 * coordinates + 2), 32, 4, 2)  # offsets to the other person
    assert np.abs(x - y).max() < 1e-3 < np.abs(x).mean()
    trained = [preprocess(clip, np.random.default_rng(1)).x for clip in (plain, moved)]
    assert np.abs(trained[0] - trained[1]).max() < 1e-3
    joints[0, :, 1] = np.nan  # without its center, a clip is centered on its box
    hidden = [preprocess(Clip(scale * joints, layout)).x for scale in (1, 300)]
    assert np.abs(hidden[0] - hidden[1]).max() < 1e-3 and np.abs(hidden[0]).max() < 5


def test_settings_that_contradict_a_selection(tiny_store):
    with pytest.raises(RecipeError, match=r"'validation.retrain' needs held-out clips"):
        recipe(tiny_store, validation={"fraction": 0, "retrain": True})
    with pytest.raises(RecipeError, match="another folder of the run has this name"):
        recipe(tiny_store, stages=[{"name": "selection", "objective": {"name": "recognition"}}])


def test_a_stage_gives_its_weights_to_the_selection_and_to_the_training(tmp_path, tiny_store):
    stage = {"name": "first", "objective": {"name": "recognition"}, "train": {"epochs": 1}}
    frozen = {"epochs": 1, "batch_size": 12, "freeze_backbone": True}
    run = train(recipe(tiny_store, stages=[stage], train=frozen), tmp_path / "run")
    first = load_file(run / "first" / BEST_FILE)
    body = [key for key in first if "head" not in key and first[key].is_floating_point()]
    for folder in (run / "selection", run):
        state = load_file(folder / LAST_FILE)
        assert all(np.array_equal(state[key], first[key]) for key in body)
    assert [row["epoch"] for row in read_history(run / "first")] == [0]


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.bfloat16, "bf16-mixed"), (torch.float32, "32-true")]
)
def test_auto_precision_follows_the_device(tiny_store, monkeypatch, dtype, precision):
    monkeypatch.setattr(auto_settings, "fastest_dtype", lambda _: dtype)
    settings = recipe(tiny_store, train={"epochs": 4, "precision": "auto"})
    fitted = fit_recipe(settings, ClipStore(tiny_store))
    assert fitted.train.precision == precision
    assert f"train.precision={precision}" in describe_settings(settings, fitted)
