"""`kinegraph predict`: raw files to named actions."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.errors import KinegraphError

if TYPE_CHECKING:
    from kinegraph.clips.clip import Clip
    from kinegraph.inference.loaded import LoadedRun
    from kinegraph.inference.poses import PoseScorer


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    files: Annotated[list[Path], typer.Argument(help="Raw files, or stores.")],
    reader: Annotated[str | None, typer.Option(help="Default: guessed from each file.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many guesses.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a clip.")] = False,
) -> None:
    """Name the actions in raw files. A bad file does not keep the others from being answered."""
    from kinegraph.inference.evaluate import measures
    from kinegraph.inference.poses import PoseScorer
    from kinegraph.inference.recognizer import Recognizer

    answers, poses_too = measures(run)
    scorer = PoseScorer.load(run) if poses_too else None
    recognizer = Recognizer.load(run) if answers or not scorer else None
    loaded = next(made for made in (recognizer, scorer) if made)
    failed = False
    for path in files:
        try:
            for clip in clips_of(path, reader, loaded):
                told: dict[str, Any] = {"id": clip.id}
                if recognizer:
                    told |= recognizer(clip).to_dict(top)
                if scorer:
                    told |= _pose_error(scorer, clip)
                print(json.dumps(told) if as_json else _text(told))
        except KinegraphError as error:
            failed = True
            print(f"kinegraph: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(2)


def _pose_error(scorer: PoseScorer, clip: Clip) -> dict[str, Any]:
    """The clip's mean joint error, null where no joint counts: the higher, the stranger."""
    errors = scorer.score([clip])
    error, baseline = float(errors.error[0]), float(errors.baseline[0])
    nothing = math.isnan(error)
    return {
        "pose_error": None if nothing else error,
        "baseline_error": None if nothing else baseline,
    }


def clips_of(path: Path, reader: str | None, run: LoadedRun) -> Iterator[Clip]:
    """The clips of a raw file or store, read as the run's training clips were."""
    from kinegraph.clips.store import ClipStore, is_store
    from kinegraph.readers import get_reader, guess_reader, read_clips

    if reader is None and is_store(path):
        yield from ClipStore(path)
        return
    chosen = get_reader(reader) if reader else guess_reader(path)
    trained_with = run.header.reader
    options = dict(trained_with["options"]) if trained_with["name"] == chosen.name else {}
    if "layout" in chosen.options:
        options["layout"] = run.layout
    yield from read_clips(path, chosen.name, **options)


def _text(told: dict[str, Any]) -> str:
    guesses = [f"{guess['name']} {guess['probability']:.1%}" for guess in told.get("top", [])]
    if "pose_error" in told:
        error, baseline = told["pose_error"], told["baseline_error"]
        nothing = "no joint counts"
        guesses.append(
            nothing
            if error is None
            else f"mean joint error {error:.4g} (without a model {baseline:.4g})"
        )
    return f"{told['id']}: {', '.join(guesses)}"
