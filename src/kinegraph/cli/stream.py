"""`kinegraph stream`: predict frame by frame."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from kinegraph.cli.clip_options import print_assumptions, takes_clip_options
from kinegraph.cli.console import echo
from kinegraph.errors import ModelError, ReadError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kinegraph.inference.segment import Segmenter
    from kinegraph.inference.session import Window
    from kinegraph.inference.trained_model import TrainedModel
    from kinegraph.skeleton.layout import SkeletonLayout
    from kinegraph.skeleton.space import Space

MAX_LINE_CHARS = 2**20  # of one frame on standard input


@takes_clip_options
def stream(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint.")],
    file: Annotated[str, typer.Argument(help="Raw file, or - for frames on standard input.")],
    reader: Annotated[
        str | None, typer.Option(help="Reader of the file; default: guessed from the file.")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="step: compute each frame once; window: compute the whole window for each "
            "prediction; auto: step if the run supports it."
        ),
    ] = "auto",
    window: Annotated[
        str,
        typer.Option(
            help="Window length in seconds; auto: the run's, or 3; all: all frames so far."
        ),
    ] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Frames between predictions.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per frame.")
    ] = False,
    *,
    stated: dict[str, Any],
) -> None:
    """Predict frame by frame, and print a line when the prediction changes. A segmentation with a
    causal head names every frame.

    On standard input a frame is a line of JSON: a list of persons, each a list of joints or null,
    each a list of coordinates or null; or {"joints": ..., "confidence": ...}. Frames are of the
    run's layout and space unless the options state others; what is left open is guessed from the
    first frame.
    """
    from kinegraph.inference.answer import accepted_action
    from kinegraph.inference.segment import Segmenter, load_action_model
    from kinegraph.inference.session import open_session

    seconds = _parse_window(window)
    recognizer = load_action_model(run)
    for one in _open_recordings(file, reader, recognizer, stated):
        if isinstance(recognizer, Segmenter):
            if (mode, window, every) != ("auto", "auto", 10):
                raise ModelError(
                    "a segmentation names every frame: leave out --mode, --window and --every"
                )
            _stream_segmentation(recognizer, one, as_json=as_json)
            continue
        name, fps, meta, layout, space, frames = one
        session = open_session(recognizer, mode, seconds, every, meta, fps, layout, space)  # type: ignore[arg-type]
        shown: str | None = None
        for number, frame in enumerate(frames):
            found = accepted_action(session.push(*frame))
            if as_json:
                echo(json.dumps({"id": name, "frame": number, **found}), flush=True)
            elif found["name"] not in (None, shown):
                shown = found["name"]
                time = f"{number / fps:7.2f} s" if fps else f"frame {number:5d}"
                echo(f"{time}  {shown} {found['probability']:.1%}", flush=True)
        found = accepted_action(session.flush())
        if as_json:
            echo(json.dumps({"id": name, "frames": session.frames, **found}), flush=True)
        else:
            nothing = found["name"] is None
            last = "no frames" if nothing else f"{found['name']} {found['probability']:.1%}"
            echo(f"{name}, {session.frames} frames: {last}", flush=True)


def _stream_segmentation(segmenter: Segmenter, one: _Recording, *, as_json: bool) -> None:
    """Print the class of each frame as soon as it is known, or only where it changes."""
    from kinegraph.inference.segment_stream import SegmentationStream

    session = SegmentationStream(segmenter, one.meta, one.layout, one.space)
    shown, answered, received, actions = segmenter.background, 0, 0, 0

    def show(rows: NDArray[np.float32]) -> None:
        nonlocal shown, answered, actions
        for row in rows:
            label = int(row.argmax())
            name, share = segmenter.classes[label], float(row[label])
            if as_json:
                found = {"label": label, "name": name, "probability": round(share, 4)}
                echo(json.dumps({"id": one.name, "frame": answered, **found}), flush=True)
            elif label != shown:
                time = f"{answered / one.fps:7.2f} s" if one.fps else f"frame {answered:5d}"
                echo(f"{time}  {name} {share:.1%}", flush=True)
            actions += label not in (shown, segmenter.background)
            shown, answered = label, answered + 1

    for frame in one.frames:
        show(session.push(*frame))
        received += 1
    show(session.finish())
    if as_json:
        echo(json.dumps({"id": one.name, "frames": received, "delay": session.delay}), flush=True)
    else:
        late = f"each frame named at most {session.delay} frames late"
        echo(f"{one.name}, {received} frames: {actions} actions, {late}", flush=True)


def _parse_window(text: str) -> Window:
    if text in ("auto", "all"):
        return "auto" if text == "auto" else None
    try:
        return float(text)
    except ValueError as error:
        raise ModelError(f"expected --window in seconds, auto or all, got {text!r}") from error


Frame = tuple[Any, Any]  # joints and confidence


class _Recording(NamedTuple):
    """Frames in order, with what is known of them; layout and space None as those of the run."""

    name: str
    fps: float | None
    meta: Mapping[str, Any]
    layout: SkeletonLayout | None
    space: Space | None
    frames: Iterator[Frame]


def _open_recordings(
    file: str, reader: str | None, recognizer: TrainedModel, stated: Mapping[str, Any]
) -> Iterator[_Recording]:
    from kinegraph.inference.inputs import describe_assumptions, open_input

    if file == "-":
        yield _open_stdin(recognizer, dict(stated))
        return
    for clip in open_input(Path(file), reader, recognizer, stated).read_clips():
        print_assumptions(describe_assumptions(clip, recognizer), clip.notes)
        confidence: Any = [None] * clip.num_frames
        if clip.confidence is not None:
            confidence = clip.confidence.swapaxes(0, 1)
        frames = zip(clip.joints.swapaxes(0, 1), confidence, strict=True)
        yield _Recording(clip.id, clip.fps, clip.meta, clip.layout, clip.space, frames)


def _open_stdin(recognizer: TrainedModel, stated: dict[str, Any]) -> _Recording:
    """Return the frames on standard input, whose space is settled by the first with a joint."""
    from kinegraph.inference.inputs import take_facts
    from kinegraph.readers.space_options import SpaceOptions
    from kinegraph.skeleton.layouts import get_layout

    facts = take_facts(stated)
    fps, meta = facts.pop("fps", None), facts
    layout = get_layout(stated.pop("layout", recognizer.layout))
    frames = _read_stdin(stated.pop("confidence", False))
    read: list[Frame] = []
    for frame in frames:
        read.append(frame)
        if frame[0].size:
            break
    frames = chain(read, frames)
    name = "standard input"
    if layout.is_same(recognizer.layout) and not stated:
        space = recognizer.frame_space
        print_assumptions(f"layout {layout.name}, {space.describe()}, as the run's clips")
        return _Recording(name, fps, meta, None, None, frames)
    first = read[-1][0] if read else None
    if first is None or first.ndim < 2 or first.shape[-2] != layout.num_joints:
        return _Recording(name, fps, meta, layout, None, frames)
    found = SpaceOptions(**stated).resolve(first, layout)
    print_assumptions(f"layout {layout.name}, {found.describe()}")
    return _Recording(name, fps, meta, layout, found, frames)


def _read_stdin(confidence: bool) -> Iterator[Frame]:
    lines = iter(lambda: sys.stdin.readline(MAX_LINE_CHARS + 1), "")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARS:
            raise ReadError(
                f"standard input:{number}: a frame longer than {MAX_LINE_CHARS} characters"
            )
        if line.strip():
            joints, score = _parse_frame(line, number)
            if confidence and score is None and joints.ndim > 1:
                joints, score = joints[..., :-1], joints[..., -1]
            yield joints, score


def _parse_frame(line: str, number: int) -> Frame:
    import numpy as np

    from kinegraph.inference.json_arrays import parse_array

    try:
        given = json.loads(line)
        parts = given if isinstance(given, dict) else {"joints": given}
        stated = parts.get("confidence")
        joints = parse_array(parts["joints"])
        if joints.ndim < 2 and np.isnan(joints).all():  # no person is visible
            joints = np.empty(0)
        return joints, None if stated is None else np.array(stated, np.float64)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ReadError(
            f"standard input:{number}: expected a frame as JSON, persons of joints of coordinates "
            f"(null where not visible), got {line[:40].strip()!r}: {error}"
        ) from error
