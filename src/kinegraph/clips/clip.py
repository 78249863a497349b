"""Clips: the joints of one or more persons over time, validated once and immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ClipError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space

MetaValue = str | int | float | bool | None

UNSTATED = Space(assumed=True)

NOTES_KEY = "notes"
"""The key of a clip's meta under which its reader notes what it changed or guessed, by line."""


@dataclass(frozen=True, eq=False)
class Clip:
    """One recording of M persons over T frames with V joints of D coordinates.

    Attributes:
        joints: (M, T, V, D) float32; NaN where a joint is absent (all D coordinates or none).
        layout: the skeleton convention that names the V joints.
        confidence: (M, T, V) float32 in [0, 1], or None if the source has none.
        label: 0-based class, or None if unknown.
        id: the clip's name, unique within its store; scores are joined by it.
        fps: frames per second, or None if unknown.
        meta: plain facts about the recording (subject, camera, setup, replication, split, ...);
            protocols compute splits from them.
        padded_from: the number of real frames at the beginning, if padding (empty or repeated
            frames) follows them; None if all T are real.
        space: what the coordinates mean, and how they were prepared. Without it the layout's usual
            space is assumed (`SkeletonLayout.default_space`).

    Raises:
        ClipError: an array of the wrong shape, infinite coordinates, a negative label.
    """

    joints: NDArray[np.float32]
    layout: SkeletonLayout
    confidence: NDArray[np.float32] | None = None
    label: int | None = None
    id: str = ""
    fps: float | None = None
    meta: Mapping[str, MetaValue] = field(default_factory=dict)
    padded_from: int | None = None
    space: Space = UNSTATED
    positions: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        joints = _validate_joints(self.joints, self.layout, self.id)
        object.__setattr__(self, "joints", joints)
        if self.confidence is not None:
            object.__setattr__(self, "confidence", _validate_confidence(self.confidence, joints))
        if self.label is not None and self.label < 0:
            raise ClipError(f"clip {self.id!r}: expected a label of 0 or more, got {self.label}")
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        if self.space == UNSTATED:
            object.__setattr__(self, "space", self.layout.default_space(self.num_channels))
        if self.positions is not None and self.positions.shape != (self.num_frames,):
            raise ClipError(
                f"clip {self.id!r}: expected positions of {self.num_frames} frames, got "
                f"{self.positions.shape}"
            )
        if self.padded_from is not None and not 0 < self.padded_from <= self.num_frames:
            raise ClipError(
                f"clip {self.id!r}: padded_from must lie between 1 and the {self.num_frames} "
                f"frames, got {self.padded_from}"
            )

    @property
    def num_persons(self) -> int:
        """M."""
        return self.joints.shape[0]

    @property
    def num_frames(self) -> int:
        """T."""
        return self.joints.shape[1]

    @property
    def num_real_frames(self) -> int:
        """The number of frames before any padding."""
        return self.num_frames if self.padded_from is None else self.padded_from

    @property
    def frame_positions(self) -> NDArray[np.float32]:
        """(T,): where each frame lies in the recording, 2 t / T - 1 for frame t of T real ones.

        -1 is the first frame; frames after the recording, which are padding, lie at 1 and above.
        """
        if self.positions is not None:
            return self.positions
        return (2 * np.arange(self.num_frames) / self.num_real_frames - 1).astype(np.float32)

    @property
    def num_joints(self) -> int:
        """V."""
        return self.joints.shape[2]

    @property
    def num_channels(self) -> int:
        """D, the coordinates per joint."""
        return self.joints.shape[3]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(M, T, V): True where a joint is present."""
        return np.asarray(~np.isnan(self.joints[..., 0]))  # validated: all coordinates or none

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what the reader changed or guessed, of the meta key ``notes``."""
        return tuple(str(self.meta.get(NOTES_KEY) or "").splitlines())

    @property
    def digest(self) -> str:
        """The hash of the joints: equal for clips of equal joints, whatever their id."""
        content = hashlib.blake2b(np.ascontiguousarray(self.joints).tobytes(), digest_size=16)
        content.update(repr(self.joints.shape).encode())
        return content.hexdigest()

    def describe(self) -> str:
        """Return one line about the coordinates: layout, their number, space, confidence, rate."""
        has_confidence = self.confidence is not None
        return describe_coordinates(
            self.layout, self.num_channels, self.space, has_confidence, self.fps
        )

    def with_joints(
        self, joints: NDArray[np.float32], confidence: NDArray[np.float32] | None = None
    ) -> Clip:
        """Return a copy with other joints; confidence None keeps the old one if it fits."""
        if confidence is None and self.confidence is not None:
            confidence = self.confidence if self.confidence.shape == joints.shape[:3] else None
        return replace(self, joints=joints, confidence=confidence)

    def map_arrays(
        self, function: Callable[[NDArray[np.float32]], NDArray[np.float32]], **changes: Any
    ) -> Clip:
        """Return a copy with ``function`` applied to joints and confidence, and other changes."""
        confidence = None if self.confidence is None else function(self.confidence)
        return replace(self, joints=function(self.joints), confidence=confidence, **changes)

    def with_checked_joints(
        self, joints: NDArray[np.float32], confidence: NDArray[np.float32] | None
    ) -> Clip:
        """Return a copy with joints of validated clips, which are not validated again."""
        copy = object.__new__(Clip)
        copy.__dict__.update(self.__dict__, joints=joints.view(), confidence=confidence)
        copy.joints.flags.writeable = False
        return copy

    def with_space(self, space: Space) -> Clip:
        """Return a copy whose coordinates are stated to be of another space."""
        copy = object.__new__(Clip)
        copy.__dict__.update(self.__dict__, space=space)
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.joints, self.layout, self.confidence, self.label, self.id, self.fps)
        return Clip, (*fields, dict(self.meta), self.padded_from, self.space, self.positions)

    def __repr__(self) -> str:
        shape = "x".join(str(n) for n in self.joints.shape)
        layout = self.layout.name
        return f"Clip(id={self.id!r}, layout={layout!r}, MxTxVxD={shape}, label={self.label})"


def describe_coordinates(
    layout: SkeletonLayout, channels: int, space: Space, has_confidence: bool, fps: float | None
) -> str:
    """Return one line about the coordinates of a clip or a store."""
    rate = "frame rate unknown" if fps is None else f"{fps:.4g} frames/s"
    return (
        f"layout {layout.name} ({layout.num_joints} joints), {channels} coordinates, "
        f"{space.describe()}; {'with' if has_confidence else 'no'} confidence; {rate}"
    )


def _validate_joints(
    joints: NDArray[np.float32], layout: SkeletonLayout, name: str
) -> NDArray[np.float32]:
    joints = np.asarray(joints, dtype=np.float32)
    if joints.ndim != 4 or joints.shape[3] == 0:
        raise ClipError(
            f"clip {name!r}: expected joints of shape (persons, frames, joints, coordinates), "
            f"got {joints.shape}"
        )
    if joints.shape[2] != layout.num_joints:
        raise ClipError(
            f"clip {name!r}: layout {layout.name!r} has {layout.num_joints} joints, "
            f"the array has {joints.shape[2]}"
        )
    if joints.shape[0] == 0 or joints.shape[1] == 0:
        raise ClipError(
            f"clip {name!r}: expected at least one person and frame, got {joints.shape}"
        )
    if not np.isfinite(joints).all():
        joints = _make_wholly_absent(joints, name)
    joints = joints.view()
    joints.flags.writeable = False
    return joints


def _make_wholly_absent(joints: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    """Return joints that are NaN in all coordinates or in none; reject infinite coordinates."""
    if np.isinf(joints).any():
        raise ClipError(f"clip {name!r}: joints have infinite coordinates")
    absent = np.isnan(joints)
    flat = absent.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if (changes % joints.shape[3]).any():  # a change within a joint
        joints = np.where(absent.any(axis=-1, keepdims=True), np.float32(np.nan), joints)
    return joints


def _validate_confidence(
    confidence: NDArray[np.float32], joints: NDArray[np.float32]
) -> NDArray[np.float32]:
    confidence = np.asarray(confidence, dtype=np.float32)
    if confidence.shape != joints.shape[:3]:
        raise ClipError(
            f"expected confidence of shape {joints.shape[:3]} (persons, frames, joints), "
            f"got {confidence.shape}"
        )
    confidence = confidence.view()
    confidence.flags.writeable = False
    return confidence
