"""Reference parser of NTU `.skeleton` text: one line, one word, one float() at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray


def read_ntu_line_by_line(path: Path) -> NDArray[np.float32]:
    """Return the joints (M, T, 25, 3) of at most two persons, NaN where a person is absent.

    A new body id is a new person; the persons with the most motion come first, as in the reader
    "ntu". For valid files only: nothing is checked.
    """
    with Path(path).open(encoding="ascii") as file:
        frames = [_read_frame(file) for _ in range(int(file.readline()))]
    persons: dict[str, NDArray[np.float64]] = {}
    for t, bodies in enumerate(frames):
        for body_id, rows in bodies:
            person = persons.setdefault(body_id, np.full((len(frames), 25, 3), np.nan))
            for v, row in enumerate(rows):
                if any(row[:3]):  # 0, 0, 0 is the sensor's own place: the joint was not tracked
                    person[t, v] = row[:3]
    by_motion = sorted(persons.values(), key=_motion_spread, reverse=True)
    return np.array(by_motion[:2], dtype=np.float32)


def _read_frame(file: TextIO) -> list[tuple[str, list[list[float]]]]:
    bodies = []
    for _ in range(int(file.readline())):
        body_id, *state = file.readline().split()
        for word in state:
            float(word)  # a reader that keeps every value of the file converts these too
        joints = int(file.readline())
        rows = [[float(word) for word in file.readline().split()] for _ in range(joints)]
        bodies.append((body_id, rows))
    return bodies


def _motion_spread(person: NDArray[np.float64]) -> float:
    """Return the sum of the standard deviations of x, y and z over the person's frames."""
    present = np.nan_to_num(person[~np.isnan(person).all(axis=(1, 2))])
    return float(present.std(axis=(0, 1)).sum())
