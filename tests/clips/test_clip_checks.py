"""Clips that stand out from their store are named, and clean ones are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clip_faults import FAULTS, Checks, count_found, inject
from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.readers import get_reader
from kinegraph.readers.convert import convert
from kinegraph.skeleton.layouts import get_layout

LAYOUT = get_layout("kinect20")
#: x to the left of the body, y up, z ahead, in m.
BODY = {
    "hip_center": (0, 0, 0), "spine": (0, 0.15, 0), "shoulder_center": (0, 0.5, 0),
    "head": (0, 0.7, 0.03), "shoulder": (0.18, 0.45, 0), "elbow": (0.24, 0.2, 0.03),
    "wrist": (0.25, 0, 0.12), "hand": (0.25, -0.05, 0.15), "hip": (0.1, -0.05, 0),
    "knee": (0.11, -0.45, 0.06), "ankle": (0.11, -0.85, 0), "foot": (0.11, -0.9, 0.12),
}  # fmt: skip


def body() -> np.ndarray:
    places = []
    for name in LAYOUT.joints:
        side, _, part = name.partition("_")
        x, y, z = BODY.get(name) or BODY[part]
        places.append((-x if side == "right" else x, y, z))
    return np.array(places)


def act(label: int, rng: np.random.Generator, frames: int = 30) -> np.ndarray:
    """Return (1, T, V, 3): a hand or a foot goes up and forward, in a random direction of view."""
    joints = np.repeat(body()[None], frames, axis=0) * rng.normal(1, 0.02)
    moves = [
        ("right_wrist", "right_hand"),
        ("left_wrist", "left_hand"),
        ("right_ankle", "right_foot"),
    ]
    progress = np.linspace(0, rng.normal(1, 0.05), frames)[:, None]
    for name in moves[label]:
        joints[:, LAYOUT.joints.index(name)] += progress * (0.02, 0.45, 0.3)
    joints += np.cumsum(rng.normal(0, 0.002, joints.shape), axis=0)
    angle = rng.uniform(0, 2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return (joints @ turn.T + (0, 1, 3))[None].astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ClipStore:
    path, rng = tmp_path_factory.mktemp("faults") / "acts.arrow", np.random.default_rng(0)
    with StoreWriter(path, LAYOUT, ("right", "left", "kick")) as writer:
        for i in range(90):
            writer.write(Clip(act(i % 3, rng), LAYOUT, None, i % 3, f"clip{i}", 30.0))
    return ClipStore(path)


@pytest.fixture(scope="module")
def checks(store) -> Checks:
    return Checks(store)


def test_clean_clips_are_not_named(checks):
    assert checks.warned() == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_clip_is_found(fault, store, checks):
    rng = np.random.default_rng(1)
    found = [checks.finds(i, inject(fault, store[i], rng, store)) for i in (4, 41, 77)]
    assert sum(found) >= (2 if fault != "one joint off by 10 cm" else 1)


@pytest.mark.parametrize(
    "fault", ["last coordinate zero", "second half frozen", "one joint never moves"]
)
def test_what_needs_no_comparison_is_found_in_a_small_store(fault, store, tmp_path):
    few = [store[i] for i in range(4)]
    with StoreWriter(tmp_path / "few.arrow", LAYOUT) as writer:
        for clip in few:
            writer.write(clip)
    small = ClipStore(tmp_path / "few.arrow")
    checks = Checks(small)
    assert checks.warned() == set()
    assert checks.finds(2, inject(fault, small[2], np.random.default_rng(0), small))


@pytest.mark.parametrize("change", ["absent joint", "absent person", "no label", "one frame"])
def test_incomplete_clips_are_measured(change, store):
    joints = np.array(store[0].joints)
    clip = store[0]
    if change == "absent joint":
        joints[:, :, 4] = np.nan
    if change == "absent person":
        joints = np.concatenate([np.full_like(joints, np.nan), joints])
    if change == "one frame":
        joints = joints[:, :1]
    label = None if change == "no label" else clip.label
    checks = Checks(store)
    assert not checks.finds(0, replace(clip, joints=joints, label=label))


@pytest.mark.slow
def test_faults_in_real_recordings(tmp_path):
    convert(get_reader("utkinect"), real_data("utkinect"), tmp_path / "a.arrow")
    found, named = count_found(ClipStore(tmp_path / "a.arrow"), 4)
    assert named <= 2
    assert sum(count >= 2 for count in found.values()) >= 13
