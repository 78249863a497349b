"""The HTML report of a watched video: one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinegraph.reports.page import data_uri, embed_figure, jinja_environment, write_page
from kinegraph.video.segmentation import DominantAction, Segment, format_time
from kinegraph.video.timeline_figure import action_colors, draw_timeline

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer


def write_watch_report(
    path: Path,
    name: str,
    model: str,
    recognizer: Recognizer,
    segments: Sequence[Segment],
    main: DominantAction,
    until: float,
    frames: Mapping[Segment, bytes],
) -> None:
    """Write the report, completely or not at all.

    Args:
        path: path of the HTML file.
        name: name of the video or camera.
        model: name of the model.
        recognizer: the model.
        segments: action segments.
        main: the dominant action.
        until: duration in seconds.
        frames: segment -> JPEG of its key frame.

    Raises:
        OSError: the file cannot be written.
    """
    environment = jinja_environment()
    environment.filters["time"] = format_time
    text = environment.get_template("video/report.html.jinja").render(
        name=name,
        main=main,
        segments=segments,
        persons=len({segment.person for segment in segments}),
        actions=len({segment.label for segment in segments} - {None}),
        timeline=embed_figure(draw_timeline(segments, until), f"Timeline of {name}"),
        colors=action_colors(segments),
        frames=[(s, data_uri("image/jpeg", frames[s])) for s in segments if s in frames],
        model=model,
        classes=recognizer.header.num_classes - (recognizer.calibration.background is not None),
    )
    write_page(text, path)
