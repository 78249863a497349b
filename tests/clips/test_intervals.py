"""Interval labels of recordings: their form in a store, and the labels of frames."""

import json

import numpy as np
import pytest

from kinegraph.clips.intervals import (
    BACKGROUND,
    Interval,
    find_intervals,
    frame_classes,
    has_intervals,
    label_frames,
    pack_intervals,
    parse_intervals,
)
from kinegraph.errors import ClipError


def test_packed_intervals_are_parsed_in_order_of_their_start() -> None:
    packed = pack_intervals([Interval(1, 5, 9), Interval(0, np.int64(0), 5)])
    assert parse_intervals({"intervals": packed}, 9) == (Interval(0, 0, 5), Interval(1, 5, 9))


def test_no_meta_is_not_the_same_as_no_action() -> None:
    assert parse_intervals({}, 9) is None
    assert parse_intervals({"intervals": "[]"}, 9) == ()


@pytest.mark.parametrize(
    "value",
    ["{", "3", "[[0, 1]]", "[[0, 3, 3]]", "[[0, -1, 3]]", "[[-1, 0, 3]]", "[[0, 0, 10]]",
     '[["a", 0, 3]]', "[[0, 0.5, 3]]", "[[true, 0, 3]]", 7, json.dumps({"a": 1})],
)  # fmt: skip
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(ClipError, match=r"expected a list of \[label, start, stop\] within 9 fram"):
        parse_intervals({"intervals": value}, 9)


def test_frames_get_the_label_of_their_interval_the_later_one_of_two() -> None:
    labels = label_frames([Interval(2, 3, 6), Interval(0, 1, 4)], 8, background=5)
    assert labels.tolist() == [5, 0, 0, 2, 2, 2, 5, 5]
    assert find_intervals(labels, 5) == [Interval(0, 1, 3), Interval(2, 3, 6)]
    assert find_intervals(labels)[0] == Interval(5, 0, 1)
    assert find_intervals(np.zeros(0, int)) == []


def test_the_background_is_one_class_more_unless_a_class_has_its_name() -> None:
    assert frame_classes(("walk", "sit")) == (("walk", "sit", BACKGROUND), 2)
    assert frame_classes((BACKGROUND, "sit")) == ((BACKGROUND, "sit"), 0)


def test_labels_are_below_the_number_of_classes_and_marked_clips_are_known() -> None:
    meta = {"intervals": "[[2, 0, 3]]"}
    assert parse_intervals(meta, 9, 3) == (Interval(2, 0, 3),)
    with pytest.raises(ClipError, match="expected a list of"):
        parse_intervals(meta, 9, 2)
    assert has_intervals([meta, {}, {"intervals": "[]"}]).tolist() == [True, False, True]
