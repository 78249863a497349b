"""What a reader is: how one source of raw files becomes clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, unknown_name
from kinegraph.skeleton.layout import SkeletonLayout


@dataclass(frozen=True)
class ReadTask:
    """One piece of reading work, small enough for one process: a file, or a range of a big one.

    Attributes:
        path: the file.
        info: plain picklable facts that the scan already knows (label, row range, meta ...).
    """

    path: Path
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadPlan:
    """What a scan of a source found.

    Attributes:
        tasks: the reading work, in a fixed order (sorted, never as the file system lists it).
        layout: the layout of every clip.
        classes: class names by label, or None where the set has no public names.
        refused: files that the scan already knows to be unusable, each with its reason.
    """

    tasks: Sequence[ReadTask]
    layout: SkeletonLayout
    classes: tuple[str, ...] | None = None
    refused: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True)
class Reader:
    """One source of raw files.

    Attributes:
        name: its key in READERS.
        summary: one line for `kinegraph list readers`.
        scan: ``scan(source, **options) -> ReadPlan``: cheap, reads no clip. ``source`` is a
            folder or a single raw file. Raises ReadError if nothing there is of this kind.
        read: ``read(task, **options) -> Iterator[Clip | ReadError]``. Raises ReadError if the
            whole task is unusable; *yields* a ReadError for one bad clip among good ones.
        matches: whether a raw file looks like this source's (from its name and first bytes only).
        options: option name -> one line of help; scan and read take exactly these as keywords,
            all with defaults.
        dataset_only: the options that apply to the whole dataset only, such as its label file; a
            new recording is read without them.
        protocols: names of the protocols that this set's meta supports, the usual one first.
        creates_source: whether ``scan`` makes a source that does not exist yet.
    """

    name: str
    summary: str
    scan: Callable[..., ReadPlan]
    read: Callable[..., Iterator[Clip | ReadError]]
    matches: Callable[[Path], bool]
    options: Mapping[str, str] = field(default_factory=dict)
    dataset_only: frozenset[str] = frozenset()
    protocols: tuple[str, ...] = ()
    creates_source: bool = False

    def plan(self, source: Path, options: Mapping[str, Any]) -> ReadPlan:
        """What there is to read at a source, once source and options are known to exist.

        Raises:
            ReadError: the source is missing or not of this kind.
            UnknownNameError: this reader has no such option.
        """
        for name in options:
            if name not in self.options:
                raise unknown_name(f"option of reader {self.name!r}:", name, self.options)
        if not source.exists() and not self.creates_source:
            raise ReadError(f"there is no file or folder {source}; expected {self.summary}")
        return self.scan(source, **options)
