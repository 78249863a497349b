"""Small synthetic files under the names that the pages use, made when a block names them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import reader_samples
from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.readers.ntu.skeleton_file import write_skeleton
from kinegraph.skeleton.layouts import get_layout
from skeleton_recording import recording_from_joints

ACTIONS = ("bow", "march", "wave")
SUBJECTS, FRAMES = 6, 24
#: Parent of each joint of the layout of docs/add-a-dataset.md.
OWN_LAYOUT = {
    "head": "neck", "neck": "neck", "left_hand": "neck", "right_hand": "neck", "hip": "neck",
    "left_foot": "hip", "right_foot": "hip",
}  # fmt: skip


def move(label: int, seed: int, V: int, D: int, frames: int = FRAMES) -> np.ndarray:
    """Return joints (1, frames, V, D) of an action: a pose of its own, with noise."""
    pose = np.random.default_rng(label).normal(0, 0.4, (1, 1, V, D))
    noise = np.random.default_rng(seed).normal(0, 0.02, (1, frames, V, D))
    drift = np.linspace(0, 0.2, frames)[None, :, None, None]
    return (pose + noise + drift + 1.5).astype(np.float32)


def write_store(path: Path) -> None:
    """Write a store of 3 actions by 6 people in 3D."""
    layout = get_layout("ntu25")
    with StoreWriter(path, layout, ACTIONS) as writer:
        for subject in range(1, SUBJECTS + 1):
            for label, action in enumerate(ACTIONS):
                joints = move(label, subject, 25, 3)
                name = f"{action}_{subject:02d}"
                writer.write(Clip(joints, layout, None, label, name, 30.0, {"subject": subject}))


def write_ucla(folder: Path) -> None:
    """Write recordings of two actions in the format of NW-UCLA."""
    folder.mkdir(parents=True)
    for action, label in ((1, 1), (8, 7)):
        for s in (1, 2, 3):
            for v in (1, 2, 3):
                name = f"s{s:02d}_e02_v{v:02d}"
                joints = move(label, 10 * s + v, 20, 3)[0].round(3).tolist()
                content = {"file_name": name, "skeletons": joints, "label": label}
                (folder / f"a{action:02d}_{name}.json").write_text(json.dumps(content))


def write_ntu(path: Path) -> None:
    """Write a recording in the format of NTU RGB+D."""
    write_skeleton(path, recording_from_joints(move(0, 0, 25, 3)))


def write_openpose(folder: Path) -> None:
    """Write the frames of a video in the format of OpenPose."""
    folder.mkdir()
    for t, pose in enumerate(200 * move(0, 0, 25, 2, 40)[0]):
        rows = np.concatenate([pose, np.full((25, 1), 0.9)], axis=1).round(2)
        people = [{"person_id": [-1], "pose_keypoints_2d": rows.ravel().tolist()}]
        path = folder / f"video_{t:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people}))


def write_poses(path: Path, label: int = 0, seed: int = 0) -> None:
    """Write the poses of one person in the format of rtmlib (.npz)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = 200 * move(label, seed, 17, 2, 40).transpose(1, 0, 2, 3)
    np.savez(path, keypoints=poses, scores=np.full(poses.shape[:-1], 0.9))


def write_examples(folder: Path) -> None:
    """Write four examples each of two actions."""
    for label, action in enumerate(("raise_hand", "turn_around")):
        for number in range(4):
            write_poses(folder / action / f"take{number}.npz", label, number)


def write_own_data(folder: Path) -> None:
    """Write arrays of the joints of `OWN_LAYOUT`, with their labels."""
    folder.mkdir(exist_ok=True)
    lines = ["file,label,subject,camera"]
    for subject in range(1, SUBJECTS + 1):
        for label, action in enumerate(ACTIONS):
            name = f"{action}_{subject:02d}.npy"
            np.save(folder / name, 100 * move(label, subject, len(OWN_LAYOUT), 2))
            lines.append(f"{name},{action},{subject},1")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")


def write_own_layout(path: Path) -> None:
    """Write `OWN_LAYOUT` as a file."""
    bones = [[joint, parent] for joint, parent in OWN_LAYOUT.items() if joint != parent]
    fields = {"name": "mine", "joints": list(OWN_LAYOUT), "bones": bones, "center": "neck"}
    path.write_text(json.dumps(fields))


def write_alphapose(path: Path) -> None:
    """Write one result file of AlphaPose."""
    folder = path.with_suffix(".samples")
    folder.mkdir()
    reader_samples.SOURCES["alphapose"](folder, False)
    shutil.move(min(folder.iterdir()), path)
    shutil.rmtree(folder)


#: What writes a file or folder that a block names, by its path in the folder of the reader.
FILES: dict[str, Callable[[Path], Any]] = {
    "raw/all_sqe": write_ucla,
    "my_data": write_own_data,
    "my_layout.yaml": write_own_layout,
    "my.arrow": write_store,
    "my_clips": write_examples,
    "keypoints.npz": partial(write_poses, seed=9),
    "recording.skeleton": write_ntu,
    "openpose_output": write_openpose,
    "results.json": write_alphapose,
    "alphapose-results.json": write_alphapose,
}
#: Commands that make stores and runs, by their path.
MADE_BY: dict[str, str] = {
    "stores/nw_ucla.arrow": "kinegraph convert nw_ucla raw/all_sqe stores/nw_ucla.arrow",
    "runs/nw_ucla": "kinegraph train nw_ucla --out runs/nw_ucla",
}
