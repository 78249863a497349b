"""`kinegraph watch`: action segments in videos, cameras, network streams or pose folders."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinegraph.cli.console import (
    EventsOption,
    JsonOption,
    WebhookOption,
    WebhookSecretOption,
    echo,
    progress,
)
from kinegraph.errors import KinegraphError, VideoError
from kinegraph.video.events import STANDARD_OUTPUT, open_outputs
from kinegraph.video.segmentation import WatchResult, dominant_action, format_time

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.inference.segment import Segmenter
    from kinegraph.video.recording import WatchCache
    from kinegraph.video.segmentation import Segment
    from kinegraph.video.sources import Source

STOP_TIMEOUT_S = 20.0
"""Seconds after Ctrl-C in which several sources finish."""
WAIT_INTERVAL_S = 0.05


@dataclass
class _Watched:
    """A source as it was given, its name, and what became of it."""

    given: str
    name: str
    result: WatchResult = field(default_factory=WatchResult)
    source: Source | None = None
    cache: WatchCache | None = None
    error: BaseException | None = None
    has_ended: bool = False


def watch(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Video file, camera number, URL (rtsp, http, https), - for a video on standard "
            "input, or pose files (OpenPose and others).",
        ),
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
    events: EventsOption = None,
    webhook: WebhookOption = None,
    webhook_secret: WebhookSecretOption = None,
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
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--no-live",
            help="Drop frames of a URL or standard input that come too late, or none; default: "
            "drop those of RTSP and of URLs without a duration.",
        ),
    ] = None,
    reconnect: Annotated[
        float,
        typer.Option(min=0, help="Seconds after which a lost connection to a URL is given up."),
    ] = 300.0,
) -> None:
    """Detect actions in videos, cameras, network streams or pose folders and report who does what,
    with start and end times.
    """
    from kinegraph.inference.segment import load_action_model
    from kinegraph.video.detection import detect
    from kinegraph.video.pipeline import ActionPipeline
    from kinegraph.video.recording import WatchCache
    from kinegraph.video.sources import open_source
    from kinegraph.video.tracking import Tracker

    _check_outputs(sources, out, page)
    if as_json and events == STANDARD_OUTPUT:
        raise VideoError("--json and --events - both write to standard output: use one of them")
    if (width is None) != (height is None):
        raise VideoError("expected --width and --height of the image, both or none")
    size = (width, height) if width is not None and height is not None else None
    watched = _name_sources(sources)
    is_quiet, has_several = as_json or events == STANDARD_OUTPUT, len(watched) > 1
    recognizer = load_action_model(model)
    lock, stop = threading.Lock(), threading.Event()
    with ExitStack() as stack:
        send = stack.enter_context(open_outputs(events, webhook, webhook_secret))

        def run(one: _Watched, on_frame: Callable[[], None]) -> None:
            source = open_source(one.given, poses, fps, layout, size, people, live, reconnect)
            one.source = stack.enter_context(closing(source))
            source.name = one.name
            if out or page:
                one.cache = stack.enter_context(closing(WatchCache(source)))

            def on_segments(segments: list[Segment]) -> None:
                send(one.name, segments)
                with lock:
                    for segment in [] if is_quiet else segments:
                        _print_segment(f"{one.name}  " if has_several else "", segment)

            detect(
                source,
                ActionPipeline(recognizer, source.layout, Tracker(people), is_live=source.live),
                one.result,
                on_segments,
                cache=one.cache,
                seconds=seconds,
                on_frame=on_frame,
                should_stop=stop.is_set,
            )
            with lock:
                label = f"{one.name}: " if has_several else ""
                _print_summary(source, one.result, label, is_quiet=is_quiet)
                if as_json:
                    _print_json(one.result, one.name if has_several else None)

        _run_all(watched, run, stop)
        for one in watched:
            if one.cache is not None:
                _write_outputs(one.cache, one.result, str(model), recognizer, out, page)
    if any(one.error or one.result.error for one in watched):
        raise typer.Exit(2)
    if any(one.result.interrupted and one.source and not one.source.live for one in watched):
        raise typer.Exit(130)


def _name_sources(sources: Sequence[str]) -> list[_Watched]:
    """Return the sources by their names; of several with the same name, later ones get numbers."""
    from kinegraph.video.sources import name_source

    names = [name_source(source) for source in sources]
    for source, name in zip(sources, names, strict=True):
        if sources.count(source) > 1:
            raise VideoError(f"expected different sources, got {name} more than once")
    counts = [names[:k].count(name) for k, name in enumerate(names)]
    return [
        _Watched(source, f"{name} ({count + 1})" if count else name)
        for source, name, count in zip(sources, names, counts, strict=True)
    ]


def _check_outputs(sources: Sequence[str], out: Path | None, page: Path | None) -> None:
    """Reject unwritable output paths before hours of work."""
    for path, suffix in ((out, ".mp4"), (page, ".html")):
        if path is None:
            continue
        if len(sources) > 1:
            raise VideoError(f"{path} can show one source only, got {len(sources)}")
        if path.suffix.lower() != suffix or path.is_dir():
            raise VideoError(f"expected an output file that ends in {suffix}, got {path}")
        if path.exists() and Path(sources[0]).exists() and path.samefile(sources[0]):
            raise VideoError(f"{path} is the input file; write to another file")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"cannot create the folder of {path}: {error.strerror}") from error


def _run_all(
    watched: Sequence[_Watched],
    run: Callable[[_Watched, Callable[[], None]], None],
    stop: threading.Event,
) -> None:
    """Process one source in this thread, or each of several sources in a thread of its own.

    An error of one of several sources is printed, and the others go on.
    """
    with progress(f"watching {', '.join(one.name for one in watched)}") as bar:

        def on_frame() -> None:
            only = watched[0].source if len(watched) == 1 else None
            total = only.frame_count if only is not None else None
            bar(sum(one.result.frames for one in watched), total)

        def run_thread(one: _Watched) -> None:
            try:
                run(one, on_frame)
            except KinegraphError as error:
                one.error = error
                label = "" if one.name in str(error) else f"{one.name}: "
                echo(f"kinegraph: {label}{error}", error=True)
            except BaseException as error:  # raised in the main thread
                one.error = error
            finally:
                one.has_ended = True

        if len(watched) == 1:
            run(watched[0], on_frame)
            return
        for one in watched:
            threading.Thread(target=run_thread, args=(one,), daemon=True).start()
        deadline = math.inf
        while time.monotonic() < deadline and not all(one.has_ended for one in watched):
            try:  # not by `join`: Ctrl-C there may mark a running thread as ended (bpo-45274)
                time.sleep(WAIT_INTERVAL_S)
            except KeyboardInterrupt:
                deadline = time.monotonic() + STOP_TIMEOUT_S
                stop.set()
    for one in watched:
        if one.error is not None and not isinstance(one.error, KinegraphError):
            raise one.error


def _print_segment(label: str, segment: Segment) -> None:
    span = f"{format_time(segment.start):>9s} - {format_time(segment.end):>9s}"
    action = f"{segment.name} {segment.probability:.0%}"
    times = f", {segment.repetitions} repetitions" if segment.repetitions > 1 else ""
    echo(f"{label}{span}  person {segment.person}  {action}{times}", flush=True)


def _print_summary(source: Source, result: WatchResult, label: str, *, is_quiet: bool) -> None:
    """Print the dominant action, and warnings and the error that ended the source."""
    main = dominant_action(result.segments)
    warnings = [source.warning]
    if source.people == 1:
        warnings.append("one person at a time is tracked: other persons have no actions")
    if result.interrupted and not source.live:
        warnings.append(f"interrupted after {format_time(result.end_time)}")
    if result.error is not None:
        warnings.append(str(result.error))
    if not result.segments:
        warnings.append(f"no person is visible in {source.name} long enough")
    elif not is_quiet:
        of = f"{format_time(main.seconds)} of {format_time(main.of)}"
        echo(f"{label}dominant action: {main.name} {main.probability:.0%}, {of}", flush=True)
    for warning in filter(None, warnings):
        echo(f"kinegraph: {label}{warning}", error=True)


def _print_json(result: WatchResult, source: str | None) -> None:
    named = {} if source is None else {"source": source}
    main = dominant_action(result.segments).to_dict()
    segments = [segment.to_dict() for segment in result.segments]
    echo(json.dumps({**named, "main": main, "segments": segments}), flush=True)


def _write_outputs(
    cache: WatchCache,
    result: WatchResult,
    model: str,
    recognizer: Recognizer | Segmenter,
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
        name, classes = cache.source.name, _count_actions(recognizer)
        write_watch_report(page, name, model, classes, result, frames)
    for path in filter(None, (out, page)):
        echo(f"wrote {path}", error=True)


def _count_actions(model: Recognizer | Segmenter) -> int:
    """Return the number of classes of a model without that of no action."""
    from kinegraph.inference.segment import Segmenter

    has_background = isinstance(model, Segmenter) or model.calibration.background is not None
    return model.header.num_classes - has_background
