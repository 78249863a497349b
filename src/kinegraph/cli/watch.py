"""`kinegraph watch`: a video, a camera or poses to who did what, and when."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import progress
from kinegraph.errors import LiveError

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.video.pipeline import ActionPipeline
    from kinegraph.video.recording import WatchCache
    from kinegraph.video.segmentation import DominantAction, Segment
    from kinegraph.video.sources import Source


def watch(
    what: Annotated[
        str, typer.Argument(help="A video, a camera's number, or a folder of OpenPose's files.")
    ],
    model: Annotated[
        Path, typer.Option(help="A pretrained model, a run, a checkpoint or an exported file.")
    ] = Path("penn-action"),
    out: Annotated[
        Path | None, typer.Option(help="An mp4 with skeletons and actions drawn in.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="An HTML page with the timeline and key frames.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, at the end.")] = False,
    poses: Annotated[str, typer.Option(help="Who finds skeletons: mediapipe or rtmlib.")] = (
        "mediapipe"
    ),
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="Frames a second of a folder; of a video, how many are looked at.",
        ),
    ] = None,
    persons: Annotated[int, typer.Option(min=1, help="The most to follow at a time.")] = 10,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after so many. Default: at the end, or Ctrl-C.")
    ] = None,
) -> None:
    """Say who does what from when to when."""
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.video.pipeline import ActionPipeline
    from kinegraph.video.sources import open_source
    from kinegraph.video.tracking import Tracker

    _check_places(what, out, page)
    recognizer = Recognizer.load(model)
    source = open_source(what, poses, fps)
    try:
        watcher = ActionPipeline(recognizer, source.layout, Tracker(persons))
        with _notebook(source, bool(out or page)) as cache:
            seen = _look(source, watcher, cache, seconds, tell=not as_json)
            main = _tell(source, seen, as_json)
            if as_json:
                segments = [segment.to_dict() for segment in seen.segments]
                print(json.dumps({"main": main.to_dict(), "segments": segments}), flush=True)
            if cache is not None:
                _draw(source, (str(model), recognizer), cache, seen, main, out, page)
    finally:
        source.close()
    if seen.interrupted and not source.live:
        raise typer.Exit(130)


@dataclass
class _Seen:
    """What there is to tell."""

    segments: list[Segment] = field(default_factory=list)
    pictures: int = 0
    until: float = 0.0
    interrupted: bool = False


def _check_places(what: str, out: Path | None, page: Path | None) -> None:
    """What could not be written is refused before hours of work."""
    for path, ending in ((out, ".mp4"), (page, ".html")):
        if path is None:
            continue
        if path.suffix.lower() != ending or path.is_dir():
            raise LiveError(f"expected a file that ends in {ending} to write to, got {path}")
        if path.exists() and Path(what).exists() and path.samefile(what):
            raise LiveError(f"{path} is what is watched: write to another file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LiveError(f"{path}: no folder can be made for it: {error.strerror}") from error


@contextmanager
def _notebook(source: Source, wanted: bool) -> Iterator[WatchCache | None]:
    from kinegraph.video.recording import WatchCache

    with ExitStack() as stack:
        yield stack.enter_context(WatchCache(source)) if wanted else None


def _look(
    source: Source,
    watcher: ActionPipeline,
    cache: WatchCache | None,
    seconds: float | None,
    *,
    tell: bool,
) -> _Seen:
    """Watch to the end, or until Ctrl-C."""
    seen = _Seen()
    try:
        with progress(f"watching {source.name}") as bar:
            for picture, frame in source.frames():
                time = frame.time if frame else picture.time if picture else 0.0
                if seconds is not None and time > seconds:
                    break
                if picture is not None and cache is not None:
                    cache.picture(picture)
                if frame is not None:
                    sighted, over = watcher(frame)
                    if cache is not None:
                        cache.persons(time, sighted)
                    _add(seen, over, tell)
                seen.pictures, seen.until = seen.pictures + 1, time
                bar(seen.pictures, source.pictures)
    except KeyboardInterrupt:
        seen.interrupted = True
    seen.until = max(seen.until, watcher.until)
    _add(seen, watcher.finish(), tell)
    seen.segments.sort(key=lambda s: (s.start, s.person))
    return seen


def _add(seen: _Seen, over: list[Segment], tell: bool) -> None:
    from kinegraph.video.segmentation import clock

    seen.segments += over
    for s in over if tell else ():
        span = f"{clock(s.start):>9s} - {clock(s.end):>9s}"
        print(f"{span}  person {s.person}  {s.name} {s.probability:.0%}", flush=True)


def _tell(source: Source, seen: _Seen, as_json: bool) -> DominantAction:
    """What filled the time, and what went wrong."""
    from kinegraph.video.segmentation import clock, dominant_action

    main = dominant_action(seen.segments)
    if source.warning:
        print(f"kinegraph: {source.warning}", file=sys.stderr)
    if seen.interrupted and not source.live:
        print(f"kinegraph: interrupted after {clock(seen.until)}", file=sys.stderr)
    if not seen.segments:
        nobody = f"nobody is seen in {source.name} long enough to say anything"
        print(f"kinegraph: {nobody}", file=sys.stderr)
    elif not as_json:
        of = f"{clock(main.seconds)} of {clock(main.of)}"
        print(f"mostly: {main.name} {main.probability:.0%}, {of}")
    return main


def _draw(
    source: Source,
    model: tuple[str, Recognizer],
    cache: WatchCache,
    seen: _Seen,
    main: DominantAction,
    out: Path | None,
    page: Path | None,
) -> None:
    from kinegraph.video.annotate import annotate
    from kinegraph.video.report import write_watch_report
    from kinegraph.video.writer import atomic_video_writer

    with ExitStack() as stack:
        film = stack.enter_context(atomic_video_writer(out)) if out else None
        bar = stack.enter_context(progress("drawing"))
        frames = annotate(
            cache,
            source.layout,
            seen.segments,
            seen.until,
            film,
            page is not None,
            bar,
            seen.pictures,
        )
    if page is not None:
        write_watch_report(page, source.name, *model, seen.segments, main, seen.until, frames)
    for path in filter(None, (out, page)):
        print(f"written: {path}", file=sys.stderr)
