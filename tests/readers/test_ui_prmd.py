"""Reader of UI-PRMD: forward kinematics, labels, pairs of files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers import guess_reader, read_clip, read_clips
from kinegraph.readers.ui_prmd import READER

RNG = np.random.default_rng(0)


def write(
    folder: Path,
    angles: Any,
    offsets: Any,
    name: str = "m03_s02_e07",
    inc: str = "",
    gz: bool = False,
) -> Path:
    """Write a segment as the set publishes it: folders Positions and Angles."""
    for kind, values in (("positions", offsets), ("angles", angles)):
        text = (
            "\n".join(",".join(f"{x:.6f}" for x in row) for row in np.reshape(values, (-1, 66)))
            + "\n"
        )
        path = folder / kind.title() / f"{name}_{kind}{inc}.txt{'.gz' if gz else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if gz else text.encode())
    return folder / "Positions" / f"{name}_positions{inc}.txt{'.gz' if gz else ''}"


def straight(frames: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Return angles of zero, and offsets of 10 cm upwards from each parent."""
    offsets = np.zeros((frames, 22, 3))
    offsets[:, 1:, 1] = 10
    offsets[:, 0] = 5, 90, -250
    return np.zeros((frames, 22, 3)), offsets


@pytest.mark.parametrize("gz", [False, True])
def test_a_segment_by_hand(tmp_path: Path, gz: bool) -> None:
    angles, offsets = straight()
    angles[1, 1] = 0, 0, 90  # the spine turns about z: what is above it points to -x
    clip = read_clip(write(tmp_path, angles, offsets, inc="_inc", gz=gz))
    assert (clip.id, clip.label, clip.fps) == ("m03_s02_e07_inc", 2, 30.0)
    quality = {"exercise": 3, "subject": 2, "replication": 7, "quality": "incorrect"}
    assert dict(clip.meta) == quality
    assert clip.space.describe() == "world (y up, -z away, right-handed), cm, as recorded"
    np.testing.assert_allclose(clip.joints[0, 0, 0], [5, 90, -250], rtol=1e-6)
    np.testing.assert_allclose(clip.joints[0, 0, 5], [5, 140, -250], rtol=1e-6)
    np.testing.assert_allclose(clip.joints[0, 1, 1], [5, 100, -250], rtol=1e-6)
    np.testing.assert_allclose(clip.joints[0, 1, 2], [-5, 100, -250], rtol=1e-6)


@pytest.mark.parametrize(
    ("label", "number", "names"), [("quality", 1, 2), ("both", 5, 20), ("exercise", 2, 10)]
)
def test_labels(tmp_path: Path, label: str, number: int, names: int) -> None:
    write(tmp_path, *straight(), inc="_inc")
    plan = READER.scan(tmp_path, label=label)
    assert plan.classes is not None and len(plan.classes) == names
    (clip,) = read_clips(tmp_path, "ui_prmd", label=label)
    assert clip.label == number
    assert plan.classes[number] in ("incorrect", "inline lunge, incorrect", "inline lunge")
    with pytest.raises(UnknownNameError, match="unknown label 'right'"):
        READER.scan(tmp_path, label="right")


def test_angles_beside_the_offsets_and_files_without_them(tmp_path: Path) -> None:
    path = write(tmp_path, *straight())
    angles = tmp_path / "Angles" / "m03_s02_e07_angles.txt"
    moved = angles.rename(path.parent / angles.name)
    assert read_clip(path).num_frames == 2
    moved.write_text(moved.read_text().splitlines()[0])
    with pytest.raises(
        ReadError, match=r"as many frames as m03_s02_e07_angles.txt has \(1\), got 2"
    ):
        read_clip(path)
    moved.unlink()
    with pytest.raises(ReadError, match=r"there is no m03_s02_e07_angles.txt beside it"):
        read_clip(path)
    with pytest.raises(ReadError, match=r"expected files like m01_s01_e01_positions\.txt"):
        READER.scan(tmp_path / "Angles")


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path, *straight(), gz=True)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ReadError, match="cannot be unpacked"):
        read_clip(path, "ui_prmd")
    assert not READER.matches(path)
    path.write_bytes(gzip.compress(b"1,2,3\n"))
    with pytest.raises(ReadError, match="expected 66 numbers in a line, got 3"):
        read_clip(path, "ui_prmd")


def test_a_packed_file_holds_the_segments_of_a_person(tmp_path: Path) -> None:
    angles, offsets = (
        RNG.uniform(-90, 90, (5, 22, 3)).round(5),
        RNG.normal(size=(5, 22, 3)).round(5),
    )

    def differences(values: np.ndarray) -> np.ndarray:
        whole = np.rint(values.reshape(5, 66).T * 1e5).astype(np.int32)
        return np.diff(whole, axis=1, prepend=np.int32(0))

    arrays = {"angles": differences(angles), "positions": differences(offsets)}
    names, starts = np.array(["m01_s04_e01", "m01_s04_e01_inc"]), np.array([0, 2, 5])
    np.savez(tmp_path / "s04.npz", names=names, starts=starts, **arrays)
    first, second = read_clips(tmp_path / "s04.npz", "ui_prmd")
    assert (first.id, first.num_frames, second.num_frames) == ("m01_s04_e01", 2, 3)
    other = read_clip(write(tmp_path / "text", angles[2:], offsets[2:], "m01_s04_e01", "_inc"))
    np.testing.assert_allclose(second.joints, other.joints, atol=1e-7)
    np.savez(tmp_path / "s04.npz", names=names, starts=starts, angles=arrays["angles"])
    with pytest.raises(ReadError, match="lacks positions"):
        read_clips(tmp_path / "s04.npz", "ui_prmd")
    np.savez(tmp_path / "s04.npz", names=names, starts=starts[:2], **arrays)
    with pytest.raises(ReadError, match="expected positions of shape"):
        read_clips(tmp_path / "s04.npz", "ui_prmd")


def test_real_segments_are_at_the_verified_places() -> None:
    source = real_data("ui_prmd")
    with np.load(source / "world_positions.npz") as places:
        expected = dict(places)
    clips = read_clips(source / "original")
    assert [(c.id, c.label) for c in clips] == [
        *(("m01_s01_e01_inc", 0), ("m05_s02_e02_inc", 4)),
        *(("m01_s01_e01", 0), ("m05_s02_e02", 4)),
    ]
    checked = 0
    for clip in clips:
        if clip.id in expected:
            np.testing.assert_allclose(clip.joints[0], expected[clip.id], atol=1e-4)
            checked += 1
    assert checked == 2


def test_ankles_stand_still_in_a_real_squat() -> None:
    clip = read_clip(real_data("ui_prmd/original/Segmented Movements/Kinect"))
    assert clip.id == "m01_s01_e01"
    ankles = clip.joints[0][:, [clip.layout.index(f"{s}_ankle") for s in ("left", "right")]]
    assert ankles.std(axis=0)[:, 0].max() < 2  # 8 and 19 cm in other orders of the axes
    waist = clip.joints[0, :, 0, 1]
    assert waist.max() - waist.min() > 20


@pytest.mark.slow
def test_the_whole_real_set() -> None:
    clips = read_clips(real_data("ui_prmd"), "ui_prmd")
    assert len(clips) == 2000 and sum(clip.num_frames for clip in clips) == 151_158
    assert all(isinstance(clip, Clip) and clip.valid.all() for clip in clips)
    assert {(c.label, c.meta["quality"]) for c in clips} == {
        (label, quality) for label in range(10) for quality in ("correct", "incorrect")
    }
    (third,) = [clip for clip in clips if clip.id == "m02_s03_e02"]
    with np.load(real_data("ui_prmd/world_positions.npz")) as places:
        expected = places["m02_s03_e02"]
    np.testing.assert_allclose(third.joints[0], expected, atol=1e-4)


def test_real_files_are_recognized() -> None:
    assert guess_reader(real_data("ui_prmd/original")).name == "ui_prmd"
