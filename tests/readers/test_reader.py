"""The contract of readers: tasks that make clips, and checks of options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers.reader import ReadTask, check_choice, check_count, guess_layout

JOINTS = np.ones((1, 2, 17, 2))


def test_a_clip_has_the_facts_of_its_task() -> None:
    facts = {"label": 3, "id": "b", "meta": {"subject": 1}, "rows": (0, 2)}
    clip = ReadTask(Path("x/a.json"), facts).make_clip(JOINTS, "coco17", fps=25.0)
    assert (clip.label, clip.id, dict(clip.meta), clip.fps) == (3, "b", {"subject": 1}, 25.0)
    assert clip.layout.name == "coco17"


def test_a_task_without_facts_names_its_clip_by_the_file() -> None:
    clip = ReadTask(Path("x/a.json")).make_clip(JOINTS, "coco17")
    assert (clip.label, clip.id, dict(clip.meta)) == (None, "a", {})


def test_stated_facts_replace_those_of_the_task() -> None:
    clip = ReadTask(Path("a.json"), {"label": 3, "id": "b"}).make_clip(JOINTS, "coco17", label=4)
    assert (clip.label, clip.id) == (4, "b")


def test_choices() -> None:
    check_choice("tracking", "match", ("none", "match"))
    with pytest.raises(UnknownNameError, match=r"unknown tracking 'mach' \(did you mean 'match'"):
        check_choice("tracking", "mach", ("none", "match"))


@pytest.mark.parametrize("value", [0, -1, 1.0, "2", True, None])
def test_counts_are_whole_numbers_in_a_range(value: object) -> None:
    check_count("n", 1)
    check_count("n", 2**40)
    with pytest.raises(ReadError, match="expected n to be a whole number of 1 or more, got"):
        check_count("n", value)
    check_count("n", 9, 0, 9)
    with pytest.raises(ReadError, match="expected n to be a whole number from 0 to 9, got 10"):
        check_count("n", 10, 0, 9)


def test_default_layout_of_a_number_of_joints() -> None:
    layouts = {25: "ntu25", 17: "coco17"}
    assert guess_layout(17, layouts, Path("a.npy")) == "coco17"
    with pytest.raises(ReadError, match=r"a\.npy: 18 joints; name the layout .*for 17, 25 joints"):
        guess_layout(18, layouts, Path("a.npy"))
