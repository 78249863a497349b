"""Reader of own data: accepted arrays, and refusal of everything ambiguous."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kinegraph.errors import LayoutError, ReadError, UnknownNameError
from kinegraph.readers.arrays import READER
from kinegraph.readers.convert import convert
from kinegraph.skeleton.layouts import get_layout

STICK = {
    "name": "stick3",
    "joints": ["head", "belly", "foot"],
    "bones": [["head", "belly"], ["foot", "belly"]],
    "center": "belly",
}


@pytest.fixture
def folder(tmp_path):
    """A folder with a layout of three joints."""
    folder = tmp_path / "my_data"
    folder.mkdir()
    (folder / "layout.yaml").write_text(json.dumps(STICK))
    return folder


def walk(frames=4, width=3, persons=None, joints=3):
    shape = (frames, joints, width) if persons is None else (persons, frames, joints, width)
    return np.random.default_rng(frames).uniform(0.1, 1, shape)


def read_all(source, **options):
    plan = READER.scan(source, **options)
    return plan, [clip for task in plan.tasks for clip in READER.read(task)]


def write_list(folder, text):
    (folder / "clips.csv").write_text(text)


def test_folder_with_a_list(folder):
    np.save(folder / "a.npy", walk(4))
    np.save(folder / "b.npy", walk(5, persons=2))
    (folder / "more").mkdir()
    np.save(folder / "more" / "c.npy", walk(6, width=3))
    write_list(
        folder,
        "file,label,subject,height,room,fps\n"
        "a.npy,wave,1,1.5,007,30\nb.npy,bow,2,2,008,\nmore/c.npy,wave,,,,15\n",
    )
    plan, clips = read_all(folder)
    assert plan.classes == ("bow", "wave")
    assert plan.layout.name == "stick3"
    assert plan.refused == ()
    assert [(clip.id, clip.label) for clip in clips] == [("a", 1), ("b", 0), ("more/c", 1)]
    assert [clip.joints.shape for clip in clips] == [(1, 4, 3, 3), (2, 5, 3, 3), (1, 6, 3, 3)]
    assert dict(clips[0].meta) == {"subject": 1, "height": 1.5, "room": "007", "fps": 30}
    assert dict(clips[1].meta) == {"subject": 2, "height": 2.0, "room": "008"}
    assert dict(clips[2].meta) == {"fps": 15}
    assert [clip.fps for clip in clips] == [30, None, 15]


def test_folder_without_a_list(folder):
    np.save(folder / "b.npy", walk())
    np.savez(folder / "a.npz", joints=walk(), fps=25)
    (folder / "notes.txt").write_text("not a clip")
    plan, clips = read_all(folder, fps=10)
    assert plan.classes is None
    assert [(clip.id, clip.label, clip.fps) for clip in clips] == [("a", None, 25), ("b", None, 10)]


def test_one_file(folder):
    np.save(folder / "a.npy", walk(width=2))
    _, (clip,) = read_all(folder / "a.npy")
    assert clip.joints.shape == (1, 4, 3, 2)
    assert clip.id == "a"


def test_layout_by_name_by_file_and_as_object(folder, tmp_path):
    np.save(folder / "a.npy", walk(joints=17, width=2))
    assert read_all(folder, layout="coco17")[0].layout.name == "coco17"
    assert read_all(folder, layout=get_layout("coco17"))[1][0].layout.name == "coco17"
    np.save(folder / "a.npy", walk())
    (folder / "layout.yaml").rename(tmp_path / "mine.json")
    assert read_all(folder, layout=str(tmp_path / "mine.json"))[1][0].layout.name == "stick3"
    with pytest.raises(ReadError, match=r"name the layout of your arrays \(--layout\).*coco17"):
        READER.scan(folder)
    with pytest.raises(UnknownNameError, match="did you mean 'coco17'"):
        READER.scan(folder, layout="coco-17")
    with pytest.raises(LayoutError, match=r"none\.yaml"):
        READER.scan(folder, layout="none.yaml")


def test_two_layout_files_are_ambiguous(folder):
    np.save(folder / "a.npy", walk())
    (folder / "layout.json").write_text(json.dumps(STICK))
    with pytest.raises(ReadError, match=r"put one layout\.yaml there"):
        READER.scan(folder)


def test_zeros(folder):
    joints = walk()
    joints[1, 2] = 0
    joints[2, 1, 0] = 0  # one coordinate of zero is a place
    joints[3, 0, 1] = np.nan
    np.save(folder / "a.npy", joints)
    _, (clip,) = read_all(folder)
    assert np.argwhere(~clip.valid).tolist() == [[0, 1, 2], [0, 3, 0]]
    _, (clip,) = read_all(folder, zeros_absent=False)
    assert np.argwhere(~clip.valid).tolist() == [[0, 3, 0]]
    np.save(folder / "a.npy", 0 * joints)
    with pytest.raises(ReadError, match=r"a\.npy: no joint was seen"):
        read_all(folder)


def test_confidence(folder):
    joints = walk(width=3)
    np.save(folder / "a.npy", joints)
    _, (clip,) = read_all(folder, confidence=True)
    assert clip.joints.shape == (1, 4, 3, 2)
    np.testing.assert_allclose(clip.confidence[0], joints[..., 2], rtol=1e-6)
    np.save(folder / "a.npy", 2 + joints)
    with pytest.raises(ReadError, match=r"expected confidences in \[0, 1\]"):
        read_all(folder, confidence=True)


def test_npz_with_confidence(folder):
    np.savez(folder / "a.npz", joints=walk(), confidence=np.full((4, 3), 0.5))
    np.savez(folder / "b.npz", joints=walk(persons=2), confidence=np.full((2, 4, 3), 0.5))
    _, clips = read_all(folder)
    assert [clip.confidence.shape for clip in clips] == [(1, 4, 3), (2, 4, 3)]
    with pytest.raises(ReadError, match="leave out the option confidence"):
        read_all(folder, confidence=True)
    np.savez(folder / "a.npz", joints=walk(), confidence=np.ones((3, 3)))
    with pytest.raises(ReadError, match=r"a\.npz: expected confidence of shape \(1, 4, 3\)"):
        read_all(folder)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.ones((4, 5, 3)), r"'stick3' has 3 joints, the array of shape \(4, 5, 3\) has 5"),
        (np.ones((3, 3)), r"got the shape \(3, 3\)"),
        (np.ones(3), r"got the shape \(3,\)"),
        (np.array(3.0), r"got the shape \(\)"),
        (np.ones((1, 2, 4, 3, 3)), r"got the shape \(1, 2, 4, 3, 3\)"),
        (np.ones((4, 3, 4)), r"is the last of 4 numbers a confidence \(--confidence true\)\?"),
        (np.ones((4, 3, 7)), "2 or 3 coordinates"),
        (np.full((4, 3, 3), np.inf), "infinite"),
        (np.full((4, 3, 3), 1e300), "infinite"),
        (np.full((4, 3, 3), "x"), "array of numbers"),
        (np.ones((0, 3, 3)), "not empty"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_that_do_not_fit(folder, array, reason, kind):
    if kind == "npy":
        np.save(folder / "a.npy", array)
    else:
        np.savez(folder / "a.npz", joints=array)
    with pytest.raises(ReadError, match=rf"a\.{kind}: .*{reason}"):
        read_all(folder)


@pytest.mark.parametrize("fps", [0, -1, np.nan, "fast"])
def test_frames_per_second(folder, fps):
    np.savez(folder / "a.npz", joints=walk())
    with pytest.raises(ReadError, match="expected fps"):
        READER.scan(folder, fps=fps)
    np.savez(folder / "a.npz", joints=walk(), fps=fps)
    with pytest.raises(ReadError, match=r"fps|numbers"):
        read_all(folder)


def test_npz_without_joints(folder):
    np.savez(folder / "a.npz", fps=25)
    with pytest.raises(ReadError, match="an array named 'joints'"):
        read_all(folder)


@pytest.mark.parametrize("key", ["keypoints", "poses", "Data", "arr_0"])
def test_npz_of_other_programs(folder, key):
    scores = np.full((4, 3), 0.5)
    np.savez(folder / "a.npz", **{key: walk(width=2)}, keypoint_scores=scores, frame_rate=[25])
    _, (clip,) = read_all(folder)
    assert (clip.joints.shape, clip.fps, clip.notes) == ((1, 4, 3, 2), 25, ())
    assert (clip.confidence == 0.5).all()
    assert read_all(folder, confidence=False)[1][0].confidence is None


def test_npz_with_further_arrays(folder):
    np.savez(folder / "a.npz", mine=walk())
    assert read_all(folder)[1][0].notes == ("the array 'mine' is taken for the joints [guess]",)
    np.savez(folder / "a.npz", joints=walk(), box=np.ones(4))
    assert read_all(folder)[1][0].notes == ("left out: box",)
    np.savez(folder / "a.npz", mine=walk(), other=walk())
    with pytest.raises(ReadError, match="an array named 'joints', found mine, other"):
        read_all(folder)


@pytest.mark.parametrize(
    ("axes", "note"),
    [
        (lambda a: a[0].reshape(20, 6), "order of 6 numbers: x, y of head, then of belly"),
        (lambda a: a.reshape(2, 20, 6), "order of 6 numbers: x, y of head, then of belly"),
        (lambda a: a.swapaxes(0, 1), "axes of (20, 2, 3, 2): frames, persons, joints, coordinates"),
        (lambda a: a[0].swapaxes(1, 2), "axes of (20, 2, 3): frames, coordinates, joints"),
        (lambda a: a[0].transpose(2, 0, 1), "axes of (2, 20, 3): coordinates, frames, joints"),
        (lambda a: a[:1].transpose(3, 1, 2, 0), "axes of (2, 20, 3, 1): coordinates, frames, joi"),
        (
            lambda a: np.stack([a[0], 0 * a[0]]).transpose(3, 1, 2, 0),
            "axes of (2, 20, 3, 2): coordinates, frames, joints, persons",
        ),
    ],
)
def test_axes_in_another_order_are_guessed_with_a_note(folder, axes, note):
    joints = walk(20, 2, persons=2)
    np.save(folder / "a.npy", axes(joints))
    _, (clip,) = read_all(folder)
    assert clip.notes[0].startswith(note) and clip.notes[0].endswith("[guess]")
    for person in range(clip.num_persons):
        if clip.valid[person].any():
            np.testing.assert_allclose(clip.joints[person], joints[person], rtol=1e-6)


def turning_bodies(persons, width):
    """Stiff bodies (persons, 30, 3, width) that turn and move."""
    rng = np.random.default_rng(persons)
    angle = np.linspace(0, 4, 30)
    cos, sin, one, zero = np.cos(angle), np.sin(angle), np.ones(30), np.zeros(30)
    turn = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])[:width, :width]
    if width == 3:
        tilt = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turn = np.einsum("ij,jkt,kl->ilt", tilt, turn, tilt.T)
    rest = rng.normal(size=(persons, 3, width))
    return np.einsum("mvd,edt->mtve", rest, turn) + rng.normal(size=(persons, 1, 1, width))


def test_two_persons_in_3d_differ_from_three_in_2d(folder):
    solid, flat = turning_bodies(2, 3), turning_bodies(3, 2)
    np.save(folder / "a.npy", solid.transpose(3, 1, 2, 0))
    _, (clip,) = read_all(folder)
    np.testing.assert_allclose(clip.joints, solid, rtol=1e-5)
    assert clip.notes == ("axes of (3, 30, 3, 2): coordinates, frames, joints, persons [guess]",)
    np.save(folder / "a.npy", flat)
    _, (clip,) = read_all(folder)
    np.testing.assert_allclose(clip.joints, flat, rtol=1e-5)
    assert clip.notes == ("axes of (3, 30, 3, 2): persons, frames, joints, coordinates [guess]",)


def test_flat_rows_with_a_confidence(folder):
    np.save(folder / "a.npy", walk().reshape(4, 9))
    _, (clip,) = read_all(folder, confidence=True)
    assert clip.joints.shape == (1, 4, 3, 2)
    assert "x, y, confidence of head" in clip.notes[0]
    np.save(folder / "a.npy", walk(width=2).reshape(4, 6).T)
    with pytest.raises(ReadError, match="transpose it, so that a row is a frame"):
        read_all(folder)


def test_scores_a_little_above_1_are_capped(folder):
    joints = walk(width=3)
    joints[0, 0, 2] = 1.012
    np.save(folder / "a.npy", joints)
    _, (clip,) = read_all(folder, confidence=True)
    assert clip.confidence.max() == 1
    assert clip.notes == ("scores above 1 were capped at 1",)


def test_hostile_files(folder):
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", bytes(2**28))
    with pytest.raises(ReadError, match="would unpack"):
        read_all(folder / "bomb.npz")
    np.save(folder / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError, match=r"got Python objects.*save one array of numbers"):
        read_all(folder / "o.npy")
    (folder / "huge.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3, 3), }".ljust(117)
        + b"\n"
    )
    with pytest.raises(ReadError, match="claims the shape"):
        read_all(folder / "huge.npy")


# --------------------------------------------------------------------- clips.csv


def test_rows_that_are_no_clips(folder, tmp_path):
    np.save(folder / "a.npy", walk())
    np.save(folder / "c.npy", walk())
    np.savez(folder / "a.npz", joints=walk())
    write_list(
        folder,
        "file,label\na.npy,0\nb.npy,0\nclips.csv,0,extra\n,0\nlayout.yaml,1\n"
        "a.npy,1\na.npz,0\nc.npy,-3\n" + "n" * 300 + ".npy,1\n",
    )
    plan, clips = read_all(folder)
    assert [clip.id for clip in clips] == ["a"]
    reasons = [reason for _, reason in plan.refused]
    assert [reason.partition(" [Errno")[0] for reason in reasons] == [
        "clips.csv:3: the file does not exist",
        "clips.csv:4: expected 2 columns, got 3",
        "clips.csv:5: the row names no file",
        "clips.csv:6: expected a file of type .npy, .npz, .csv",
        "clips.csv:7: a clip of this name is already listed",
        "clips.csv:8: a clip of this name is already listed",
        "clips.csv:10: not a path of a file:",
        "clips.csv:9: expected a label of 0 or more, got -3",
    ]


def test_paths_to_other_places(folder, tmp_path, monkeypatch):
    """Absolute paths, dots and links, whatever the folder is called by."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for place in (folder / "a.npy", outside / "b.npy", outside / "c.npy", outside / "d.npy"):
        np.save(place, walk())
    (folder / "link.npy").symlink_to(outside / "d.npy")
    write_list(
        folder,
        f"file,label\n{folder / 'a.npy'},0\n../outside/b.npy,1\n{outside / 'c.npy'},0\n./link,1\n",
    )
    expected = ["a", "outside/b", "outside/c", "link"]
    assert [clip.id for clip in read_all(folder)[1]] == expected
    monkeypatch.chdir(folder)
    assert [clip.id for clip in read_all(Path())[1]] == expected
    assert read_all(Path())[1][0].notes == ()
    done = convert(READER, Path(), tmp_path / "s.arrow")
    assert (done.stored, done.refused) == (4, [])


def test_paths_of_another_computer(folder):
    for place in ("a/c0.npy", "a/c1.npy", "b/c1.npy", "b/c2.NPY"):
        (folder / place).parent.mkdir(exist_ok=True)
        with (folder / place).open("wb") as file:
            np.save(file, walk())
    write_list(
        folder,
        "file;label\nD:\\data\\c0.npy;x\nE:\\all\\b\\c1.npy;y\n/mnt/c1.npy;x\n"
        "in/b/c2.npy;y\nother/c0.npy;x\n",
    )
    plan, clips = read_all(folder)
    assert [clip.id for clip in clips] == ["a/c0", "b/c1", "b/c2"]
    assert clips[0].notes == (
        "listed paths that do not exist here were found in the folder by their ends [guess]",
        "1 files of the folder are not listed in clips.csv: left out",
    )
    assert [reason for _, reason in plan.refused] == [
        "clips.csv:4: the file does not exist, and several have its name: a/c1.npy, b/c1.npy",
        "clips.csv:6: the file does not exist",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lists_of_other_programs(folder, encoding, separator):
    (folder / "a").mkdir()
    for name in ("c0.npy", "c1.npy"):
        np.save(folder / "a" / name, walk())
    rows = ["FileName|Class|Split", "a\\c0.npy|Bücken|Training", "a\\c1.npy|Gehen|validation"]
    text = "\r\n".join(rows).replace("|", separator)
    (folder / "Clips.CSV").write_bytes(text.encode(encoding))
    plan, clips = read_all(folder)
    assert plan.classes == ("Bücken", "Gehen")
    assert [clip.meta["split"] for clip in clips] == ["train", "val"]
    guessed = ("Clips.CSV is not UTF-8: read as Windows-1252 [guess]",)
    assert clips[0].notes == (guessed if encoding == "cp1252" else ()) + (
        "column class of Clips.CSV is taken for the label",
    )


def test_a_list_without_column_names_or_labels(folder):
    np.save(folder / "a.npy", walk())
    write_list(folder, "a.npy,wave\n")
    plan, (clip,) = read_all(folder)
    assert (plan.classes, clip.label) == (("wave",), 0)
    assert clip.notes == ("clips.csv has no column names: taken as file, label [guess]",)
    write_list(folder, "file,lable\na.npy,wave\n")
    assert read_all(folder)[1][0].notes == ("clips.csv has no column label: its clips have none",)


def test_number_labels(folder):
    np.save(folder / "a.npy", walk())
    np.save(folder / "b.npy", walk())
    write_list(folder, "file,label\na.npy,7\nb.npy,\n")
    plan, clips = read_all(folder)
    assert plan.classes is None
    assert [clip.label for clip in clips] == [7, None]


def test_list_without_labels(folder):
    np.save(folder / "a.npy", walk())
    write_list(folder, "file\na.npy\n")
    assert read_all(folder)[1][0].label is None


def test_mixed_labels_are_refused(folder):
    np.save(folder / "a.npy", walk())
    np.save(folder / "b.npy", walk())
    write_list(folder, "file,label\na.npy,7\nb.npy,wave\n")
    with pytest.raises(ReadError, match=r"names \('wave'\) and numbers \('7'\); .* classes\.txt"):
        READER.scan(folder)


def test_class_file(folder):
    for name in "abcd":
        np.save(folder / f"{name}.npy", walk())
    (folder / "classes.txt").write_text("wave\nbow\n\n")
    write_list(folder, "file,label\na.npy,bow\nb.npy,0\nc.npy,jump\nd.npy,2\n")
    plan, clips = read_all(folder)
    assert plan.classes == ("wave", "bow")
    assert [clip.label for clip in clips] == [1, 0]
    assert [reason for _, reason in plan.refused] == [
        "clips.csv:4: classes.txt does not list the label 'jump'",
        "clips.csv:5: expected a label of 0 or more and below 2, got 2",
    ]
    (folder / "classes.txt").write_text("wave\nwave\n")
    with pytest.raises(ReadError, match="got 'wave' twice"):
        READER.scan(folder)
    (folder / "classes.txt").write_text("\n")
    with pytest.raises(ReadError, match="got none"):
        READER.scan(folder)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "with 'file' among them"),
        ("title,Label\na.npy,1\n", "got 'title, Label'"),
        ("file label\na.npy 1\n", "separate the columns by commas"),
        ("file,file\na.npy,1\n", "distinct column names"),
    ],
)
def test_lists_that_are_no_tables(folder, text, reason):
    write_list(folder, text)
    with pytest.raises(ReadError, match=rf"clips\.csv:1: .*{reason}"):
        READER.scan(folder)


def test_binary_list(folder):
    (folder / "clips.csv").write_bytes(b"\xff\xfe\x00\x81" * 50)
    with pytest.raises(ReadError, match=r"clips\.csv: cannot be read as a \.csv table"):
        READER.scan(folder)


def test_list_with_byte_order_mark_and_crlf(folder):
    np.save(folder / "a.npy", walk())
    (folder / "clips.csv").write_bytes(b"\xef\xbb\xbffile,label\r\na.npy,wave\r\n\r\n")
    assert read_all(folder)[0].classes == ("wave",)


def test_names_taken_twice_without_a_list(folder):
    np.save(folder / "a.npy", walk())
    np.savez(folder / "a.npz", joints=walk())
    plan, clips = read_all(folder)
    assert [clip.id for clip in clips] == ["a"]
    assert plan.refused == ((folder / "a.npz", "a clip of this name is already in a.npy"),)


def test_nothing_there(folder):
    with pytest.raises(ReadError, match=r"expected \.npy, \.npz, \.csv files, found none"):
        READER.scan(folder)


# --------------------------------------------------------------------- .csv clips

HEADER = "ax,ay,bx,by,cx,cy\n"


def test_placeholders_column_numbers_and_impossible_bodies(folder):
    names = get_layout("coco17").joints
    height = {"shoulder": 40, "elbow": 60, "wrist": 80, "hip": 90, "knee": 130, "ankle": 170}
    y = [next((h for part, h in height.items() if part in name), 20) for name in names]
    x = [100 - 15 * name.startswith("left") + 15 * name.startswith("right") for name in names]
    body = np.stack([x, y], axis=-1).astype(float)
    body[names.index("left_wrist")] = -1
    rows = [",".join(map(str, body.ravel()))] * 3
    (folder / "a.csv").write_text("\n".join([",".join(map(str, range(34))), *rows]))
    _, (clip,) = read_all(folder, layout="coco17")
    assert clip.joints.shape == (1, 3, 17, 2)  # the column numbers are not a frame
    assert np.isnan(clip.joints[0, :, names.index("left_wrist")]).all()
    assert any("all -1 are taken for missing" in note for note in clip.notes)
    assert not any("do not fit" in note for note in clip.notes)
    (folder / "a.csv").unlink()
    np.save(folder / "a.npy", np.tile(np.roll(body, 5, axis=0), (3, 1, 1)))
    _, (clip,) = read_all(folder, layout="coco17", space="image")
    assert any("do not fit layout 'coco17'" in note for note in clip.notes)


def test_frame_table(folder):
    (folder / "a.csv").write_text(HEADER + "1,2,3,4,5,6\n7,8,,,nan,12\n")
    _, (clip,) = read_all(folder)
    assert clip.joints.shape == (1, 2, 3, 2)
    assert clip.joints[0, 0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.argwhere(~clip.valid).tolist() == [[0, 1, 1], [0, 1, 2]]


def test_frame_table_in_three_dimensions_or_with_confidence(folder):
    (folder / "a.csv").write_text("x0,y0,z0,x1,y1,z1,x2,y2,z2\n" + ",".join(["0.5"] * 9) + "\n")
    assert read_all(folder)[1][0].joints.shape == (1, 1, 3, 3)
    clip = read_all(folder, confidence=True)[1][0]
    assert clip.joints.shape == (1, 1, 3, 2)
    assert clip.confidence.tolist() == [[[0.5, 0.5, 0.5]]]


def test_frames_and_persons(folder):
    (folder / "a.csv").write_text(
        "frame,person," + HEADER + "12,kim,1,1,1,1,1,1\n10,lee,2,2,2,2,2,2\n10,kim,3,3,3,3,3,3\n"
    )
    _, (clip,) = read_all(folder)
    assert clip.joints.shape == (2, 3, 3, 2)
    assert clip.joints[0, :, 0, 0].tolist()[::2] == [3, 1]
    assert clip.valid.all(axis=2).tolist() == [[True, False, True], [True, False, False]]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "first line with column names"),
        (HEADER, "has no rows"),
        (HEADER + "1,2,3,4,5\n", ":2: expected 6 columns, got 5"),
        (HEADER + "1,2,3,4,5,6\n1,2,x,4,5,6\n", ":3: expected a number, got 'x'"),
        (HEADER + "1,2,inf,4,5,6\n", "infinite"),
        ("a,b,c,d,e\n1,2,3,4,5\n", "5 columns are not 2 or 3 numbers for each of the 3 joints"),
        ("a,b,c\n1,2,3\n", "3 columns are not"),
        ("file,label\na.npy,2\n", "a list of clips is named clips.csv"),
        ("person," + HEADER + "a,1,2,3,4,5,6\nb,1,2,3,4,5,6\n", "'person' needs a column 'frame'"),
        ("frame," + HEADER + "one,1,2,3,4,5,6\n", ":2: expected a frame number, got 'one'"),
        ("frame," + HEADER + "1.5,1,2,3,4,5,6\n", ":2: expected a frame number"),
        ("frame," + HEADER + "inf,1,2,3,4,5,6\n", ":2: expected a frame number"),
        ("frame," + HEADER + "3,1,2,3,4,5,6\n" * 2, "frame 3 is given twice"),
        (
            "frame," + HEADER + "0,1,2,3,4,5,6\n1000000000,1,2,3,4,5,6\n",
            "2 rows for 1 persons over 1000000001 frames",
        ),
    ],
)
def test_tables_that_are_no_clips(folder, text, reason):
    (folder / "a.csv").write_text(text)
    with pytest.raises(ReadError, match=rf"a\.csv.*{reason}"):
        read_all(folder)


def test_persons_without_end(folder):
    rows = "".join(f"{i},p{i},1,2,3,4,5,6\n" for i in range(300))
    (folder / "a.csv").write_text("frame,person," + HEADER + rows)
    with pytest.raises(ReadError, match="300 rows for 300 persons over 300 frames"):
        read_all(folder)


def test_binary_table(folder):
    (folder / "a.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(ReadError, match=r"a\.csv: cannot be read as a \.csv table"):
        read_all(folder)
    (folder / "a.csv").write_text(HEADER + "1" * 200_000)
    with pytest.raises(ReadError, match="field larger"):
        read_all(folder)


def test_matching_files(folder):
    np.save(folder / "a.npy", walk())
    np.save(folder / "flat.npy", np.ones((3, 7)))
    np.savez(folder / "b.npz", joints=walk())
    (folder / "c.csv").write_text(HEADER + "1,2,,-4.5,5,6\n")
    (folder / "notes.csv").write_text("name,age,town,street\nkim,7,x,y\n")
    (folder / "fake.npz").write_bytes(b"no zip")
    write_list(folder, "file\na.npy\n")
    matching = [f.name for f in sorted(folder.iterdir()) if READER.matches(f)]
    assert matching == ["a.npy", "b.npz", "c.csv", "clips.csv"]
