"""Results of pose estimators in a session, as docs/streaming.md shows it, with stand-ins."""

from __future__ import annotations

import runpy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import kinegraph as kg
from test_docs import DOCS, blocks


@dataclass(frozen=True)
class Keypoints:
    """The attributes of `ultralytics.engine.results.Keypoints` for 17 joints."""

    xy: torch.Tensor | np.ndarray
    conf: torch.Tensor | np.ndarray


@dataclass(frozen=True)
class Results:
    """The attributes of `ultralytics.engine.results.Results` for poses."""

    keypoints: Keypoints

    def cpu(self) -> Results:
        return self

    def numpy(self) -> Results:
        points = self.keypoints
        return replace(self, keypoints=Keypoints(points.xy.numpy(), points.conf.numpy()))


@dataclass(frozen=True)
class KeyPoints:
    """The attributes of `supervision.KeyPoints`."""

    xy: np.ndarray
    keypoint_confidence: np.ndarray


def test_results_of_ultralytics_and_supervision_are_frames(tmp_path):
    rng = np.random.default_rng(0)
    joints = rng.uniform(50, 400, (2, 17, 2)).astype(np.float32)
    confidence = rng.uniform(0.4, 1, (2, 17)).astype(np.float32)
    joints[0, 9], confidence[0, 9] = 0, 0.05  # not visible
    result = Results(Keypoints(torch.tensor(joints), torch.tensor(confidence)))
    recognizer = kg.load_pretrained("penn-action")
    pushed = []

    class Recorded:
        """Records the frames of a session."""

        def __init__(self, *arguments, **options):
            self.session = kg.open_session(*arguments, **options)

        def push(self, joints, confidence):
            pushed.append((joints, confidence))
            return self.session.push(joints, confidence)

    (program,) = [
        code for mark, code in blocks(DOCS / "streaming.md") if mark == "python estimators"
    ]
    (tmp_path / "program.py").write_text(program.replace("kg.open_session", "Recorded"))
    names = {"result": result, "key_points": KeyPoints(joints, confidence)}
    names |= {"kg": kg, "np": np, "recognizer": recognizer, "Recorded": Recorded}
    made = runpy.run_path(str(tmp_path / "program.py"), names)
    assert made["session"].session.frames == 2
    for found, sure in pushed:
        assert np.isnan(found[9]).all() and np.isnan(found).sum() == 2
        seen = np.arange(17) != 9
        np.testing.assert_array_equal(found[seen], joints[0][seen])
        assert sure == pytest.approx(confidence[0])
