"""Motion capture in .bvh files: the hierarchy of joints, and their positions in every frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.text_lines import read_lines
from kinegraph.skeleton.kinematics import euler_rotations, forward_kinematics

MAX_BVH_BYTES = 2**30
_MAX_JOINTS = 1000
_AXES = {"x": 0, "y": 1, "z": 2}


@dataclass
class BvhJoint:
    """A joint of the hierarchy.

    Attributes:
        name: its name in the file; "" for an end site.
        parent: index of the parent, -1 for the root.
        offset: (3,), from the parent.
        channels: (kind, axis) of each number that a frame has for it: "position" or "rotation",
            and "x", "y" or "z".
    """

    name: str
    parent: int
    offset: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    channels: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class BvhMotion:
    """The content of a .bvh file.

    Attributes:
        joints: V joints and end sites, each after its parent.
        positions: (T, V, 3), in the unit and the axes of the file.
        fps: frames per second.
    """

    joints: tuple[BvhJoint, ...]
    positions: NDArray[np.float64]
    fps: float


def read_bvh(path: Path) -> BvhMotion:
    """Return the joints of a .bvh file and their positions.

    A joint's rotation channels turn it in the order in which they are listed. Its position
    channels replace its offset, as in files that state positions for every joint.

    Raises:
        ReadError: the file cannot be read; the message names the line.
    """
    joints, lines = _read_hierarchy(path)
    fps, values = _read_motion(path, lines, sum(len(joint.channels) for joint in joints))
    offsets = np.tile([joint.offset for joint in joints], (len(values), 1, 1))
    rotations = np.empty((len(values), len(joints), 3, 3))
    used = 0
    for number, joint in enumerate(joints):
        own = values[:, used : used + len(joint.channels)]
        used += len(joint.channels)
        turns = [i for i, (kind, _) in enumerate(joint.channels) if kind == "rotation"]
        axes = "".join(joint.channels[i][1] for i in turns)
        rotations[:, number] = euler_rotations(own[:, turns], axes)
        for i, (kind, axis) in enumerate(joint.channels):
            if kind == "position":
                offsets[:, number, _AXES[axis]] = own[:, i]
    parents = [joint.parent for joint in joints]
    return BvhMotion(tuple(joints), forward_kinematics(rotations, offsets, parents), fps)


def _read_hierarchy(path: Path) -> tuple[list[BvhJoint], Iterator[tuple[str, str]]]:
    """Return the joints of a .bvh file, and its lines from the motion on, each with its place."""
    lines = read_lines(path, MAX_BVH_BYTES)
    where, first = next(lines, (str(path), ""))
    if first.upper() != "HIERARCHY":
        raise ReadError(f"{where}: expected the word HIERARCHY, got {first!r:.40}")
    joints: list[BvhJoint] = []
    chain: list[int] = []  # the open joints, from the root
    for where, line in lines:
        word, rest = [*line.split(None, 1), ""][:2]
        word = word.upper()
        if word == "MOTION":
            if chain or not joints:
                raise ReadError(f"{where}: expected a hierarchy whose braces are closed")
            return joints, lines
        if word in ("ROOT", "JOINT", "END"):
            if len(joints) == _MAX_JOINTS or (word == "ROOT") != (not joints):
                raise ReadError(f"{where}: expected one ROOT and at most {_MAX_JOINTS} joints")
            name = "" if word == "END" else rest.rstrip("{").strip()
            joints.append(BvhJoint(name, chain[-1] if chain else -1))
            if not chain and len(joints) > 1:
                raise ReadError(f"{where}: expected all joints to be inside of the root")
        if line.endswith("{"):
            chain.append(len(joints) - 1)
        elif word == "}":
            if not chain:
                raise ReadError(f"{where}: expected no further closing brace")
            chain.pop()
        elif word in ("OFFSET", "CHANNELS") and not chain:
            raise ReadError(f"{where}: expected {word} inside of a joint")
        elif word == "OFFSET":
            joints[chain[-1]].offset = _parse_numbers(where, rest, 3)
        elif word == "CHANNELS":
            joints[chain[-1]].channels = _parse_channels(where, rest)
        elif word not in ("ROOT", "JOINT", "END"):
            raise ReadError(f"{where}: expected a joint, OFFSET or CHANNELS, got {line!r:.40}")
    raise ReadError(f"{path}: expected MOTION after the hierarchy, the file ends before it")


def _parse_channels(where: str, text: str) -> list[tuple[str, str]]:
    count, *names = text.split() or [""]
    channels = [(name[1:].lower(), name[0].lower()) for name in names]
    known = all(kind in ("position", "rotation") and axis in _AXES for kind, axis in channels)
    if count != str(len(names)) or not known:
        raise ReadError(
            f"{where}: expected CHANNELS with their number and names such as Xposition or "
            f"Zrotation, got {text!r:.80}"
        )
    return channels


def _parse_numbers(where: str, text: str, count: int) -> NDArray[np.float64]:
    words = text.split(None, count)
    try:
        numbers = np.array(words, np.float64)
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ReadError(f"{where}: expected {count} finite numbers, got {text!r:.40}")
    return numbers


def _read_motion(
    path: Path, lines: Iterator[tuple[str, str]], width: int
) -> tuple[float, NDArray[np.float64]]:
    """Return the frame rate and the numbers (T, width) of all frames."""
    facts = []
    for key in ("Frames:", "Frame Time:"):
        where, line = next(lines, (str(path), ""))
        if not line.lower().startswith(key.lower()):
            raise ReadError(f"{where}: expected {key!r}, got {line!r:.40}")
        facts.append(_parse_numbers(where, line[len(key) :], 1)[0])
    if facts[1] <= 0:
        raise ReadError(f"{path}: expected a Frame Time above 0, got {facts[1]:g}")
    rows = [_parse_numbers(where, line, width) for where, line in lines]
    if not rows or len(rows) != facts[0]:
        raise ReadError(f"{path}: expected {facts[0]:g} frames, as Frames states, got {len(rows)}")
    return round(1 / facts[1], 2), np.array(rows)  # 0.0333333 s are 30 frames a second
