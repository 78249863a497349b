"""How a camera sees joints in space: what becomes of x, y, z in its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LayoutError, unknown_name

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """A camera where the depth sensor stood, looking the way that it looked.

    Joints are expected as depth sensors give them: x grows to the sensor's left, y upwards, z
    away from it. In the image x grows to the right and y downwards, so that the left hand of
    somebody who faces the camera is on the right.

    Attributes:
        focal: None for a view from infinitely far (orthographic): x and y keep their unit and
            depth counts for nothing. Else a pinhole: x and y are divided by the depth and
            multiplied by this.
        distance: how much farther away the pinhole stands, in the unit of the joints; for joints
            that were centered on the body. A joint that is not in front of it is absent.
    """

    focal: float | None = None
    distance: float = 0.0

    def __call__(self, joints: Array) -> Array:
        """(..., 3) to (..., 2); absent joints stay absent.

        Raises:
            LayoutError: joints that have no depth.
        """
        if joints.shape[-1] != 3:
            raise LayoutError(
                f"a camera sees joints of 3 coordinates, got {joints.shape[-1]}: what is flat "
                "already needs none"
            )
        flat = -joints[..., :2]
        if self.focal is None:
            return flat
        depth = joints[..., 2:] + np.float32(self.distance)
        with np.errstate(invalid="ignore"):
            depth = np.where(depth > 0, depth, np.float32(np.nan))
        return np.asarray(flat / depth * np.float32(self.focal), dtype=np.float32)


#: Cameras by name: from infinitely far, and a pinhole of focal length 1.
PROJECTIONS = {"front": Projection(), "pinhole": Projection(focal=1.0)}


def get_projection(name: str | Projection) -> Projection:
    """The camera of that name; a camera is handed back as it is.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if isinstance(name, Projection):
        return name
    if name not in PROJECTIONS:
        raise unknown_name("camera", str(name), PROJECTIONS)
    return PROJECTIONS[name]
