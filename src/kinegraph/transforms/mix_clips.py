"""Training clips made of two clips of the same class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.joint_mapping import group_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms.augment import (
    drop_axis,
    drop_joints,
    person_swap,
    random_rotate,
    random_scale,
    random_shear,
    swap_sides,
)
from kinegraph.transforms.registry import DrawPartner, transform
from kinegraph.transforms.temporal_sampling import stretch
from kinegraph.transforms.validation import Probability

Component = tuple[list[int], int]  # joints that stay together, and the joint that holds them


@transform(random=True)
def mix_parts(
    clip: Clip, rng: np.random.Generator, partner: DrawPartner, *, p: Probability = 0.5
) -> Clip:
    """Take the arms, the legs or the trunk from another clip of the class, with probability ``p``.

    One of the three is drawn. A limb keeps its shape and moves with the joint that holds it: the
    partner's forearm begins at the elbow's place relative to this clip's shoulder. The partner is
    brought to the number of frames of this clip by linear interpolation; person m gets the parts
    of person m. The step belongs before `stream`, because it moves positions.

    Raises:
        TransformError: a layout that does not name arms or legs.
    """
    groups = group_joints(clip.layout)
    if len(groups) < 2:
        raise TransformError(
            f"transform 'mix_parts': layout {clip.layout.name!r} names no arms or legs"
        )
    if rng.random() >= p:
        return clip
    chosen = np.zeros(clip.num_joints, dtype=np.bool_)
    chosen[list(groups[list(groups)[int(rng.integers(len(groups)))]])] = True
    other = stretch(partner(), clip.num_frames)
    persons = min(clip.num_persons, other.num_persons)
    joints = clip.joints.copy()
    joints[:persons] = _attach(clip.joints[:persons], other.joints[:persons], chosen, clip.layout)
    if clip.confidence is None or other.confidence is None:
        return clip.with_joints(joints)
    confidence = clip.confidence.copy()
    confidence[:persons, :, chosen] = other.confidence[:persons, :, chosen]
    return clip.with_joints(joints, confidence)


def _attach(
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    chosen: NDArray[np.bool_],
    layout: SkeletonLayout,
) -> NDArray[np.float32]:
    """Return joints (M, T, V, D) with those of ``chosen`` (V,) from ``other``.

    Joints of one source that are connected move together, so that they begin where the joint that
    holds them is now. Where that joint is absent, they move as it would.
    """
    mixed = np.where(chosen[:, None], other, own)
    shifts = np.zeros_like(mixed)
    for joints, parent in _components(layout, tuple(chosen.tolist())):
        if parent < 0:
            continue
        held_at = (other if chosen[joints[0]] else own)[:, :, parent]
        shift = mixed[:, :, parent] + shifts[:, :, parent] - held_at
        shift = np.where(np.isnan(shift), shifts[:, :, parent], shift)
        shifts[:, :, joints] = shift[:, :, None]
    return mixed + shifts


@cache
def _components(layout: SkeletonLayout, chosen: tuple[bool, ...]) -> list[Component]:
    """Divide the tree of a layout where the source changes, from the center outwards.

    Each entry is the joints of one source that are connected, and the parent of the first of them,
    -1 for the center's.
    """
    parents = layout.parents
    entries: dict[int, int] = {layout.center: 0}
    components: list[Component] = [([layout.center], -1)]
    queue = [layout.center]
    for joint in queue:  # grows while it is read
        for child in range(layout.num_joints):
            if parents[child] != joint or child == joint:
                continue
            if chosen[child] == chosen[joint]:
                entries[child] = entries[joint]
                components[entries[child]][0].append(child)
            else:
                entries[child] = len(components)
                components.append(([child], joint))
            queue.append(child)
    return components


@transform(random=True, coordinates=(2, 3))
def take_bone_lengths(
    clip: Clip,
    rng: np.random.Generator,
    partner: DrawPartner,
    *,
    p: Probability = 0.2,
    joint: str | None = None,
) -> Clip:
    """Take bone lengths and place from another clip of the class, with probability ``p``.

    Each bone keeps its direction and gets the length that it has in the same frame of the partner,
    from ``joint`` (default: the layout's center) outwards; that joint moves as the partner's does
    (SkateFormer). The partner is brought to the number of frames of this clip by linear
    interpolation; person m gets the lengths of person m. A bone that is absent or of length 0 in
    one of the clips stays as it is.

    Raises:
        UnknownNameError: the layout has no such joint.
    """
    layout = clip.layout
    if joint is not None:
        layout = replace(layout, center=layout.index(joint))
    if rng.random() >= p:
        return clip
    other = stretch(partner(), clip.num_frames)
    persons = min(clip.num_persons, other.num_persons)
    own, theirs = clip.joints[:persons], other.joints[:persons]
    joints = clip.joints.copy()
    start = theirs[:, :, layout.center]
    joints[:persons, :, layout.center] = np.where(np.isnan(start), own[:, :, layout.center], start)
    parents = np.asarray(layout.parents)
    bones, other_bones = (x - x[:, :, parents] for x in (own, theirs))
    length, wanted = (np.linalg.norm(x, axis=-1) for x in (bones, other_bones))
    known = (length > 0) & (wanted > 0)
    factor = np.divide(wanted, length, out=np.ones_like(length), where=known)
    for child in _list_outwards(layout)[1:]:
        parent = layout.parents[child]
        moved = joints[:persons, :, parent] + bones[:, :, child] * factor[:, :, child, None]
        kept = own[:, :, child]
        joints[:persons, :, child] = np.where(np.isnan(moved), kept, moved)
    absent = np.isnan(clip.joints)
    return clip.with_joints(np.where(absent, clip.joints, joints))


@transform(random=True, coordinates=(3,))
def skateformer_augment(
    clip: Clip,
    rng: np.random.Generator,
    partner: DrawPartner,
    *,
    within: Probability = 0.5,
    between: Probability = 0.2,
    each: Probability = 0.5,
    joint: str | None = None,
) -> Clip:
    """Change a training clip by itself, or by another clip of the class, or not (SkateFormer).

    With probability ``within`` each of these is done with probability ``each``: swap the persons;
    shear by up to 0.5; rotate by up to 30 degrees about one axis; scale each axis by 0.8 to 1.2;
    swap the names of left and right joints, without mirroring; set one axis to 0; hide 5 to 15
    joints in 16 to 32 frames. Else, with probability ``between``, `take_bone_lengths`.
    """
    draw = rng.random()
    if within <= draw < within + between:
        return take_bone_lengths(clip, rng, partner, p=1.0, joint=joint)
    if draw >= within:
        return clip
    degrees = [0.0, 0.0, 0.0]
    degrees[int(rng.integers(3))] = 30.0
    steps: list[Callable[[Clip], Clip]] = [
        lambda x: person_swap(x, rng, p=1.0),
        lambda x: random_shear(x, rng, amount=0.5),
        lambda x: random_rotate(x, rng, degrees=tuple(degrees)),
        lambda x: random_scale(x, rng, low=0.8, high=1.2, per_axis=True),
        lambda x: swap_sides(x, rng, p=1.0) if x.layout.mirror_pairs else x,
        lambda x: drop_axis(x, rng, p=1.0),
        lambda x: drop_joints(x, rng, p=1.0),
    ]
    for step in steps:
        clip = step(clip) if rng.random() < each else clip
    return clip


@cache
def _list_outwards(layout: SkeletonLayout) -> list[int]:
    """Return the joints, each after its parent."""
    order = [layout.center]
    for joint in order:  # grows while it is read
        order += [c for c, parent in enumerate(layout.parents) if parent == joint != c]
    return order
