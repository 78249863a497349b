"""A clip in the body of a request: read within limits, and checked as any raw file is."""

from __future__ import annotations

import io
import json
from http import HTTPStatus
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ReadError
from kinegraph.inference.online_preprocessing import parse_joints
from kinegraph.readers.formats.numpy_file import to_float32, unpack_npz
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.limits import Limits
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

JSON = "application/json"
NPZ = "application/x-npz"
KEYS = ("joints", "confidence", "fps", "layout", "id", "meta")
CENTRAL_ENTRY = b"PK\x01\x02"
MAX_ARCHIVE_ENTRIES = 64


def parse_clip(body: bytes, kind: str, layout: SkeletonLayout, limits: Limits) -> Clip:
    """The clip of a body of that media type.

    Args:
        body: JSON, an object with ``joints`` (M, T, V, D) or (T, V, D) and perhaps ``confidence``,
            ``fps``, ``layout``, ``id`` and ``meta``; or an .npz with the first three.
        kind: `JSON` or `NPZ`.
        layout: of clips that do not name theirs.
        limits: of the server.

    Raises:
        RequestRejectedError, KinegraphError: it is no clip.
    """
    given = _from_json(body, layout) if kind == JSON else _from_npz(body, limits)
    joints = given["joints"]
    joints = joints[None] if joints.ndim == 3 else joints
    if joints.ndim != 4:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST,
            "expected joints of shape (frames, joints, coordinates) or "
            f"(persons, frames, joints, coordinates), got {joints.shape}",
        )
    if joints.shape[1] > limits.max_frames:
        raise RequestRejectedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"expected a clip of at most {limits.max_frames} frames, got {joints.shape[1]}",
        )
    if not (~np.isnan(joints)).any():
        raise RequestRejectedError(HTTPStatus.BAD_REQUEST, "no joint was seen in any frame")
    stated = given.get("confidence")
    if stated is not None:
        stated = stated[None] if stated.ndim == 2 else stated
        if not np.isfinite(stated).all():
            raise ClipError("expected confidences that are finite numbers")
    named = given.get("layout")
    return Clip(
        joints,
        get_layout(named) if named else layout,
        stated,
        id=given.get("id", "clip"),
        fps=given.get("fps"),
        meta=given.get("meta", {}),
    )


def _from_json(body: bytes, layout: SkeletonLayout) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f"expected a clip as JSON: {error}"
        ) from error
    if not isinstance(given, dict) or "joints" not in given:
        raise RequestRejectedError(HTTPStatus.BAD_REQUEST, 'expected a JSON object with "joints"')
    if unknown := set(given) - set(KEYS):
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f"unknown key {min(unknown)[:64]!r}; known: {', '.join(KEYS)}"
        )
    found = {key: value for key, value in given.items() if value is not None}
    for key, kind, about in (("layout", str, "a name"), ("id", str, "a name"), ("meta", dict, "")):
        if not isinstance(found.get(key, kind()), kind):
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST, f'expected "{key}" to be {about or "an object"}'
            )
    found["meta"] = _plain(found.get("meta", {}))
    if "joints" not in found:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, 'expected "joints" to be lists of numbers'
        )
    found["joints"] = _array(found["joints"], "joints")
    if "confidence" in found:
        found["confidence"] = _array(found["confidence"], "confidence")
    if "fps" in found:
        found["fps"] = _rate(found["fps"])
    return found


def _from_npz(body: bytes, limits: Limits) -> dict[str, Any]:
    if body.count(CENTRAL_ENTRY) > MAX_ARCHIVE_ENTRIES:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f"expected an .npz of at most {MAX_ARCHIVE_ENTRIES} arrays"
        )
    arrays = unpack_npz(
        io.BytesIO(body),
        len(body),
        ("joints", "confidence", "fps"),
        "the clip",
        limits.max_unpacked_bytes,
    )
    if "joints" not in arrays:
        raise ReadError("the clip: expected an array named 'joints'")
    found: dict[str, Any] = {k: to_float32(v) for k, v in arrays.items() if k != "fps"}
    if "fps" in arrays:
        found["fps"] = _rate(arrays["fps"].ravel()[0] if arrays["fps"].size == 1 else None)
    return found


def _array(given: Any, name: str) -> Any:
    """Numbers as float32; null is none."""
    try:
        with np.errstate(over="ignore"):
            return np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError):
        return _with_gaps(given, name)


def _with_gaps(given: Any, name: str) -> Any:
    """Numbers of a list in which a joint is null."""
    try:
        depth, one = 0, given
        while isinstance(one, list) and one:
            depth, one = depth + 1, next((part for part in one if part is not None), None)
            if depth > 4:
                break
        shape = _shape(given, depth)
        persons = given if depth == 4 else [given]
        filled = [[parse_joints([joints], shape)[0] for joints in frames] for frames in persons]
        return np.asarray(filled, np.float32)
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, f'expected "{name}" to be lists of numbers of one shape'
        ) from error


def _shape(given: Any, depth: int) -> tuple[int, int]:
    """(V, D) of the first joint that is seen."""
    frames = given[0] if depth == 4 else given
    joints: list[Any] = next((joints for joints in frames if joints is not None), [])
    return len(joints), len(next((joint for joint in joints if joint is not None), []))


def _rate(given: Any) -> float:
    number = isinstance(given, int | float | np.floating) and not isinstance(given, bool)
    if not number or not 0 < given < 1e6:
        raise RequestRejectedError(HTTPStatus.BAD_REQUEST, "expected fps to be one number above 0")
    return float(given)


def _plain(meta: dict[str, Any]) -> dict[str, Any]:
    if len(meta) > 64 or not all(isinstance(v, str | int | float | bool) for v in meta.values()):
        raise RequestRejectedError(
            HTTPStatus.BAD_REQUEST, 'expected "meta" to be an object of a few texts and numbers'
        )
    return meta
