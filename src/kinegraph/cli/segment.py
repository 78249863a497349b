"""`kinegraph segment`: the actions of a recording with their start and end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import echo
from kinegraph.errors import ReadError
from kinegraph.files import atomic_write

if TYPE_CHECKING:
    from kinegraph.inference.segment import NamedInterval
    from kinegraph.readers.annotations.records import TimedLabel

COLUMNS = ("recording", "start", "end", "label", "start_frame", "stop_frame", "probability")


@takes_clip_options
def segment(
    recording: Annotated[Path, typer.Argument(help="Raw file, folder of raw files, or store.")],
    model: Annotated[
        Path, typer.Option(help="Run of a segmentation, checkpoint or exported file.")
    ],
    reader: Annotated[
        str | None, typer.Option(help="Reader of the files; default: guessed from each file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per recording.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write the actions to this annotation file.")
    ] = None,
    to: Annotated[
        str, typer.Option(help="Format of --out: csv, boris, elan, via or label_studio.")
    ] = "csv",
    min_frames: Annotated[int, typer.Option(min=1, help="Leave out actions of fewer frames.")] = 1,
    *,
    stated: dict[str, Any],
) -> None:
    """Find the actions in long recordings: start, end and label of each, as CSV or JSON."""
    from kinegraph.inference.inputs import describe_assumptions, open_input
    from kinegraph.inference.segment import Segmenter
    from kinegraph.readers.annotations import get_annotation_format
    from kinegraph.readers.annotations.csv_table import write_table

    format = get_annotation_format(to)
    segmenter = Segmenter.load(model)
    rows = []
    annotations: dict[str, list[TimedLabel]] = {}
    for clip in open_input(recording, reader, segmenter, stated).read_clips():
        print_assumptions(describe_assumptions(clip, segmenter), clip.notes)
        answer = segmenter(clip)
        if out is not None:
            found = answer.intervals(min_frames)
            annotations[clip.id] = [_to_label(item, clip.id) for item in found]
        values = answer.to_dict(min_frames)
        if as_json:
            echo(json.dumps({"recording": clip.id, **values}))
        rows += [{"recording": clip.id, **item} for item in values["intervals"]]
    if not as_json:
        echo(write_table(COLUMNS, rows).rstrip("\n"))
    if out is not None:
        atomic_write(out, format.write(annotations))


def _to_label(item: NamedInterval, recording: str) -> TimedLabel:
    from kinegraph.readers.annotations.records import TimedLabel

    if item.start is None or item.end is None:
        raise ReadError(
            f"recording {recording!r}: annotation files have seconds, and its frame rate is "
            "unknown: state it with --fps"
        )
    return TimedLabel(item.name, item.start, item.end)
