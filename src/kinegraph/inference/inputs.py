"""Input sources of predictions: raw files read as the run's training clips were, and stores."""

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
    get_reader,
    guess_reader,
    iterate_clips,
    require_any,
)

T = TypeVar("T")


@dataclass(frozen=True)
class InputSource:
    """The content of one path, in parts that can be read one by one.

    Attributes:
        path: a raw file, a folder of them, or a store.
        parts: the tasks of the reader's plan, or the positions of a store's clips.
        plan: the reader's plan; None for a store.
        reader: the reader of the files; None for a store.
        options: the reader's options, which the parts were made with.
    """

    path: Path
    parts: Sequence[ReadTask] | Sequence[int]
    plan: ReadPlan | None = None
    reader: Reader | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def list_files(self) -> list[Path]:
        """Return the files that the parts are read from."""
        if self.reader is None:
            return [self.path]
        return sorted({task.path for task in self.parts if isinstance(task, ReadTask)})

    def slice(self, start: int, stop: int) -> InputSource:
        """Return the source with a range of its parts."""
        return replace(self, parts=self.parts[start:stop], plan=None)

    def read_clips(self) -> Iterator[Clip]:
        """Yield the clips of the parts.

        Raises:
            ReadError, StoreError: a clip cannot be read, or all parts together have none.
        """
        if self.reader is None:
            store = ClipStore(self.path)
            return (store[i] for i in self.parts)  # type: ignore[index]
        clips = iterate_clips(self.reader, self.parts)  # type: ignore[arg-type]
        return self.require_any(clips)

    def require_any(self, found: Iterable[T]) -> Iterator[T]:
        """Yield what was found in all parts.

        Raises:
            ReadError: nothing was found.
        """
        if self.reader is None or self.plan is None:
            return iter(found)
        return require_any(found, self.reader, self.path, self.plan)


def open_input(path: Path, reader: str | None, run: TrainedModel) -> InputSource:
    """Open the input at a path.

    Args:
        path: a raw file, a folder of them, or a store.
        reader: a reader's name; None opens stores as stores and guesses the reader of other
            files, asking the reader of the run's training clips first.
        run: states the reader of its training clips and that reader's options; options that
            apply to the training dataset only are left out.

    Raises:
        ReadError, StoreError, UnknownNameError: the input cannot be read.
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
