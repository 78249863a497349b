"""Long recordings of the synthetic dataset: the takes of a performer, with rests between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import INTERVALS_KEY, Interval, pack_intervals
from kinegraph.errors import ReadError
from kinegraph.readers.ntu import reader as ntu
from kinegraph.readers.reader import ReadResults, ReadTask
from kinegraph.readers.synthetic.actions import ACTIONS

MIN_REST_FRAMES, MAX_REST_FRAMES = 20, 75
REST_NOISE_M = 0.004  # standard deviation of joints while nothing happens, in meters
#: After the first action follows the second one, for which the performer has to sit.
PAIR = ("sit down", "stand up")

TakeJoints = NDArray[np.float32]


def plan_recordings(tasks: Sequence[ReadTask]) -> Iterator[ReadTask]:
    """Yield a task for each performer, replication and camera: the takes of one person alone."""
    groups: dict[tuple[int, ...], list[ReadTask]] = {}
    for task in tasks:
        action = list(ACTIONS.values())[task.info["label"]]
        if action.answer is None:
            keys = ("setup", "camera", "subject", "replication")
            groups.setdefault(tuple(task.info[key] for key in keys), []).append(task)
    for (setup, camera, subject, replication), takes in groups.items():
        meta = {
            "setup": setup, "camera": camera, "subject": subject, "replication": replication,
        }  # fmt: skip
        name = f"S{setup:03}C{camera:03}P{subject:03}R{replication:03}"
        yield ReadTask(takes[0].path, {"takes": takes, "id": name, "meta": meta})


def read_recording(task: ReadTask) -> ReadResults:
    """Yield one recording, with its actions as interval labels.

    Order and rests depend on the performer and the replication, not on the camera.
    """
    meta: Mapping[str, Any] = task.info["meta"]
    rng = np.random.default_rng([meta["subject"], meta["replication"]])
    takes = [clip for take in task.info["takes"] for clip in ntu.READER.read(take)]
    if errors := [take for take in takes if isinstance(take, ReadError)]:
        yield errors[0]
        return
    clips = {clip.label: clip for clip in takes if isinstance(clip, Clip)}
    parts: list[TakeJoints] = []
    intervals = []
    frame = 0
    for label in _draw_order([*ACTIONS], clips, rng):
        take = clips[label].joints[0]
        before = parts[-1][-1] if parts else take[0]
        rest = make_rest(before, take[0], rng)
        intervals.append(Interval(label, frame + len(rest), frame + len(rest) + len(take)))
        frame += len(rest) + len(take)
        parts += [rest, take]
    parts.append(make_rest(parts[-1][-1], parts[-1][-1], rng))
    first = next(iter(clips.values()))
    yield task.make_clip(
        np.concatenate(parts)[None],
        first.layout,
        fps=first.fps,
        space=first.space,
        meta={**meta, INTERVALS_KEY: pack_intervals(intervals)},
    )


def _draw_order(
    names: Sequence[str], present: Mapping[int | None, Clip], rng: np.random.Generator
) -> list[int]:
    """Return the labels of the takes in random order, the second of a pair after the first."""
    first, second = (names.index(name) for name in PAIR)
    order = [i for i in range(len(names)) if i in present and (i != second or first not in present)]
    rng.shuffle(order)
    if first in present and second in present:
        order.insert(order.index(first) + 1, second)
    return order


def make_rest(before: TakeJoints, after: TakeJoints, rng: np.random.Generator) -> TakeJoints:
    """Return (T, V, 3): the way from one pose (V, 3) to another, with noise, and then standing."""
    frames = int(rng.integers(MIN_REST_FRAMES, MAX_REST_FRAMES + 1))
    share = np.clip(np.arange(1, frames + 1) / (frames / 2), 0, 1)
    share = (share**2 * (3 - 2 * share))[:, None, None]
    noise = rng.normal(0, REST_NOISE_M, (frames, *before.shape))
    return np.asarray(before + share * (after - before) + noise, dtype=np.float32)
