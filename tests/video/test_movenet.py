"""MoveNet: the converted graph, its poses, its installation, and when it is the default."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from importlib.util import find_spec

import numpy as np
import pytest

from cli.test_cli import run
from conftest import real_data
from kinegraph.errors import VideoError
from kinegraph.video.estimators import base
from kinegraph.video.estimators.base import default_estimator, load_estimator, movenet_path
from kinegraph.video.estimators.movenet import MIN_JOINT_SCORE, MIN_PERSON_SCORE

FOLDER = "pose_models/movenet_multipose"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty data folder."""
    monkeypatch.setenv("KINEGRAPH_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The path of the converted model."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"NOT TESTED: {package} is not installed")
    published = real_data(FOLDER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINEGRAPH_HOME", str(tmp_path_factory.mktemp("home")))
        from kinegraph.video.estimators.movenet import install_model

        return install_model(published)


@pytest.fixture
def installed(converted):
    """The model, installed in the data folder of the test."""
    movenet_path().parent.mkdir()
    shutil.copyfile(converted, movenet_path())


def reference():
    """Frames (N, 256, 256, 3) and the outputs (N, 6, 56) of the verified model."""
    with np.load(real_data(FOLDER) / "reference_frames.npz") as file:
        return file["frames"], file["outputs"]


def answer(path, frame):
    """The output (6, 56) of a model for a frame."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": frame[None].astype(np.int32)})[0][0]


def test_the_converted_model_answers_like_the_verified_one(converted):
    frames, outputs = reference()
    for frame, expected in zip(frames, outputs, strict=True):
        np.testing.assert_allclose(answer(converted, frame), expected, atol=1e-6)
    verified = real_data(FOLDER) / "movenet_multipose.onnx"
    wide = np.ascontiguousarray(frames[0][:160])
    np.testing.assert_allclose(answer(converted, wide), answer(verified, wide), atol=1e-6)


def test_persons_are_where_they_are_in_the_image(installed):
    frames, outputs = reference()
    frame, rows = frames[0], outputs[0]
    rows = rows[rows[:, -1] >= MIN_PERSON_SCORE]
    rows = rows[np.argsort(-rows[:, -1])]
    estimator = load_estimator("movenet")
    assert (estimator.people, estimator.layout.name) == (6, "coco17")
    found = estimator(frame, 1.5)
    assert (found.time, found.width, found.height) == (1.5, 256, 256)
    assert len(found.joints) == len(rows) == 3
    expected = rows[:, :51].reshape(-1, 17, 3)
    seen = ~np.isnan(found.joints[..., 0])
    inside = ((expected[..., :2] >= 0) & (expected[..., :2] <= 1)).all(axis=-1)
    np.testing.assert_array_equal(seen, inside & (expected[..., 2] >= MIN_JOINT_SCORE))
    assert 0.5 < seen.mean() < 1
    np.testing.assert_allclose(found.joints[seen], 256 * expected[..., 1::-1][seen], atol=1e-3)
    np.testing.assert_allclose(found.confidence[seen], expected[..., 2][seen], atol=1e-5)
    assert len(load_estimator("movenet", 2)(frame, 0).joints) == 2


def test_the_size_and_shape_of_the_image_do_not_matter(installed):
    frame = np.ascontiguousarray(reference()[0][3][:250])
    estimator = load_estimator("movenet")
    small = estimator(frame, 0)
    large = estimator(frame.repeat(3, axis=0).repeat(3, axis=1), 0)
    assert len(small.joints) == len(large.joints) > 0
    both = ~np.isnan(small.joints[..., 0]) & ~np.isnan(large.joints[..., 0])
    assert both.sum() > 10
    assert np.abs(large.joints / 3 - small.joints)[both].mean() < 3


def test_colors_are_red_first(installed):
    estimator = load_estimator("movenet")
    scores = {}
    for order in (1, -1):
        found = [estimator(np.ascontiguousarray(f[..., ::order]), 0) for f in reference()[0]]
        scores[order] = sum(float(f.confidence.sum()) for f in found)
    assert scores[1] > scores[-1]


def test_a_package_is_converted_and_becomes_the_default(capsys, tmp_path, converted):
    published = real_data(FOLDER)
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as archive:
        for suffix in ("json", "bin"):
            name = f"movenet-multipose.{suffix}"
            shutil.copyfile(published / name, package / "models" / name)
            archive.add(published / name, f"package/models/{name}")
    for given in (package, tmp_path / "p.tgz"):
        code, out, err = run(capsys, "pose-model", "movenet", given)
        assert (code, err) == (0, "") and str(movenet_path()) in out
        assert movenet_path().read_bytes() == converted.read_bytes()
        assert default_estimator() == "movenet"
        movenet_path().unlink()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "does not exist"),
        (b"not an archive", "cannot read"),
        ({}, "does not contain movenet-multipose.json and movenet-multipose.bin"),
        ({"movenet-multipose.json": b"{}"}, "does not contain movenet-multipose.bin"),
        (
            {"movenet-multipose.json": b"{}", "movenet-multipose.bin": b"0"},
            "movenet-multipose.json of .* differs from that of the npm package",
        ),
    ],
)
def test_another_package_is_refused(capsys, tmp_path, content, said):
    path = tmp_path / "p"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
        for name, data in content.items():
            (path / name).write_bytes(data)
    code, out, err = run(capsys, "pose-model", "movenet", path)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert re.search(said, err)
    assert not movenet_path().exists()


def test_a_changed_weight_is_refused(capsys, tmp_path):
    for path in real_data(FOLDER).glob("movenet-multipose.*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= path.suffix == ".bin"
        (tmp_path / path.name).write_bytes(data)
    code, _, err = run(capsys, "pose-model", "movenet", tmp_path)
    assert code == 2 and "movenet-multipose.bin" in err and "npm pack" in err


def test_a_damaged_model_is_one_sentence(installed):
    movenet_path().write_bytes(movenet_path().read_bytes()[:5000])
    with pytest.raises(VideoError, match="convert it again"):
        load_estimator()


def test_without_any_estimator_both_ways_are_named(monkeypatch):
    absent = {"mediapipe", "onnxruntime"}
    monkeypatch.setattr(base, "find_spec", lambda n: None if n in absent else find_spec(n))
    with pytest.raises(VideoError, match=r"\[video\].*pose-model movenet") as error:
        load_estimator()
    assert "\n" not in str(error.value)
    absent.remove("mediapipe")
    assert default_estimator() == "mediapipe"
    movenet_path().parent.mkdir()
    movenet_path().write_bytes(b"")
    assert default_estimator() == "mediapipe"  # the model cannot run
    absent.remove("onnxruntime")
    monkeypatch.setattr(base, "find_spec", lambda n: None if n in absent else json.__spec__)
    assert default_estimator() == "movenet"
