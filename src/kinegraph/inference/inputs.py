"""Input sources: the clips of a raw file or store, read as a run's training clips were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore, is_store
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.readers import (
    Reader,
    ReadPlan,
    ReadTask,
    empty_source_error,
    get_reader,
    guess_reader,
    iterate_clips,
)

T = TypeVar("T")


@dataclass(frozen=True)
class InputSource:
    """What lies at one path, in parts that can be read one by one.

    Attributes:
        path: a raw file, a folder of them, or a store.
        parts: the tasks of the reader's plan, or the positions of a store's clips.
        plan: the reader's plan; None for a store.
        reader: who reads it; None for a store.
        options: the reader's options.
    """

    path: Path
    parts: Sequence[ReadTask] | Sequence[int]
    plan: ReadPlan | None = None
    reader: Reader | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def list_files(self) -> list[Path]:
        """The files that hold the parts."""
        if self.reader is None:
            return [self.path]
        return sorted({task.path for task in self.parts if isinstance(task, ReadTask)})

    def slice(self, start: int, stop: int) -> InputSource:
        """Some of the parts."""
        return replace(self, parts=self.parts[start:stop], plan=None)

    def read_clips(self) -> Iterator[Clip]:
        """The clips of the parts.

        Raises:
            ReadError, StoreError: a clip cannot be read.
        """
        if self.reader is None:
            store = ClipStore(self.path)
            return (store[i] for i in self.parts)  # type: ignore[index]
        return iterate_clips(self.reader, self.parts, self.options)  # type: ignore[arg-type]

    def require_any(self, found: Iterable[T]) -> Iterator[T]:
        """What was found in all parts.

        Raises:
            ReadError: that is nothing.
        """
        any_found = False
        for one in found:
            any_found = True
            yield one
        if not any_found and self.reader is not None and self.plan is not None:
            raise empty_source_error(self.reader, self.path, self.plan)


def open_input(path: Path, reader: str | None, run: TrainedModel) -> InputSource:
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
        return InputSource(path, range(len(ClipStore(path))))
    trained_with = run.header.reader
    chosen = get_reader(reader) if reader else guess_reader(path, trained_with["name"])
    stated = trained_with["options"] if trained_with["name"] == chosen.name else {}
    options = {key: value for key, value in stated.items() if key not in chosen.dataset_only}
    if "layout" in chosen.options:
        options["layout"] = run.layout
    plan = chosen.plan(path, options)
    return InputSource(path, plan.tasks, plan, chosen, options)


def read_input_clips(path: Path, reader: str | None, run: TrainedModel) -> Iterator[Clip]:
    """The clips at a path; the arguments are those of `open_input`.

    Raises:
        ReadError, StoreError, UnknownNameError: it, or one of them, cannot be read.
    """
    source = open_input(path, reader, run)
    return source.require_any(source.read_clips())
