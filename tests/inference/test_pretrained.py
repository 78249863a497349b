"""Models by name: those that install with kinegraph, and a hub whose network is made up."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import kinegraph as kg
from conftest import real_data
from kinegraph.errors import CheckpointError, UnknownNameError
from kinegraph.inference.pretrained import load_pretrained, push_to_hub
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import open_session
from kinegraph.readers import read_clips
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.batch import Preprocessor, collate
from kinegraph.training.checkpoint import find_checkpoint
from kinegraph.training.model_zoo import PRETRAINED_FOLDER, list_pretrained, model_card
from kinegraph.transforms.augment import joint_dropout
from kinegraph.transforms.temporal_sampling import reduce_frame


@pytest.fixture(scope="module")
def shipped() -> Recognizer:
    """The recogniser that needs no training."""
    return load_pretrained()


def sways(frames: int = 40, layout: str = "penn13") -> kg.Clip:
    """Somebody made up."""
    rng = np.random.default_rng(0)
    V = get_layout(layout).num_joints
    joints = rng.normal(0, 50, (1, 1, V, 2)) + rng.normal(0, 3, (1, frames, V, 2))
    return kg.Clip(joints, get_layout(layout), id="made up")


def test_what_ships_is_small_and_has_a_card():
    assert list_pretrained() == ["penn-action", "ui-prmd"]
    assert sum(path.stat().st_size for path in PRETRAINED_FOLDER.iterdir()) <= 3 * 2**20
    card = model_card("penn-action").read_text(encoding="utf-8")
    for word in ("Penn Action", "research", "make pretrained", "cannot"):
        assert word in card
    assert "public domain" in model_card("ui-prmd").read_text(encoding="utf-8")


def test_it_names_actions_that_it_knows_and_never_the_background(shipped):
    answer = shipped(sways())
    names = {guess.name for guess in answer.candidates}
    assert len(names) == 15
    assert "clean_and_jerk" in names
    assert "other" not in names
    assert shipped.header.calibration["background"] == 15
    assert 0 < sum(guess.probability for guess in answer.candidates) <= 1 + 1e-6


def test_it_takes_other_skeletons_and_streams_in_steps(shipped):
    for layout in ("coco17", "body25", "mediapipe33", "jhmdb15"):
        assert shipped(sways(layout=layout)).candidates
    live, clip = open_session(shipped, window=None), sways(64)
    assert live.mode == "step"
    for frame in clip.joints.swapaxes(0, 1):
        live.push(frame)
    header, unpadded = shipped.header, shipped.pipeline.without_length_steps()
    sample = Preprocessor(unpadded, header.persons, header.confidence)(clip)
    (whole,) = shipped.logits(collate([sample]))
    np.testing.assert_allclose(live.flush().logits, whole, atol=1e-4)


def test_place_and_size_make_no_difference(shipped):
    clip = sways()
    moved = shipped(clip.with_joints(clip.joints * 3 + 700))
    np.testing.assert_allclose(moved.logits, shipped(clip).logits, atol=1e-2)


@pytest.mark.slow
def test_its_figures_on_penn_actions_test_split(shipped):
    clips = read_clips(real_data("penn_action"))
    test = [clip for clip in clips if clip.meta["split"] == "test"]
    rng = np.random.default_rng(0)
    changes = {
        0.96: lambda clip: clip,
        0.90: lambda clip: joint_dropout(clip, rng, p=0.3, per="frame"),
        0.93: lambda clip: reduce_frame(clip, None, step=2),
    }
    for least, change in changes.items():
        answers = shipped.decode(shipped.score(change(clip) for clip in test))
        right = [a.candidates[0].label == c.label for a, c in zip(answers, test, strict=True)]
        assert np.mean(right) >= least


def test_its_name_stands_for_its_path_unless_there_is_such_a_path(tmp_path, monkeypatch):
    assert find_checkpoint(Path("penn-action")) == PRETRAINED_FOLDER / "penn-action.safetensors"
    assert Recognizer.load("penn-action").header.num_classes == 16
    monkeypatch.chdir(tmp_path)
    Path("penn-action").mkdir()
    with pytest.raises(CheckpointError, match="penn-action does not contain a checkpoint"):
        Recognizer.load("penn-action")
    with pytest.raises(CheckpointError, match=r"or one of `kinegraph list pretrained`: penn-act"):
        Recognizer.load("pen-action")
    with pytest.raises(UnknownNameError, match=r"'pen-action' \(did you mean 'penn-action'"):
        load_pretrained("pen-action")


class Hub(SimpleNamespace):
    """A hub in a folder, with the calls of huggingface_hub that are made."""

    folder: Path

    def HfApi(self) -> Hub:  # noqa: N802
        return self

    def create_repo(self, repository: str, **_: Any) -> None:
        (self.folder / repository).mkdir(parents=True, exist_ok=True)

    def upload_file(self, path_or_fileobj: bytes, path_in_repo: str, repo_id: str) -> None:
        (self.folder / repo_id / path_in_repo).write_bytes(path_or_fileobj)

    def hf_hub_download(self, repository: str, name: str) -> str:
        path = self.folder / repository / name
        if not path.exists():
            raise OSError("404 Client Error\nand a page of it")
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    """In place of huggingface_hub."""
    made = Hub(folder=tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return made


def test_a_run_goes_to_a_hub_and_comes_back(tiny_run, hub):
    name = push_to_hub(tiny_run, "somebody/tiny")
    assert name == "hf://somebody/tiny"
    assert "here, there, away" in (hub.folder / "somebody/tiny/README.md").read_text()
    ours, theirs = Recognizer.load(tiny_run), load_pretrained(name)
    clip = sways(layout="jhmdb15")
    np.testing.assert_array_equal(ours(clip).logits, theirs(clip).logits)
    push_to_hub("penn-action", "somebody/penn")
    assert (hub.folder / "somebody/penn/README.md").read_bytes() == model_card(
        "penn-action"
    ).read_bytes()


def test_what_a_hub_does_not_give_or_take_is_told_in_a_sentence(tiny_run, hub, monkeypatch):
    with pytest.raises(CheckpointError, match=r"model\.safetensors of 'a/b' from the hub: 404 Cl"):
        load_pretrained("hf://a/b")
    with pytest.raises(CheckpointError, match=r"expected .* as owner/name, got '\.\./x/y'"):
        load_pretrained("hf://../x/y")
    shutil.rmtree(hub.folder, ignore_errors=True)
    hub.folder.write_text("in the way")
    with pytest.raises(CheckpointError, match="the hub rejects 'a/b'"):
        push_to_hub(tiny_run, "a/b")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install '.*\[hub\]'"):
        load_pretrained("hf://a/b")
