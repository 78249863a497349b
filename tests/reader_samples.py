"""A small source of every reader, of four units, one of which may be bad."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.readers.ntu.skeleton_file import write_skeleton
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT
from readers.pose_samples import body, write_json
from readers.test_bvh import TEXT as BVH
from skeleton_recording import recording_from_joints

UNITS, BAD = 4, 1  # clips of each source, and the place of the bad one
FRAMES = 12
#: Options of `convert` beside the source.
OPTIONS: dict[str, dict[str, Any]] = {
    "stacked": {"up": "y"},
    "arrays": {"layout": "coco17", "space": "image"},
    "deeplabcut": {"layout": "coco17"},
    "lightning_pose": {"layout": "coco17"},
}
#: Readers whose files need packages that may be absent, and what they are.
PACKAGES = {"c3d": "ezc3d", "sleap": "movement", "nwb": "movement"}
#: Sources of one file for each clip.
ONE_FILE_EACH: list[Callable[[Path, bool], None]] = []
rng = np.random.default_rng(0)


def has_package(reader: str) -> bool:
    """Return whether the package that a reader needs is installed."""
    return reader not in PACKAGES or importlib.util.find_spec(PACKAGES[reader]) is not None


def joints(V: int, D: int, M: int = 1) -> np.ndarray:
    """Return (M, FRAMES, V, D) of a body that walks."""
    places = rng.normal(1, 0.2, (M, 1, V, D)) + 0.01 * np.arange(FRAMES)[None, :, None, None]
    return places.astype(np.float32)


def numbers(rows: np.ndarray, separator: str = " ", first: bool = False) -> str:
    """Return the lines of a table, with the number of the line before each if ``first``."""
    lines = [separator.join(f"{value:.5f}" for value in row) for row in rows]
    if first:
        lines = [f"{number}{separator}{line}" for number, line in enumerate(lines, start=1)]
    return "\n".join(lines) + "\n"


def named(pattern: str) -> Callable[[Callable[[Path, int], None]], Callable[[Path, bool], None]]:
    """Make a source of one file for each clip; the bad one is cut off."""

    def decorate(write: Callable[[Path, int], None]) -> Callable[[Path, bool], None]:
        def source(folder: Path, bad: bool) -> None:
            for unit in range(UNITS):
                path = folder / pattern.format(unit + 1)
                path.parent.mkdir(parents=True, exist_ok=True)
                write(path, unit)
                if bad and unit == BAD:
                    data = path.read_bytes()
                    path.write_bytes(data[: 7 * len(data) // 10])

        ONE_FILE_EACH.append(source)
        return source

    return decorate


@named("S001C001P001R001A00{}.skeleton")
def ntu(path: Path, unit: int) -> None:
    write_skeleton(path, recording_from_joints(joints(25, 3)))


@named("clip{}.json")
def kinetics(path: Path, unit: int) -> None:
    person = {"pose": [0.5, 0.4] * 18, "score": [0.5] * 18}
    frames = [{"frame_index": t, "skeleton": [person]} for t in range(1, FRAMES)]
    write_json(path, {"data": frames, "label": "jump", "label_index": 1})


@named("clip{}.json")
def alphapose(path: Path, unit: int) -> None:
    facts = {"category_id": 1, "score": 2.5, "keypoints": body(100).ravel().tolist()}
    write_json(path, [{"image_id": f"{t}.jpg", **facts} for t in range(FRAMES)])


@named("clip{}.json")
def mmpose(path: Path, unit: int) -> None:
    pose = body(100)
    one = {"keypoints": pose[:, :2].tolist(), "keypoint_scores": pose[:, 2].tolist()}
    frames = [{"frame_id": t, "instances": [one]} for t in range(FRAMES)]
    write_json(path, {"meta_info": {}, "instance_info": frames})


@named("clip{}.npz")
def rtmlib(path: Path, unit: int) -> None:
    poses = np.stack([body(100 + t) for t in range(FRAMES)])[:, None]
    np.savez(path, keypoints=poses[..., :2], scores=poses[..., 2])


@named("a08_s0{}_e03_v01.json")
def nw_ucla(path: Path, unit: int) -> None:
    write_json(path, {"file_name": path.stem, "skeletons": joints(20, 3)[0].tolist(), "label": 7})


@named("a27_s{}_t4_skeleton.mat")
def utd_mhad(path: Path, unit: int) -> None:
    savemat(path, {"d_skel": joints(20, 3)[0].transpose(1, 2, 0)})


@named("000{}.mat")
def penn_action(path: Path, unit: int) -> None:
    pose = joints(13, 2)[0]
    content = {"x": pose[..., 0], "y": pose[..., 1], "visibility": np.ones((FRAMES, 13))}
    facts = {"action": "bowl", "pose": "left", "train": -1, "nframes": FRAMES}
    savemat(path, {**content, **facts, "dimensions": [360, 480, FRAMES]})


@named("s01s02/01/00{}/skeleton_pos.txt")
def sbu(path: Path, unit: int) -> None:
    path.write_text(numbers(joints(15, 3, 2).transpose(1, 0, 2, 3).reshape(FRAMES, -1), ",", True))


@named("a01_s1_id{}.txt")
def florence3d(path: Path, unit: int) -> None:
    path.write_text(numbers(joints(15, 3)[0].reshape(-1, 3)))


def utkinect(folder: Path, bad: bool) -> None:
    actions = ["walk", "sitDown", "standUp", "pickUp"]
    lines = numbers(joints(20, 3)[0].reshape(FRAMES, -1), " ", True)
    (folder / "joints_s01_e01.txt").write_text(lines)
    ranges = [f"{action}: {3 * i + 1} {3 * i + 3}" for i, action in enumerate(actions)]
    if bad:
        ranges[BAD] = f"{actions[BAD]}: 900 950"
    (folder / "actionLabel.txt").write_text("\n".join(["s01_e01", *ranges]) + "\n")


def ddnet(folder: Path, bad: bool) -> None:
    poses: list[Any] = [joints(15, 2)[0].astype(np.float64) for _ in range(UNITS)]
    if bad:
        poses[BAD] = poses[BAD][:, :3]
    content = {"pose": poses, "label": ["wave"] * UNITS}
    (folder / "GT_test_1.pkl").write_bytes(pickle.dumps(content))


@named("Positions/m03_s02_e0{}_positions.txt")
def ui_prmd(path: Path, unit: int) -> None:
    path.write_text(numbers(10 * joints(22, 3)[0].reshape(FRAMES, -1), ","))
    angles = path.parents[1] / "Angles" / path.name.replace("positions", "angles")
    angles.parent.mkdir(exist_ok=True)
    angles.write_text(numbers(joints(22, 3)[0].reshape(FRAMES, -1), ","))


@named("walk{}.bvh")
def bvh(path: Path, unit: int) -> None:
    path.write_text(BVH)


@named("walk{}.c3d")
def c3d(path: Path, unit: int) -> None:
    from readers.test_c3d import write

    write(path)


@named("clip{}.csv")
def deeplabcut(path: Path, unit: int) -> None:
    from readers.test_deeplabcut import table

    path.write_text(table(" ".join(get_layout("coco17").joints), FRAMES))


def pyskl(folder: Path, bad: bool) -> None:
    entries: list[Any] = []
    for unit in range(UNITS):
        pose = joints(17, 2)
        facts = {"frame_dir": f"clip{unit}", "label": 0, "total_frames": FRAMES}
        size = {"img_shape": (100, 100), "original_shape": (100, 100)}
        entries.append({**facts, **size, "keypoint": pose, "keypoint_score": pose[..., 0]})
    if bad:
        entries[BAD]["keypoint"] = "none"
    (folder / "clips.pkl").write_bytes(pickle.dumps(entries))


def stacked(folder: Path, bad: bool) -> None:
    array = np.stack([joints(25, 3).transpose(3, 1, 2, 0) for _ in range(UNITS)])
    if bad:
        array[BAD, 0, 3] = np.inf
    np.save(folder / "val_data.npy", array)
    labels = ([f"clip{unit}" for unit in range(UNITS)], [0] * UNITS)
    (folder / "val_label.pkl").write_bytes(pickle.dumps(labels))


def fsd(folder: Path, bad: bool) -> None:
    array = np.stack([joints(25, 3).transpose(3, 1, 2, 0) for _ in range(UNITS)]) / 4
    if bad:
        array[BAD, 0, 3] = np.inf
    np.save(folder / "train_data.npy", array)
    np.save(folder / "train_label.npy", np.zeros(UNITS, np.int64))


@named("clip{}.npy")
def arrays(path: Path, unit: int) -> None:
    np.save(path, joints(17, 2))


@named("set{}.arrow")
def stores(path: Path, unit: int) -> None:
    layout, meta = get_layout("kinect20"), {"subject": unit}
    clip = Clip(joints(20, 3), layout, label=0, id="one", meta=meta, space=KINECT)
    provenance = {"protocols": ["odd-even-subjects"]}
    with StoreWriter(path, layout, ("wave",), provenance) as writer:
        writer.write(clip)


def openpose(folder: Path, bad: bool) -> None:
    for unit in range(UNITS):
        for t in range(FRAMES):
            people = [{"person_id": [-1], "pose_keypoints_2d": [10 + t, 20, 0.5] * 25}]
            path = folder / f"clip{unit}" / f"v_{t:012d}_keypoints.json"
            write_json(path, {"version": 1.3, "people": people})
            if bad and unit == BAD and t == 3:
                path.write_text(path.read_text()[:40])


def ultralytics(folder: Path, bad: bool) -> None:
    line = " ".join(["0", "0.5", "0.5", "0.2", "0.4", *["0.3"] * 51])
    for unit in range(UNITS):
        for t in range(FRAMES):
            broken = bad and unit == BAD and t == 3
            (folder / f"clip{unit}_{t}.txt").write_text((line[:40] if broken else line) + "\n")


def synthetic(folder: Path, bad: bool) -> None:
    from kinegraph.readers.synthetic.reader import write_dataset

    write_dataset(folder, performers=1, replications=1)
    recordings = sorted(folder.rglob("*.skeleton"))
    for path in recordings[UNITS:]:
        path.unlink()
    if bad:
        recordings[BAD].write_bytes(recordings[BAD].read_bytes()[:2000])


#: Writes the source of a reader into a folder, with the unit BAD bad or good.
SOURCES: dict[str, Callable[[Path, bool], None]] = {
    "ntu": ntu, "kinetics": kinetics, "openpose": openpose, "alphapose": alphapose,
    "mmpose": mmpose, "ultralytics": ultralytics, "rtmlib": rtmlib, "nw_ucla": nw_ucla,
    "utd_mhad": utd_mhad, "penn_action": penn_action, "sbu": sbu, "florence3d": florence3d,
    "utkinect": utkinect, "ddnet": ddnet, "ui_prmd": ui_prmd, "bvh": bvh, "c3d": c3d,
    "deeplabcut": deeplabcut, "lightning_pose": deeplabcut, "pyskl": pyskl, "fsd": fsd,
    "stacked": stacked, "stores": stores, "arrays": arrays, "synthetic": synthetic,
}  # fmt: skip
