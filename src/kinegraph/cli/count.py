"""`kinegraph count`: count repetitions in videos, cameras, raw files and stores."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import echo, progress
from kinegraph.errors import KinegraphError

if TYPE_CHECKING:
    from kinegraph.inference.counting import RepetitionCount


@takes_clip_options
def count(
    sources: Annotated[
        list[str], typer.Argument(help="Videos, camera numbers, raw files, folders or stores.")
    ],
    reader: Annotated[
        str | None, typer.Option(help="Reader of raw files; default: guessed from each file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per person.")
    ] = False,
    poses: Annotated[
        str, typer.Option(help="Pose estimator of videos: mediapipe, movenet or rtmlib.")
    ] = "",
    people: Annotated[
        int, typer.Option(min=1, help="Maximum number of tracked persons of a video.")
    ] = 6,
    *,
    stated: dict[str, Any],
) -> None:
    """Count the repetitions of each person: of any movement, without a model.

    An unreadable source is reported; the others are processed.
    """
    failed = False
    for source in sources:
        try:
            if Path(source).exists() and (reader is not None or _is_clip_file(Path(source))):
                counted = _count_clips(Path(source), reader, stated)
            else:
                counted = _count_video(source, poses, people, stated, verbose=not as_json)
            for name, person, result in counted:
                _print_count(name, person, result, as_json)
        except KinegraphError as error:
            failed = True
            echo(f"kinegraph: {error}", error=True)
    if failed:
        raise typer.Exit(2)


def _is_clip_file(path: Path) -> bool:
    from kinegraph.clips.store import is_store
    from kinegraph.readers import READERS, find_readers

    return is_store(path) or path.is_dir() or bool(find_readers(path, READERS))


def _count_clips(
    path: Path, reader: str | None, stated: dict[str, Any]
) -> Iterator[tuple[str, int, RepetitionCount]]:
    from kinegraph.inference.counting import count_repetitions
    from kinegraph.inference.inputs import open_input

    for clip in open_input(path, reader, None, stated).read_clips():
        print_assumptions("", clip.notes)
        for person, result in enumerate(count_repetitions(clip), start=1):
            yield clip.id, person, result


def _count_video(
    source: str, poses: str, people: int, stated: dict[str, Any], *, verbose: bool
) -> Iterator[tuple[str, int, RepetitionCount]]:
    from kinegraph.errors import VideoError
    from kinegraph.video.counting import VideoCounter
    from kinegraph.video.segmentation import format_time
    from kinegraph.video.sources import open_source
    from kinegraph.video.tracking import Tracker

    if unknown := [name for name in stated if name != "fps"]:
        raise VideoError(f"--{unknown[0]} is of raw files, and {source} is a video or camera")
    counter, frames = VideoCounter(Tracker(people)), 0
    with closing(open_source(source, poses, stated.get("fps"), people=people)) as opened:
        try:
            with progress(f"watching {opened.name}") as bar:
                for _, pose in opened.frames():
                    frames += 1
                    bar(frames, opened.frame_count)
                    if pose is None:
                        continue
                    for person, number in counter(pose).items():
                        if verbose:
                            when = f"{format_time(pose.time):>9s}"
                            echo(f"{when}  person {person}: {number}", flush=True)
        except KeyboardInterrupt:
            if not opened.live:
                raise
        for warning in filter(None, [opened.warning]):
            echo(f"kinegraph: {warning}", error=True)
    results = counter.results()
    if not results:
        raise VideoError(f"no person is visible in {opened.name}")
    for person, result in results.items():
        yield opened.name, person, result


def _print_count(name: str, person: int, result: RepetitionCount, as_json: bool) -> None:
    if as_json:
        echo(json.dumps({"id": name, "person": person, **result.to_dict()}))
        return
    text = f"{name}, person {person}: {result.count} repetition{'s' * (result.count != 1)}"
    if result.partial:
        shares = ", ".join(f"{one.fraction:.0%}" for one in result.partial)
        text += f", {len(result.partial)} partial ({shares})"
    echo(text)
