"""Training clips made of two clips of the same class."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.joint_mapping import group_joints
from kinegraph.skeleton.layout import SkeletonLayout
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
