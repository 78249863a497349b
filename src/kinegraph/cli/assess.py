"""`kinegraph assess`: which exercise a recording shows, and whether it is done correctly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import check_figure_path, echo, save_figure
from kinegraph.errors import KinegraphError

if TYPE_CHECKING:
    from kinegraph.inference.assess import Assessment, Assessor

LISTED_JOINTS = 3


@takes_clip_options
def assess(
    recordings: Annotated[list[Path], typer.Argument(help="Raw files, folders or stores.")],
    model: Annotated[
        Path, typer.Option(help="Run, checkpoint or bundled model whose classes state the quality.")
    ] = Path("ui-prmd"),
    reader: Annotated[
        str | None, typer.Option(help="Reader of the files; default: guessed from each file.")
    ] = None,
    repetitions: Annotated[
        bool, typer.Option("--repetitions", help="Assess each repetition of a recording by itself.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw which joints and frames decide; of several clips the first."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per clip.")
    ] = False,
    *,
    stated: dict[str, Any],
) -> None:
    """Name the exercise, and assess whether it is done correctly: score, joints and time.

    An unreadable file is reported; the others are processed.
    """
    from kinegraph.inference.assess import Assessor

    check_figure_path(picture)
    assessor = Assessor.load(model)
    failed = drawn = False
    for path in recordings:
        try:
            for result in _assess_file(assessor, path, reader, repetitions, stated):
                echo(json.dumps(result.to_dict()) if as_json else _format_assessment(result))
                if picture and not drawn and result.is_known:
                    _draw_picture(result, picture)
                    drawn = True
        except KinegraphError as error:
            failed = True
            echo(f"kinegraph: {error}", error=True)
    if picture and not drawn and not failed:
        echo("nothing is drawn: no clip shows an exercise of the model", error=True)
    if failed:
        raise typer.Exit(2)


def _assess_file(
    assessor: Assessor, path: Path, reader: str | None, repetitions: bool, stated: dict[str, Any]
) -> Iterator[Assessment]:
    from kinegraph.inference.assess import split_clip
    from kinegraph.inference.inputs import describe_assumptions, open_input

    for clip in open_input(path, reader, assessor.model, stated).read_clips():
        print_assumptions(describe_assumptions(clip, assessor.model), clip.notes)
        for part in split_clip(clip, repetitions=repetitions):
            yield assessor(part)


def _format_assessment(result: Assessment) -> str:
    nearest = f"{result.exercise} {result.probability:.0%}"
    if not result.is_known:
        return f"{result.clip.id}: unknown (nearest: {nearest})"
    shares = list(result.joint_shares().items())[:LISTED_JOINTS]
    joints = ", ".join(f"{joint} {share:.0%}" for joint, share in shares)
    start, end = result.span()
    return (
        f"{result.clip.id}: {nearest}, {result.verdict} (score {result.score:.2f}); "
        f"{joints}; {start:.1f}-{end:.1f} s"
    )


def _draw_picture(result: Assessment, path: Path) -> None:
    from kinegraph.reports.draw_explanation import draw_assessment

    save_figure(draw_assessment(result), path)
    echo(f"wrote {path}", error=True)
