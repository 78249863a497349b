"""What goes over a stream: frames of persons as JSON or binary, and answers as JSON."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinegraph.clips.clip import MetaValue
from kinegraph.inference.answer import Prediction
from kinegraph.inference.online_preprocessing import parse_joints
from kinegraph.inference.session import RawFrame
from kinegraph.server.errors import BAD, RefusedError

PersonId = str | int
MAGIC = b"KGF1"
HEAD = struct.Struct("<4sBBH")  # magic, flags, bodies of a person, persons
ENTRY = struct.Struct("<Id")  # person, time
STATED = 1  # flag: joints are followed by their confidences
LONGEST_ID = 64
MOST_META = 16
KEYS = {"person", "joints", "confidence", "time", "meta", "flush", "end"}


@dataclass(frozen=True)
class Said:
    """One thing that a client says of a person: a frame, or that it wants to hear an answer.

    Attributes:
        person: who; known to this connection alone.
        frame: the next frame; None for none.
        time: of the frame, in seconds; NaN if it was not said.
        meta: facts about the recording, with the first frame.
        flush: an answer to all frames so far is wanted.
        end: no more frames will come, and an answer to all of them is wanted.
    """

    person: PersonId
    frame: RawFrame | None = None
    time: float = math.nan
    meta: dict[str, MetaValue] | None = None
    flush: bool = False
    end: bool = False


def from_text(text: str, shape: tuple[int, int]) -> list[Said]:
    """The messages of a text: a JSON object, or a list of them; ``shape`` is (V, D).

    Raises:
        RefusedError: it is none of that.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            BAD, f"expected a message as JSON: {error or 'nested too deeply'}"
        ) from error
    parts = given if isinstance(given, list) else [given]
    return [_said(part, shape) for part in parts]


def from_bytes(data: bytes, shape: tuple[int, int]) -> list[Said]:
    """The frames of a binary message, see docs/serving.md.

    Raises:
        RefusedError: it is no such message, or not as long as its header says.
    """
    if len(data) < HEAD.size or data[:4] != MAGIC:
        raise RefusedError(BAD, f"expected a binary message to begin with {MAGIC.decode()}")
    _, flags, bodies, persons = HEAD.unpack_from(data)
    V, D = shape
    values = bodies * V * (D + (flags & STATED))
    size = HEAD.size + persons * (ENTRY.size + 4 * values)
    if flags & ~STATED or not bodies or not persons or len(data) != size:
        raise RefusedError(
            BAD,
            f"expected {size} bytes for {persons} persons of {bodies} x {V} joints x {D} "
            f"coordinates with flags {flags}, got {len(data)}",
        )
    said, at = [], HEAD.size
    for _ in range(persons):
        person, time = ENTRY.unpack_from(data, at)
        numbers = np.frombuffer(data, "<f4", values, at + ENTRY.size)
        joints = numbers[: bodies * V * D].reshape(bodies, V, D)
        stated = numbers[bodies * V * D :].reshape(bodies, V) if flags & STATED else None
        said.append(Said(person, RawFrame(joints, stated), _time(time)))
        at += ENTRY.size + 4 * values
    return said


def to_text(told: dict[str, Any]) -> str:
    """A message to a client; what is no number becomes null."""
    return json.dumps(told, separators=(",", ":"))


def told(answer: Prediction | None, top: int = 0, logits: bool = False) -> dict[str, Any]:
    """What an answer says: of the verdict, and of as many guesses as asked for."""
    if answer is None:
        return {"label": None, "name": None, "probability": None}
    verdict = answer.accepted
    found: dict[str, Any] = {
        "label": None if verdict is None else verdict.label,
        "name": "unknown" if verdict is None else verdict.name,
        "probability": round(answer.probability, 7),
    }
    if top:
        found["top"] = [vars(guess) for guess in answer.candidates[:top]]
    if logits:
        found["logits"] = answer.logits.tolist()
    return found


def _said(given: Any, shape: tuple[int, int]) -> Said:
    if not isinstance(given, dict) or "person" not in given:
        raise RefusedError(
            BAD, 'expected an object with a "person", and its "joints", "flush" or "end"'
        )
    if unknown := set(given) - KEYS:
        raise RefusedError(
            BAD, f"unknown key {min(unknown)[:LONGEST_ID]!r}; known: {', '.join(sorted(KEYS))}"
        )
    person = _person(given["person"])
    for flag in ("flush", "end"):
        if not isinstance(given.get(flag, False), bool):
            raise RefusedError(BAD, f'expected "{flag}" to be true or false')
    frame = None
    if "joints" in given:
        frame = RawFrame(_numbers(given["joints"], shape), given.get("confidence"))
    said = Said(
        person,
        frame,
        _time(given.get("time", math.nan)),
        _meta(given.get("meta")),
        given.get("flush", False),
        given.get("end", False),
    )
    if said.frame is None and not said.flush and not said.end:
        raise RefusedError(BAD, 'expected "joints", or "flush": true, or "end": true')
    return said


def _person(given: Any) -> PersonId:
    named = isinstance(given, str) and 0 < len(given) <= LONGEST_ID
    numbered = isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 2**32
    if not named and not numbered:
        raise RefusedError(
            BAD, f'expected "person" to be a text of 1 to {LONGEST_ID} letters, or a number'
        )
    person: PersonId = given
    return person


def _numbers(given: Any, shape: tuple[int, int]) -> Any:
    """Joints whose null is not a number; what they are worth is seen when they are made ready."""
    try:
        return np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError):
        try:
            return parse_joints(given, shape)
        except TypeError as error:
            raise RefusedError(BAD, f'"joints": {error}') from error


def _time(given: Any) -> float:
    if given is None:
        return math.nan
    if not isinstance(given, int | float) or isinstance(given, bool) or math.isinf(given):
        raise RefusedError(BAD, f'expected "time" to be seconds, got {str(given)[:40]!r}')
    return float(given)


def _meta(given: Any) -> dict[str, MetaValue] | None:
    if given is None:
        return None
    plain = isinstance(given, dict) and len(given) <= MOST_META
    if not plain or not all(isinstance(v, str | int | float | bool) for v in given.values()):
        raise RefusedError(BAD, 'expected "meta" to be an object of a few texts and numbers')
    return dict(given)
