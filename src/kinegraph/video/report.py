"""The page of what was watched: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinegraph.files import atomic_path
from kinegraph.reports.page import embed_figure, jinja_environment
from kinegraph.video.segmentation import DominantAction, Segment, clock
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
    """Write the page, complete or not there at all.

    Args:
        path: where.
        name: of what was watched.
        model: what people call the model.
        recognizer: who answered.
        segments: who did what.
        main: what filled the time.
        until: how long that was, in seconds.
        frames: segment -> JPEG.

    Raises:
        OSError: the file cannot be written.
    """
    environment = jinja_environment()
    environment.filters["clock"] = clock
    text = environment.get_template("video/report.html.jinja").render(
        name=name,
        main=main,
        until=until,
        segments=segments,
        persons=len({segment.person for segment in segments}),
        actions=len({segment.label for segment in segments} - {None}),
        timeline=embed_figure(draw_timeline(segments, until), f"Timeline of {name}"),
        colors=action_colors(segments),
        frames=[(segment, _data(frames[segment])) for segment in segments if segment in frames],
        model=model,
        classes=recognizer.header.num_classes - (recognizer.calibration.background is not None),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _data(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
