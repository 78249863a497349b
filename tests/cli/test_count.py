"""`kinegraph count`: raw files, stores and pose files, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kinegraph.cli import main
from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.readers.synthetic.body import BodyProportions, Pose
from kinegraph.skeleton.layouts import get_layout

FPS = 30
SQUATS = 4
LAYOUT = get_layout("ntu25")


def run(capsys, *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, *capsys.readouterr()


@pytest.fixture
def joints() -> np.ndarray:
    """Joints (1, T, 25, 3) of a body that squats four times, two seconds each."""
    down = 0.5 - 0.5 * np.cos(np.pi * np.arange(SQUATS * 2 * FPS) / FPS)
    pose = Pose(BodyProportions(), len(down))
    pose.root[:, 1] -= 0.45 * pose.body.hip_height * down
    pose.lean += 0.5 * down
    return pose.joints()[None].astype(np.float32)


def test_raw_files_and_stores_are_counted(tmp_path, capsys, joints):
    np.save(tmp_path / "squats.npy", joints)
    store = tmp_path / "squats.arrow"
    with StoreWriter(store, LAYOUT, ["squat"]) as writer:
        writer.write(Clip(joints, LAYOUT, label=0, id="own", fps=FPS))
    options = ("--layout", "ntu25", "--reader", "arrays", "--fps", FPS)
    code, out, _ = run(capsys, "count", tmp_path / "squats.npy", *options)
    assert (code, out) == (0, "squats, person 1: 4 repetitions\n")
    code, out, _ = run(capsys, "count", store, "--json")
    found = json.loads(out)
    assert (code, found["id"], found["person"], found["count"]) == (0, "own", 1, SQUATS)
    assert len(found["repetitions"]) == SQUATS
    assert found["partial"] == []
    assert found["repetitions"][0]["end"] <= 2


def test_a_source_that_cannot_be_read_is_reported_and_the_others_are_counted(
    tmp_path, capsys, joints
):
    store = tmp_path / "squats.arrow"
    with StoreWriter(store, LAYOUT, ["squat"]) as writer:
        writer.write(Clip(joints, LAYOUT, label=0, id="own", fps=FPS))
    code, out, error = run(capsys, "count", tmp_path / "nothing.mp4", store)
    assert code == 2
    assert out == "own, person 1: 4 repetitions\n"
    assert error.count("\n") == 1
    assert "nothing.mp4" in error
