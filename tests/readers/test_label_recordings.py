"""Interval labels of a user's recordings: pose files beside an annotation file, to a store."""

from pathlib import Path

import numpy as np
import pytest

from kinegraph.clips.intervals import Interval, parse_intervals
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ReadError
from kinegraph.readers import get_reader
from kinegraph.readers.convert import convert
from kinegraph.readers.label_recordings import RecordingLabels

OPTIONS = {"layout": "kinect20", "space": "world", "fps": 10}


def write_recordings(folder: Path, *names: str, frames: int = 30) -> Path:
    """Write recordings as arrays of one person."""
    for name in names:
        path = folder / "raw" / f"{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng(0).normal(size=(frames, 20, 3)))
    return folder / "raw"


def labels_of(folder: Path, text: str, points: int | None = None) -> RecordingLabels:
    """Return the labels of a .csv table."""
    path = folder / "intervals.csv"
    path.write_text(text)
    return RecordingLabels(path, points)


def read(folder: Path, labels: RecordingLabels, options=OPTIONS):
    """Return the store of the recordings of a folder, and what was refused."""
    store = folder / "store.arrow"
    done = convert(get_reader("arrays"), folder / "raw", store, options=options, labels=labels)
    return ClipStore(store), done.refused


def intervals(store: ClipStore, name: str):
    """Return the intervals of a recording."""
    clip = store[store.find(name)]
    return parse_intervals(clip.meta, clip.num_frames)


def test_seconds_and_names_with_and_without_suffix(tmp_path):
    write_recordings(tmp_path, "a", "b", "c")
    labels = labels_of(
        tmp_path, "recording,start,end,label\nvideos/a.mp4,0.5,1.24,walk\nb,1,99,sit\nd,0,1,sit\n"
    )
    store, refused = read(tmp_path, labels)
    assert store.classes == ("sit", "walk")
    assert intervals(store, "a") == (Interval(1, 5, 12),)
    assert intervals(store, "b") == (Interval(0, 10, 30),)  # cut at the end of the recording
    assert intervals(store, "c") is None
    assert refused == [("d", f"{labels.path} has labels of it, but it is not there")]


def test_points_become_intervals_of_the_stated_length(tmp_path):
    write_recordings(tmp_path, "a")
    text = "recording,frame,label\na,2,walk\na,15,sit\n"
    with pytest.raises(ReadError, match="some actions have no end: state with --point-frames"):
        labels_of(tmp_path, text)
    store, _ = read(tmp_path, labels_of(tmp_path, text, points=9))
    assert intervals(store, "a") == (Interval(1, 0, 9), Interval(0, 11, 20))


def test_the_result_counts_actions(tmp_path):
    write_recordings(tmp_path, "a", "b", "c")
    labels = labels_of(tmp_path, "recording,start,end,label\na,0,1,walk\na,1,2,walk\nb,,,\n")
    store = tmp_path / "store.arrow"
    done = convert(get_reader("arrays"), tmp_path / "raw", store, options=OPTIONS, labels=labels)
    assert (done.per_class, done.unlabeled, done.stored) == ({"walk": 2}, 1, 3)


def test_points_may_have_a_length_in_seconds(tmp_path):
    write_recordings(tmp_path, "a")
    path = tmp_path / "intervals.csv"
    path.write_text("recording,time,tag\na,1.5,sit\n")
    store, _ = read(tmp_path, RecordingLabels(path, point_seconds=0.9))  # 10 frames per second
    assert intervals(store, "a") == (Interval(0, 11, 20),)
    unknown = {key: value for key, value in OPTIONS.items() if key != "fps"}
    path.write_text("recording,frame,label\na,15,sit\n")
    with pytest.raises(ReadError, match="--point-seconds needs its frame rate"):
        read(tmp_path, RecordingLabels(path, point_seconds=0.9), unknown)
    with pytest.raises(ReadError, match="expected --point-frames or --point-seconds, got both"):
        RecordingLabels(path, 9, 0.9)


def test_frames_need_no_frame_rate_and_seconds_do(tmp_path):
    write_recordings(tmp_path, "a")
    unknown = {key: value for key, value in OPTIONS.items() if key != "fps"}
    store, _ = read(
        tmp_path, labels_of(tmp_path, "recording,start_frame,stop_frame,label\na,3,7,x\n"), unknown
    )
    assert intervals(store, "a") == (Interval(0, 3, 7),)
    with pytest.raises(ReadError, match="its frame rate is unknown: state it with --fps"):
        read(tmp_path, labels_of(tmp_path, "recording,start,end,label\na,3,7,x\n"), unknown)


def test_recordings_that_do_not_fit_their_labels_are_refused(tmp_path):
    write_recordings(tmp_path, "a", "b", "deep/a")
    text = "recording,start_frame,stop_frame,label\na,40,50,x\nb,0,1,x\n"
    store, refused = read(tmp_path, labels_of(tmp_path, text))
    reasons = " ".join(reason for _, reason in refused)
    assert "'x' begins at frame 40, after its 30 frames" in reasons
    assert "the labels of 'a' are already those of another one" in reasons
    assert store.ids == ["b"]
