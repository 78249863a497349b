"""Assessment of exercises: a network whose score, deciding joint and time are known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.inference.assess import Assessor, _shortest_span, assess, split_clip
from kinegraph.inference.recognizer import Recognizer
from kinegraph.readers import read_clips
from kinegraph.readers.class_names import class_names
from kinegraph.readers.synthetic.body import BodyProportions, Pose
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.checkpoint import load_model
from kinegraph.transforms.convert_layout import convert_layout

LAYOUT = get_layout("jhmdb15")
WRIST = LAYOUT.index("left_wrist")
CLASSES = ["raise, correct", "raise, incorrect", "squat, incorrect", "squat, correct"]
FPS, FRAMES = 10.0, 40


class WristStillness(nn.Module):
    """A raise, incorrect if the left wrist moves in the first half of the clip."""

    layout = LAYOUT

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V, M) -> (N, 4)."""
        moved = x[:, :, : x.shape[2] // 2, WRIST, 0]
        energy = (moved - moved.mean(dim=2, keepdim=True)).square().mean(dim=(1, 2))
        zero = torch.zeros_like(energy)
        return torch.stack([zero + 4, 3 + 8 * energy, zero, zero - 1], dim=1)


class FixedLogits(nn.Module):
    """The same logits for every clip."""

    layout = LAYOUT

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V, M) -> (N, classes)."""
        return self.logits + 0 * x.flatten(1).sum(dim=1, keepdim=True)


@pytest.fixture
def assessor(tiny_run):
    """Return a function that makes an assessor of a network."""

    def make(network: nn.Module, classes=CLASSES, **calibration: float) -> Assessor:
        _, header = load_model(tiny_run)
        header = dataclasses.replace(
            header, transforms=["stream"], classes=classes, num_classes=len(classes),
            calibration=calibration or None, persons=1,
        )  # fmt: skip
        return Assessor(Recognizer(network, header))

    return make


def moving_clip(still: bool = False, persons: int = 1) -> Clip:
    """Return a clip of joints that move to and fro; with ``still`` the left wrist does not."""
    phases = np.random.default_rng(0).uniform(0, 6, (persons, 1, 15, 2))
    joints = np.sin(2 * np.pi * (np.arange(FRAMES)[None, :, None, None] + phases) / 6)
    if still:
        joints[:, :, WRIST] = 0
    return Clip(joints.astype(np.float32), LAYOUT, id="one", fps=FPS)


def test_score_and_probability_are_sums_over_the_pair(assessor):
    logits = np.log([0.3, 0.1, 0.4, 0.2])  # raise 0.4, squat 0.6
    (found,) = assess(moving_clip(), assessor(FixedLogits(*logits)))
    assert (found.exercise, found.verdict) == ("squat", "incorrect")
    assert found.probability == pytest.approx(0.6, abs=1e-6)
    assert found.score == pytest.approx(0.2 / 0.6, abs=1e-6)
    squares = np.array([0.3, 0.1, 0.4, 0.2]) ** 0.5  # a temperature of 2
    (found,) = assess(moving_clip(), assessor(FixedLogits(*logits), temperature=2.0))
    assert found.probability == pytest.approx(squares[2:].sum() / squares.sum(), abs=1e-6)
    assert found.score == pytest.approx(squares[3] / squares[2:].sum(), abs=1e-6)


def test_the_threshold_is_of_the_exercise_and_not_of_its_quality(assessor):
    logits = np.log([0.3, 0.1, 0.31, 0.29])
    network = FixedLogits(*logits)
    assert assess(moving_clip(), assessor(network, threshold=0.59))[0].verdict == "incorrect"
    (found,) = assess(moving_clip(), assessor(network, threshold=0.61))
    assert (found.verdict, found.is_known, found.importance) == ("unknown", False, None)
    values = found.to_dict()
    assert (values["exercise"], values["score"], "joints" in values) == (None, None, False)


def test_a_background_class_takes_its_share(assessor):
    network = FixedLogits(*np.log([0.05, 0.05, 0.2, 0.3, 0.4]))
    found = assessor(network, [*CLASSES, "other"], background=4, threshold=0.51)(moving_clip())
    assert found.probability == pytest.approx(0.5, abs=1e-6)
    assert found.verdict == "unknown"
    assert found.score == pytest.approx(0.6, abs=1e-6)


def test_the_deciding_joint_and_time_are_found(assessor):
    (found,) = assess(moving_clip(), assessor(WristStillness()))
    assert (found.exercise, found.verdict) == ("raise", "incorrect")
    shares = found.joint_shares()
    assert next(iter(shares)) == "left_wrist"
    assert shares["left_wrist"] > 0.9
    start, end = found.span()
    assert 0 <= start < end <= FRAMES / FPS / 2
    values = json.loads(json.dumps(found.to_dict()))
    assert values["joints"]["left_wrist"] == pytest.approx(shares["left_wrist"], abs=1e-4)
    (found,) = assess(moving_clip(still=True), assessor(WristStillness()))
    assert found.verdict == "correct"
    logits = np.exp([4.0, 3.0])
    assert found.score == pytest.approx(logits[0] / logits.sum(), abs=1e-5)


def test_each_person_is_assessed(assessor):
    model = assessor(WristStillness())
    results = assess(moving_clip(persons=2), model)
    assert [one.clip.id for one in results] == ["one, person 1", "one, person 2"]
    absent = moving_clip(persons=2)
    joints = np.array(absent.joints)
    joints[0] = np.nan
    (only,) = assess(absent.with_joints(joints), model)
    assert (only.clip.id, only.clip.num_persons) == ("one", 1)


def test_a_recording_is_cut_at_its_repetitions():
    down = 0.5 - 0.5 * np.cos(np.pi * np.arange(4 * 60) / 30)  # four squats of two seconds
    pose = Pose(BodyProportions(), len(down))
    pose.root[:, 1] -= 0.45 * pose.body.hip_height * down
    pose.lean += 0.5 * down
    clip = Clip(pose.joints()[None].astype(np.float32), get_layout("ntu25"), id="set", fps=30.0)
    parts = list(split_clip(clip, repetitions=True))
    assert [part.id for part in parts] == [f"set, repetition {k}" for k in (1, 2, 3, 4)]
    assert all(40 <= part.num_frames <= 75 for part in parts)
    assert [part.num_frames for part in split_clip(clip)] == [240]
    still = clip.with_joints(np.repeat(clip.joints[:, :1], 240, axis=1))
    assert [part.num_frames for part in split_clip(still, repetitions=True)] == [240]


@pytest.mark.parametrize(
    "classes",
    [
        ["here", "there", "away"],
        ["raise, correct", "squat, incorrect", "away"],
        ["raise, correct", "raise, incorrect", "away"],
    ],
)
def test_models_without_pairs_of_classes_are_refused(assessor, classes):
    with pytest.raises(CheckpointError, match=r"expected a model with a class 'NAME, correct'"):
        assessor(FixedLogits(0, 0, 0), classes)


def test_logits_that_are_not_finite_are_refused(assessor):
    with pytest.raises(CheckpointError, match="not finite"):
        assess(moving_clip(), assessor(FixedLogits(0, float("nan"), 0, 0)))


@pytest.mark.parametrize(
    ("weights", "share", "expected"),
    [
        ([0, 1, 5, 4, 0], 0.5, (2, 3)),
        ([0, 1, 5, 4, 0], 0.9, (2, 4)),
        ([1, 1, 1, 1], 1.0, (0, 4)),
        ([0, 0, 0], 0.5, (0, 3)),
        ([0, 0, 2], 0.5, (2, 3)),
    ],
)
def test_the_shortest_span_by_hand(weights, share, expected):
    assert _shortest_span(np.array(weights, float), share) == expected


# --------------------------------------------------------------------- bundled model


@pytest.fixture(scope="module")
def shipped() -> Assessor:
    """The bundled model."""
    return Assessor.load()


def squats(layout: str = "ntu25") -> Clip:
    """Return one squat of a synthetic body, two and a half seconds long."""
    down = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(75) / 75)
    pose = Pose(BodyProportions(), len(down))
    pose.root[:, 1] -= 0.45 * pose.body.hip_height * down
    pose.lean += 0.3 * down
    clip = Clip(pose.joints()[None].astype(np.float32), get_layout("ntu25"), id="squat", fps=30.0)
    return clip if layout == "ntu25" else convert_layout(clip, get_layout(layout))


def test_the_bundled_model_has_ten_exercises_and_an_answer_for_others(shipped):
    assert list(shipped.pairs) == list(class_names("ui_prmd"))
    assert shipped.model.calibration.background == 20
    noise = np.random.default_rng(0).normal(size=(1, 60, 25, 3)).astype(np.float32)
    assert shipped(Clip(noise, get_layout("ntu25"), id="noise", fps=30.0)).verdict == "unknown"


@pytest.mark.parametrize("layout", ["ntu25", "kinect20", "azure_kinect32"])
def test_other_sensors_give_the_same_answer(shipped, layout):
    clip, found = squats(), shipped(squats(), explain=False)
    other = shipped(convert_layout(clip, get_layout("penn13")), explain=False)
    assert (found.exercise, found.score) == (other.exercise, pytest.approx(other.score, abs=1e-3))
    if layout != "ntu25":
        assert shipped(squats(layout), explain=False).exercise == found.exercise


def test_place_size_and_direction_of_a_body_do_not_matter(shipped):
    clip, found = squats(), shipped(squats(), explain=False)
    sine, cosine = np.sin(0.7), np.cos(0.7)
    turn = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    moved = clip.with_joints((1.3 * clip.joints @ turn.T + [1, 2, 3]).astype(np.float32))
    other = shipped(moved, explain=False)
    assert other.exercise == found.exercise
    assert other.score == pytest.approx(found.score, abs=2e-3)
    assert other.probability == pytest.approx(found.probability, abs=2e-3)


def test_poses_of_an_image_are_refused(shipped):
    flat = np.random.default_rng(0).normal(size=(1, 30, 17, 2)).astype(np.float32)
    with pytest.raises(KinegraphError, match="depth"):
        shipped(Clip(flat, get_layout("coco17"), id="flat", fps=30.0))


def test_the_bundled_model_on_recordings_that_it_was_fitted_to(shipped):
    clips = read_clips(real_data("ui_prmd") / "original", label="both")
    for clip in clips:
        found = shipped(clip)
        assert found.exercise == class_names("ui_prmd")[clip.label // 2]
        assert len(found.joint_shares()) > 3
