"""Space of coordinates: what the numbers of a joint mean, and what was already done to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import SpaceError, unknown_name

Kind = Literal["image", "world", "unstated"]
AxisName = Literal["x", "y", "z", "-x", "-y", "-z"]
Handedness = Literal["right", "left"]
#: As recorded, or a convention of PREPARATIONS.
Prepared = Literal["recorded", "agcn", "ctrgcn", "kinetics", "fsd"]
MAX_SHARE = 2.0  # joints outside of the image have shares a little below 0 or above 1
AXES: tuple[str, ...] = get_args(AxisName)

#: Units by kind of space. A ``share`` is a fraction of the image's width (x) and height (y).
UNITS: dict[str, dict[str, float]] = {
    "image": {"pixel": 1.0, "share": 1.0},
    "world": {"m": 1.0, "cm": 0.01, "mm": 0.001},
    "unstated": {},
}


@dataclass(frozen=True)
class Space:
    """The meaning of a joint's coordinates.

    Attributes:
        kind: ``image``: x grows to the right, y downwards, and z, if there is one, away from the
            camera. ``world``: the axes are stated by ``up``, ``away`` and ``handedness``.
            ``unstated``: nothing is known.
        up: world only, the axis that points up.
        away: world only, the horizontal axis that points away from the viewer (the sensor); by
            default z, or y where z is vertical.
        handedness: world only.
        unit: ``pixel`` or ``share`` (of the image's width and height), ``m``, ``cm`` or ``mm``;
            None if unknown.
        prepared: ``recorded``, or the convention of PREPARATIONS that the coordinates follow.
        assumed: whether this is a guess; two spaces are equal whether guessed or stated.

    Raises:
        SpaceError: values that are unknown or do not go together.
    """

    kind: Kind = "unstated"
    up: AxisName | None = None
    away: AxisName | None = None
    handedness: Handedness = "right"
    unit: str | None = None
    prepared: Prepared = "recorded"
    assumed: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        _check_choice("space", self.kind, get_args(Kind))
        _check_choice("handedness", self.handedness, get_args(Handedness))
        _check_choice("prepared", self.prepared, get_args(Prepared))
        if not isinstance(self.assumed, bool):
            raise SpaceError(f"expected assumed to be true or false, got {self.assumed!r:.80}")
        if self.unit is not None and self.unit not in [*UNITS[self.kind]]:
            known = ", ".join(UNITS[self.kind]) or "none"
            raise SpaceError(f"{self.kind} coordinates have no unit {self.unit!r} (units: {known})")
        if self.kind != "world":
            if self.up is not None or self.away is not None or self.handedness != "right":
                raise SpaceError(
                    "up, away and handedness belong to the space world, got the space "
                    f"{self.kind!r}"
                )
            return
        if self.up is None:
            raise SpaceError("the space world needs the axis that points up, such as up=y or up=-y")
        _check_choice("up", self.up, AXES)
        if self.away is None:
            object.__setattr__(self, "away", "y" if self.up[-1] == "z" else "z")
        _check_choice("away", self.away, AXES)
        if self.away is not None and self.up[-1] == self.away[-1]:
            raise SpaceError(f"up and away must be two axes, got up={self.up}, away={self.away}")

    @property
    def camera_axes(self) -> NDArray[np.float32]:
        """(3, 3): multiplied by a joint, it gives its coordinates to the right, down and away.

        Raises:
            SpaceError: the axes are not stated.
        """
        if self.kind == "unstated":
            raise SpaceError("the axes are not stated: image, or world and which axis points up?")
        return _camera_axes(self.up, self.away, self.handedness)

    def rotation_to(self, other: Space) -> NDArray[np.float32]:
        """Return the (3, 3) matrix that turns coordinates of this space into those of another.

        Raises:
            SpaceError: the axes of one of them are not stated.
        """
        return other.camera_axes.T @ self.camera_axes

    def describe(self) -> str:
        """Return one line, such as ``world (y up, z away, right-handed), m, as recorded``."""
        parts: list[str] = [self.kind]
        if self.kind == "world":
            parts = [f"world ({self.up} up, {self.away} away, {self.handedness}-handed)"]
        elif self.kind == "image":
            parts = ["image (y down)"]
        if self.kind != "unstated":
            parts.append(self.unit or "unit unknown")
        parts.append("as recorded" if self.prepared == "recorded" else f"prepared: {self.prepared}")
        return ", ".join(parts) + (" [guess]" if self.assumed else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, for stores, checkpoints and layout files."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Space:
        """Return the space of plain data: a kind, or a mapping of fields.

        Raises:
            SpaceError: a field is unknown or wrong.
        """
        data = {"kind": data} if isinstance(data, str) else data
        if not isinstance(data, Mapping):
            raise SpaceError(f"expected the fields of a space, got {data!r:.80}")
        known = [f.name for f in fields(cls)]
        for name in data:
            if name not in known:
                raise SpaceError(str(unknown_name("field of a space:", str(name), known)))
        return cls(**data)


@cache
def _camera_axes(up: str | None, away: str | None, handedness: str) -> NDArray[np.float32]:
    if up is None or away is None:  # an image
        axes = np.eye(3, dtype=np.float32)
    else:
        upwards, outwards = _unit_vector(up), _unit_vector(away)
        right = np.cross(outwards, upwards) * (1 if handedness == "right" else -1)
        axes = np.stack([right, -upwards, outwards]).astype(np.float32)
    axes.flags.writeable = False
    return axes


def _unit_vector(axis: str) -> NDArray[np.float32]:
    vector = np.zeros(3, np.float32)
    vector["xyz".index(axis[-1])] = -1 if axis.startswith("-") else 1
    return vector


def _check_choice(name: str, value: Any, choices: Any) -> None:
    if value not in choices:
        raise SpaceError(str(unknown_name(name, str(value), list(choices))))


#: The axes of Kinect v1 and v2 in their own coordinates: x to the sensor's left.
KINECT = Space("world", "y", "z", unit="m")
IMAGE_SHARES = Space("image", unit="share")


@dataclass(frozen=True)
class Preparation:
    """A convention of prepared arrays.

    Attributes:
        about: what was done.
        changes: which properties of the recorded coordinates are lost: position, rotation, size.
        source: the space of the recorded coordinates that it starts from.
        result: the space of its arrays.
    """

    about: str
    changes: frozenset[str]
    source: Space
    result: Space


#: The conventions of prepared arrays, by name.
PREPARATIONS = {
    "agcn": Preparation(
        "2s-AGCN and Shift-GCN: middle of the spine at the origin, upright (z) and frontal (x)",
        frozenset({"position", "rotation"}),
        KINECT,
        Space("world", "z", "-y", unit="m", prepared="agcn"),
    ),
    "ctrgcn": Preparation(
        "CTR-GCN: the first person's middle of the spine in the first frame at the origin",
        frozenset({"position"}),
        KINECT,
        replace(KINECT, prepared="ctrgcn"),
    ),
    "kinetics": Preparation(
        "ST-GCN for Kinetics-skeleton: shares of the image minus 0.5",
        frozenset({"position"}),
        IMAGE_SHARES,
        replace(IMAGE_SHARES, prepared="kinetics"),
    ),
    "fsd": Preparation(
        "FSD-10: x and y from -1 to 1 over the image",
        frozenset({"position", "size"}),
        IMAGE_SHARES,
        replace(IMAGE_SHARES, prepared="fsd"),
    ),
}


def guess_image_unit(joints: NDArray[np.float32]) -> str:
    """Return ``share`` if no x or y of joints (..., D) exceeds MAX_SHARE, else ``pixel``."""
    largest = np.fmax.reduce(np.abs(joints[..., :2]), axis=None, initial=0)
    return "share" if largest <= MAX_SHARE else "pixel"
