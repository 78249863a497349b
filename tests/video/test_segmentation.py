"""Answers become segments."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from kinegraph.inference.answer import Candidate, Prediction
from kinegraph.inference.calibration import Calibration
from kinegraph.video.segmentation import (
    ActionSegmenter,
    DominantAction,
    Segment,
    dominant_action,
    format_time,
)

NAMES = ("here", "there", "away")
RECOGNIZER = SimpleNamespace(
    calibration=Calibration(threshold=0.5),
    header=SimpleNamespace(num_classes=3, class_name=NAMES.__getitem__),
)


def answer(*shares: float) -> Prediction:
    order = np.argsort([-p for p in shares], kind="stable")
    candidates = tuple(Candidate(int(i), NAMES[i], shares[i]) for i in order)
    return Prediction("x", candidates, np.zeros(3, np.float32), max(shares) >= 0.5)


def segments(answers: str, step: float = 0.25) -> list[tuple[str, float, float]]:
    """Of letters: h, t, a are sure; H is a "here" of 0.4, u is nothing at all."""
    of = {"h": (0.9, 0.1, 0), "t": (0.1, 0.9, 0), "a": (0, 0.1, 0.9), "H": (0.4, 0.3, 0.3)}
    segmenter = ActionSegmenter(1, RECOGNIZER)
    found = []
    for number, letter in enumerate(answers):
        shares = of.get(letter, (0.2, 0.2, 0.2))
        found += segmenter(number * step, (number + 1) * step, answer(*shares))
    found += segmenter.finish()
    return [(s.name, s.start, s.end) for s in found]


def test_runs_of_answers_are_segments_without_gaps():
    assert segments("hhhhtttttuuuu") == [
        ("here", 0, 1),
        ("there", 1, 2.25),
        ("unknown", 2.25, 3.25),
    ]


def test_what_is_shorter_than_the_least_belongs_to_what_was_there():
    assert segments("hhhhtthhahuh") == [("here", 0, 3)]
    assert segments("hhhhtatatata") == [("here", 0, 3)]


def test_the_first_moments_belong_to_what_follows():
    assert segments("uuhhhhh") == [("here", 0, 1.75)]


def test_an_action_goes_on_at_a_lower_probability_than_it_begins():
    assert segments("hhhhHHHHHHHH") == [("here", 0, 3)]
    assert segments("HHHHHHHH") == [("unknown", 0, 2)]
    assert segments("hhhhHHHHuuuu") == [("here", 0, 2), ("unknown", 2, 3)]


def test_very_short_presence_is_one_segment():
    assert segments("h") == [("here", 0, 0.25)]
    assert segments("") == []


def test_probabilities_are_means_over_the_time():
    segmenter = ActionSegmenter(4, RECOGNIZER)
    segmenter(0, 1, answer(0.9, 0.1, 0))
    segmenter(1, 4, answer(0.7, 0.3, 0))
    (only,) = segmenter.finish()
    assert (only.person, only.label, only.end) == (4, 0, 4)
    assert only.probability == pytest.approx((0.9 + 3 * 0.7) / 4)


def test_main_is_what_takes_most_time_of_all_persons():
    given = [
        Segment(1, 0, 4, 0, "here", 0.9),
        Segment(2, 0, 3, 1, "there", 0.6),
        Segment(2, 3, 4, None, "unknown", 0.2),
        Segment(3, 0, 3, 1, "there", 0.8),
    ]
    assert dominant_action(given) == DominantAction(1, "there", pytest.approx(0.7), 6, 11)
    assert dominant_action([*given, Segment(4, 0, 2, None, "unknown", 0.1)]).label == 1
    mostly_unknown = [*given, Segment(4, 0, 11, None, "unknown", 0.1)]
    assert dominant_action(mostly_unknown) == DominantAction(
        None, "unknown", pytest.approx(1.3 / 12), 12, 22
    )
    assert dominant_action([]).to_dict() == {"label": None, "name": "unknown", "probability": 0.0}


def test_main_is_several_actions_if_these_have_most_of_the_time():
    short = [Segment(1, i, i + 1 + i / 10, i, str(i), 0.9) for i in range(3)]
    several = DominantAction(
        None, "several actions", pytest.approx(0.9), pytest.approx(3.3), pytest.approx(3.3)
    )
    assert dominant_action(short) == several
    equal = [Segment(1, 0, 4, 0, "here", 0.5), Segment(2, 0, 4, 1, "there", 0.9)]
    several = DominantAction(None, "several actions", pytest.approx(0.7), 8, 8)
    assert dominant_action(equal) == several
    assert dominant_action([*equal, Segment(2, 4, 5, 1, "there", 0.9)]).label is None
    assert dominant_action([*equal, Segment(2, 4, 6, 1, "there", 0.9)]).label == 1
    unknown = Segment(3, 0, 7.9, None, "unknown", 0.1)
    assert dominant_action([*equal, unknown]).name == "several actions"
    assert dominant_action([*equal, unknown, unknown]).name == "unknown"


def test_a_still_body_has_no_action_whatever_the_probability():
    segmenter = ActionSegmenter(1, RECOGNIZER)
    ended = [s for i in range(4) for s in segmenter(i, i + 1, answer(0.9, 0.1, 0))]
    ended += [s for i in range(4, 8) for s in segmenter(i, i + 1, answer(0.9, 0, 0), is_still=True)]
    ended += segmenter.finish()
    assert [(s.name, s.start, s.end) for s in ended] == [("here", 0, 4), ("unknown", 4, 8)]


def test_what_json_holds():
    told = Segment(2, 0.12345, 4, None, "unknown", 1 / 3).to_dict()
    assert told == {
        "person": 2,
        "start": 0.123,
        "end": 4,
        "label": None,
        "name": "unknown",
        "probability": 0.3333,
        "repetitions": 0,
    }


@pytest.mark.parametrize(
    ("seconds", "told"), [(4.21, "4.2 s"), (59.99, "1:00.0"), (65, "1:05.0"), (7265, "2:01:05.0")]
)
def test_times_for_people(seconds, told):
    assert format_time(seconds) == told
