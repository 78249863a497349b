"""Faults of one clip, by which the checks of `kinegraph inspect` are measured.

``python tests/clip_faults.py PAGE STORE...`` puts a table into a page: how many are found.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips import validate
from kinegraph.clips.body_checks import BodyChecker
from kinegraph.clips.clip import Clip
from kinegraph.clips.clip_checks import ClipComparer
from kinegraph.clips.store import ClipStore

Array = NDArray[np.float32]
Change = Callable[[Array, np.random.Generator, Clip, ClipStore], Array]
TRIALS = 5
MARKS = "<!-- faults -->", "<!-- end of faults -->"


def _height(joints: Array) -> float:
    """Return the median of the longest side of a body, about 1.7 m."""
    sides = np.fmax.reduce(joints, axis=2) - np.fmin.reduce(joints, axis=2)
    return float(np.nanmedian(sides.max(axis=-1)))


def _later(joints: Array, later: Array) -> Array:
    """Return the first half of the frames as they are, and the second half of the other array."""
    half = joints.shape[1] // 2
    return np.concatenate([joints[:, :half], later[:, half:]], axis=1)


def _sideways(joints: Array, distance: float) -> Array:
    step = np.zeros(joints.shape[-1], np.float32)
    step[0] = distance
    return joints + step


def _displaced(joints: Array, rng: np.random.Generator, clip: Clip, _: ClipStore) -> Array:
    direction = rng.normal(size=joints.shape[-1])
    offset = _height(joints) / 17 * direction / np.linalg.norm(direction)
    joints[:, :, rng.integers(joints.shape[2])] += offset.astype(np.float32)
    return joints


def _one_joint_still(joints: Array, rng: np.random.Generator, *_: object) -> Array:
    v = rng.integers(joints.shape[2])
    joints[:, :, v] = np.nanmean(joints[:, :, v], axis=1, keepdims=True)
    return joints


def _upside_down(joints: Array, *_: object) -> Array:
    joints[..., 1] = 2 * np.nanmean(joints[..., 1]) - joints[..., 1]
    return joints


def _flat(joints: Array, *_: object) -> Array:
    joints[..., -1] = 0
    return joints


#: What happens to the joints (M, T, V, D) of a clip.
FAULTS: dict[str, Change] = {
    "all joints absent": lambda x, *_: np.full_like(x, np.nan),
    "all joints at zero": lambda x, *_: np.zeros_like(x),
    "all frames equal to the first": lambda x, *_: np.repeat(x[:, :1], x.shape[1], axis=1),
    "second half frozen": lambda x, *_: _later(
        x, np.repeat(x[:, x.shape[1] // 2][:, None], x.shape[1], axis=1)
    ),
    "last coordinate zero": _flat,
    "joints of another clip": lambda x, rng, _, store: np.array(
        store[int(rng.integers(len(store)))].joints
    ),
    "another unit (100 times as large)": lambda x, *_: 100 * x,
    "second half moved by two heights": lambda x, *_: _later(x, _sideways(x, 2 * _height(x))),
    "frames in random order": lambda x, rng, *_: x[:, rng.permutation(x.shape[1])],
    "time reversed": lambda x, *_: x[:, ::-1],
    "left and right swapped": lambda x, _, clip, __: x[:, :, list(clip.layout.mirror)],
    "upside down": _upside_down,
    "joints in another order": lambda x, *_: np.roll(x, 1, axis=2),
    "one joint never moves": _one_joint_still,
    "one joint off by 10 cm": _displaced,
    "wrong label": lambda x, *_: x,
}


def inject(name: str, clip: Clip, rng: np.random.Generator, store: ClipStore) -> Clip:
    """Return a clip of a store with a fault."""
    joints = np.ascontiguousarray(FAULTS[name](np.array(clip.joints), rng, clip, store), np.float32)
    label = clip.label
    if name == "wrong label":
        label = (clip.label + int(rng.integers(1, store.num_classes))) % store.num_classes
    return replace(clip, joints=joints, confidence=None, label=label)


class Checks:
    """The checks of a store, in which one clip can be replaced without reading the others again."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store
        self.bodies = BodyChecker(store.layout, store.space)
        self.comparer = ClipComparer(store.layout, store.space)
        self.rates, self.labels = store.rates.tolist(), store.labels.copy()
        self.measured = []
        for clip in store:
            self.measured.append(validate._measure_clip(clip, clip.digest))
            self.bodies.measure(clip)
            self.comparer.measure(clip)

    def warned(self) -> set[int]:
        """Return the clips that warnings name."""
        findings = [
            *validate._joint_findings(self.store, self.measured),
            *validate._problem_findings(self.store, self.bodies.find_problems(self.rates)),
            *validate._problem_findings(self.store, self.comparer.find_problems(self.labels)),
        ]
        return {self.store.find(i) for f in findings if f.severity != "note" for i in f.clips}

    def finds(self, position: int, clip: Clip) -> bool:
        """Whether a clip is named if it stands at this position of the store."""
        if clip.digest in self.store.digests and clip.digest != self.store.digests[position]:
            return True  # in a group of equal joints
        bodies, comparer = (type(c)(c.layout, c.space) for c in (self.bodies, self.comparer))
        bodies.measure(clip)
        comparer.measure(clip)
        values = [
            (self.measured, validate._measure_clip(clip, clip.digest)),
            (self.bodies.measures, bodies.measures[0]),
            (self.labels, -1 if clip.label is None else clip.label),
            *(
                (values, comparer.measures[name][0])
                for name, values in self.comparer.measures.items()
            ),
            *(
                (getattr(self.comparer, name), getattr(comparer, name)[0])
                for name in ("_lengths", "_still", "_poses")
            ),
        ]
        before = [(kept, kept[position]) for kept, _ in values]
        try:
            for kept, value in values:
                kept[position] = value
            return position in self.warned()
        finally:
            for kept, value in before:
                kept[position] = value


def count_found(store: ClipStore, trials: int = TRIALS) -> tuple[dict[str, int], int]:
    """Return how often each fault of a random clip is found, and how many clean clips are named."""
    checks, rng = Checks(store), np.random.default_rng(0)
    clean = checks.warned()
    usable = [i for i in range(len(store)) if i not in clean and store.frames[i] >= 8]
    found = dict.fromkeys(FAULTS, 0)
    for name in FAULTS:
        for i in rng.choice(usable, trials, replace=False).tolist():
            found[name] += checks.finds(i, inject(name, store[i], rng, store))
    return found, len(clean)


def make_table(paths: Sequence[str]) -> str:
    """Return the table of a page: faults found, by store."""
    stores = [ClipStore(path) for path in paths]
    counts = [count_found(store) for store in stores]
    rows = [
        ["fault of one clip", *(store.path.stem for store in stores)],
        ["---", *("---" for _ in stores)],
        *([name, *(f"{found[name]} of {TRIALS}" for found, _ in counts)] for name in FAULTS),
        [
            "clean clips named",
            *(f"{n} of {len(s)}" for s, (_, n) in zip(stores, counts, strict=True)),
        ],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Put the table into a page, between its marks."""
    page, table = Path(sys.argv[1]), make_table(sys.argv[2:])
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
