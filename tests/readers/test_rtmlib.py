"""Reader of arrays of rtmlib: keypoints and scores in .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers import guess_reader
from kinegraph.readers.rtmlib import READER
from readers.pose_samples import body, places, read

FRAMES = np.stack([np.stack([body(100 + t), body(500)]) for t in range(3)])
KEYPOINTS, SCORES = FRAMES[..., :2], FRAMES[..., 2]


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_frames_of_persons(tmp_path: Path) -> None:
    scores = SCORES.copy()
    scores[1, 1] = 0
    path = save(tmp_path / "a.npz", keypoints=KEYPOINTS, scores=scores)
    clip = read(READER, path, fps=30)
    assert (places(clip), clip.fps) == ([[100, 101, 102], [500, None, 500]], 30)
    assert guess_reader(path) is READER


def test_scores_of_simcc_are_capped(tmp_path: Path) -> None:
    clip = read(READER, save(tmp_path / "a.npz", keypoints=KEYPOINTS, scores=SCORES * 5))
    assert clip.confidence is not None and clip.confidence.max() == 1
    assert "scores above 1 were capped at 1" in clip.notes


def test_poses_with_the_frames_beside_them(tmp_path: Path) -> None:
    facts = {"frame_ids": np.array([4, 4, 6]), "track_ids": np.array([1, 2, 2])}
    keypoints = np.stack([KEYPOINTS[0, 0], KEYPOINTS[0, 1], KEYPOINTS[2, 0]])
    path = save(tmp_path / "a.npz", keypoints=keypoints, scores=SCORES[:, 0], **facts)
    assert sorted(places(read(READER, path)), key=str) == [[100, None, None], [500, None, 102]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"keypoints": KEYPOINTS, "scores": SCORES[:2]}, r"scores of shape \(3, 2, 17\)"),
        ({"keypoints": KEYPOINTS[..., 0], "scores": SCORES[..., 0]}, "2 or 3 numbers"),
        ({"keypoints": KEYPOINTS * np.inf, "scores": SCORES}, "finite coordinates"),
        ({"keypoints": np.array([None, 1]), "scores": SCORES}, "array of numbers"),
        (
            {"keypoints": KEYPOINTS[:, 0], "scores": SCORES[:, 0], "frames": np.ones(2)},
            "3 frame numbers",
        ),
        (
            {"points": KEYPOINTS, "scores": SCORES},
            "an array named keypoints or .* found points, scores",
        ),
    ],
)
def test_damage_is_named(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(ReadError, match=message):
        read(READER, path)
