"""Contract of a reader: conversion of one source of raw files to clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import NOTES_KEY, Clip
from kinegraph.errors import ClipError, ReadError, unknown_name
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.raw_file import find_cut_text
from kinegraph.skeleton.layouts import SkeletonLayout, get_layout
from kinegraph.skeleton.space import Space

ReadResults = Iterator[Clip | ReadError]
"""The clips of a task, with an error in the place of each bad one."""


@dataclass(frozen=True)
class ReadTask:
    """A piece of reading work for one process: a file, or a range of a large one.

    Attributes:
        path: the file.
        info: picklable facts from the scan: label, id, meta, space, notes, a range of rows, options
            of reading.
    """

    path: Path
    info: Mapping[str, Any] = field(default_factory=dict)

    def make_clip(
        self,
        joints: Any,
        layout: str | SkeletonLayout,
        *,
        notes: Sequence[str] = (),
        **facts: Any,
    ) -> Clip:
        """Return a clip with the label, id, meta and space of this task, or those in ``facts``.

        The default id is the file's name without its suffix. ``notes``, and those of the task, are
        sentences without a full stop about what was changed or guessed; they become meta
        (`Clip.notes`), and commands print each once.
        """
        keys = ("label", "id", "meta", "space")
        stated = {key: self.info[key] for key in keys if key in self.info}
        facts = {"id": self.path.stem, **stated, **facts}
        if notes := [*self.info.get("notes", ()), *notes, *find_cut_text(self.path)]:
            facts["meta"] = {**facts.get("meta", {}), NOTES_KEY: "\n".join(notes)}
        return Clip(joints, get_layout(layout), **facts)

    def to_joints(self, values: NDArray[Any], zeros_absent: bool = True) -> NDArray[np.float32]:
        """Return coordinates (..., T, V, D) of the file as float32.

        With ``zeros_absent`` a joint at exactly (0, ..., 0) was not tracked and becomes NaN.

        Raises:
            ReadError: the array has no frame, or a number is not finite in float32.
        """
        if values.size == 0:
            raise ReadError(f"{self.path}: expected at least one frame, got none")
        joints = to_float32(values)
        bad = ~np.isfinite(joints).all(axis=-1)
        if bad.any():
            frame, joint = np.argwhere(bad)[0][-2:]
            raise ReadError(
                f"{self.path}: frame {frame}, joint {joint}: expected finite coordinates"
            )
        if zeros_absent:
            joints[(joints == 0).all(axis=-1)] = np.nan
        return joints


def clip_or_error(
    where: str, make: Callable[..., Clip], *args: Any, **facts: Any
) -> Clip | ReadError:
    """Return ``make(*args, **facts)``, or an error for this clip alone, whatever went wrong.

    Readers of files with several clips call it for each, so that one bad clip is one refusal.
    """
    try:
        return make(*args, **facts)
    except (ReadError, ClipError) as error:
        return ReadError(f"{where}: {error}")
    except Exception as error:  # of content in an unexpected form
        return ReadError(f"{where}: unexpected {type(error).__name__}: {error}")


@dataclass(frozen=True)
class ReadPlan:
    """The result of scanning a source.

    Attributes:
        tasks: the reading work in a fixed order: sorted, not as the file system lists it.
        layout: the layout of every clip.
        classes: class names by label, or None if the dataset has no public names.
        refused: files that the scan found to be unusable, each with the reason.
    """

    tasks: Sequence[ReadTask]
    layout: SkeletonLayout
    classes: tuple[str, ...] | None = None
    refused: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Reader:
    """A source of raw files.

    Attributes:
        name: its key in READERS.
        summary: one line for `kinegraph list readers`.
        scan: ``scan(source, **options) -> ReadPlan``; cheap, reads no clip. ``source`` is a
            folder or a single raw file. Raises ReadError if it has no file of this kind.
        read: ``read(task) -> ReadResults``. Raises ReadError if the whole task is
            unusable; *yields* a ReadError for one bad clip among good ones.
        matches: returns whether a raw file seems to be of this source, from its name and first
            bytes only.
        options: option name -> one line of help; scan takes exactly these as keywords, all with
            defaults, and puts what reading needs of them into the tasks.
        dataset_only: the options that apply to the whole dataset only, such as its label file;
            new recordings are read without them.
        protocols: names of the protocols that the meta of this dataset supports, the usual first.
        creates_source: whether ``scan`` creates a source that does not exist yet.
        space: what the coordinates of every clip mean; None if files or options state it.
    """

    name: str
    summary: str
    scan: Callable[..., ReadPlan]
    read: Callable[[ReadTask], ReadResults]
    matches: Callable[[Path], bool]
    options: Mapping[str, str] = field(default_factory=dict)
    dataset_only: frozenset[str] = frozenset()
    protocols: tuple[str, ...] = ()
    creates_source: bool = False
    space: Space | None = None

    def describe_space(self) -> str:
        """Return what the coordinates of its clips mean, or how that is stated."""
        if self.space is not None:
            return self.space.describe()
        return "stated by the files or by options; else guessed, and printed as a guess"

    def plan(self, source: Path, options: Mapping[str, Any]) -> ReadPlan:
        """Scan a source after checking that the source and the options exist.

        Raises:
            ReadError: the source does not exist or has no file of this kind.
            UnknownNameError: this reader has no such option.
        """
        for name in options:
            if name not in self.options:
                raise unknown_name(f"option of reader {self.name!r}:", name, self.options)
        if not source.exists() and not self.creates_source:
            raise ReadError(f"file or folder {source} does not exist; expected {self.summary}")
        return self.scan(source, **options)


def check_choice(option: str, value: object, choices: Sequence[str]) -> None:
    """Raise UnknownNameError if an option's value is not one of the choices."""
    if value not in choices:
        raise unknown_name(option, str(value), choices)


def check_count(option: str, value: object, low: int = 1, high: int | None = None) -> None:
    """Raise ReadError if an option's value is not a whole number from ``low`` to ``high``."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or value < low or (high is not None and value > high):  # type: ignore[operator]
        limit = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise ReadError(f"expected {option} to be a whole number {limit}, got {value!r}")


def check_fps(fps: Any) -> None:
    """Raise ReadError if a frame rate is stated but is not a number above 0."""
    if fps is not None and not (isinstance(fps, int | float) and 0 < fps < math.inf):
        raise ReadError(f"expected fps to be frames per second above 0, got {fps!r}")


def guess_layout(num_joints: int, layouts: Mapping[int, str], path: Path) -> str:
    """Return the name of the usual layout of so many joints; ReadError if there is none."""
    if num_joints not in layouts:
        raise ReadError(
            f"{path}: {num_joints} joints; name the layout (--layout), because there is a default "
            f"for {', '.join(map(str, sorted(layouts)))} joints only"
        )
    return layouts[num_joints]
