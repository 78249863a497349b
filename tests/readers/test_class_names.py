"""Class names: their number and order, and errors for datasets without names."""

from __future__ import annotations

import pytest

from kinegraph.errors import ReadError, UnknownNameError
from kinegraph.readers.class_names import class_names, list_class_sets

COUNTS = {
    "florence3d": 9,
    "jhmdb14": 14,
    "kinetics": 400,
    "ntu120": 120,
    "ntu60": 60,
    "nw_ucla": 10,
    "penn_action": 15,
    "sbu": 8,
    "ui_prmd": 10,
    "utd_mhad": 27,
    "utkinect": 10,
}


def test_every_set_is_listed_and_no_other() -> None:
    assert list_class_sets() == sorted(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_and_distinct_words(name: str) -> None:
    names = class_names(name)
    assert len(names) == len(set(names)) == COUNTS[name]
    assert all(isinstance(word, str) and word == word.strip() and word for word in names)


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("ntu60", 1, "drink water"),
        ("ntu60", 58, "handshaking"),
        ("ntu60", 60, "walking apart from each other"),
        ("ntu120", 61, "put on headphone"),
        ("ntu120", 80, "squat down"),
        ("ntu120", 100, "butt kicks (kick backward)"),
        ("ntu120", 112, "high-five"),
        ("ntu120", 120, "finger-guessing game (playing rock-paper-scissors)"),
        ("utd_mhad", 9, "right hand draw circle (clockwise)"),
        ("utd_mhad", 27, "squat (two arms stretch out)"),
        ("sbu", 5, "shaking hands"),
        ("nw_ucla", 10, "carry"),
    ],
)
def test_names_stand_at_their_published_number(name: str, number: int, words: str) -> None:
    assert class_names(name)[number - 1] == words


def test_ntu60_begins_ntu120() -> None:
    assert class_names("ntu120")[:60] == class_names("ntu60")


def test_sets_without_public_names_say_so() -> None:
    with pytest.raises(ReadError, match="'fsd10': its 30 classes have no public names"):
        class_names("fsd10")


def test_unknown_set() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown class set 'ntu-60' .*'ntu60'"):
        class_names("ntu-60")
