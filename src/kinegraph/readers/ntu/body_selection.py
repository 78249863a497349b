"""Selection of the bodies of an NTU recording that become the persons of a clip.

Each rule is that of a published pipeline; it takes the bodies of all frames and returns joints
(M, T, 25, 3) float64, NaN where absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinegraph.readers.ntu.skeleton_file import NUM_JOINTS, BodyDetections
from kinegraph.readers.person_selection import TrackEnds, join_tracks
from kinegraph.readers.reader import check_choice

PersonJoints = NDArray[np.float64]
_SPINE_MID = 1
Track = dict[int, int]  # frame -> row of the detections' joints

AGCN_MAX_BODIES = 4  # 2s-AGCN considers the first four bodies of a frame
MAX_NOISE_FRAMES = 11  # CTR-GCN: a body seen in no more frames than this is noise
MAX_BODY_SPREAD = 0.8
"""CTR-GCN: a frame in which a body is wider than this share of its height is noise."""
MIN_NOISE_SHARE = 0.69754  # CTR-GCN: a body with at least this share of noise frames is noise


def select_bodies(
    bodies: BodyDetections, persons: str = "tracks", max_persons: int = 2, faithful: bool = False
) -> PersonJoints:
    """Return the persons of a recording by one of the rules in `PERSON_RULES`.

    Args:
        bodies: the bodies of all frames.
        persons: "tracks", "agcn", "ctrgcn", "pyskl" or "stgcn".
        max_persons: maximum number of persons ("ctrgcn", "pyskl": never more than two).
        faithful: for "ctrgcn", keep two mistakes of the released code: the frames of a body that
            disappears and returns are moved together, and the second actor counts as present
            from frame 0.

    Returns:
        (M, T, 25, 3) float64, M between 0 and `max_persons`; "ctrgcn" leaves out frames without
        a person, "pyskl" those before and after all persons, the others keep every frame.

    Raises:
        UnknownNameError: the rule is unknown.
    """
    check_choice("person selection", persons, [*PERSON_RULES])
    bodies = replace(bodies, joints=_mask_invalid_joints(bodies.joints))
    return PERSON_RULES[persons](bodies, max_persons, faithful)


def motion_energy(joints: PersonJoints) -> float:
    """Return the std of x + of y + of z of a person over joints and seen frames.

    Source: 2s-AGCN `get_nonzero_std`; a frame whose coordinates sum to zero does not count.
    """
    values = np.nan_to_num(joints)
    seen = values[values.sum(axis=(-1, -2)) != 0]
    return float(seen.std(axis=(0, 1)).sum()) if len(seen) else 0.0


def _mask_invalid_joints(joints: PersonJoints) -> PersonJoints:
    """Return joints with NaN for those at (0, 0, 0), the sensor, and those that are not finite."""
    sizes, largest = np.abs(joints), np.finfo(np.float32).max
    if joints.size and sizes.min() > 0 and sizes.max() <= largest:
        return joints
    finite = (sizes <= largest).all(axis=-1, keepdims=True)
    return np.where(finite & sizes.any(axis=-1, keepdims=True), joints, np.nan)


def _arrange_by_file_order(bodies: BodyDetections, max_bodies: int) -> PersonJoints:
    """Return the joints with body m of each frame as person m."""
    frames = bodies.frames
    order = np.arange(len(frames)) - np.searchsorted(frames, frames)
    first = order < max_bodies
    most = int(order[first].max(initial=-1)) + 1
    joints = np.full((most, bodies.num_frames, NUM_JOINTS, 3), np.nan)
    joints[order[first], frames[first]] = bodies.joints[first]
    return _drop_unseen(joints)


def _group_by_id(bodies: BodyDetections) -> list[Track]:
    """Return one track per body id, in the order in which they appear."""
    tracks: dict[str, Track] = {}
    for row, (t, body_id) in enumerate(zip(bodies.frames.tolist(), bodies.ids, strict=True)):
        tracks.setdefault(body_id, {}).setdefault(t, row)
    return list(tracks.values())


def _join_by_place(tracks: list[Track], bodies: BodyDetections) -> list[Track]:
    """Return one track per person: the sensor gives a person whom it loses a new id."""
    ends = []
    for track in tracks:
        first, last = min(track), max(track)
        joints = bodies.joints[track[first]], bodies.joints[track[last]]
        ends.append(TrackEnds(first, last, *joints))
    return [{t: row for i in group for t, row in tracks[i].items()} for group in join_tracks(ends)]


def _drop_unseen(joints: PersonJoints) -> PersonJoints:
    return joints[~np.isnan(joints).all(axis=(1, 2, 3))]


def _select_slots_by_energy(
    bodies: BodyDetections, max_persons: int, faithful: bool
) -> PersonJoints:
    """Select from up to 4 bodies of a frame by motion energy (2s-AGCN, Shift-GCN, AS-GCN)."""
    joints = _arrange_by_file_order(bodies, AGCN_MAX_BODIES)
    order = np.argsort([motion_energy(person) for person in joints], kind="stable")[::-1]
    return joints[order[:max_persons]]


def _select_tracks_by_energy(
    bodies: BodyDetections, max_persons: int, faithful: bool
) -> PersonJoints:
    """Select bodies, tracked by id, by motion energy; a body that continues another joins it."""
    tracks = _join_by_place(_group_by_id(bodies), bodies)
    if len(tracks) > 1:
        tracks.sort(key=lambda track: -motion_energy(_get_joints(track, bodies)))
    return _stack_tracks(tracks[:max_persons], bodies)


def _get_joints(track: Track, bodies: BodyDetections) -> PersonJoints:
    return bodies.joints[list(track.values())]


def _stack_tracks(tracks: list[Track], bodies: BodyDetections) -> PersonJoints:
    """Return (M, T, 25, 3), without persons of whom no joint was seen."""
    joints = np.full((len(tracks), bodies.num_frames, NUM_JOINTS, 3), np.nan)
    for m, track in enumerate(tracks):
        joints[m, list(track)] = _get_joints(track, bodies)
    return _drop_unseen(joints)


def _select_actors(
    bodies: BodyDetections, max_persons: int, faithful: bool, inner_frames: bool = False
) -> PersonJoints:
    """Merge tracks without noise into two actors by descending motion (CTR-GCN, SGN)."""
    frames, places = np.unique(bodies.frames, return_inverse=True)
    bodies = replace(bodies, num_frames=len(frames), frames=places)
    tracks = _group_by_id(bodies)
    if faithful:  # the released code leaves no gaps between the frames of a track
        tracks = [{min(t) + i: row for i, row in enumerate(t.values())} for t in tracks]
    actors = _merge_into_actors(_drop_noise(tracks, bodies), faithful)
    joints = _stack_tracks(actors[:max_persons], bodies)
    shown = np.flatnonzero(~np.isnan(joints).all(axis=(0, 2, 3)))
    if inner_frames and shown.size:
        shown = np.arange(shown[0], shown[-1] + 1)
    return joints[:, shown]


def _select_pyskl_actors(bodies: BodyDetections, max_persons: int, faithful: bool) -> PersonJoints:
    """Merge tracks into two actors as for CTR-GCN; the first is one who is there in the beginning.

    PYSKL leaves out empty frames before and after the actors only. Frames of a body that
    disappears and returns are moved together, as in its annotations.
    """
    joints = _select_actors(bodies, max_persons, faithful=True, inner_frames=True)
    if len(joints) == 2 and np.isnan(joints[0, 0, _SPINE_MID]).any():
        return joints if np.isnan(joints[1, 0, _SPINE_MID]).any() else joints[::-1]
    return joints


def _drop_noise(tracks: list[Track], bodies: BodyDetections) -> list[Track]:
    """Return the tracks that are persons, by descending motion."""
    if len(tracks) < 2:
        return tracks
    # if every body is noise by its length, the longest is kept: a clip needs a person
    kept = [t for t in tracks if len(t) > MAX_NOISE_FRAMES] or [max(tracks, key=len)]
    motions: dict[int, float] = {}
    remaining = len(kept)
    for i, track in enumerate(kept):
        joints = _get_joints(track, bodies)
        motion = _measure_denoised_motion(joints) if remaining > 1 else _measure_motion(joints)
        if motion is None:
            remaining -= 1
        else:
            motions[i] = motion
    return [kept[i] for i in sorted(motions, key=lambda i: -motions[i])]


def _measure_denoised_motion(joints: PersonJoints) -> float | None:
    """Return the motion in frames with the shape of a body; None if there are too few of them."""
    values = np.nan_to_num(joints)
    width, height = np.ptp(values[..., 0], axis=1), np.ptp(values[..., 1], axis=1)
    good = width <= MAX_BODY_SPREAD * height
    if 1 - good.mean() >= MIN_NOISE_SHARE:
        return None
    return min(_measure_motion(joints), _measure_motion(joints[good]))


def _measure_motion(joints: PersonJoints) -> float:
    return float(np.nan_to_num(joints).reshape(-1, 3).var(axis=0).sum())


def _merge_into_actors(tracks: list[Track], faithful: bool) -> list[Track]:
    """Return at most two actors; a track joins the first actor that it does not overlap."""
    first: Track = {}
    second: Track = {}
    for track in tracks:
        if not first or _do_not_overlap(first, track):
            first.update(track)
        elif not second or _do_not_overlap(second, track, from_start=faithful):
            second.update(track)
    return [actor for actor in (first, second) if actor]


def _do_not_overlap(actor: Track, track: Track, from_start: bool = False) -> bool:
    """Return whether two spans share at most one frame, as the released code compares them."""
    begin = 0 if from_start else min(actor)
    return min(max(actor), max(track)) - max(begin, min(track)) <= 0


#: Name -> rule of the bodies of a recording, the maximum number of persons, and `faithful`.
PERSON_RULES: dict[str, Callable[[BodyDetections, int, bool], PersonJoints]] = {
    "tracks": _select_tracks_by_energy,
    "agcn": _select_slots_by_energy,
    "ctrgcn": _select_actors,
    "pyskl": _select_pyskl_actors,
    # ST-GCN: the first bodies of each frame, without tracking
    "stgcn": lambda bodies, max_persons, _: _arrange_by_file_order(bodies, max_persons),
}
