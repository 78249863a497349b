"""Forward kinematics: positions of joints from rotations and offsets along a hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def euler_rotations(degrees: NDArray[Any], axes: str) -> NDArray[np.float64]:
    """Return the rotation matrices of angles about fixed letters of axes.

    Args:
        degrees: (..., n), the angle about each axis of ``axes``.
        axes: n letters of x, y and z; "zxy" gives ``Rz Rx Ry``, so that the rotation about y is
            applied first, to column vectors.

    Returns:
        (..., 3, 3), the identity if there are no axes.
    """
    degrees = np.asarray(degrees, np.float64)
    rotation = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for angle, axis in zip(np.moveaxis(np.radians(degrees), -1, 0), axes, strict=True):
        first, second = [other for other in range(3) if other != "xyz".index(axis)]
        if axis == "y":
            first, second = second, first
        turn = np.zeros((*angle.shape, 3, 3))
        turn[..., range(3), range(3)] = 1
        turn[..., first, first] = turn[..., second, second] = np.cos(angle)
        turn[..., second, first] = np.sin(angle)
        turn[..., first, second] = -turn[..., second, first]
        rotation = rotation @ turn
    return rotation


def forward_kinematics(
    rotations: NDArray[Any], offsets: NDArray[Any], parents: Sequence[int]
) -> NDArray[np.float64]:
    """Return the positions of joints whose rotations and offsets are relative to their parents.

    A joint's offset is turned by all rotations above it: ``P_j = P_p + W_p o_j`` and
    ``W_j = W_p R_j`` with its parent p; a joint without a parent is at its offset.

    Args:
        rotations: (T, V, 3, 3), of each joint relative to its parent.
        offsets: (T, V, 3) or (V, 3), of each joint from its parent.
        parents: V indices, each before its children; -1 for a joint without a parent.

    Returns:
        (T, V, 3) float64.
    """
    world, positions = np.array(rotations, np.float64), np.empty(rotations.shape[:-1])
    offsets = np.broadcast_to(offsets, positions.shape)
    for joint, parent in enumerate(parents):
        if parent < 0:
            positions[:, joint] = offsets[:, joint]
            continue
        turned = (world[:, parent] @ offsets[:, joint, :, None])[..., 0]
        positions[:, joint] = positions[:, parent] + turned
        world[:, joint] = world[:, parent] @ world[:, joint]
    return positions
