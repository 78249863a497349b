"""Figure of segmented recordings: a timeline of true and of predicted actions for each."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kinegraph.clips.intervals import find_intervals
from kinegraph.inference.evaluate_segmentation import LabeledSegmentation
from kinegraph.reports import style

_FIGURE_WIDTH, _TIMELINE_HEIGHT, _RECORDING_GAP = (
    9.0,
    0.17,
    0.3,
)  # inches: of the figure, of a timeline, between recordings
_ID_WIDTH, _LEGEND_TOP, _AXIS_HEIGHT = (
    1.9,
    0.3,
    0.45,
)  # inches beside, above and below the timelines
_LEGEND_ENTRIES, _LEGEND_LINE = 6, 0.22  # names in a line of the legend, and its height


def draw_segmentations(found: Sequence[LabeledSegmentation]) -> Figure:
    """Draw the timelines of recordings, the true actions above the predicted ones.

    Args:
        found: recordings that one model segmented; the time axis counts frames.
    """
    answer = found[0].answer
    actions = [label for label in range(len(answer.classes)) if label != answer.background]
    colors = {label: class_color(i, len(actions)) for i, label in enumerate(actions)}
    lines = -(-len(actions) // _LEGEND_ENTRIES)
    height = len(found) * (2 * _TIMELINE_HEIGHT + _RECORDING_GAP)
    top = _LEGEND_TOP + lines * _LEGEND_LINE
    figure = Figure(figsize=(_FIGURE_WIDTH, height + top + _AXIS_HEIGHT))
    ax = style.add_axes_inches(
        figure, (_ID_WIDTH, _AXIS_HEIGHT, _FIGURE_WIDTH - _ID_WIDTH - 0.15, height)
    )
    for number, one in enumerate(found):
        y = number * (2 * _TIMELINE_HEIGHT + _RECORDING_GAP)
        for row, labels in enumerate((one.true, one.predicted)):
            intervals = find_intervals(labels, answer.background)
            ax.broken_barh(
                [(i.start, i.stop - i.start) for i in intervals],
                (y + row * _TIMELINE_HEIGHT, 0.92 * _TIMELINE_HEIGHT),
                facecolors=[colors[i.label] for i in intervals],
            )
        name = style.plot_label(one.answer.id, 24)
        ax.text(-0.01, y + _TIMELINE_HEIGHT, name, transform=ax.get_yaxis_transform(), ha="right",
                va="center", fontsize=9, color=style.BLACK)  # fmt: skip
    ax.set_xlim(0, max(len(one.true) for one in found))
    ax.set_ylim(height, -_RECORDING_GAP / 2)
    ax.set_yticks([])
    style.despine(ax, grid="x")
    ax.set_xlabel("frame; the upper row is true, the lower one predicted", fontsize=9,
                  color=style.GRAY)  # fmt: skip
    for i, label in enumerate(actions):
        line, place = divmod(i, _LEGEND_ENTRIES)
        x = 0.15 + place * (_FIGURE_WIDTH - 0.3) / _LEGEND_ENTRIES
        text = "■ " + style.plot_label(answer.classes[label], 18)
        y = -(0.12 + line * _LEGEND_LINE)
        style.write_inches(figure, x, y, text, fontsize=9, color=colors[label], va="top")
    return figure


def class_color(number: int, classes: int) -> str:
    """Return the color of one of so many classes."""
    if classes <= len(style.HUES):
        return style.HUES[number]
    return to_hex(colormaps["turbo"]((number + 0.5) / classes))
