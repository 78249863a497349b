"""`kinegraph stream`: frames in, a line whenever the answer changes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.errors import ModelError, ReadError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kinegraph.clips.clip import MetaValue
    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.inference.session import StreamingSession, Window

    Frame = tuple[NDArray[np.floating], NDArray[np.floating] | None]
    Recording = tuple[str, float | None, Mapping[str, MetaValue], Iterator[Frame]]

LONGEST_LINE = 2**20  # characters of one frame on standard input


def stream(
    run: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint file.")],
    file: Annotated[str, typer.Argument(help="A raw file, or - for frames on standard input.")],
    reader: Annotated[str | None, typer.Option(help="Default: guessed from the file.")] = None,
    mode: Annotated[str, typer.Option(help="auto, step or window.")] = "auto",
    window: Annotated[
        str,
        typer.Option(
            help="Latest seconds that a prediction covers; auto: what the run states, or 3; all: "
            "from the first frame."
        ),
    ] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Frames between predictions.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a frame.")] = False,
) -> None:
    """Answer frame by frame.

    On standard input a frame is a line of JSON: a list of persons, each a list of joints or null,
    each a list of coordinates or null; or {"joints": ..., "confidence": ...}.
    """
    from kinegraph.inference.recognizer import Recognizer
    from kinegraph.inference.session import open_session

    seconds = _parse_window(window)
    recognizer = Recognizer.load(run)
    for name, fps, meta, frames in _recordings(file, reader, recognizer):
        live = open_session(recognizer, mode, seconds, every, meta, fps)  # type: ignore[arg-type]
        _follow(live, name, fps, frames, as_json)


def _parse_window(text: str) -> Window:
    if text in ("auto", "all"):
        return "auto" if text == "auto" else None
    try:
        return float(text)
    except ValueError as error:
        raise ModelError(f"expected --window in seconds, auto or all, got {text!r}") from error


def _follow(
    live: StreamingSession,
    name: str,
    fps: float | None,
    frames: Iterator[Frame],
    as_json: bool,
) -> None:
    """One recording from its first frame to its last."""
    shown: str | None = None
    for number, (joints, confidence) in enumerate(frames):
        answer = live.push(joints, confidence)
        if as_json:
            _print_json({"id": name, "frame": number, **_told(answer)})
        elif answer is not None and _name(answer) != shown:
            shown = _name(answer)
            print(f"{_moment(number, fps)}  {shown} {answer.probability:.1%}", flush=True)
    answer = live.flush()
    if as_json:
        _print_json({"id": name, "frames": live.frames, **_told(answer)})
    else:
        what = "no frames" if answer is None else f"{_name(answer)} {answer.probability:.1%}"
        print(f"{name}, {live.frames} frames: {what}", flush=True)


def _told(answer: Prediction | None) -> dict[str, Any]:
    if answer is None:
        return {"label": None, "name": None, "probability": None}
    label = answer.accepted.label if answer.accepted else None
    return {"label": label, "name": _name(answer), "probability": answer.probability}


def _name(answer: Prediction) -> str:
    return answer.accepted.name if answer.accepted else "unknown"


def _print_json(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def _moment(number: int, fps: float | None) -> str:
    return f"{number / fps:7.2f} s" if fps else f"frame {number:5d}"


def _recordings(file: str, reader: str | None, recognizer: Recognizer) -> Iterator[Recording]:
    from kinegraph.inference.inputs import read_input_clips
    from kinegraph.inference.online_preprocessing import input_frame_shape

    if file == "-":
        yield "standard input", None, {}, _from_stdin(input_frame_shape(recognizer))
        return
    for clip in map(
        recognizer.pipeline.convert_layout, read_input_clips(Path(file), reader, recognizer)
    ):
        stated = clip.confidence
        frames = (
            (clip.joints[:, t], None if stated is None else stated[:, t])
            for t in range(clip.num_frames)
        )
        yield clip.id, clip.fps, clip.meta, frames


def _from_stdin(shape: tuple[int, int]) -> Iterator[Frame]:
    number = 0
    while line := sys.stdin.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise ReadError(f"standard input:{number}: a frame of over {LONGEST_LINE} characters")
        if line.strip():
            yield _frame(line, number, shape)


def _frame(line: str, number: int, shape: tuple[int, int]) -> Frame:
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
            f"(null where not seen), got {line[:40].strip()!r}: {error}"
        ) from error
