"""Examples of actions: videos, skeleton files and stores, by the folder or class of an action."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cli.test_cli import run
from conftest import made_up_clips
from kinegraph.errors import ReadError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.video import sources
from kinegraph.video.examples import read_examples, read_video_clip
from synthetic_takes import write_take
from video.synthetic_videos import GrayLevelEstimator, gray_level, picture, require_av, write_video


@pytest.fixture
def estimator(monkeypatch):
    """Replace the pose estimator by one without a network."""
    require_av()
    monkeypatch.setattr(sources, "load_estimator", lambda *_, **__: GrayLevelEstimator())


def write_gray_video(path, label, frames=40):
    """Write a video in which the estimator sees the pose of a synthetic class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, [picture(gray_level(label))] * frames)


def test_a_video_becomes_the_clip_of_its_person(estimator, tmp_path):
    clip = read_video_clip(write_gray_video(tmp_path / "one.mp4", 1))
    assert clip.joints.shape == (1, 40, 15, 2)
    assert (clip.id, clip.fps, clip.meta["width"], clip.meta["height"]) == ("one.mp4", 30, 64, 48)
    assert np.isfinite(clip.joints).all()


def test_a_video_without_a_person_is_refused(estimator, tmp_path):
    with pytest.raises(ReadError, match="no person is visible in this video"):
        read_video_clip(write_video(tmp_path / "dark.mp4", [np.zeros((48, 64, 3), np.uint8)] * 9))
    with pytest.raises(ReadError, match="long enough"):
        read_video_clip(write_gray_video(tmp_path / "brief.mp4", 1, frames=3))


def test_videos_and_files_in_folders_by_action(estimator, tiny_run, tmp_path):
    for label, name in enumerate(("bend over", "jump")):
        for number in range(2):
            write_gray_video(tmp_path / name / f"{number}.mp4", label)
    joints = made_up_clips()[1].joints[0]
    np.save(tmp_path / "jump" / "array.npy", joints)
    (tmp_path / "jump" / ".hidden").write_text("not an example")
    (tmp_path / "jump" / "broken.mov").write_bytes(b"not a video")
    (tmp_path / "notes.txt").write_text("beside the folders")
    examples, errors = read_examples(tmp_path, TrainedModel.load(tiny_run))
    assert {name: len(clips) for name, clips in examples.items()} == {"bend over": 2, "jump": 3}
    np.testing.assert_array_equal(examples["jump"][2].joints[0], joints)
    assert len(errors) == 1 and "broken.mov" in str(errors[0])


def test_files_of_any_reader_and_one_that_is_damaged(capsys, tmp_path):
    for name in ("wave", "kick"):
        for number in range(3):
            write_take(tmp_path / "takes" / name, name, number)
    damaged = next((tmp_path / "takes" / "kick").iterdir())
    damaged.write_text("3\n1\n")
    out = tmp_path / "model"
    code, told, err = run(capsys, "teach", "penn-action", tmp_path / "takes", "--out", out)
    assert code == 0
    assert "5 examples held out in turn" in told and f"{out}: 2 actions" in told
    assert err.count("skipped") == 1 and damaged.name in err
    new = write_take(tmp_path, "kick", 50)
    code, told, _ = run(capsys, "predict", out, new, "--json")
    assert code == 0 and json.loads(told)["top"][0]["name"] == "kick"


def test_a_store_has_its_classes_for_actions(capsys, tiny_run, tiny_store, tmp_path):
    out = tmp_path / "model"
    code, told, err = run(capsys, "teach", tiny_run, tiny_store, "--out", out, "--json")
    assert (code, err) == (0, "")
    assert json.loads(told)["examples"] == {"here": 8, "there": 8, "away": 8}
    assert Recognizer.load(out)(made_up_clips()[2]).name == "away"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no folders"),
        (["clap/a.skeleton"], "clap"),
        (["clap/", "wave/"], "clap is an empty folder"),
    ],
)
def test_folders_that_are_refused(capsys, tmp_path, files, message):
    folder = tmp_path / "takes"
    folder.mkdir()
    for name in files:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True) if name.endswith("/") else path.write_text("damaged")
    out = tmp_path / "model"
    code, told, err = run(capsys, "teach", "penn-action", folder, "--out", out)
    assert (code, told) == (2, "")
    assert err.startswith("kinegraph: ") and err.count("\n") == 1 and message in err
    assert not out.exists()
