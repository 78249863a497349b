"""Readers of tables of named points: DeepLabCut's forms, matching of names, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import real_data
from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers import guess_reader, read_clip, read_clips
from kinegraph.skeleton.space import Space

MOUSE = (
    "name: mouse3\njoints: [nose, back, tail]\nbones: [[nose, back], [tail, back]]\ncenter: back\n"
)


def table(
    parts: str = "nose back tail",
    frames: int = 4,
    animals: str = "",
    start: int = 0,
    likelihood: bool = True,
) -> str:
    """Return a table in which x is 100 m + 10 k + t, y is -x and the likelihood 0.5."""
    coords = ["x", "y", "likelihood"][: 3 if likelihood else 2]
    columns = [
        (animal, part, c)
        for animal in animals.split() or [""]
        for part in parts.split()
        for c in coords
    ]
    lines = [["scorer", *["net"] * len(columns)]]
    if animals:
        lines.append(["individuals", *[animal for animal, _, _ in columns]])
    lines += [
        ["bodyparts", *[part for _, part, _ in columns]],
        ["coords", *[c for *_, c in columns]],
    ]
    for t in range(start, start + frames):
        row = [str(t)]
        for animal, part, c in columns:
            x = 100 * (animals.split() or [""]).index(animal) + 10 * parts.split().index(part) + t
            row.append(str({"x": x, "y": -x, "likelihood": 0.5}[c]))
        lines.append(row)
    return "\n".join(",".join(line) for line in lines) + "\n"


def write(folder: Path, text: str, name: str = "videoDLC.csv") -> Path:
    (folder / "mouse.yaml").write_text(MOUSE)
    (folder / name).write_text(text)
    return folder / name


def test_one_animal_with_a_layout_in_another_order(tmp_path: Path) -> None:
    path = write(tmp_path, table("tail extra Nose back", start=7))
    clip = read_clip(path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"), fps=25)
    assert (clip.id, clip.fps, clip.layout.name) == ("videoDLC", 25.0, "mouse3")
    assert clip.joints.shape == (1, 4, 3, 2)
    assert clip.space == Space("image", unit="pixel") and not clip.space.assumed
    assert clip.joints[0, 0].tolist() == [[27, -27], [37, -37], [7, -7]]
    assert clip.confidence is not None and (clip.confidence == 0.5).all()


def test_several_animals_are_persons(tmp_path: Path) -> None:
    path = write(tmp_path, table(animals="m1 m2", likelihood=False))
    clip = read_clip(path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"))
    assert clip.joints.shape == (2, 4, 3, 2) and clip.confidence is None
    assert clip.joints[1, 2, 1].tolist() == [112, -112]


def test_empty_cells_and_left_out_frames_are_absent(tmp_path: Path) -> None:
    lines = table().splitlines()
    lines[4] = lines[4].replace("11,-11,0.5", ",,")
    del lines[5]
    path = write(tmp_path, "\n".join(lines))
    clip = read_clip(path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"))
    assert clip.valid[0].tolist() == [[True] * 3, [True, False, True], [False] * 3, [True] * 3]
    assert clip.confidence is not None and clip.confidence[0, 1].tolist() == [0.5, 0, 0.5]
    frames = path.read_text().replace("\n0,", "\nlabeled-data/a/img0.png,")
    clip = read_clip(write(tmp_path, frames), "deeplabcut", layout=str(tmp_path / "mouse.yaml"))
    assert clip.num_frames == 3


def test_the_largest_registered_layout_of_these_names_is_found(tmp_path: Path) -> None:
    parts = (
        "Nose LEye REye LEar REar LShoulder RShoulder LElbow RElbow LWrist RWrist LHip RHip LKnee "
    )
    path = write(tmp_path, table(parts + "RKnee LAnkle RAnkle Thing"))
    for reader in ("deeplabcut", "lightning_pose"):
        assert read_clip(path, reader).layout.name == "coco17"
    assert guess_reader(path).name == "deeplabcut"


def test_clips_csv_labels_the_files(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write(tmp_path, table(), name=name)
    (tmp_path / "clips.csv").write_text("file,label,fps\nb.csv,rear,50\na.csv,groom,25\n")
    clips = read_clips(tmp_path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"))
    assert [(c.id, c.label, c.fps) for c in clips] == [("b", 1, 50), ("a", 0, 25)]


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, table("nose tail nostril"))
    with pytest.raises(
        ReadError, match=r"no registered layout .*\(--layout FILE\): nose, tail, nostril"
    ):
        read_clip(path, "deeplabcut")
    with pytest.raises(
        ReadError, match="layout 'mouse3'; it lacks back; its points are nose, tail"
    ):
        read_clip(path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"))
    with pytest.raises(UnknownNameError, match="unknown layout 'mous'"):
        read_clip(path, "deeplabcut", layout="mous")
    with pytest.raises(ReadError, match="fps to be frames per second above 0, got -1"):
        read_clip(path, "deeplabcut", fps=-1)
    with pytest.raises(ReadError, match=r"expected \.csv, \.h5 files, found none"):
        (tmp_path / "empty").mkdir()
        read_clips(tmp_path / "empty", "deeplabcut")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "bodyparts",
            "parts",
            r"csv:2: expected the lines scorer, bodyparts and coords .*got 'parts'",
        ),
        ("coords", "bodyparts", r"csv:4: expected the lines scorer.*got '0'"),
        ("0,0,0,0.5", "0,zero,0,0.5", r"csv:4: expected a number, got 'zero'"),
        ("0,0,0,0.5", "0,0,0", r"csv:4: expected 10 columns, got 9"),
        ("nose,nose,nose", "nose,nose", "header lines of the same number of columns"),
    ],
)
def test_damaged_tables_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = table()
    assert old in text
    path = write(tmp_path, text.replace(old, new, 1))
    with pytest.raises(ReadError, match=message):
        read_clip(path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"))


def test_a_file_of_another_name_is_opened(tmp_path: Path) -> None:
    path = write(tmp_path, "x,y\n1,2\n", name="table.txt")
    for reader in ("deeplabcut", "lightning_pose"):
        with pytest.raises(ReadError, match=r"table\.txt:1: expected the lines scorer"):
            read_clip(path, reader)


def test_a_table_without_frames(tmp_path: Path) -> None:
    path = write(tmp_path, table(frames=0))
    with pytest.raises(ReadError, match="and at least one frame"):
        read_clip(path, "deeplabcut", layout=str(tmp_path / "mouse.yaml"))


def test_the_field_case_is_read_by_the_reader_of_own_arrays_too() -> None:
    source = real_data("field_cases/25/in")
    for reader in ("arrays", "deeplabcut"):
        clip = read_clip(source, reader, layout=str(source / "layout.yaml"))
        assert clip.joints.shape == (2, 10, 3, 2)
        assert clip.joints[1, 1, 0].tolist() == pytest.approx([172.893, 290.036])
        assert clip.confidence is not None
        assert clip.confidence[1, 1].tolist() == pytest.approx([0.944, 0.319, 0.012])
    assert np.isfinite(clip.joints).all()
