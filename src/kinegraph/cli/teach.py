"""`kinegraph teach`: a model for new actions from a few examples of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kinegraph.cli.clip_options import takes_clip_options
from kinegraph.cli.console import JsonOption, echo, print_table, progress


@takes_clip_options
def teach(
    model: Annotated[
        Path, typer.Argument(help="Pretrained model, run or checkpoint, such as penn-action.")
    ],
    examples: Annotated[
        Path,
        typer.Argument(
            help="Folder that has a folder for each action, with videos or skeleton files; or a "
            "store."
        ),
    ],
    out: Annotated[Path, typer.Option(help="New folder for the taught model.")],
    reader: Annotated[
        str | None, typer.Option(help="Reader of skeleton files; default: guessed.")
    ] = None,
    poses: Annotated[str, typer.Option(help="Pose estimator of videos, as in `watch`.")] = "",
    as_json: JsonOption = False,
    *,
    stated: dict[str, Any],
) -> None:
    """Teach a model new actions from a few examples of each; the network itself stays as it is."""
    from kinegraph.inference.teach import teach as teach_actions
    from kinegraph.inference.trained_model import TrainedModel
    from kinegraph.training.checkpoint import require_empty_folder
    from kinegraph.video.examples import read_examples

    require_empty_folder(out)
    base = TrainedModel.load(model)
    found, errors = read_examples(examples, base, poses=poses, reader=reader, stated=stated)
    for error in errors:
        echo(f"kinegraph: skipped: {error}", error=True)
    with progress("teaching") as bar:
        recognizer = teach_actions(base, found, out, progress=bar)
    taught = recognizer.header.training["taught"]
    if as_json:
        echo(json.dumps(taught))
        return
    print_table("Examples", ("action", "clips"), list(taught["examples"].items()))
    echo(_describe_held_out(**taught["held_out"]))
    seconds = recognizer.header.training["seconds"]
    echo(f"{out}: {len(found)} actions, taught in {seconds:.1f} s")
    echo(f"next: kinegraph watch VIDEO --model {out}, or kinegraph predict {out} FILE")


def _describe_held_out(examples: int, correct: float, wrong: float, unknown: float) -> str:
    others = f"examples of an action that is not taught: {unknown:.0%} unknown (estimate)"
    if not examples:
        return f"no estimate for the taught actions: it needs two examples of one\n{others}"
    rest = 1 - correct - wrong
    return (
        f"{examples} examples held out in turn: {correct:.0%} named right, {wrong:.0%} wrong, "
        f"{rest:.0%} unknown (estimate)\n{others}"
    )
