"""Reader of Kinetics-Skeleton: against the published array layout, and damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import KinegraphError, ReadError, UnknownNameError
from kinegraph.readers.formats.json_file import MAX_FRAMES
from kinegraph.readers.kinetics import READER
from kinegraph.readers.person_selection import PoseSelection
from kinegraph.readers.reader import ReadTask

REAL = {  # id: (last frame_index + 1, label, its name)
    "__NrybzYzUg": (300, 0, "abseiling"),
    "__PYrzYbzKE": (300, 173, "jumpstyle dancing"),
    "__U_scuxNlQ": (300, 58, "clay pottery making"),
    "__lt03EF4ao": (250, 208, "passing American football (in game)"),
    "__u6odV5hrI": (300, 207, "parkour"),
    "__vOysOPoCY": (250, 207, "parkour"),
    "__vzEs2wzdQ": (165, 335, "strumming guitar"),
}


def as_published(content: dict[str, Any]) -> NDArray[np.float64]:
    """(2, 300, 18, 3): first 5 persons of a frame, then the 2 of highest score, 0 for unseen."""
    data = np.zeros((3, 300, 18, 5))
    for frame in content["data"]:
        for m, person in enumerate(frame["skeleton"][:5]):
            data[0, frame["frame_index"], :, m] = person["pose"][0::2]
            data[1, frame["frame_index"], :, m] = person["pose"][1::2]
            data[2, frame["frame_index"], :, m] = person["score"]
    data[:2, data[2] == 0] = 0
    for t in range(300):
        order = (-data[2, t].sum(axis=0)).argsort(kind="stable")
        data[:, t] = data[:, t][:, :, order]
    return data[..., :2].transpose(3, 1, 2, 0)


def frame(index: int, *persons: dict[str, Any]) -> dict[str, Any]:
    return {"frame_index": index, "skeleton": list(persons)}


def person(x: float, score: float = 0.5) -> dict[str, Any]:
    return {"pose": [x, 0.5] * 18, "score": [score] * 18}


def write(path: Path, *frames: Any, **fields: Any) -> Path:
    path.write_text(json.dumps({"data": list(frames), **fields}))
    return path


def task(path: Path, label: int | None = None, **options: Any) -> ReadTask:
    chosen = {"max_persons": 2, "tracking": "none", "candidates": 5, **options}
    return ReadTask(path, {"label": label, "selection": PoseSelection(**chosen)})


def read(path: Path, **options: Any) -> Clip:
    (clip,) = READER.read(task(path, **options))
    assert isinstance(clip, Clip)
    return clip


@pytest.mark.parametrize("name", REAL)
def test_real_clips_are_as_published(name: str) -> None:
    path = real_data("kinetics_skeleton") / "kinetics_val" / f"{name}.json"
    clip = read(path)
    expected = as_published(json.loads(path.read_text()))
    assert (clip.num_frames, clip.label) == REAL[name][:2]
    assert clip.confidence is not None
    got = np.concatenate([np.nan_to_num(clip.joints), clip.confidence[..., None]], axis=-1)
    expected[..., 2] = np.minimum(expected[..., 2], 1)
    np.testing.assert_allclose(got, expected[: len(got), : clip.num_frames], rtol=1e-6)
    assert not expected[len(got) :].any() and not expected[:, clip.num_frames :].any()
    assert (clip.layout.name, clip.fps, clip.id) == ("openpose18", 30.0, name)
    np.testing.assert_array_equal(clip.valid, clip.confidence > 0)


def test_scan_of_the_real_folder() -> None:
    plan = READER.scan(real_data("kinetics_skeleton"))
    assert [task.path.stem for task in plan.tasks] == sorted(REAL)
    assert plan.classes is not None and len(plan.classes) == 400
    for task in plan.tasks:
        assert task.info["label"] == REAL[task.path.stem][1]
        assert task.info["meta"] == {"split": "test"}
        assert plan.classes[task.info["label"]] == REAL[task.path.stem][2]
        assert READER.matches(task.path)
    (clip,) = READER.read(plan.tasks[0])
    assert isinstance(clip, Clip) and dict(clip.meta) == {"split": "test"}


def test_label_file_inside_beside_or_given(tmp_path: Path) -> None:
    labels = json.dumps({"a": {"has_skeleton": True, "label": "jump", "label_index": 2}})
    folder = tmp_path / "clips"
    folder.mkdir()
    write(folder / "a.json", frame(0, person(0.5)))
    assert READER.scan(folder).classes is None
    given = tmp_path / "other.json"
    given.write_text(labels)
    info = READER.scan(folder, labels=given).tasks[0].info
    assert (info["label"], info["meta"]) == (2, {})
    (tmp_path / "clips_label.json").write_text(labels)
    info = READER.scan(folder).tasks[0].info
    assert (info["label"], info["meta"]) == (2, {})
    (tmp_path / "clips_label.json").rename(folder / "my_label.json")
    assert READER.scan(folder).classes == ("class 0", "class 1", "jump")


def test_clips_without_a_label(tmp_path: Path) -> None:
    entries = {"a": {"label": "jump", "label_index": 0}, "b": {"label": "?", "label_index": -1}}
    (tmp_path / "x_label.json").write_text(json.dumps(entries))
    for name in "ab":
        write(tmp_path / f"{name}.json", frame(0, person(0.5)))
    plan = READER.scan(tmp_path)
    assert plan.classes == ("jump",)
    clips = [clip for task in plan.tasks for clip in READER.read(task)]
    assert [clip.label for clip in clips] == [0, None]


def test_clips_without_skeleton_are_refused(tmp_path: Path) -> None:
    entries = {n: {"has_skeleton": n == "a", "label": "jump", "label_index": 0} for n in "ab"}
    (tmp_path / "x_label.json").write_text(json.dumps(entries))
    write(tmp_path / "a.json", frame(0, person(0.5)))
    write(tmp_path / "b.json")
    plan = READER.scan(tmp_path)
    assert [task.path.stem for task in plan.tasks] == ["a"]
    assert plan.refused[0][0].stem == "b"
    assert "has no skeleton" in plan.refused[0][1]
    with pytest.raises(ReadError, match=r"b\.json: expected a person in at least one frame"):
        read(tmp_path / "b.json")


def test_unseen_joints_are_absent(tmp_path: Path) -> None:
    someone = person(0.5)
    someone["score"][3] = 0
    someone["score"][4] = 1.03
    clip = read(write(tmp_path / "a.json", frame(0, someone)))
    assert np.argwhere(~clip.valid).tolist() == [[0, 0, 3]]
    assert clip.confidence is not None
    assert clip.confidence[0, 0, 3:6].tolist() == [0, 1, 0.5]


def test_frames_without_entry_are_gaps(tmp_path: Path) -> None:
    clip = read(write(tmp_path / "a.json", frame(1, person(0.5)), frame(4, person(0.5))))
    assert clip.valid.all(axis=-1)[0].tolist() == [False, True, False, False, True]


def test_tracking_keeps_persons_apart(tmp_path: Path) -> None:
    swaps = [frame(t, person(0.2, 0.4 + t % 2 * 0.2), person(0.8, 0.5)) for t in range(6)]
    path = write(tmp_path / "a.json", *swaps)
    x = read(path).joints[0, :, 0, 0]
    np.testing.assert_allclose(x, [0.8, 0.2] * 3)
    x = read(path, tracking="match").joints[..., 0, 0]
    np.testing.assert_allclose(np.sort(x, axis=0), [[0.2] * 6, [0.8] * 6])


def test_scores_above_1_rank_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", frame(0, person(0.2, 1.1), person(0.8, 1.2)))
    clip = read(path, max_persons=1)
    assert clip.joints[0, 0, 0, 0] == np.float32(0.8)
    assert clip.confidence is not None and (clip.confidence == 1).all()


def test_numbers_of_persons(tmp_path: Path) -> None:
    crowd = [person(m / 10, score) for m, score in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.9))]
    path = write(tmp_path / "a.json", frame(0, *crowd))
    assert read(path).joints[:, 0, 0, 0] == pytest.approx([0.4, 0.3])
    assert read(path, candidates=6).joints[:, 0, 0, 0] == pytest.approx([0.5, 0.4])
    assert len(read(path, max_persons=9).joints) == 5


DAMAGE: dict[str, tuple[Any, str]] = {
    "far frame": ([frame(10**9, person(0.5))], f"frame_index from 0 to {MAX_FRAMES - 1}"),
    "huge frame": ([frame(10**300, person(0.5))], "got a huge number"),
    "negative frame": ([frame(-1, person(0.5))], "frame_index from 0"),
    "frame in words": ([{"frame_index": "1", "skeleton": []}], "got '1'"),
    "frame twice": ([frame(1, person(0.5)), frame(1)], r"data\[1\]: frame_index 1 occurs a second"),
    "no skeleton": ([{"frame_index": 1}], r"data\[0\]: expected frame_index and skeleton"),
    "a number for a frame": ([7], "expected frame_index and skeleton, got 7"),
    "19 joints": ([frame(0, {"pose": [0.5] * 38, "score": [0.5] * 19})], "got 38 and 19"),
    "letters": ([frame(0, {"pose": ["a"] * 36, "score": [0.5] * 18})], "a list of numbers"),
    "no pose": ([frame(0, {"score": [0.5] * 18})], r"skeleton\[0\]: pose: expected a list"),
    "NaN": ([frame(0, {"pose": [float("nan")] * 36, "score": [0.5] * 18})], "finite numbers"),
    "too big": ([frame(0, {"pose": [10**400] * 36, "score": [0.5] * 18})], "finite numbers"),
    "nobody": ([frame(0), frame(1)], "expected a person in at least one frame"),
    "unseen person": ([frame(0, person(0.5, 0.0))], "expected a person in at least one frame"),
    "frames no list": ({"data": 3}, r'expected {"data": \[frames\]}'),
    "no object": ([[1, 2]], "expected frame_index and skeleton"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(case: str, tmp_path: Path) -> None:
    content, message = DAMAGE[case]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": content} if isinstance(content, list) else content))
    with pytest.raises(ReadError, match=message) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "content", [b"", b'{"data": [', b"\x00\xff\xfe", b"[" * 100_000, b"7" * 9999, b"[]", b"null"]
)
def test_what_is_no_json_of_frames(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ReadError, match=r"a\.json:"):
        read(path)


def test_labels_must_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", frame(0, person(0.5)), label="jump", label_index=3)
    assert read(path).label == 3
    with pytest.raises(ReadError, match="label_index is 3, but 4 in the label file"):
        list(READER.read(task(path, 4)))
    unknown = write(tmp_path / "b.json", frame(0, person(0.5)), label="unknown", label_index=-1)
    assert read(unknown).label is None
    with pytest.raises(ReadError, match="expected label_index to be 0 or more, got 'x'"):
        read(write(tmp_path / "c.json", frame(0, person(0.5)), label_index="x"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1], "expected labels by clip id, got a list of 1"),
        ({"a": {"label": "jump"}}, "expected clip 'a' to have a label_index"),
        ({"a": {"label": "jump", "label_index": 10**9}}, "label_index of 0 or more"),
        (
            {n: {"label": n, "label_index": 0} for n in "ab"},
            "calls label 0 both 'a' and 'b'",
        ),
    ],
)
def test_damaged_label_files(labels: object, message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.json", frame(0, person(0.5)))
    (tmp_path / "x_label.json").write_text(json.dumps(labels))
    with pytest.raises(ReadError, match=message):
        READER.scan(tmp_path)


def test_sources_without_clips(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    for source in (tmp_path, tmp_path / "other.json", tmp_path / "nowhere"):
        with pytest.raises(ReadError, match="expected a folder of Kinetics-Skeleton JSON"):
            READER.scan(source)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"tracking": "math"}, UnknownNameError, "did you mean 'match'"),
        ({"max_persons": 0}, ReadError, "max_persons to be a whole number of 1 or more, got 0"),
        ({"candidates": "5"}, ReadError, "candidates to be a whole number of 1 or more, got '5'"),
    ],
)
def test_options_are_checked(
    options: dict[str, Any], kind: type[KinegraphError], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.json", frame(0, person(0.5)))
    with pytest.raises(kind, match=message):
        READER.scan(tmp_path, **options)
