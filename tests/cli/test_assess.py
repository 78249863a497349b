"""`kinegraph assess`: lines, JSON, picture, repetitions, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import made_up_clips
from kinegraph.cli import main
from kinegraph.clips.writer import StoreWriter
from kinegraph.training.checkpoint import load_model, save_checkpoint


@pytest.fixture
def run(capsys):
    """Return a function that runs the command: exit code, standard output and error."""

    def call(*words: object) -> tuple[int, str, str]:
        code = 0
        try:
            main(["assess", *map(str, words)])
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def model(tiny_run, tmp_path) -> Path:
    """Write the tiny run with a pair of classes, and the third as background."""
    network, header = load_model(tiny_run)
    header = dataclasses.replace(
        header,
        classes=["raise, correct", "raise, incorrect", "other"],
        calibration={"threshold": 0.5, "background": 2},
    )
    path = tmp_path / "exercises.safetensors"
    save_checkpoint(path, network.state_dict(), header)
    return path


def test_exercise_score_joints_and_time_of_each_clip(run, model, tiny_store, tmp_path):
    picture = tmp_path / "why.png"
    code, out, error = run(tiny_store, "--model", model, "--picture", picture)
    lines = out.splitlines()
    assert (code, len(lines)) == (0, 24)
    assert lines[0].startswith("clip000: raise ")
    assert ", correct (score " in lines[0]
    assert ", incorrect (score " in lines[1]
    assert lines[2].startswith("clip002: unknown (nearest: raise ")
    assert lines[0].endswith(" s")
    assert f"wrote {picture}" in error
    with Image.open(picture) as image:
        assert min(image.size) > 300


def test_the_json_says_the_same(run, model, tiny_store):
    code, out, _ = run(tiny_store, "--model", model, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    labels = [("correct", "incorrect", "unknown")[clip.label] for clip in made_up_clips()]
    assert (
        np.mean([one["verdict"] == label for one, label in zip(found, labels, strict=True)]) > 0.9
    )
    known = [one for one in found if one["verdict"] != "unknown"]
    for one in known:
        assert one["exercise"] == "raise"
        assert (one["score"] >= 0.5) == (one["verdict"] == "correct")
        assert sum(one["joints"].values()) == pytest.approx(1, abs=0.01)
        assert 0 <= one["start"] < one["end"] <= 0.5


def test_a_recording_without_repetitions_is_assessed_as_a_whole(run, model, tmp_path):
    clip = made_up_clips()[0]
    store = tmp_path / "still.arrow"
    with StoreWriter(store, clip.layout, ["one"]) as writer:
        writer.write(clip.with_joints(np.repeat(clip.joints[:, :1], clip.num_frames, axis=1)))
    code, out, _ = run(store, "--model", model, "--repetitions")
    assert (code, out.count("\n")) == (0, 1)
    assert out.startswith("clip000: ")


def test_models_without_quality_and_files_that_do_not_fit_are_one_sentence(
    run, model, tiny_run, tiny_store, tmp_path
):
    code, out, error = run(tiny_store, "--model", tiny_run)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert "expected a model with a class 'NAME, correct'" in error
    code, out, error = run(tmp_path / "nothing.csv", tiny_store, "--model", model)
    assert (code, out.count("\n"), error.count("\n")) == (2, 24, 1)
    assert "nothing.csv" in error
    code, out, error = run(tiny_store, "--model", model, "--picture", tmp_path / "why.txt")
    assert (code, out, error.count("\n")) == (2, "", 1)
