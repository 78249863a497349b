"""The HTML report of a watched video: one self-contained file, with a timeline of its actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from kinegraph.reports.page import data_uri, embed_figure, jinja_environment, write_page
from kinegraph.reports.style import BLACK, GRAY, HUES, LIGHT_GRAY, despine, plot_label, tint
from kinegraph.video.segmentation import Segment, WatchResult, dominant_action, format_time

MAX_PERSONS = 30  # of more persons, those with the longest segments
_TIMELINE_WIDTH = 9.4  # inches
_LETTER = 0.11  # inches


def write_watch_report(
    path: Path,
    name: str,
    model: str,
    classes: int,
    result: WatchResult,
    frames: Mapping[Segment, bytes],
) -> None:
    """Write the report, completely or not at all.

    Args:
        path: path of the HTML file.
        name: name of the video or camera.
        model: name of the model.
        classes: number of its actions.
        result: action segments.
        frames: segment -> JPEG of its key frame.

    Raises:
        OSError: the file cannot be written.
    """
    segments = result.segments
    environment = jinja_environment()
    environment.filters["time"] = format_time
    text = environment.get_template("video/report.html.jinja").render(
        name=name,
        main=dominant_action(segments),
        segments=segments,
        persons=len({segment.person for segment in segments}),
        actions=len({segment.label for segment in segments} - {None}),
        timeline=embed_figure(draw_timeline(segments, result.end_time), f"Timeline of {name}"),
        colors=action_colors(segments),
        frames=[(s, data_uri("image/jpeg", frames[s])) for s in segments if s in frames],
        model=model,
        classes=classes,
    )
    write_page(text, path)


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
            counted = f"{segment.name}, {segment.repetitions}x" * (segment.repetitions > 1)
            name = next((n for n in (counted, segment.name) if n and len(n) * _LETTER < room), "")
            if name:
                ink = GRAY if segment.label is None else BLACK
                name = plot_label(name)
                ax.text(segment.middle, row, name, ha="center", va="center", fontsize=9, color=ink)
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
