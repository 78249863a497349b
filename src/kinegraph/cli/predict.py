"""`kinegraph predict`: raw files to named actions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.errors import KinegraphError

if TYPE_CHECKING:
    from kinegraph.clips.clip import Clip
    from kinegraph.inference.recognizer import Answer, Recognizer


def predict(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    files: Annotated[list[Path], typer.Argument(help="Raw files, or stores.")],
    reader: Annotated[str | None, typer.Option(help="Default: guessed from each file.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many guesses.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a clip.")] = False,
) -> None:
    """Name the actions in raw files. A bad file does not keep the others from being answered."""
    from kinegraph.inference.recognizer import Recognizer

    recognizer = Recognizer.load(run)
    failed = False
    for path in files:
        try:
            for clip in _clips(path, reader, recognizer):
                answer = recognizer(clip)
                print(json.dumps(answer.to_dict(top)) if as_json else _text(answer, top))
        except KinegraphError as error:
            failed = True
            print(f"kinegraph: {error}", file=sys.stderr)
    if failed:
        raise typer.Exit(2)


def _clips(path: Path, reader: str | None, recognizer: Recognizer) -> Iterator[Clip]:
    from kinegraph.clips.store import ClipStore, is_store
    from kinegraph.readers import get_reader, guess_reader, read_clips

    if reader is None and is_store(path):
        yield from ClipStore(path)
        return
    chosen = get_reader(reader) if reader else guess_reader(path)
    trained_with = recognizer.header.reader
    options = dict(trained_with["options"]) if trained_with["name"] == chosen.name else {}
    if "layout" in chosen.options:
        options["layout"] = recognizer.layout
    yield from read_clips(path, chosen.name, **options)


def _text(answer: Answer, top: int) -> str:
    guesses = [f"{guess.name} {guess.probability:.1%}" for guess in answer.guesses[:top]]
    return f"{answer.id}: {', '.join(guesses)}"
