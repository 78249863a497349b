"""NTU `.skeleton` text read the plain way: one line, one word, one float() at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

Body = tuple[str, list[list[float]]]


def read_ntu_line_by_line(path: Path | str, max_persons: int = 2) -> NDArray[np.float32]:
    """The joints (M, T, 25, 3) of a recording, NaN where a person is absent.

    A new body id is a new person; the persons who move most come first, as the reader "ntu" has
    it. For good files only: it checks nothing.
    """
    with Path(path).open(encoding="ascii") as file:
        frames = [_frame(file) for _ in range(int(file.readline()))]
    persons: dict[str, NDArray[np.float64]] = {}
    for t, bodies in enumerate(frames):
        for body_id, rows in bodies:
            person = persons.setdefault(body_id, np.full((len(frames), 25, 3), np.nan))
            for v, row in enumerate(rows):
                if any(row[:3]):  # 0, 0, 0 is the sensor itself: the joint was not seen
                    person[t, v] = row[:3]
    moving_most = sorted(persons.values(), key=_energy, reverse=True)
    return np.array(moving_most[:max_persons], dtype=np.float32)


def _frame(file: TextIO) -> list[Body]:
    bodies = []
    for _ in range(int(file.readline())):
        body_id, *state = file.readline().split()
        for word in state:
            float(word)  # a reader that keeps all that the file says converts these too
        joints = int(file.readline())
        rows = [[float(word) for word in file.readline().split()] for _ in range(joints)]
        bodies.append((body_id, rows))
    return bodies


def _energy(person: NDArray[np.float64]) -> float:
    """The standard deviations of x, y and z in the frames that show the person, summed."""
    seen = np.nan_to_num(person[~np.isnan(person).all(axis=(1, 2))])
    return float(seen.std(axis=(0, 1)).sum())
