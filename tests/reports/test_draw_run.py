"""Pictures of a run: every figure from the numbers it was given, from 0 to 120 classes."""

from __future__ import annotations

import io
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from kinegraph.reports.draw_run import (
    draw_class_accuracy,
    draw_confusion_matrix,
    draw_reliability_diagram,
    draw_training_curves,
)


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def texts(figure: Figure) -> list[str]:
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return inside + [text.get_text() for text in figure.texts]


def classes(*accuracies: float | None) -> list[Any]:
    return [
        SimpleNamespace(label=i, name=f"class {i}", clips=0 if a is None else 8, accuracy=a)
        for i, a in enumerate(accuracies)
    ]


def test_curves_have_a_panel_for_what_was_recorded() -> None:
    history = [
        {"epoch": e, "train_loss": 2 - e, "val_loss": 1.0, "val_accuracy": a, "lr": 0.1}
        for e, a in enumerate([0.5, 0.75, 0.7])
    ]
    figure = drawn(draw_training_curves(history))
    assert len(figure.axes) == 3
    assert "best on val: 1 at epoch 2" in texts(figure)  # of equally good epochs the latest
    loss = {tuple(line.get_ydata()) for line in figure.axes[1].lines if len(line.get_ydata()) > 1}
    assert loss == {(1.0, 1.0, 1.0), (2.0, 1.0, 0.0)}


def test_the_test_split_has_a_curve_and_a_name_apart_from_the_others() -> None:
    rows = [{"val_accuracy": 0.5, "train_accuracy": 0.5, "test_accuracy": t} for t in (None, 0.5)]
    figure = drawn(draw_training_curves([{}, *rows]))
    names = {
        a.get_text(): a for a in figure.axes[0].texts if a.get_text() in ("val", "test", "train")
    }
    assert names.keys() == {"val", "test", "train"}
    heights = sorted(a.get_window_extent().y0 for a in names.values())
    assert min(upper - lower for lower, upper in pairwise(heights)) > 4  # pixels at 40 per inch
    assert [2.0] in [line.get_xdata().tolist() for line in figure.axes[0].lines]


def test_the_mean_class_accuracy_has_a_panel() -> None:
    history = [{"epoch": i, "val_accuracy": 0.9, "val_mean_class": 0.1 * i} for i in range(4)]
    figure = draw_training_curves(history)
    assert len(figure.axes) == 2
    assert "mean class accuracy" in texts(figure)
    drawn_values = figure.axes[1].lines[0].get_ydata().tolist()
    assert drawn_values == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_curves_pass_over_what_is_missing() -> None:
    history = [{"train_loss": 1.0}, {"train_loss": None}, {"train_loss": "nan"}, {"train_loss": 3}]
    figure = drawn(draw_training_curves(history))
    assert len(figure.axes) == 1
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 1], [3, 3]]


@pytest.mark.parametrize("history", [[], [{}], [{"epoch": 3}]])
def test_no_history_is_said_in_words(history: list[dict[str, float]]) -> None:
    assert texts(drawn(draw_training_curves(history))) == ["No training history was recorded."]


def test_one_epoch_shows_as_a_dot() -> None:
    figure = drawn(draw_training_curves([{"epoch": 0, "train_loss": 1.0}]))
    assert figure.axes[0].lines[0].get_marker() == "o"


def test_a_small_confusion_has_its_counts_written_in() -> None:
    figure = drawn(draw_confusion_matrix(np.array([[5, 1], [0, 0]]), ["sit", "<b> $x$"]))
    assert texts(figure) == ["5", "1"]
    right, wrong = figure.axes[0].images[0].get_array()[0]
    assert right[2] > right[0]
    assert wrong[0] > wrong[2]


def test_rows_without_clips_stay_white() -> None:
    figure = draw_confusion_matrix(np.array([[3, 0], [0, 0]]), ["a", "b"])
    assert (figure.axes[0].images[0].get_array()[1] == 1).all()


@pytest.mark.parametrize("k", [2, 21, 120])
def test_names_of_many_classes_are_thinned_until_they_fit(k: int) -> None:
    names = [f"a long class name {i}" for i in range(k)]
    figure = drawn(draw_confusion_matrix(np.eye(k, dtype=int), names))
    labels = figure.axes[0].get_yticklabels()
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    assert len(labels) > k / 3
    assert bool(figure.axes[0].texts) == (k <= 20)


def test_a_confusion_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a confusion matrix of 3 by 3, got \(2, 2\)"):
        draw_confusion_matrix(np.eye(2), ["a", "b", "c"])


def test_bars_go_from_best_to_worst_and_end_with_empty_classes() -> None:
    ax = drawn(draw_class_accuracy(classes(0.5, None, 1.0, 0.0))).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"class {i}" for i in (2, 0, 3, 1)]
    assert [t.get_text() for t in ax.texts] == ["100 % of 8", "50 % of 8", "0 % of 8", "no clips"]


def test_bars_of_120_classes_stand_in_three_columns() -> None:
    figure = draw_class_accuracy(classes(*np.linspace(0, 1, 120)))
    assert [len(ax.get_yticklabels()) for ax in figure.axes] == [40, 40, 40]
    assert figure.get_size_inches()[1] < 10


def test_no_classes_are_said_in_words() -> None:
    assert texts(drawn(draw_class_accuracy([]))) == ["No classes were evaluated."]


def test_reliability_draws_accuracy_and_confidence() -> None:
    row = SimpleNamespace(low=0.8, high=0.9, clips=12, accuracy=0.7, confidence=0.85)
    upper, lower = drawn(draw_reliability_diagram([row])).axes
    assert upper.patches[0].get_height() == 0.7
    assert upper.lines[0].get_xydata().tolist() == [[0.8, 0.85], [0.9, 0.85]]
    assert lower.patches[0].get_height() == 12
    assert texts(drawn(draw_reliability_diagram([]))) == ["No clips were evaluated."]
