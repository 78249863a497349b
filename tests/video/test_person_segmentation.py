"""`kinegraph watch` with a segmentation run: its intervals are those of `kinegraph segment`."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cli.test_cli import run
from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import BACKGROUND, Interval, label_frames, pack_intervals
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import ModelError
from kinegraph.inference.segment import Segmenter
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train
from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.pipeline import ActionPipeline

LAYOUT, PIXELS = get_layout("coco17"), Space("image", unit="pixel")
FPS, FRAMES = 30, 90
BODY = np.random.default_rng(0).uniform(0, 100, (17, 2)) + 200
RECIPE = {
    "name": "recordings",
    "protocol": "odd-even-subjects",
    "transforms": [{"downsample": {"step": 2}}, "center", "stream",
                   {"random_window": {"frames": 40}}],
    "model": {"name": "stgcn", "channels": [8], "strides": [1], "temporal_kernel": 3,
              "pool": "joints"},
    "objective": {"name": "segmentation"},
    "train": {"epochs": 12, "batch_size": 2, "optimizer": "adamw", "lr": 0.02},
    "validation": {"fraction": 0},
}  # fmt: skip
HEADS = {
    "ms_tcn": {"name": "ms_tcn", "layers": 2, "refinements": 0, "channels": 8, "dropout": 0},
    "causal": {"name": "causal", "layers": 2, "refinements": 0, "channels": 8, "dropout": 0},
}


def recording(number: int) -> tuple[np.ndarray, list[Interval]]:
    """Return joints (T, 17, 2) of a body that reaches up, then to the side, and its intervals."""
    rng = np.random.default_rng(number)
    start = int(rng.integers(10, 25))
    intervals = [Interval(0, start, start + 25), Interval(1, start + 30, start + 55)]
    labels = label_frames(intervals, FRAMES, 2)
    offset = np.array([[0, -45], [45, 0], [0, 0]])[labels]
    joints = np.tile(BODY, (FRAMES, 1, 1)) + rng.normal(0, 1, (FRAMES, 17, 2))
    joints[:, 5:10] += offset[:, None]
    return joints.astype(np.float32), intervals


@pytest.fixture(scope="module", params=list(HEADS))
def segmentation(request, tmp_path_factory):
    """A trained run of each head."""
    folder = tmp_path_factory.mktemp("watched")
    with StoreWriter(folder / "own.arrow", LAYOUT, ("up", "side")) as writer:
        for number in range(10):
            joints, intervals = recording(number)
            meta = {"subject": number, "intervals": pack_intervals(intervals)}
            facts = {"id": f"r{number}", "fps": float(FPS), "meta": meta, "space": PIXELS}
            writer.write(Clip(joints[None], LAYOUT, **facts))
    changes = {"store": str(folder / "own.arrow"), "head": HEADS[request.param]}
    return train(parse_recipe({**RECIPE, **changes}, "own"), folder / "run")


def write_openpose(folder, joints):
    """Write a file of OpenPose for each frame."""
    folder.mkdir()
    for number, frame in enumerate(joints):
        pose = np.concatenate([frame, np.full((17, 1), 0.9)], axis=1).ravel().tolist()
        text = json.dumps({"people": [{"pose_keypoints_2d": pose}]})
        (folder / f"v_{number:012d}_keypoints.json").write_text(text)
    return folder


def test_watch_gives_the_intervals_of_segment(segmentation, tmp_path, capsys):
    joints, true = recording(20)
    folder = write_openpose(tmp_path / "v", joints)
    page, words = tmp_path / "page.html", ("--fps", FPS, "--model", segmentation)
    code, out, err = run(capsys, "watch", folder, *words, "--json", "--page", page)
    assert code == 0, err
    segments = json.loads(out.splitlines()[-1])["segments"]
    _, out, _ = run(
        capsys, "segment", folder, "--reader", "openpose", "--fps", FPS, "--model", segmentation,
        "--json",
    )  # fmt: skip
    expected = json.loads(out.splitlines()[-1])["intervals"]
    named = [one for one in segments if one["label"] is not None]
    assert [one["name"] for one in named] == [one["label"] for one in expected] != []
    for one, interval in zip(named, expected, strict=True):
        assert one["start"] == pytest.approx(interval["start"], abs=1e-3)
        assert one["end"] == pytest.approx(interval["end"], abs=1e-3)
        assert one["probability"] == pytest.approx(interval["probability"], abs=1e-3)
    assert {"up", "side"} == {one["name"] for one in named}
    assert named[0]["start"] == pytest.approx(true[0].start / FPS, abs=0.15)
    rest = [one for one in segments if one["label"] is None]
    assert {one["name"] for one in rest} == {BACKGROUND}
    edges = [one["end"] for one in segments[:-1]]
    assert edges == pytest.approx([one["start"] for one in segments[1:]], abs=1e-3)
    assert "side" in page.read_text() and "2 action classes" in page.read_text()


def test_a_live_source_is_named_frame_by_frame(segmentation):
    segmenter = Segmenter.load(segmentation)
    if segmenter.header.model["head"]["name"] != "causal":
        with pytest.raises(ModelError, match="a stream needs a causal head"):
            ActionPipeline(segmenter, LAYOUT, is_live=True)
        return
    joints, _ = recording(21)
    found = {}
    for is_live in (True, False):
        pipeline = ActionPipeline(segmenter, LAYOUT, is_live=is_live)
        before_end, segments = 0, []
        for number, frame in enumerate(joints):
            pose = PoseFrame(number / FPS, frame[None], np.full((1, 17), 0.9, np.float32), 640, 480)
            segments += pipeline(pose)[1]
        before_end = len(segments)
        found[is_live] = segments + pipeline.finish()
        assert before_end == (len(found[is_live]) - 1 if is_live else 0)
    assert [s.name for s in found[True]] == [s.name for s in found[False]]
    assert len({s.name for s in found[True]}) == 3
    for one, other in zip(found[True], found[False], strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end))
        assert one.probability == pytest.approx(other.probability, abs=1e-4)


def test_a_model_of_3d_joints_is_refused(tmp_path, capsys):
    layout, space = get_layout("coco17"), Space("world", up="y", unit="m")
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "own.arrow", layout, ("up",)) as writer:
        for number in range(4):
            meta = {"subject": number, "intervals": pack_intervals([Interval(0, 3, 9)])}
            joints = rng.normal(size=(1, 40, 17, 3)).astype(np.float32)
            writer.write(Clip(joints, layout, id=f"r{number}", fps=30.0, meta=meta, space=space))
    changes = {"store": str(tmp_path / "own.arrow"), "head": HEADS["causal"]}
    recipe = {**RECIPE, **changes, "train": {**RECIPE["train"], "epochs": 1}}
    trained = train(parse_recipe(recipe, "own"), tmp_path / "run")
    folder = write_openpose(tmp_path / "v", recording(1)[0])
    capsys.readouterr()
    code, _, err = run(capsys, "watch", folder, "--fps", FPS, "--model", trained)
    assert code == 2 and err.startswith("kinegraph: ") and err.count("\n") == 1
    assert "depth" in err
