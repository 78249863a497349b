"""What can be watched."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kinegraph.errors import ReadError, UnknownNameError, VideoError
from kinegraph.video.decode import VideoFile
from kinegraph.video.estimators.base import PoseEstimator, load_estimator
from kinegraph.video.sources import PoseFileSource, VideoSource, open_source
from video.synthetic_videos import GrayLevelEstimator, gray_level, picture, require_av, write_video


def openpose(folder, frames, joints=17):
    """A folder of frames: number -> list of (x, y) where persons stand; None is a broken file."""
    folder.mkdir()
    body = np.random.default_rng(0).uniform(0, 40, (joints, 2))
    for number, places in frames.items():
        path = folder / f"v_{number:012d}_keypoints.json"
        if places is None:
            path.write_text('{"people": [')
            continue
        people = []
        for place in places:
            pose = np.concatenate([body + place, np.full((joints, 1), 0.9)], axis=1)
            people.append({"pose_keypoints_2d": pose.ravel().tolist()})
        path.write_text(json.dumps({"people": people}))
    return folder


def test_a_folder_of_openpose_gives_frames_in_time(tmp_path):
    folder = openpose(tmp_path / "v", {10: [(0, 0)], 11: [(1, 0), (200, 0)], 14: [], 15: None})
    source = open_source(str(folder), fps=10)
    assert isinstance(source, PoseFileSource)
    assert (source.layout.name, source.frame_count, source.duration) == ("coco17", 4, 0.6)
    frames = [frame for _, frame in source.frames()]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.4, 0.5])
    assert [frame.joints.shape for frame in frames][1:] == [(2, 17, 2), (0, 17, 2), (0, 17, 2)]
    assert frames[0].confidence == pytest.approx(0.9)
    assert source.warning.startswith("1 of 4 files were skipped; the first: ")
    blank = list(source.replay())
    assert [p.time for p in blank] == pytest.approx([0, 0.1, 0.4, 0.5])
    assert max(blank[0].image.shape) == pytest.approx(640, abs=1)
    assert frames[1].joints.max() * source.scale() <= 640


@pytest.mark.parametrize("frames", [{}, {0: []}, {0: None}])
def test_a_folder_without_anybody_is_refused(tmp_path, frames):
    with pytest.raises(ReadError, match="expected"):
        open_source(str(openpose(tmp_path / "v", frames)))


def test_a_folder_of_folders_is_refused_with_a_hint(tmp_path):
    for name in ("v", "w"):
        openpose(tmp_path / name, {0: [(0, 0)]})
    with pytest.raises(ReadError, match=r"expected one, such as .*v"):
        open_source(str(tmp_path))


def test_files_of_other_estimators_give_frames_in_time(tmp_path):
    keypoints = [number for x in range(100, 117) for number in (x, 2 * x, 0.9)]
    people = [{"image_id": f"{n}.jpg", "keypoints": keypoints, "score": 1} for n in (2, 10)]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(people))
    source = open_source(str(path), fps=10)
    frames = [frame for _, frame in source.frames()]
    assert (source.layout.name, [frame.time for frame in frames]) == ("coco17", [0, 0.8])
    assert frames[1].joints[0, 16].tolist() == [116, 232]
    assert "the layout coco17 is a guess" in source.warning
    assert open_source(str(path), layout="h36m17").layout.name == "h36m17"
    with pytest.raises(VideoError, match="--layout states the joints of pose files"):
        open_source("0", layout="coco17")


def test_poses_in_3d_are_refused(tmp_path):
    points = [[0.01 * (v % 3), 0.0, 0.1 * v] for v in range(17)]
    frame = {"frame_id": 1, "instances": [{"keypoints": points, "keypoint_scores": [1] * 17}]}
    (tmp_path / "a.json").write_text(json.dumps([frame]))
    with pytest.raises(ReadError, match=r"the poses are in 3D, world \(z up"):
        open_source(str(tmp_path / "a.json"), layout="h36m17")


def test_shares_of_the_image_need_its_size(tmp_path):
    line = "0 0.5 0.5 0.2 0.4 " + "0.5 0.25 0.9 " * 17
    (tmp_path / "v_1.txt").write_text(line)
    with pytest.raises(ReadError, match=r"shares of the image.*--width and --height"):
        open_source(str(tmp_path))
    source = open_source(str(tmp_path), size=(640, 480))
    ((_, frame),) = source.frames()
    assert frame.joints[0, 0].tolist() == [320, 120]


def test_two_files_of_a_frame_are_refused(tmp_path):
    folder = openpose(tmp_path / "v", {0: [(0, 0)]})
    (folder / "w_000_keypoints.json").write_text('{"people": []}')
    with pytest.raises(ReadError, match="are both of frame 0"):
        open_source(str(folder))


def test_skeletons_are_looked_for_no_more_often_than_the_rate(tmp_path):
    require_av()
    path = write_video(tmp_path / "a.mp4", [picture(gray_level(0))] * 120, fps=120)
    estimator = GrayLevelEstimator()
    source = VideoSource(VideoFile(path), estimator, fps=30)
    frames = list(source.frames())
    assert len(frames) == 120 and all(picture is not None for picture, _ in frames)
    looked = [frame.time for _, frame in frames if frame is not None]
    assert len(looked) in range(30, 42)
    source.close()
    assert estimator.closed


def test_a_rate_like_that_of_the_model_is_taken_as_it_is(tmp_path):
    require_av()
    path = write_video(tmp_path / "a.mp4", [picture(gray_level(0))] * 33, fps=33)
    source = VideoSource(VideoFile(path), GrayLevelEstimator(), fps=30)
    assert sum(frame is not None for _, frame in source.frames()) == 33


def test_an_unknown_estimator_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown pose estimator 'mediapip'.*mediapipe"):
        load_estimator("mediapip")


def test_estimators_keep_the_protocol():
    assert isinstance(GrayLevelEstimator(), PoseEstimator)
