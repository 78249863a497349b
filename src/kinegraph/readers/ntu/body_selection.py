"""Which bodies of an NTU recording become the persons of a clip, as each published pipeline has it.

Every rule takes bodies in frames and gives joints (M, T, 25, 3) float64, NaN where absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import unknown_name
from kinegraph.readers.ntu.skeleton_file import NUM_JOINTS, BodyDetections

Joints = NDArray[np.float64]
Track = dict[int, int]  # frame -> row of the detections' joints

AGCN_BODIES = 4
"""2s-AGCN looks at the first four bodies of a frame."""
NOISE_FRAMES = 11
"""CTR-GCN: a body seen in no more frames than this is noise."""
NOISE_SPREAD = 0.8
"""CTR-GCN: a frame in which a body is wider than this share of its height is noise."""
NOISE_SHARE = 0.69754
"""CTR-GCN: a body with at least this share of noise frames is noise."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def select_bodies(
    bodies: BodyDetections, persons: str = "tracks", max_persons: int = 2, faithful: bool = False
) -> Joints:
    """The persons of a recording by one of the rules in `PERSON_RULES`.

    Args:
        bodies: who was where in T frames.
        persons: "tracks", "agcn", "ctrgcn" or "stgcn".
        max_persons: the most persons to keep ("ctrgcn" never makes more than two).
        faithful: for "ctrgcn", keep two slips of the released code: a body that disappears and
            comes back is moved together, and the second actor counts as present from frame 0.

    Returns:
        (M, T, 25, 3) float64, M between 0 and `max_persons`; "ctrgcn" leaves out frames in
        which nobody is kept, the others keep every frame.

    Raises:
        UnknownNameError: no such rule.
    """
    rule = get_person_rule(persons)
    return rule(replace(bodies, joints=_clean(bodies.joints)), max_persons, faithful)


def get_person_rule(name: str) -> Rule:
    """The rule of this name.

    Raises:
        UnknownNameError: no such rule.
    """
    if name not in PERSON_RULES:
        raise unknown_name("person selection", name, PERSON_RULES)
    return PERSON_RULES[name]


def motion_energy(joints: Joints) -> float:
    """How much a person moves: std of x + of y + of z over joints and seen frames.

    Source: 2s-AGCN `get_nonzero_std`; a frame whose coordinates sum to zero does not count.
    """
    values = np.nan_to_num(joints)
    seen = values[values.sum(axis=(-1, -2)) != 0]
    return float(seen.std(axis=(0, 1)).sum()) if len(seen) else 0.0


def _clean(joints: Joints) -> Joints:
    """NaN for joints at the sensor itself (0, 0, 0) and those with a number that is none."""
    sizes = np.abs(joints)
    if joints.size and sizes.min() > 0 and sizes.max() <= _FLOAT32_MAX:
        return joints
    finite = (sizes <= _FLOAT32_MAX).all(axis=-1, keepdims=True)
    return np.where(finite & sizes.any(axis=-1, keepdims=True), joints, np.nan)


def _by_order(bodies: BodyDetections, max_bodies: int) -> Joints:
    """Body m of a frame is person m, whoever that is."""
    frames = bodies.frames
    order = np.arange(len(frames)) - np.searchsorted(frames, frames)
    first = order < max_bodies
    most = int(order[first].max(initial=-1)) + 1
    joints = np.full((most, bodies.num_frames, NUM_JOINTS, 3), np.nan)
    joints[order[first], frames[first]] = bodies.joints[first]
    return _seen_persons(joints)


def _tracks(bodies: BodyDetections) -> list[Track]:
    """One track per body id, in the order in which they appear."""
    tracks: dict[str, Track] = {}
    for row, (t, body_id) in enumerate(zip(bodies.frames.tolist(), bodies.ids, strict=True)):
        tracks.setdefault(body_id, {}).setdefault(t, row)
    return list(tracks.values())


def _seen_persons(joints: Joints) -> Joints:
    return joints[~np.isnan(joints).all(axis=(1, 2, 3))]


# --------------------------------------------------------------------- the rules


def _first_two(bodies: BodyDetections, max_persons: int, faithful: bool) -> Joints:
    """ST-GCN: the first bodies in file order per frame, without tracking."""
    return _by_order(bodies, max_persons)


def _most_energetic_slots(bodies: BodyDetections, max_persons: int, faithful: bool) -> Joints:
    """2s-AGCN, Shift-GCN, AS-GCN: up to 4 bodies of a frame, by falling motion energy."""
    joints = _by_order(bodies, AGCN_BODIES)
    order = np.argsort([motion_energy(person) for person in joints], kind="stable")[::-1]
    return joints[order[:max_persons]]


def _most_energetic_tracks(bodies: BodyDetections, max_persons: int, faithful: bool) -> Joints:
    """Bodies by id, by falling motion energy; a new id is a new person."""
    tracks = _tracks(bodies)
    if len(tracks) > 1:
        tracks.sort(key=lambda track: -motion_energy(_joints_of(track, bodies)))
    return _stacked(tracks[:max_persons], bodies)


def _joints_of(track: Track, bodies: BodyDetections) -> Joints:
    """(frames of the track, 25, 3)."""
    return bodies.joints[list(track.values())]


def _stacked(tracks: list[Track], bodies: BodyDetections) -> Joints:
    """(M, T, 25, 3), without persons of whom no joint was seen."""
    joints = np.full((len(tracks), bodies.num_frames, NUM_JOINTS, 3), np.nan)
    for m, track in enumerate(tracks):
        joints[m, list(track)] = _joints_of(track, bodies)
    return _seen_persons(joints)


def _ctrgcn_actors(bodies: BodyDetections, max_persons: int, faithful: bool) -> Joints:
    """CTR-GCN, SGN: tracks without noise, merged into two actors by falling motion."""
    frames, places = np.unique(bodies.frames, return_inverse=True)
    bodies = replace(bodies, num_frames=len(frames), frames=places)
    tracks = _tracks(bodies)
    if faithful:
        tracks = [_closed(track) for track in tracks]
    actors = _merged(_without_noise(tracks, bodies), faithful)
    joints = _stacked(actors[:max_persons], bodies)
    return joints[:, ~np.isnan(joints).all(axis=(0, 2, 3))]


def _closed(track: Track) -> Track:
    """The released code moves a track's frames together, whatever lies between them."""
    first = min(track)
    return {first + i: row for i, row in enumerate(track.values())}


def _without_noise(tracks: list[Track], bodies: BodyDetections) -> list[Track]:
    """The tracks that are persons, by falling motion."""
    if len(tracks) < 2:
        return tracks
    # where every body is short-lived the longest stays: a clip with nobody helps nobody
    kept = [t for t in tracks if len(t) > NOISE_FRAMES] or [max(tracks, key=len)]
    motions: dict[int, float] = {}
    remaining = len(kept)
    for i, track in enumerate(kept):
        joints = _joints_of(track, bodies)
        motion = _motion_without_noise(joints) if remaining > 1 else _motion(joints)
        if motion is None:
            remaining -= 1
        else:
            motions[i] = motion
    return [kept[i] for i in sorted(motions, key=lambda i: -motions[i])]


def _motion_without_noise(joints: Joints) -> float | None:
    """The motion in frames with the shape of a body, or None if there are too few of those."""
    good = _has_a_body_shape(joints)
    if 1 - good.mean() >= NOISE_SHARE:
        return None
    return min(_motion(joints), _motion(joints[good]))


def _has_a_body_shape(joints: Joints) -> NDArray[np.bool_]:
    """(T,): frames in which the body is not much wider than tall."""
    values = np.nan_to_num(joints)
    width, height = np.ptp(values[..., 0], axis=1), np.ptp(values[..., 1], axis=1)
    return np.asarray(width <= NOISE_SPREAD * height)


def _motion(joints: Joints) -> float:
    return float(np.nan_to_num(joints).reshape(-1, 3).var(axis=0).sum())


def _merged(tracks: list[Track], faithful: bool) -> list[Track]:
    """At most two actors: a track joins the first actor whose time it does not overlap."""
    first: Track = {}
    second: Track = {}
    for track in tracks:
        if not first or _apart(first, track):
            first.update(track)
        elif not second or _apart(second, track, from_start=faithful):
            second.update(track)
    return [actor for actor in (first, second) if actor]


def _apart(actor: Track, track: Track, from_start: bool = False) -> bool:
    """Whether their spans share one frame at most, as the released comparison has it."""
    begin = 0 if from_start else min(actor)
    return min(max(actor), max(track)) - max(begin, min(track)) <= 0


Rule = Callable[[BodyDetections, int, bool], Joints]

#: Rule name -> rule.
PERSON_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "tracks": _most_energetic_tracks,
        "agcn": _most_energetic_slots,
        "ctrgcn": _ctrgcn_actors,
        "stgcn": _first_two,
    }
)
