"""Options of readers that state what coordinates mean, and guesses where they are not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError, SpaceError, unknown_name
from kinegraph.skeleton.body_axes import find_up_axis, hips_at_origin, trunk_length
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import PREPARATIONS, Space, guess_image_unit

#: Help of the options of `SpaceOptions`.
SPACE_OPTIONS = {
    "space": "image (y down) or world (default: by the layout, or guessed from the joints)",
    "up": "world: the axis that points up, such as y, z or -y",
    "away": "world: the horizontal axis that points away from the viewer (default: z, or y)",
    "handedness": "world: right or left (default: right)",
    "unit": "pixel or share (of the image); m, cm or mm",
    "prepared": f"how the coordinates were prepared: recorded, {', '.join(PREPARATIONS)}",
}

#: The axes of MediaPipe's world landmarks, whose origin is between the hips.
MEDIAPIPE_WORLD = Space("world", "-y", "z")

UPSIDE_DOWN = (
    "y grows downwards in images, but these bodies stand along y: negate y (or subtract it from "
    "the height of the image) if it grows upwards; give --space image if they are upside down; or "
    "the joints are in another order than that of the layout"
)

#: Longest trunk of a person in each unit of length, between the trunks of a person in two units.
MAX_TRUNK_BY_UNIT = {"m": 3.0, "cm": 150.0, "mm": float("inf")}


@dataclass(frozen=True)
class SpaceOptions:
    """What the user states of the coordinates; an empty text leaves it open.

    Attributes are those of `Space`; ``prepared`` may also be ``stgcn``, whose arrays of NTU are as
    recorded.
    """

    space: str = ""
    up: str = ""
    away: str = ""
    handedness: str = ""
    unit: str = ""
    prepared: str = ""

    def resolve(self, joints: NDArray[np.float32], layout: SkeletonLayout) -> Space:
        """Return the space that is stated, completed by guesses from joints (..., V, D).

        The result is marked as assumed if the kind of space, the axis that points up or the unit
        was guessed. Joints of an own layout that states no space, and has no shoulders and hips to
        show which axis points up, are of an unstated space.

        Raises:
            ReadError: what is stated is wrong, or does not fit the joints; or nothing is stated,
                and a guess would be too uncertain.
        """
        try:
            return self._resolve(joints, layout)
        except SpaceError as error:
            raise ReadError(str(error)) from error

    def _resolve(self, joints: NDArray[np.float32], layout: SkeletonLayout) -> Space:
        prepared = "recorded" if self.prepared in ("", "stgcn") else self.prepared
        if prepared != "recorded":
            if prepared not in PREPARATIONS:
                raise unknown_name("preparation", prepared, ["recorded", "stgcn", *PREPARATIONS])
            return PREPARATIONS[prepared].result
        usual = layout.default_space(joints.shape[-1])
        kind = self.space or ("world" if self.up else usual.kind)
        if kind == "image" and not self.space and _are_world_landmarks(joints, layout):
            kind, usual = "world", MEDIAPIPE_WORLD
        if kind == "image":
            if not self.space and find_up_axis(joints, layout) == "y":
                raise ReadError(UPSIDE_DOWN)
            unit = self.unit or guess_image_unit(joints)
            return Space("image", unit=unit, assumed=not (self.space and self.unit))
        if kind == "unstated":
            if layout.space is not None or _may_be_confidence(joints):
                raise ReadError(_explain_third_number(joints, layout))
            if find_up_axis(joints, layout) is None:
                return Space(assumed=True)  # an own layout, whose axes the joints do not show
        return self._resolve_world(joints, layout, usual)

    def _resolve_world(
        self, joints: NDArray[np.float32], layout: SkeletonLayout, usual: Space
    ) -> Space:
        found = find_up_axis(joints, layout)
        up: Any = self.up or usual.up or found
        if not up:
            raise ReadError("state the axis that points up, such as --up y")
        if found and not self.up and found != up:
            raise ReadError(
                f"the bodies point along {found}, but {up} points up in layout {layout.name!r}: "
                f"state the axis that points up, such as --up={found} (or --up={up} if they are "
                "upside down)"
            )
        options: dict[str, Any] = {
            "away": self.away or (usual.away if usual.up == up else None),
            "handedness": self.handedness or "right",
            "unit": self.unit or _guess_length_unit(joints, layout),
        }
        return Space("world", up, **options, assumed=not (self.up and self.unit))


def _are_world_landmarks(joints: NDArray[np.float32], layout: SkeletonLayout) -> bool:
    """Return whether joints of MediaPipe are in meters from the hips, not of an image."""
    in_meters = joints.shape[-1] == 3 and guess_image_unit(joints) == "share"
    return layout.depth and in_meters and hips_at_origin(joints, layout)


def _guess_length_unit(joints: NDArray[np.float32], layout: SkeletonLayout) -> str | None:
    length = trunk_length(joints, layout)
    return next((unit for unit, most in MAX_TRUNK_BY_UNIT.items() if length < most), None)


def _may_be_confidence(joints: NDArray[np.float32]) -> bool:
    """Return whether the last of three numbers is in [0, 1] and the others are pixels."""
    last = joints[..., -1]
    in_range = np.fmin.reduce(last, axis=None, initial=0) >= 0 and np.nanmax(last) <= 1
    return bool(in_range) and guess_image_unit(joints) == "pixel"


def _explain_third_number(joints: NDArray[np.float32], layout: SkeletonLayout) -> str:
    reason, last = f"{layout.name!r} is a layout of images (x, y)", joints[..., 2]
    if layout.space is None:
        reason = f"the third is from {np.nanmin(last):.2g} to {np.nanmax(last):.2g}"
    return (
        f"3 numbers per joint, but {reason}: if the third is a confidence, give --confidence true; "
        "if the joints are in 3D, give --space world and the axis that points up, such as --up=-y"
    )
