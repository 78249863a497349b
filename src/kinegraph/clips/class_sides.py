"""Sides in the names of classes: which classes a mirrored clip belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What distinguishes left and right in the name of a class.
SIDES = re.compile(
    r"(?:counter|anti)?clockwise|left|right|(?<![a-z])(?:l|r|cw|ccw)(?![a-z])", re.IGNORECASE
)
_OPPOSITE_SIDES = {
    "left": "right", "l": "r", "cw": "ccw", "clockwise": "counterclockwise",
}  # fmt: skip
_OPPOSITE_SIDES |= {side: other for other, side in _OPPOSITE_SIDES.items()}
_OPPOSITE_SIDES["anticlockwise"] = "clockwise"


def names_side(name: str) -> bool:
    """Return whether the name of a class distinguishes left and right."""
    return SIDES.search(name) is not None


def find_mirrored_classes(names: Sequence[str]) -> list[int | None]:
    """Return the label of each class in a mirror.

    A class whose name has no side is itself, one with a side is the class whose name has the
    opposite sides, None if there is no such class.

    >>> find_mirrored_classes(["swipe left", "clap", "Swipe Right", "kick with the left leg"])
    [2, 1, 0, None]
    """
    labels = {_unify(name): label for label, name in enumerate(names)}
    return [labels.get(_unify(SIDES.sub(_opposite, name))) for name in names]


def _opposite(found: re.Match[str]) -> str:
    return _OPPOSITE_SIDES[found[0].lower()]


def _unify(name: str) -> str:
    return name.lower().replace("anticlockwise", "counterclockwise")
