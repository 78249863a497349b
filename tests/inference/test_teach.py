"""Teaching: new actions from a few takes, saved and opened like any model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import kinegraph as kg
from conftest import made_up_clips
from kinegraph.errors import CheckpointError, LayoutError, ModelError, TransformError
from kinegraph.inference.export.export_run import export_run
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import open_session
from kinegraph.inference.teach import pool_example, teach
from kinegraph.training.checkpoint import LAST_FILE
from synthetic_takes import read_take

ACTIONS = ("wave", "squat", "kick")
TAKES = 5


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[kg.Clip]]:
    """Five takes of three actions."""
    folder = tmp_path_factory.mktemp("takes")
    return {name: [read_take(folder, name, n) for n in range(TAKES)] for name in ACTIONS}


@pytest.fixture(scope="module")
def taught(takes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model, taught these actions."""
    out = tmp_path_factory.mktemp("taught") / "model"
    teach("penn-action", takes, out)
    return out


def test_three_actions_taught_from_five_takes_name_new_takes(taught, tmp_path):
    recognizer = Recognizer.load(taught)
    new = [(name, read_take(tmp_path, name, n)) for name in ACTIONS for n in range(100, 110)]
    predictions = [(name, recognizer(clip)) for name, clip in new]
    assert sum(found.name == name for name, found in predictions) >= 27
    named = [(name, found.accepted.name) for name, found in predictions if found.accepted]
    assert len(named) >= 20
    assert sum(name != accepted for name, accepted in named) <= 1
    others = [recognizer(read_take(tmp_path, "punch", n)).accepted for n in range(100, 110)]
    assert sum(accepted is None for accepted in others) >= 9


def test_the_header_states_what_was_taught(taught, takes):
    header = Recognizer.load(taught).header
    assert header.classes == [*ACTIONS, "unknown"]
    stated = header.training["taught"]
    assert stated["model"] == Recognizer.load("penn-action").header.recipe["name"]
    assert header.training["clips"] == TAKES * len(ACTIONS)
    assert stated["examples"] == dict.fromkeys(ACTIONS, TAKES)
    assert stated["held_out"]["examples"] == TAKES * len(ACTIONS)
    assert stated["held_out"]["correct"] > 0.5
    assert header.training["seconds"] < 60


def test_the_saved_file_is_the_model_wherever_it_lies(taught, takes, tmp_path):
    clip = takes["kick"][0]
    expected = teach("penn-action", takes)(clip).logits
    moved = shutil.copy(taught / LAST_FILE, tmp_path / "elsewhere.safetensors")
    np.testing.assert_allclose(Recognizer.load(moved)(clip).logits, expected, atol=1e-5)


def test_it_streams_frame_by_frame(taught, takes):
    recognizer = Recognizer.load(taught)
    clip = kg.convert_layout(takes["squat"][0], recognizer.layout, "front")
    session = open_session(recognizer, "step")
    for t in range(clip.num_frames):
        session.push(clip.joints[:, t])
    assert session.flush().name == "squat"


def examples(**sizes: int) -> dict[str, list[kg.Clip]]:
    """Return examples that fit the tiny run."""
    clips = made_up_clips()
    return {name: clips[i::3][:size] for i, (name, size) in enumerate(sizes.items())}


def test_a_trained_run_is_a_model_to_teach_and_stays_as_it_is(tiny_run):
    before = kg.Recognizer.load(tiny_run)
    clip = made_up_clips()[5]
    logits = before(clip).logits
    taught = teach(before, examples(near=3, far=3, off=3))
    assert taught(clip).name == "off"
    np.testing.assert_array_equal(before(clip).logits, logits)
    again = teach(taught, examples(left=2, right=2))
    assert again.header.classes == ["left", "right", "unknown"]
    assert again(made_up_clips()[7]).name == "right"


def test_a_long_example_counts_by_the_windows_of_a_stream(tiny_run):
    model = Recognizer.load(tiny_run)
    short = made_up_clips()[0]
    long = kg.Clip(np.concatenate([short.joints] * 30, axis=1), short.layout, fps=30.0)
    assert long.num_frames == 300
    assert [len(pool_example(model, clip)) for clip in (short, long)] == [1, 1 + 3]
    held_out = teach(model, {"near": [short, long], "far": [made_up_clips()[1]]})
    assert held_out.header.training["taught"]["held_out"]["examples"] == 2


def test_padding_of_a_prediction_is_not_taken_for_that_of_a_stream(taught, takes):
    model = Recognizer.load("penn-action")
    clip = takes["kick"][0]
    padded, streamed = pool_example(model, clip)
    session = open_session(Recognizer.load(taught), "step")
    shown = kg.convert_layout(clip, model.layout, "front")
    for t in range(shown.num_frames):
        session.push(shown.joints[:, t])
    assert session.flush().is_confident
    assert np.abs(padded - streamed).max() > 0.1


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({}, CheckpointError, "at least two actions, got none"),
        ({"near": 2}, CheckpointError, "at least two actions, got near"),
        ({"near": 2, "far": 0}, CheckpointError, "'far' has no examples"),
        ({"near": 2, "unknown": 2}, CheckpointError, "cannot be named 'unknown'"),
    ],
)
def test_examples_that_are_refused(tiny_run, given, error, message, tmp_path):
    with pytest.raises(error, match=message):
        teach(tiny_run, examples(**given), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clips_that_do_not_fit_are_refused(tiny_run, takes):
    with pytest.raises((CheckpointError, LayoutError, TransformError)):
        teach(tiny_run, {**examples(near=2), "wave": takes["wave"]})


def test_huge_coordinates_are_refused(tiny_run):
    given = examples(near=2, far=2)
    given["far"][0] = given["far"][0].with_joints(given["far"][0].joints * np.float32(1e38))
    with pytest.raises(CheckpointError, match="not finite"):
        teach(tiny_run, given)


@pytest.mark.parametrize(
    ("name", "streaming"),
    [
        ("whole.pt2", False),
        pytest.param("whole.onnx", False, marks=pytest.mark.slow),
        pytest.param("step.onnx", True, marks=pytest.mark.slow),
    ],
)
def test_it_exports_like_any_model(tiny_run, tmp_path, name, streaming):
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="NOT TESTED: the extra `export` is missing")
    taught = teach(tiny_run, examples(near=3, far=3), tmp_path / "taught")
    clip = made_up_clips()[4]
    export_run(tmp_path / "taught", tmp_path / name, streaming=streaming)
    prediction = Recognizer.load(tmp_path / name)(clip)
    assert prediction.name == "far"
    np.testing.assert_allclose(prediction.logits, taught(clip).logits, rtol=1e-3, atol=1e-3)
    with pytest.raises(ModelError, match="not exported files"):
        teach(tmp_path / name, examples(near=2, far=2))


def test_a_folder_that_is_not_empty_is_kept(tiny_run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match="not empty"):
        teach(tiny_run, examples(near=2, far=2), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
