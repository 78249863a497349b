"""Projections of 3D joints onto a camera's image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LayoutError, unknown_name
from kinegraph.skeleton.space import KINECT, Space

Array = NDArray[np.float32]


@dataclass(frozen=True)
class CameraProjection:
    """The image of a camera that stands at the origin and looks along the axis ``away`` of a space.

    In the image x grows to the right and y downwards, so that the left hand of a person who faces
    the camera is on the right.

    Attributes:
        focal: None for an orthographic projection: x and y keep their unit and the depth is
            dropped. Else a pinhole camera: x and y are divided by the depth and multiplied by
            this focal length.
        distance: how far the pinhole is moved back, in the unit of the joints; for joints that
            were centered on the body. A joint that is not in front of the pinhole becomes absent.
    """

    focal: float | None = None
    distance: float = 0.0

    def __call__(self, joints: Array, space: Space = KINECT) -> Array:
        """Project (..., 3) to (..., 2); absent joints stay absent.

        Args:
            joints: coordinates in ``space``; of an image with depth, x and y are kept.
            space: states the axes; the default is that of Kinect sensors.

        Raises:
            LayoutError: the joints have no depth.
            SpaceError: the axes of the space are not stated.
        """
        if joints.shape[-1] != 3:
            raise LayoutError(
                f"a camera needs joints of 3 coordinates, got {joints.shape[-1]}; "
                "leave the camera out for joints that are already flat"
            )
        axes = space.camera_axes
        # a signed permutation: columns are picked, so that NaN stays within its joint
        seen = joints[..., np.abs(axes).argmax(axis=1)] * axes.sum(axis=1)
        flat = seen[..., :2]
        if self.focal is None or space.kind == "image":
            return np.ascontiguousarray(flat)
        depth = seen[..., 2:] + np.float32(self.distance)
        with np.errstate(invalid="ignore"):
            depth = np.where(depth > 0, depth, np.float32(np.nan))
        return np.asarray(flat / depth * np.float32(self.focal), dtype=np.float32)


#: Projections by the name of their camera: orthographic, and a pinhole of focal length 1.
PROJECTIONS = {"front": CameraProjection(), "pinhole": CameraProjection(focal=1.0)}


def get_projection(name: str | CameraProjection) -> CameraProjection:
    """Return the projection of this name; a projection is returned as it is.

    Raises:
        UnknownNameError: no camera has this name.
    """
    if isinstance(name, CameraProjection):
        return name
    if name not in PROJECTIONS:
        raise unknown_name("camera", str(name), PROJECTIONS)
    return PROJECTIONS[name]
