"""Sides in class names: twins in a mirror, and names without one."""

from __future__ import annotations

import pytest

from kinegraph.clips.class_sides import find_mirrored_classes, names_side


@pytest.mark.parametrize(
    ("name", "has_side"),
    [("swipe left", True), ("draw circle (clockwise)", True), ("arm R", True), ("clap", False),
     ("throw", False), ("rotate CCW", True), ("bright", True)],
)  # fmt: skip
def test_which_names_have_a_side(name: str, has_side: bool) -> None:
    assert names_side(name) is has_side


def test_classes_are_paired_by_their_opposite_names() -> None:
    names = ["clap", "swipe LEFT", "Swipe right", "circle clockwise", "circle anticlockwise",
             "kick with the left leg", "turn cw", "turn ccw", "left to right",
             "right to left"]  # fmt: skip
    assert find_mirrored_classes(names) == [0, 2, 1, 4, 3, None, 7, 6, 9, 8]
    assert find_mirrored_classes(["circle counterclockwise", "circle clockwise"]) == [1, 0]
