"""Resume files and checkpoints: damage is detected, and undamaged files are offered."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kinegraph import files as durable
from kinegraph.errors import CheckpointError, LockedError
from kinegraph.files import add_checksum, atomic_write, exclusive_lock
from kinegraph.training.checkpoint import (
    BEST_FILE,
    LAST_FILE,
    load_header,
    load_model,
    training_seconds,
)
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.resume import (
    PREVIOUS_FILE,
    RESUME_FILE,
    RESUME_KIND,
    ResumeCheckpointIO,
    is_finished,
    load_resume_checkpoint,
)
from kinegraph.training.train import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_store):
    """A recipe and its run of three epochs."""
    recipe = {
        "name": "tiny",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 8}}, "stream"],
        "model": {"channels": [8], "strides": [1]},
        "train": {"epochs": 3, "batch_size": 4},
        "validation": {"fraction": 0.25},
    }
    settings = parse_recipe(recipe, "tiny")
    return settings, train(settings, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def copy(finished, tmp_path):
    """A recipe and a copy of its run, to be damaged."""
    recipe, run = finished
    return recipe, shutil.copytree(run, tmp_path / "run")


def flip(path, place: float = 0.5) -> None:
    """Change one bit, this far into the file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 4
    path.write_bytes(content)


def test_a_finished_run_is_left_alone(copy):
    recipe, run = copy
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert is_finished(run)
    assert train(recipe, run, resume=True) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_the_command_says_that_a_run_is_finished(copy, capsys):
    from kinegraph.cli import main

    _, run = copy
    (run / "report.html").write_text("all of it")
    with pytest.raises(SystemExit) as end:
        main(["train", str(run / "recipe.yaml"), "--out", str(run), "--resume"])
    assert not end.value.code
    assert capsys.readouterr().out == f"{run} is finished: see {run / 'report.html'}\n"


def test_the_training_time_of_a_resumed_run_is_that_of_the_whole_run(copy):
    recipe, run = copy
    content = load_resume_checkpoint(run / PREVIOUS_FILE)  # the end of epoch 2
    content["callbacks"]["Checkpoints"]["seconds"] = 1000.0
    buffer = io.BytesIO()
    torch.save(content, buffer)
    (run / RESUME_FILE).write_bytes(add_checksum(RESUME_KIND, buffer.getvalue()))
    train(recipe, run, resume=True)
    assert 1000 <= training_seconds(run) < 1100  # rounded to a tenth of a second


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_resume_file_is_refused_and_the_one_before_it_offered(copy, damage):
    recipe, run = copy
    whole = load_file(run / LAST_FILE)
    if damage == "flip":
        flip(run / RESUME_FILE)
    else:
        content = (run / RESUME_FILE).read_bytes()
        (run / RESUME_FILE).write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    hint = rf"delete it, and --resume continues from {PREVIOUS_FILE}, .* epoch 2,"
    says = rf"{RESUME_FILE} is damaged: .* {hint}"
    with pytest.raises(CheckpointError, match=says):
        train(recipe, run, resume=True)
    (run / RESUME_FILE).unlink()
    train(recipe, run, resume=True)
    assert all(torch.equal(value, whole[key]) for key, value in load_file(run / LAST_FILE).items())
    assert is_finished(run)


def test_with_both_resume_files_damaged_the_weights_are_offered(copy):
    recipe, run = copy
    flip(run / RESUME_FILE)
    flip(run / PREVIOUS_FILE)
    with pytest.raises(CheckpointError, match="again in another folder, with init_from="):
        train(recipe, run, resume=True)


def test_an_interrupted_resume_file_leaves_no_partial_one(tmp_path, monkeypatch):
    path, writer = tmp_path / RESUME_FILE, ResumeCheckpointIO()
    writer.save_checkpoint({"epoch": 0}, path)
    replace = Path.replace

    def interrupt(source, target):
        if source == path:  # SIGTERM before the older file gets its new name
            raise SystemExit(143)
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(SystemExit):
        writer.save_checkpoint({"epoch": 1}, path)
    assert [file.name for file in tmp_path.iterdir()] == [RESUME_FILE]
    assert load_resume_checkpoint(path)["epoch"] == 0


def test_a_resume_file_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("sprung",)

    body = io.BytesIO()
    torch.save({"epoch": Trap()}, body)
    atomic_write(tmp_path / RESUME_FILE, add_checksum(RESUME_KIND, body.getvalue()))
    with pytest.raises(CheckpointError, match="is not a resume checkpoint"):
        load_resume_checkpoint(tmp_path / RESUME_FILE)


@pytest.mark.parametrize("place", [0.02, 0.1, 0.5, 0.9])
def test_a_flipped_bit_in_a_checkpoint_is_found(copy, place):
    _, run = copy
    flip(run / BEST_FILE, place)
    with pytest.raises(CheckpointError, match=rf"{BEST_FILE} .*; .*{LAST_FILE} is not damaged"):
        load_model(run)
    with pytest.raises(CheckpointError, match=BEST_FILE):
        load_header(run / BEST_FILE)


def write_as(path, run, **changes) -> None:
    """Write the last checkpoint of a run with other metadata; None leaves an entry out."""
    with safe_open(run / LAST_FILE, framework="pt") as file:
        metadata = {**file.metadata(), **changes}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    save_file(load_file(run / LAST_FILE), path, metadata=metadata)


def test_a_checkpoint_of_format_1_without_a_checksum_still_loads(copy, tmp_path):
    _, run = copy
    with safe_open(run / LAST_FILE, framework="pt") as file:
        text = file.metadata()["kinegraph"].replace('"format": 2', '"format": 1')
    write_as(tmp_path / "old.safetensors", run, kinegraph=text, sha256=None)
    assert load_header(tmp_path / "old.safetensors") == load_header(run / LAST_FILE)
    write_as(tmp_path / "old.safetensors", run, kinegraph=text)
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_header(tmp_path / "old.safetensors")


@pytest.mark.parametrize("others", [{}, {"sha257": "0"}, {"sha256": ""}, {"": ""}])
def test_the_checksum_of_a_checkpoint_cannot_be_switched_off(copy, tmp_path, others):
    _, run = copy
    write_as(tmp_path / "new.safetensors", run, **{"sha256": None, **others})
    with pytest.raises(CheckpointError, match="does not match its checksum"):
        load_model(tmp_path / "new.safetensors")


def test_no_flipped_bit_of_a_checkpoint_changes_what_is_read(copy, tmp_path):
    _, run = copy
    path = tmp_path / "flipped.safetensors"
    whole, refused = (run / LAST_FILE).read_bytes(), 0
    expected, header = load_file(run / LAST_FILE), load_header(run / LAST_FILE)
    length = 8 + int.from_bytes(whole[:8], "little")
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, length, 80), *rng.integers(length, len(whole), 20)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            model, found = load_model(path)
        except CheckpointError:
            refused += 1
            continue
        assert found == header
        assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    assert refused > 95


def test_a_run_that_was_killed_before_its_first_epoch_begins_anew(copy, tmp_path):
    recipe, run = copy
    early = tmp_path / "early"
    early.mkdir()
    (early / ".recipe.yaml.1.partial").write_text("na")
    assert is_finished(train(recipe, early, resume=True))
    for path in run.iterdir():
        if path.is_file() and path.name != "recipe.yaml":
            path.unlink()
    assert is_finished(train(recipe, run, resume=True))


def test_another_recipe_is_told_by_its_keys_and_more_workers_are_no_difference(copy):
    recipe, run = copy
    other = recipe.model_copy(
        update={"persons": 2, "train": recipe.train.model_copy(update={"lr": 1.0})}
    )
    with pytest.raises(CheckpointError, match=r"another recipe, persons, train\.lr differ"):
        train(other, run, resume=True)
    loaded = recipe.model_copy(update={"train": recipe.train.model_copy(update={"workers": 2})})
    assert train(loaded, run, resume=True) == run


def test_two_trainings_never_write_to_one_folder(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "LOCK_TIMEOUT_S", 0.1)
    recipe, run = copy
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "recipe.yaml", unfinished)
    with (
        exclusive_lock(unfinished),
        pytest.raises(LockedError, match=r"another process is writing .*unfinished"),
    ):
        train(recipe, unfinished, resume=True)
    assert sorted(path.name for path in unfinished.iterdir()) == ["recipe.yaml"]
    assert is_finished(train(recipe, unfinished, resume=True))
