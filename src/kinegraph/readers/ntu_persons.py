"""Which bodies of an NTU recording become the persons of a clip, as each published pipeline has it.

Every rule takes frames of bodies and gives joints (M, T, 25, 3) float64, NaN where absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import unknown_name
from kinegraph.readers.ntu_format import NUM_JOINTS, Body, Recording

Joints = NDArray[np.float64]

AGCN_BODIES = 4
"""2s-AGCN looks at the first four bodies of a frame."""
NOISE_FRAMES = 11
"""CTR-GCN: a body seen in no more frames than this is noise."""
NOISE_SPREAD = 0.8
"""CTR-GCN: a frame in which a body is wider than this share of its height is noise."""
NOISE_SHARE = 0.69754
"""CTR-GCN: a body with at least this share of noise frames is noise."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def select_persons(
    recording: Recording, persons: str = "tracks", max_persons: int = 2, faithful: bool = False
) -> Joints:
    """The persons of a recording by one of the rules in `PERSON_RULES`.

    Args:
        recording: T frames of bodies.
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
    if persons not in PERSON_RULES:
        raise unknown_name("person selection", persons, PERSON_RULES)
    return PERSON_RULES[persons](recording, max_persons, faithful)


def energy(joints: Joints) -> float:
    """How much a person moves: std of x + of y + of z over joints and seen frames.

    Source: 2s-AGCN `get_nonzero_std`; a frame whose coordinates sum to zero does not count.
    """
    values = np.nan_to_num(joints)
    seen = values[values.sum(axis=(-1, -2)) != 0]
    return float(seen.std(axis=(0, 1)).sum()) if len(seen) else 0.0


def _clean(body: Body) -> Joints:
    """(25, 3): NaN for a joint at the sensor itself (0, 0, 0) or with a number that is none."""
    joints = body.joints.copy()
    with np.errstate(invalid="ignore"):
        usable = (np.abs(joints) <= _FLOAT32_MAX).all(axis=-1) & joints.any(axis=-1)
    joints[~usable] = np.nan
    return joints


def _by_order(recording: Recording, max_bodies: int) -> Joints:
    """Body m of a frame is person m, whoever that is."""
    most = max((len(bodies) for bodies in recording.frames), default=0)
    shape = (min(most, max_bodies), len(recording.frames), NUM_JOINTS, 3)
    joints = np.full(shape, np.nan)
    for t, bodies in enumerate(recording.frames):
        for m, body in enumerate(bodies[:max_bodies]):
            joints[m, t] = _clean(body)
    return _seen_persons(joints)


def _by_id(recording: Recording, most: int) -> dict[str, dict[int, Joints]]:
    """Frame -> joints of each body id, of the `most` ids seen in most frames."""
    tracks: dict[str, dict[int, Joints]] = {}
    for t, bodies in enumerate(recording.frames):
        for body in bodies:
            tracks.setdefault(body.id, {}).setdefault(t, _clean(body))
    # a damaged file may have a new id in every frame; arrays for all would grow with its square
    longest = sorted(tracks, key=lambda name: -len(tracks[name]))[:most]
    return {name: track for name, track in tracks.items() if name in longest}


def _seen_persons(joints: Joints) -> Joints:
    return joints[~np.isnan(joints).all(axis=(1, 2, 3))]


# --------------------------------------------------------------------- the rules


def _first_two(recording: Recording, max_persons: int, faithful: bool) -> Joints:
    """ST-GCN: the first bodies in file order per frame, without tracking."""
    return _by_order(recording, max_persons)


def _most_energetic_slots(recording: Recording, max_persons: int, faithful: bool) -> Joints:
    """2s-AGCN, Shift-GCN, AS-GCN: up to 4 bodies by order in the frame, by falling energy."""
    joints = _by_order(recording, AGCN_BODIES)
    order = np.argsort([energy(person) for person in joints], kind="stable")[::-1]
    return joints[order[:max_persons]]


def _most_energetic_tracks(recording: Recording, max_persons: int, faithful: bool) -> Joints:
    """Bodies by id, by falling energy; a new id is a new person."""
    joints = np.stack([_spread(track, len(recording.frames)) for track in _tracks(recording)])
    joints = _seen_persons(joints)
    order = sorted(range(len(joints)), key=lambda m: -energy(joints[m]))
    return joints[order[:max_persons]]


def _tracks(recording: Recording) -> list[dict[int, Joints]]:
    return list(_by_id(recording, _MOST_TRACKS).values()) or [{}]


_MOST_TRACKS = 16


def _spread(track: Mapping[int, Joints], num_frames: int) -> Joints:
    joints = np.full((num_frames, NUM_JOINTS, 3), np.nan)
    for t, body in track.items():
        joints[t] = body
    return joints


def _ctrgcn_actors(recording: Recording, max_persons: int, faithful: bool) -> Joints:
    """CTR-GCN, SGN: tracks without noise, merged into two actors by falling motion."""
    frames = [bodies for bodies in recording.frames if bodies]
    tracks = list(_by_id(Recording(frames), _MOST_TRACKS).values())
    if faithful:
        tracks = [_closed(track) for track in tracks]
    actors = _merged(_without_noise(tracks), faithful)[:max_persons]
    joints = np.stack([_spread(actor, len(frames)) for actor in actors or [{}]])
    joints = _seen_persons(joints)
    return joints[:, ~np.isnan(joints).all(axis=(0, 2, 3))] if len(joints) else joints


def _closed(track: Mapping[int, Joints]) -> dict[int, Joints]:
    """The released code moves a track's frames together, whatever lies between them."""
    first = min(track)
    return {first + i: body for i, body in enumerate(track.values())}


def _without_noise(tracks: list[dict[int, Joints]]) -> list[dict[int, Joints]]:
    """The tracks that are persons, by falling motion."""
    if len(tracks) < 2:
        return tracks
    # where every body is short-lived the longest stays: a clip with nobody helps nobody
    kept = [t for t in tracks if len(t) > NOISE_FRAMES] or [max(tracks, key=len)]
    motions: list[float] = []
    remaining = len(kept)
    for track in kept:
        joints = np.stack(list(track.values()))
        good = _has_a_body_shape(joints)
        if remaining > 1 and 1 - good.mean() >= NOISE_SHARE:
            motions.append(np.nan)
            remaining -= 1
        elif remaining > 1 and not good.all():
            motions.append(min(_motion(joints), _motion(joints[good])))
        else:
            motions.append(_motion(joints))
    order = sorted((i for i, m in enumerate(motions) if m == m), key=lambda i: -motions[i])
    return [kept[i] for i in order]


def _has_a_body_shape(joints: Joints) -> NDArray[np.bool_]:
    """(T,): frames in which the body is not much wider than tall."""
    values = np.nan_to_num(joints)
    width, height = np.ptp(values[..., 0], axis=1), np.ptp(values[..., 1], axis=1)
    return np.asarray(width <= NOISE_SPREAD * height)


def _motion(joints: Joints) -> float:
    return float(np.nan_to_num(joints).reshape(-1, 3).var(axis=0).sum())


def _merged(tracks: list[dict[int, Joints]], faithful: bool) -> list[dict[int, Joints]]:
    """At most two actors: a track joins the first actor whose time it does not overlap."""
    first: dict[int, Joints] = {}
    second: dict[int, Joints] = {}
    for track in tracks:
        if not first or _apart(first, track):
            first.update(track)
        elif not second or _apart(second, track, from_start=faithful):
            second.update(track)
    return [actor for actor in (first, second) if actor]


def _apart(
    actor: Mapping[int, Joints], track: Mapping[int, Joints], from_start: bool = False
) -> bool:
    """Whether their spans share one frame at most, as the released comparison has it."""
    begin = 0 if from_start else min(actor)
    return min(max(actor), max(track)) - max(begin, min(track)) <= 0


Rule = Callable[[Recording, int, bool], Joints]

#: Rule name -> rule.
PERSON_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "tracks": _most_energetic_tracks,
        "agcn": _most_energetic_slots,
        "ctrgcn": _ctrgcn_actors,
        "stgcn": _first_two,
    }
)
