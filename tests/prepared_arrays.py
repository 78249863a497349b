"""Arrays as the released tools prepare them, written from their definition, with label files."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip


def _turn_onto(vector: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rodrigues' formula; no turn for an opposite vector, as in the released code."""
    axis = np.cross(vector, target)
    if not vector.any():
        return np.eye(3)
    angle = math.acos(np.clip(vector @ target / np.linalg.norm(vector), -1, 1))
    if np.abs(axis).sum() < 1e-6 or abs(angle) < 1e-6:
        return np.eye(3)
    x, y, z = axis / np.linalg.norm(axis)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * k + (1 - math.cos(angle)) * k @ k


def as_2s_agcn(padded: np.ndarray) -> np.ndarray:
    """2s-AGCN's prenormalization of zero-padded (M, 300, 25, 3), person by person."""
    persons = padded.astype(np.float64)
    for m, person in enumerate(persons):
        if person.sum() == 0:
            continue
        if person[0].sum() == 0:
            kept = person[person.sum(axis=(1, 2)) != 0]
            person = np.zeros_like(person)
            person[: len(kept)] = kept
        for i in range(len(person)):
            if person[i:].sum() == 0:
                person[i:] = [person[(t - i) % i] for t in range(i, len(person))]
                break
        persons[m] = person
    middle = persons[0, :, 1].copy()
    for t in range(persons.shape[1]):
        for m in range(len(persons)):
            for v in range(25):
                if persons[m, t, v].sum() != 0:
                    persons[m, t, v] -= middle[t]
    for first, second, target in ((0, 1, [0.0, 0, 1]), (4, 8, [1.0, 0, 0])):
        matrix = _turn_onto(persons[0, 0, second] - persons[0, 0, first], np.array(target))
        persons = persons @ matrix.T
    return persons


def zeros_for_absent(clip: Clip, frames: int = 300) -> np.ndarray:
    padded = np.zeros((clip.num_persons, frames, 25, 3))
    padded[:, : clip.num_frames] = np.nan_to_num(clip.joints)
    return padded


def stack_2s_agcn(clips: Sequence[Clip], persons: int = 2) -> np.ndarray:
    """Return (N, 3, 300, 25, M) float32 of recorded clips, as 2s-AGCN writes it."""
    return np.stack([_with_persons(as_2s_agcn(zeros_for_absent(c)), persons) for c in clips])


def stack_stgcn(clips: Sequence[Clip], persons: int = 2) -> np.ndarray:
    """Return (N, 3, 300, 25, M) float32 of recorded clips, as ST-GCN writes it."""
    return np.stack([_with_persons(zeros_for_absent(clip), persons) for clip in clips])


def rows_ctrgcn(clips: Sequence[Clip]) -> np.ndarray:
    """Return (N, 300, 150) float32 of recorded clips, as CTR-GCN writes it."""
    stacked = stack_stgcn(clips)  # (N, C, T, V, M)
    first = stacked[:, :, 0, 1, 0][:, :, None, None, None]
    seen = (stacked != 0).any(axis=(1, 3), keepdims=True)
    centered = np.where(seen, stacked - first, np.float32(0))
    return centered.transpose(0, 2, 4, 3, 1).reshape(len(clips), 300, 150)


def _with_persons(joints: np.ndarray, persons: int) -> np.ndarray:
    """Return (C, T, V, M) float32 of (M', T, V, C); missing persons are zeros."""
    array = np.zeros((*joints.shape[:0:-1], persons), np.float32).swapaxes(1, 2)
    array[..., : len(joints)] = joints.transpose(3, 1, 2, 0)
    return array


def stack_kinetics(files: Sequence[Path], flip: bool = False) -> np.ndarray:
    """Return (N, 3, 300, 18, 2) float32, as ST-GCN writes it, or with y up as 2s-AGCN does."""
    return np.stack([_stack_poses(json.loads(file.read_text())["data"], flip) for file in files])


def _stack_poses(frames: list[dict[str, Any]], flip: bool) -> np.ndarray:
    array = np.zeros((3, 300, 18, 5), np.float32)
    for frame in frames:
        for m, person in enumerate(frame["skeleton"][:5]):
            place = array[:, frame["frame_index"], :, m]
            place[0], place[1] = person["pose"][0::2], person["pose"][1::2]
            place[2] = person["score"]
    array[:2] -= 0.5
    array[1] *= -1 if flip else 1
    array[:2, array[2] == 0] = 0
    order = (-array[2].sum(axis=1)).argsort(axis=1, kind="stable")
    return np.take_along_axis(array, order[None, :, None], axis=3)[..., :2]


def write_arrays(
    folder: Path, array: np.ndarray, labels: Any, name: str = "val_data", label: str = "val_label"
) -> Path:
    """Write an array and its label file; return the array's path."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}.npy", array)
    (folder / f"{label}.pkl").write_bytes(pickle.dumps(labels))
    return folder / f"{name}.npy"
