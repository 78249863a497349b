"""Contract of an array format: the clips of a store in the files of another tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.schema import Indices
from kinegraph.clips.store import ClipStore
from kinegraph.errors import StoreError, unknown_name
from kinegraph.skeleton.space import KINECT, PREPARATIONS, Space
from kinegraph.transforms.fit_space import fit_space
from kinegraph.transforms.pipeline import PREPARATION_STEPS, Pipeline
from kinegraph.transforms.temporal_sampling import repeat_pad
from kinegraph.transforms.to_model_input import to_array

WriteProgress = Callable[[int, int], None]
CONVENTIONS = ("stgcn", *PREPARATION_STEPS)
PARTS = ("train", "val")


@dataclass(frozen=True)
class WriteJob:
    """The clips of a store as they are written.

    Attributes:
        store: the store.
        splits: by protocol the indices of the training clips and of the others; the first protocol
            is that of formats with one split.
        prepared: a name of CONVENTIONS, or "" for clips as the store has them.
        persons: M of the arrays.
        frames: T of the arrays.
        truncate: whether persons after the first M are left out; else they are refused.
        options: the format's options.
    """

    store: ClipStore
    splits: Mapping[str, tuple[Indices, Indices]]
    prepared: str = ""
    persons: int = 2
    frames: int = 300
    truncate: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_convention(self.store, self.prepared, self.frames)

    @property
    def parts(self) -> dict[str, Indices]:
        """The clips of ``train`` and ``val`` of the first protocol, if there are any."""
        first = next(iter(self.splits.values()))
        return {name: part for name, part in zip(PARTS, first, strict=True) if len(part)}

    @property
    def indices(self) -> Indices:
        """The clips of all splits, ascending."""
        return np.unique(np.concatenate([part for pair in self.splits.values() for part in pair]))

    @property
    def space(self) -> Space:
        """The space of the clips that are written."""
        if not self.prepared:
            return self.store.space
        return KINECT if self.prepared == "stgcn" else PREPARATIONS[self.prepared].result  # type: ignore[index]

    @property
    def with_confidence(self) -> bool:
        """Whether the third channel of arrays is a confidence."""
        return self.store.num_channels == 2

    def clips(self, indices: Iterable[int]) -> Iterator[Clip]:
        """Yield clips in the convention, without the persons that are never present.

        Raises:
            StoreError: a clip has more frames or persons than the arrays.
            TransformError: a clip cannot be prepared.
        """
        for index in indices:
            clip = self.store[int(index)]
            if clip.num_real_frames > self.frames:
                raise StoreError(
                    f"clip {clip.id!r} has {clip.num_real_frames} frames, the arrays "
                    f"{self.frames}: give --frames {int(self.store.frames.max())}"
                )
            seen = np.asarray(clip.valid.any(axis=(1, 2)))
            if seen.sum() > self.persons and not self.truncate:
                raise StoreError(
                    f"clip {clip.id!r} has {seen.sum()} persons, the arrays {self.persons}: give "
                    f"--persons {int(self.store.persons.max())}, or --persons {self.persons} to "
                    f"keep the first {self.persons}"
                )
            if 0 < seen.sum() < len(seen):
                clip = clip.map_arrays(lambda array, kept=seen: array[kept])  # type: ignore[misc]
            yield _prepare(clip, self.prepared)

    def arrays(self, indices: Iterable[int]) -> Iterator[NDArray[np.float32]]:
        """Yield clips as (C, T, V, M) float32, zeros where a joint is absent; C is 3."""
        for clip in self.clips(indices):
            if self.space.prepared == "agcn":  # the reader removes the repetition
                clip = repeat_pad(clip, None, frames=self.frames)
            array = to_array(clip, self.persons, confidence=self.with_confidence)
            padded = np.zeros((array.shape[0], self.frames, *array.shape[2:]), np.float32)
            padded[:, : array.shape[1]] = array[:, : self.frames]
            yield padded


@dataclass(frozen=True)
class ArrayFormat:
    """A format that stores are converted to.

    Attributes:
        name: its key in ARRAY_FORMATS.
        summary: one line of help.
        suffix: how the file's name ends; "" for a folder.
        write: ``write(job, path, progress)`` writes the file or folder. Raises StoreError for clips
            that the format cannot hold.
        check: ``check(job, path)`` reads what was written and returns the first difference, or "".
        options: option name -> one line of help.
    """

    name: str
    summary: str
    suffix: str
    write: Callable[[WriteJob, Path, WriteProgress], None]
    check: Callable[[WriteJob, Path], str]
    options: Mapping[str, str] = field(default_factory=dict)


def _check_convention(store: ClipStore, prepared: str, frames: int) -> None:
    """Raise an error if the store's clips cannot be brought to a convention."""
    if not prepared:
        return
    if prepared not in CONVENTIONS:
        raise unknown_name("preparation to write", prepared, CONVENTIONS)
    kind = "world" if prepared == "stgcn" else PREPARATIONS[prepared].source.kind  # type: ignore[index]
    if store.space.kind != kind:
        raise StoreError(
            f"--prepared {prepared} is a convention of {'3D' if kind == 'world' else '2D'} clips, "
            f"the store is {store.space.describe()}"
        )
    have = store.space.prepared
    steps = Pipeline(PREPARATION_STEPS.get(prepared, ()))
    if have not in ("recorded", prepared) and not PREPARATIONS[have].changes <= steps.cancels:
        raise StoreError(
            f"{store.path} is prepared as by {have!r}, which cannot be undone: write it as it is, "
            "or convert the recorded data first"
        )
    if prepared == "agcn" and frames != 300:
        raise StoreError(f"arrays of --prepared agcn have 300 frames, got --frames {frames}")


def _prepare(clip: Clip, prepared: str) -> Clip:
    if not prepared or clip.space.prepared == prepared:
        return clip
    if prepared == "stgcn":
        return fit_space(clip, KINECT, Pipeline())
    steps = Pipeline(PREPARATION_STEPS[prepared])
    fitted = fit_space(clip, PREPARATIONS[prepared].source, steps)  # type: ignore[index]
    return steps.prepare(fitted, prepared)
