"""Tables of joints: columns in any order and by any common names, or a refusal."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers.frame_table import read_frame_table
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

ARM = SkeletonLayout("arm", ("left_shoulder", "left_elbow", "left_wrist"), ((1, 0), (2, 1)), 0)
NAMES = ARM.joints


def value(joint: int, part: str) -> float:
    return (joint + 1) * 10 + "xyzv".index(part) if part != "v" else 0.25 * (joint + 1)


def write(path, columns, *, frames=2, sep=",", comma=".", encoding="utf-8"):
    """Write a table whose (name, joint, part) columns hold `value`, and other (name, text)."""
    cells = [
        str(value(*facts) if len(facts) == 2 else facts[0]).replace(".", comma)
        for _, *facts in columns
    ]
    lines = [sep.join(name for name, *_ in columns), *[sep.join(cells)] * frames]
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


def check(table, parts="xy"):
    for joint, (k, part) in product(range(3), enumerate(parts)):
        assert (table.joints[0, :, joint, k] == value(joint, part)).all()


def columns_of(pattern, parts="xy", joint_major=True):
    """Columns of a pattern such as "{part}_{name}"."""
    pairs = product(range(3), parts) if joint_major else [(j, p) for p in parts for j in range(3)]
    facts = {"name": NAMES, "camel": ("LeftShoulder", "LeftElbow", "LeftWrist")}
    return [
        (
            pattern.format(
                part=part, PART=part.upper(), i=j, i1=j + 1,
                name=facts["name"][j], camel=facts["camel"][j],
            ),
            j,
            part,
        )
        for j, part in pairs
    ]  # fmt: skip


@pytest.mark.parametrize("joint_major", [True, False])
@pytest.mark.parametrize(
    "pattern",
    [
        "{part}_{name}", "{name}_{part}", "{name}.{part}", "{PART} {name}", "{camel}{PART}",
        "{camel}.{PART}", "{part}{i}", "{part}{i1}", "{part}_{i}", "{part}[{i}]", "{i}_{part}",
        "joint{i}_{part}", "kp_{i1}_{PART}", "keypoint {i} {part}", "landmark_{i}_{part}",
        "{name}{part}", "pose_{name}_{part}", "{name}:{part}",
    ],
)  # fmt: skip
def test_columns_by_name(tmp_path, pattern, joint_major):
    path = write(tmp_path / "a.csv", columns_of(pattern, joint_major=joint_major))
    table = read_frame_table(path, ARM)
    assert table.joints.shape == (1, 2, 3, 2)
    check(table)
    assert table.notes == () and table.confidence is None


@pytest.mark.parametrize("name", ["v", "c", "score", "conf", "visibility", "likelihood", "p"])
def test_a_confidence_by_its_name(tmp_path, name):
    columns = [(n.replace("@", name), j, p) for n, j, p in columns_of("{part}{i1}", "xy")]
    columns += [(f"{name}{j + 1}", j, "v") for j in range(3)]
    table = read_frame_table(write(tmp_path / "a.csv", columns), ARM)
    check(table)
    assert table.confidence[0, 0].tolist() == [0.25, 0.5, 0.75]
    without = read_frame_table(tmp_path / "a.csv", ARM, confidence=False)
    assert without.confidence is None
    assert without.notes == (f"left out: {name}1, {name}2, {name}3",)


def test_a_third_coordinate_that_is_stated_to_be_a_confidence(tmp_path):
    columns = columns_of("{part}{i}") + [(f"z{j}", j, "v") for j in range(3)]
    path = write(tmp_path / "a.csv", columns)
    assert read_frame_table(path, ARM).joints.shape[-1] == 3
    table = read_frame_table(path, ARM, confidence=True)
    assert table.joints.shape[-1] == 2 and table.confidence[0, 0, 0] == 0.25


def test_mediapipe_with_other_columns(tmp_path):
    layout = get_layout("mediapipe33")
    names = ["class", "timestamp", *(f"{p}{j}" for j in range(1, 34) for p in "xyzv")]
    rows = [["wave", f"{t / 25:.3f}", *["0.5"] * 132] for t in range(10)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(row) for row in [names, *rows]))
    table = read_frame_table(path, layout)
    assert (table.joints.shape, table.confidence.shape) == ((1, 10, 33, 3), (1, 10, 33))
    assert table.fps == 25
    assert table.notes == ("left out: class; 25 frames/s by the column timestamp, in s [guess]",)


def test_a_larger_skeleton_and_a_smaller_one(tmp_path):
    more = [*columns_of("{name}_{part}"), ("nose_x", 0, "x"), ("nose_y", 0, "y")]
    table = read_frame_table(write(tmp_path / "a.csv", more), ARM)
    check(table)
    assert table.notes == ("left out: nose_x, nose_y",)
    table = read_frame_table(write(tmp_path / "a.csv", columns_of("{name}_{part}")[:4]), ARM)
    assert np.isnan(table.joints[0, 0, 2]).all()
    assert table.notes == ("no columns for left_wrist: these joints are absent",)


def test_names_of_other_joints_are_taken_in_their_order_as_a_guess(tmp_path):
    columns = [(n.replace("left_", "limb"), j, p) for n, j, p in columns_of("{name}_{part}")]
    columns = [(n.replace("shoulder", "q").replace("wrist", "r"), j, p) for n, j, p in columns]
    columns = [(n.replace("elbow", "s"), j, p) for n, j, p in columns]
    table = read_frame_table(write(tmp_path / "a.csv", columns), ARM)
    check(table)
    assert table.notes[0].endswith("left_shoulder, left_elbow, left_wrist [guess]")


@pytest.mark.parametrize("joint_major", [True, False])
@pytest.mark.parametrize("names", [("ax", "bx", "cx"), ("xa", "xb", "xc")])
def test_letters_of_unknown_joints(tmp_path, names, joint_major):
    columns = columns_of("{i}{part}", joint_major=joint_major)
    columns = [(names[j].replace("x", part), j, part) for _, j, part in columns]
    check(read_frame_table(write(tmp_path / "a.csv", columns), ARM))


@pytest.mark.parametrize("header", [True, False])
def test_numbers_without_telling_names(tmp_path, header):
    columns = [(f"col_a{k}", j, p) for k, (_, j, p) in enumerate(columns_of("{part}{i}"))]
    path = write(tmp_path / "a.csv", columns)
    if not header:
        path.write_text(path.read_text().partition("\n")[2])
    table = read_frame_table(path, ARM)
    assert table.joints.shape == (1, 2, 3, 2)
    check(table)
    order = "x, y of left_shoulder, then of left_elbow, and so on [guess]"
    assert table.notes == (f"6 columns taken in their order: {order}",)


@pytest.mark.parametrize("names", ["x,y,x,y,x,y", "x,y,x.1,y.1,x.2,y.2"])
def test_repeated_names_as_pandas_writes_them(tmp_path, names):
    columns = [(n, j, p) for n, (_, j, p) in zip(names.split(","), columns_of("{i}"), strict=True)]
    check(read_frame_table(write(tmp_path / "a.csv", columns), ARM))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(("sep", "comma"), [(";", ","), (";", "."), ("\t", ","), (",", ".")])
def test_tables_of_other_programs(tmp_path, encoding, sep, comma):
    columns = [*columns_of("{name}_{part}"), ("Müll", "ö")]
    path = write(tmp_path / "A.CSV", columns, sep=sep, comma=comma, encoding=encoding)
    table = read_frame_table(path, ARM)
    check(table)
    guessed = ("A.CSV is not UTF-8: read as Windows-1252 [guess]",)
    assert table.notes == (guessed if encoding == "cp1252" else ()) + ("left out: Müll",)


def test_a_sleap_table(tmp_path):
    points = ["left_shoulder", "left_elbow", "left_wrist"]
    names = ["track", "frame_idx", "instance.score"]
    names += [f"{point}.{part}" for point in points for part in ("x", "y", "score")]
    rows = [[track, t, 0.9, *[1 + t, 2, 0.5] * 3] for t in (3, 4) for track in ("a", "b")]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]))
    table = read_frame_table(path, ARM)
    assert table.joints.shape == (2, 2, 3, 2)
    assert table.joints[1, :, 0, 0].tolist() == [4, 5]
    assert (table.confidence == 0.5).all()
    assert table.notes == ("left out: instance.score",)


@pytest.mark.parametrize("by_number", [True, False])
def test_a_row_per_joint(tmp_path, by_number):
    rows = [
        [t, person, j if by_number else NAMES[j], value(j, "x") + t, value(j, "y"), 0.5]
        for t, person, j in product((0, 1), "ab", (2, 0, 1))
    ]
    names = ["frame", "person_id", "joint", "x", "y", "score"]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]))
    table = read_frame_table(path, ARM)
    assert table.joints.shape == (2, 2, 3, 2) and table.confidence.shape == (2, 2, 3)
    assert table.joints[1, 1, :, 0].tolist() == [value(j, "x") + 1 for j in range(3)]
    path.write_text(path.read_text() + "\n" + ",".join(map(str, rows[0])))
    with pytest.raises(ReadError, match=r"a\.csv:14: joint '.*' is given twice"):
        read_frame_table(path, ARM)
    path.write_text("joint,x,y\n0,1,2\n")
    with pytest.raises(ReadError, match="needs a column 'frame'"):
        read_frame_table(path, ARM)


def test_two_lines_of_names(tmp_path):
    names, parts = [n for n in NAMES for _ in "xy"], [*"xyxyxy"]
    numbers = [value(j, p) for j in range(3) for p in "xy"]
    lines = [["", *names], ["", *parts], [0, *numbers], [1, *numbers]]
    (tmp_path / "a.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    check(read_frame_table(tmp_path / "a.csv", ARM))


def test_numbers_between_spaces(tmp_path):
    numbers = [[value(j, p) for j in range(3) for p in "xy"]] * 2
    np.savetxt(tmp_path / "a.csv", numbers)
    check(read_frame_table(tmp_path / "a.csv", ARM))


def test_a_time_before_numbers_without_names(tmp_path):
    numbers = [[t, *(value(j, p) for j in range(3) for p in "xy")] for t in (5000, 5040)]
    np.savetxt(tmp_path / "a.csv", numbers)
    table = read_frame_table(tmp_path / "a.csv", ARM)
    check(table)
    assert table.fps == 25
    assert "the first column, which increases, is taken for the time [guess]" in table.notes
    np.savetxt(tmp_path / "a.csv", [numbers[1], numbers[0]])
    with pytest.raises(ReadError, match="7 columns are not 2 or 3 numbers"):
        read_frame_table(tmp_path / "a.csv", ARM)


def test_four_numbers_for_each_joint(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.uniform(size=(2, 12))
    np.savetxt(tmp_path / "a.csv", numbers)
    with pytest.raises(ReadError, match="state --confidence true if the last one"):
        read_frame_table(tmp_path / "a.csv", ARM)
    expected = numbers.reshape(2, 3, 4)
    table = read_frame_table(tmp_path / "a.csv", ARM, confidence=True)
    np.testing.assert_allclose(table.joints[0], expected[..., :3], rtol=1e-6)
    np.testing.assert_allclose(table.confidence[0], expected[..., 3], rtol=1e-6)
    table = read_frame_table(tmp_path / "a.csv", ARM, confidence=False)
    np.testing.assert_allclose(table.joints[0], expected[..., :3], rtol=1e-6)
    assert table.confidence is None and "left out: column 4, column 8, column 12" in table.notes


def test_persons_in_columns(tmp_path):
    columns = [(f"person{m}_{n}", j, p) for m in (1, 2) for n, j, p in columns_of("{name}_{part}")]
    table = read_frame_table(write(tmp_path / "a.csv", columns), ARM)
    assert table.joints.shape == (2, 2, 3, 2)


@pytest.mark.parametrize(
    ("name", "times", "fps"),
    [
        ("timestamp", [0.0, 0.033, 0.067, 0.1], 30),
        ("time", [0, 40, 80, 120], 25),
        ("timestamp_ms", [5, 25, 45, 65], 50),
        ("t", [0, 33333, 66667, 100000], 30),
        ("time_s", [0, 1, 2, 3], 1),
        ("timestamp", ["2024-01-01 10:00:00.000", "2024-01-01 10:00:00.040"], 25),
        ("time", [0, 1, 2, 3], None),
        ("time", [0.0, 0.03, 0.5, 0.6], None),
        ("time", ["a", "b", "c", "d"], None),
        ("fps", [24, 24, 24, 24], 24),
    ],
)
def test_frame_rate_by_a_column(tmp_path, name, times, fps):
    header = ",".join([name, *(n for n, *_ in columns_of("{part}{i}"))])
    (tmp_path / "a.csv").write_text("\n".join([header, *(f"{time},1,2,3,4,5,6" for time in times)]))
    table = read_frame_table(tmp_path / "a.csv", ARM)
    assert table.fps == (pytest.approx(fps, rel=0.01) if fps else None)
    assert bool(table.notes) == (name != "fps")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("x0,y0,x1,y1,x_left_wrist,y_left_wrist", "'x_left_wrist' names a joint and 'x0' numbers"),
        ("x0,y0,x1,y1,x3,y3", "3 joints, from 0 to 3 without 2"),
        ("x0,y0,x1,y1,x2,y2,x3,y3", "are of 4 joints, from 0 to 3"),
        ("x2,y2,x3,y3,x4,y4", "are of 3 joints, from 2 to 4"),
        ("x0,y0,x0,y0,x1,y1,x2,y2", "'x0' and 'x0' both give x of left_shoulder"),
        ("x0,y0,x1,y1,x2", "no column for y of left_wrist, which other joints have"),
        ("x0,x1,x2", "columns for x and y of each joint, found x only"),
        ("left_elbow_x,left_elbow_y,tail_x,tail_y", "columns of tail, which layout 'arm' does not"),
        ("a,b,c,d,e", "5 columns are not 2 or 3 numbers for each of the 3 joints"),
    ],
)
def test_columns_that_contradict_each_other(tmp_path, names, reason):
    (tmp_path / "a.csv").write_text(f"{names}\n" + ",".join("1" * len(names.split(","))) + "\n")
    with pytest.raises(ReadError, match=rf"a\.csv: .*{reason}"):
        read_frame_table(tmp_path / "a.csv", ARM)
