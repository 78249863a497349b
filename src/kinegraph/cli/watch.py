"""`kinegraph watch`: action segments in a video, camera or pose folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import JsonOption, echo, progress
from kinegraph.errors import VideoError

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.video.pipeline import ActionPipeline
    from kinegraph.video.recording import WatchCache
    from kinegraph.video.segmentation import Segment, WatchResult
    from kinegraph.video.sources import Source


def watch(
    source: Annotated[
        str, typer.Argument(help="Video file, camera number, or pose files (OpenPose and others).")
    ],
    model: Annotated[
        Path, typer.Option(help="Pretrained model, run, checkpoint or exported file.")
    ] = Path("penn-action"),
    out: Annotated[
        Path | None, typer.Option(help="Write an mp4 annotated with skeletons and actions.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write an HTML report with timeline and key frames.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="Append each action segment to this file, as a line of JSON."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Send each action segment to this URL, in a POST of JSON.")
    ] = None,
    webhook_secret: Annotated[
        str | None,
        typer.Option(envvar="KINEGRAPH_WEBHOOK_SECRET", help="Key that signs these POSTs."),
    ] = None,
    as_json: JsonOption = False,
    poses: Annotated[
        str,
        typer.Option(
            help="Pose estimator: mediapipe, movenet or rtmlib (default: movenet if `pose-model` "
            "has installed it, else mediapipe).",
        ),
    ] = "",
    people: Annotated[
        int,
        typer.Option(
            min=1,
            help="Maximum number of tracked persons. A frame takes MediaPipe about 40 ms of a "
            "core for each person, and MoveNet about 35 ms for up to six.",
        ),
    ] = 6,
    fps: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1000,
            help="Frame rate of pose files; maximum rate of pose estimation in a video.",
        ),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Layout of pose files: a name or a file (default: by the joints).")
    ] = "",
    width: Annotated[
        float | None, typer.Option(min=1, help="Width of the image of pose files, in pixels.")
    ] = None,
    height: Annotated[
        float | None, typer.Option(min=1, help="Height of the image of pose files, in pixels.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after so many seconds; default: at the end.")
    ] = None,
) -> None:
    """Detect actions in a video, camera or pose folder and report who does what, with start and
    end times.
    """
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.video.events import EventFile, Webhook, to_event
    from kinegraph.video.pipeline import ActionPipeline
    from kinegraph.video.recording import WatchCache
    from kinegraph.video.sources import open_source
    from kinegraph.video.tracking import Tracker

    _check_outputs(source, out, page)
    if (width is None) != (height is None):
        raise VideoError("expected --width and --height of the image, both or none")
    size = (width, height) if width is not None and height is not None else None
    recognizer = Recognizer.load(model)
    with ExitStack() as stack:
        opened = stack.enter_context(closing(open_source(source, poses, fps, layout, size, people)))
        pipeline = ActionPipeline(recognizer, opened.layout, Tracker(people))
        cache = stack.enter_context(closing(WatchCache(opened))) if out or page else None
        outputs: list[EventFile | Webhook] = []
        if events is not None:
            outputs.append(stack.enter_context(closing(EventFile(events))))
        if webhook is not None:
            outputs.append(stack.enter_context(closing(Webhook(webhook, webhook_secret))))

        def on_segments(segments: list[Segment]) -> None:
            for event in [to_event(opened.name, segment) for segment in segments]:
                for output in outputs:
                    output.send(event)

        result = _detect(opened, pipeline, cache, seconds, on_segments, verbose=not as_json)
        _print_summary(opened, result, as_json)
        if cache is not None:
            _write_outputs(cache, result, str(model), recognizer, out, page)
    if result.interrupted and not opened.live:
        raise typer.Exit(130)


def _check_outputs(source: str, out: Path | None, page: Path | None) -> None:
    """Reject unwritable output paths before hours of work."""
    for path, suffix in ((out, ".mp4"), (page, ".html")):
        if path is None:
            continue
        if path.suffix.lower() != suffix or path.is_dir():
            raise VideoError(f"expected an output file that ends in {suffix}, got {path}")
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise VideoError(f"{path} is the input file; write to another file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"cannot create the folder of {path}: {error.strerror}") from error


def _detect(
    source: Source,
    pipeline: ActionPipeline,
    cache: WatchCache | None,
    seconds: float | None,
    on_segments: Callable[[list[Segment]], None],
    *,
    verbose: bool,
) -> WatchResult:
    """Process the source to its end, or until Ctrl-C."""
    from kinegraph.video.segmentation import WatchResult

    result = WatchResult()
    try:
        with progress(f"watching {source.name}") as bar:
            for frame, pose in source.frames():
                time = pose.time if pose else frame.time if frame else 0.0
                if seconds is not None and time > seconds:
                    break
                if frame is not None and cache is not None:
                    cache.add_frame(frame)
                if pose is not None:
                    tracked, ended = pipeline(pose)
                    if cache is not None:
                        cache.add_persons(time, tracked)
                    _add(result, ended, verbose)
                    on_segments(ended)
                result.frames, result.end_time = result.frames + 1, time
                bar(result.frames, source.frame_count)
    except KeyboardInterrupt:
        result.interrupted = True
    result.end_time = max(result.end_time, pipeline.end_time)
    _add(result, last := pipeline.finish(), verbose)
    on_segments(last)
    result.segments.sort(key=lambda s: (s.start, s.person))
    return result


def _add(result: WatchResult, ended: list[Segment], verbose: bool) -> None:
    from kinegraph.video.segmentation import format_time

    result.segments += ended
    for s in ended if verbose else ():
        span = f"{format_time(s.start):>9s} - {format_time(s.end):>9s}"
        echo(f"{span}  person {s.person}  {s.name} {s.probability:.0%}", flush=True)


def _print_summary(source: Source, result: WatchResult, as_json: bool) -> None:
    """Print warnings, and the dominant action or the JSON object."""
    from kinegraph.video.segmentation import dominant_action, format_time

    main = dominant_action(result.segments)
    warnings = [source.warning]
    if source.people == 1:
        warnings.append("one person at a time is tracked: other persons have no actions")
    if result.interrupted and not source.live:
        warnings.append(f"interrupted after {format_time(result.end_time)}")
    if not result.segments:
        warnings.append(f"no person is visible in {source.name} long enough")
    elif not as_json:
        of = f"{format_time(main.seconds)} of {format_time(main.of)}"
        echo(f"dominant action: {main.name} {main.probability:.0%}, {of}")
    for warning in filter(None, warnings):
        echo(f"kinegraph: {warning}", error=True)
    if as_json:
        segments = [segment.to_dict() for segment in result.segments]
        echo(json.dumps({"main": main.to_dict(), "segments": segments}), flush=True)


def _write_outputs(
    cache: WatchCache,
    result: WatchResult,
    model: str,
    recognizer: Recognizer,
    out: Path | None,
    page: Path | None,
) -> None:
    from kinegraph.video.annotate import annotate
    from kinegraph.video.report import write_watch_report
    from kinegraph.video.writer import atomic_video_writer

    with ExitStack() as stack:
        writer = stack.enter_context(atomic_video_writer(out)) if out else None
        bar = stack.enter_context(progress("annotating frames"))
        frames = annotate(cache, result, writer, bar, key_frames=page is not None)
    if page is not None:
        write_watch_report(page, cache.source.name, model, recognizer, result, frames)
    for path in filter(None, (out, page)):
        echo(f"wrote {path}", error=True)
