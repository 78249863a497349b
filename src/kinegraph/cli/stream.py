"""`kinegraph stream`: predict frame by frame."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.errors import ModelError, ReadError

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.inference.session import Window

MAX_LINE_CHARS = 2**20  # of one frame on standard input


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
) -> None:
    """Predict frame by frame, and print a line when the prediction changes.

    On standard input a frame is a line of JSON: a list of persons, each a list of joints or null,
    each a list of coordinates or null; or {"joints": ..., "confidence": ...}.
    """
    from kinegraph.inference.answer import accepted_action
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.inference.session import open_session

    seconds = _parse_window(window)
    recognizer = Recognizer.load(run)
    for name, fps, meta, frames in _open_recordings(file, reader, recognizer):
        session = open_session(recognizer, mode, seconds, every, meta, fps)  # type: ignore[arg-type]
        shown: str | None = None
        for number, frame in enumerate(frames):
            found = accepted_action(session.push(*frame))
            if as_json:
                print(json.dumps({"id": name, "frame": number, **found}), flush=True)
            elif found["name"] not in (None, shown):
                shown = found["name"]
                time = f"{number / fps:7.2f} s" if fps else f"frame {number:5d}"
                print(f"{time}  {shown} {found['probability']:.1%}", flush=True)
        found = accepted_action(session.flush())
        if as_json:
            print(json.dumps({"id": name, "frames": session.frames, **found}), flush=True)
        else:
            nothing = found["name"] is None
            last = "no frames" if nothing else f"{found['name']} {found['probability']:.1%}"
            print(f"{name}, {session.frames} frames: {last}", flush=True)


def _parse_window(text: str) -> Window:
    if text in ("auto", "all"):
        return "auto" if text == "auto" else None
    try:
        return float(text)
    except ValueError as error:
        raise ModelError(f"expected --window in seconds, auto or all, got {text!r}") from error


#: Name, frames per second, facts, and frames in order, each with joints and confidence.
Recording = tuple[str, float | None, Mapping[str, Any], Iterator[tuple[Any, Any]]]


def _open_recordings(file: str, reader: str | None, recognizer: Recognizer) -> Iterator[Recording]:
    from kinegraph.inference.inputs import open_input
    from kinegraph.inference.online_preprocessing import input_frame_shape

    if file == "-":
        frames = _read_stdin(input_frame_shape(recognizer))
        yield "standard input", None, {}, frames
        return
    for raw in open_input(Path(file), reader, recognizer).read_clips():
        clip = recognizer.pipeline.convert_layout(raw)
        confidence: Any = [None] * clip.num_frames
        if clip.confidence is not None:
            confidence = clip.confidence.swapaxes(0, 1)
        frames = zip(clip.joints.swapaxes(0, 1), confidence, strict=True)
        yield clip.id, clip.fps, clip.meta, frames


def _read_stdin(shape: tuple[int, int]) -> Iterator[tuple[Any, Any]]:
    lines = iter(lambda: sys.stdin.readline(MAX_LINE_CHARS + 1), "")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_CHARS:
            raise ReadError(
                f"standard input:{number}: a frame longer than {MAX_LINE_CHARS} characters"
            )
        if line.strip():
            yield _parse_frame(line, number, shape)


def _parse_frame(line: str, number: int, shape: tuple[int, int]) -> tuple[Any, Any]:
    import numpy as np

    from kinegraph.inference.online_preprocessing import parse_joints

    try:
        given = json.loads(line)
        parts = given if isinstance(given, dict) else {"joints": given}
        stated = parts.get("confidence")
        joints = np.array(parse_joints(parts["joints"], shape), np.float64)
        return joints, None if stated is None else np.array(stated, np.float64)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ReadError(
            f"standard input:{number}: expected a frame as JSON, persons of joints of coordinates "
            f"(null where not visible), got {line[:40].strip()!r}: {error}"
        ) from error
