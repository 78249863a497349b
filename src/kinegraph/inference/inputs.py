"""Recordings to answer: the clips of a raw file or store, read as a run's training clips were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, is_store
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.readers import (
    Plan,
    Reader,
    Unit,
    clips_of_units,
    get_reader,
    guess_reader,
    nothing_usable,
)

T = TypeVar("T")


@dataclass(frozen=True)
class Recordings:
    """What lies at one path, in pieces that can be read one by one.

    Attributes:
        path: a raw file, a folder of them, or a store.
        pieces: the units of the reader's plan, or the positions of a store's clips.
        plan: the reader's plan; None for a store.
        reader: who reads it; None for a store.
        options: the reader's options.
    """

    path: Path
    pieces: Sequence[Unit] | Sequence[int]
    plan: Plan | None = None
    reader: Reader | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> list[Path]:
        """The files that hold the pieces."""
        if self.reader is None:
            return [self.path]
        return sorted({unit.path for unit in self.pieces if isinstance(unit, Unit)})

    def part(self, start: int, stop: int) -> Recordings:
        """Some of the pieces."""
        return replace(self, pieces=self.pieces[start:stop], plan=None)

    def clips(self) -> Iterator[Clip]:
        """The clips of the pieces.

        Raises:
            ReadError, StoreError: a clip cannot be read.
        """
        if self.reader is None:
            store = ClipStore(self.path)
            return (store[i] for i in self.pieces)  # type: ignore[index]
        return clips_of_units(self.reader, self.pieces, self.options)  # type: ignore[arg-type]

    def some(self, found: Iterable[T]) -> Iterator[T]:
        """What was found in all pieces.

        Raises:
            ReadError: that is nothing.
        """
        any_found = False
        for one in found:
            any_found = True
            yield one
        if not any_found and self.reader is not None and self.plan is not None:
            raise nothing_usable(self.reader, self.path, self.plan)


def open_recordings(path: Path, reader: str | None, run: TrainedModel) -> Recordings:
    """What lies at a path.

    Args:
        path: a raw file, a folder of them, or a store.
        reader: a reader's name; None takes stores as such and guesses the reader of other files.
        run: with the reader that its training clips were read with, and its options; those that
            are about that set of clips alone are left out.

    Raises:
        ReadError, StoreError, UnknownNameError: it cannot be read.
    """
    if reader is None and is_store(path):
        return Recordings(path, range(len(ClipStore(path))))
    trained_with = run.header.reader
    chosen = get_reader(reader) if reader else guess_reader(path, trained_with["name"])
    stated = trained_with["options"] if trained_with["name"] == chosen.name else {}
    options = {key: value for key, value in stated.items() if key not in chosen.of_a_set}
    if "layout" in chosen.options:
        options["layout"] = run.layout
    plan = chosen.plan(path, options)
    return Recordings(path, plan.units, plan, chosen, options)


def clips_of(path: Path, reader: str | None, run: TrainedModel) -> Iterator[Clip]:
    """The clips at a path; the arguments are those of `open_recordings`.

    Raises:
        ReadError, StoreError, UnknownNameError: it, or one of them, cannot be read.
    """
    recordings = open_recordings(path, reader, run)
    return recordings.some(recordings.clips())
