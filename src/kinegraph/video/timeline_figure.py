"""The timeline of action segments: bars over time, one row per person."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from kinegraph.reports.style import BLACK, GRAY, HUES, LIGHT_GRAY, despine, plot_label, tint
from kinegraph.video.segmentation import Segment, format_time

MAX_PERSONS = 30  # of more persons, those with the longest segments
_TIMELINE_WIDTH = 9.4  # inches
_LETTER = 0.11  # inches


def draw_timeline(segments: Sequence[Segment], until: float) -> Figure:
    """Draw a bar for each segment up to a time in seconds; unknown actions are gray."""
    rows = _rows(segments)
    colors = action_colors(segments)
    figure = Figure(figsize=(_TIMELINE_WIDTH, 0.9 + 0.42 * max(1, len(rows))))
    figure.set_layout_engine("constrained")
    ax = figure.subplots()
    despine(ax, grid="x")
    for row, person in enumerate(rows):
        for segment in (s for s in segments if s.person == person):
            color = colors[segment.label]
            solid = tint(color, 0.65 * (1 - segment.probability))
            face = color if segment.label is None else solid
            ax.barh(row, segment.seconds, left=segment.start, height=0.62, color=face, ec="white")
            room = segment.seconds / max(until, 1e-9) * (_TIMELINE_WIDTH - 1.4)
            if len(segment.name) * _LETTER < room:
                text_color = GRAY if segment.label is None else BLACK
                middle = segment.start + segment.seconds / 2
                name = plot_label(segment.name)
                ax.text(middle, row, name, ha="center", va="center", fontsize=9, color=text_color)
    ax.set_yticks(range(len(rows)), [f"person {person}" for person in rows])
    ax.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    ax.set_xlim(0, max(until, 1e-3))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: format_time(x)))
    named = {s.label: s.name for s in segments}
    if len(named) > 1:
        keys = [Patch(color=colors[label], label=plot_label(name)) for label, name in named.items()]
        figure.legend(handles=keys, loc="outside lower left", ncols=4, frameon=False, fontsize=9)
    return figure


def action_colors(segments: Sequence[Segment]) -> dict[int | None, str]:
    """Return a color for each action in the order of appearance; unknown is gray."""
    labels = dict.fromkeys(s.label for s in segments if s.label is not None)
    return {label: HUES[i % len(HUES)] for i, label in enumerate(labels)} | {None: LIGHT_GRAY}


def _rows(segments: Sequence[Segment]) -> list[int]:
    seconds: dict[int, float] = {}
    for segment in segments:
        seconds[segment.person] = seconds.get(segment.person, 0.0) + segment.seconds
    return sorted(sorted(seconds, key=lambda person: -seconds[person])[:MAX_PERSONS])
