"""`kinegraph segment`: the actions of a recording with their start and end."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import echo


@takes_clip_options
def segment(
    recording: Annotated[Path, typer.Argument(help="Raw file, folder of raw files, or store.")],
    model: Annotated[Path, typer.Option(help="Run of a segmentation, or its checkpoint.")],
    reader: Annotated[
        str | None, typer.Option(help="Reader of the files; default: guessed from each file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per recording.")
    ] = False,
    min_frames: Annotated[int, typer.Option(min=1, help="Leave out actions of fewer frames.")] = 1,
    *,
    stated: dict[str, Any],
) -> None:
    """Find the actions in long recordings: start, end and label of each, as CSV or JSON."""
    from kinegraph.inference.inputs import describe_assumptions, open_input
    from kinegraph.inference.segment import Segmenter

    segmenter = Segmenter.load(model)
    rows = []
    for clip in open_input(recording, reader, segmenter, stated).read_clips():
        print_assumptions(describe_assumptions(clip, segmenter), clip.notes)
        answer = segmenter(clip)
        found = [item.to_dict() for item in answer.intervals(min_frames)]
        if as_json:
            echo(json.dumps({"recording": clip.id, "fps": clip.fps, "intervals": found}))
        rows += [{"recording": clip.id, **item} for item in found]
    if not as_json:
        echo(_to_csv(rows))


def _to_csv(rows: list[dict[str, Any]]) -> str:
    columns = ("recording", "start", "end", "label", "start_frame", "stop_frame", "probability")
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")
