"""A tiny source of raw files, for the tests of conversion: one clip per line of numbers.

It is importable by name so that reading processes can find it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton import SkeletonLayout

HINGE = SkeletonLayout("hinge", ("base", "arm"), ((1, 0),), center=0)
CLASSES = ("open", "close")


def scan(source: Path, scale: float = 1.0) -> ReadPlan:
    """Every .txt file; .bin files are refused."""
    files = sorted(source.rglob("*.txt")) if source.is_dir() else [source]
    if not files:
        raise ReadError(f"{source}: expected .txt files, found none")
    refused = tuple((path, "not text") for path in sorted(source.rglob("*.bin")))
    tasks = [ReadTask(path, {"scale": scale}) for path in files]
    return ReadPlan(tasks, HINGE, CLASSES, refused)


def read(task: ReadTask) -> Iterator[Clip | ReadError]:
    """A line ``LABEL T`` is a clip of T frames; words make things go wrong."""
    for number, line in enumerate(task.path.read_text().splitlines(), start=1):
        yield _clip(task, number, line.split())


def _clip(task: ReadTask, number: int, words: list[str]) -> Clip | ReadError:
    path, scale = task.path, task.info["scale"]
    name, notes = f"{path.stem}-{number}", []
    match words:
        case ["bad"]:
            return ReadError(f"{path.name}:{number}: bad line")
        case ["stop"]:
            raise ReadError(f"{path.name}:{number}: the rest is unreadable")
        case ["bug"]:
            raise ZeroDivisionError("by zero")
        case ["die"]:
            os._exit(1)
        case ["slow", *words]:
            time.sleep(0.3)
        case ["same", *words]:
            name = "same"
        case ["note", *words]:
            notes = ["angles are guessed", "the base was moved"][: int(words[0]) + 1]
        case ["big", *words]:
            scale = float("inf")  # beyond float32
    label, frames = map(int, words)
    joints = np.arange(1, 1 + frames * 4).reshape(1, frames, 2, 2) * scale
    label = None if label < 0 else label
    return task.make_clip(joints, HINGE, label=label, id=name, notes=notes)


READER = Reader(
    name="lines",
    summary="files of lines",
    scan=scan,
    read=read,
    matches=lambda path: path.suffix == ".txt",
    options={"scale": "multiplies all coordinates"},
    protocols=("holdout",),
)
