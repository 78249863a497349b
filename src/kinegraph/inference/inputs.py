"""Input sources of predictions: raw files read as the run's training clips were, and stores."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.clips.store import ClipStore, is_store
from kinegraph.errors import ReadError
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
from kinegraph.readers.space_options import SPACE_OPTIONS

T = TypeVar("T")

#: What can be stated of clips whose reader has no such option, and of those of a store.
CLIP_FACTS = ("fps", "width", "height")
_NEW_SPACE = frozenset({"layout", "space"})  # options beside which those of the run do not hold


@dataclass(frozen=True)
class InputSource:
    """The content of one path, in parts that can be read one by one.

    Attributes:
        path: a raw file, a folder of them, or a store.
        parts: the tasks of the reader's plan, or the positions of a store's clips.
        plan: the reader's plan; None for a store.
        reader: the reader of the files; None for a store.
        options: the reader's options, which the parts were made with.
        facts: those of CLIP_FACTS that the user states, for clips that do not state them.
    """

    path: Path
    parts: Sequence[ReadTask] | Sequence[int]
    plan: ReadPlan | None = None
    reader: Reader | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

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
        clips: Iterator[Clip]
        if self.reader is None:
            store = ClipStore(self.path)
            clips = (store[i] for i in self.parts)  # type: ignore[index]
        else:
            tasks = iterate_clips(self.reader, self.parts)  # type: ignore[arg-type]
            clips = self.require_any(tasks)
        return map(self._add_facts, clips) if self.facts else clips

    def require_any(self, found: Iterable[T]) -> Iterator[T]:
        """Yield what was found in all parts.

        Raises:
            ReadError: nothing was found.
        """
        if self.reader is None or self.plan is None:
            return iter(found)
        return require_any(found, self.reader, self.path, self.plan)

    def _add_facts(self, clip: Clip) -> Clip:
        size: dict[str, MetaValue] = {k: v for k, v in self.facts.items() if k != "fps"}
        return replace(clip, fps=clip.fps or self.facts.get("fps"), meta={**size, **clip.meta})


def open_input(
    path: Path,
    reader: str | None,
    run: TrainedModel | None,
    stated: Mapping[str, Any] | None = None,
) -> InputSource:
    """Open the input at a path.

    Args:
        path: a raw file, a folder of them, or a store.
        reader: a reader's name; None opens stores as stores and guesses the reader of other
            files, asking the reader of the run's training clips first.
        run: states the reader of its training clips and that reader's options; options that
            apply to the training dataset only are left out. Files of unknown layout have its
            layout. None if the clips are not for a model.
        stated: options of the reader that come before those of the run, and any of CLIP_FACTS.

    Raises:
        ReadError, StoreError, UnknownNameError: the input cannot be read.
    """
    chosen = None if reader is None and is_store(path) else _choose_reader(path, reader, run)
    options = dict(stated or {})
    facts = take_facts(options, () if chosen is None else chosen.options)
    if chosen is None:
        if options:
            raise ReadError(
                f"{path} is a store, which states the {' and '.join(options)} of its clips: leave "
                f"out --{next(iter(options))}, or convert the raw files with it"
            )
        return InputSource(path, range(len(ClipStore(path))), facts=facts)
    trained_with = run.header.reader if run else {}
    inherited = trained_with["options"] if trained_with.get("name") == chosen.name else {}
    left_out = chosen.dataset_only | (_NEW_SPACE & {*options} and {"layout", *SPACE_OPTIONS})
    options = {k: v for k, v in inherited.items() if k not in left_out} | options
    plan, options = _plan(chosen, path, options, run)
    return InputSource(path, plan.tasks, plan, chosen, options, facts)


def describe_assumptions(clip: Clip, run: TrainedModel) -> str:
    """Return what the coordinates of a clip are taken for; "" if that is stated, or as in the run.

    The user should know of guesses, and of joints that are converted without a step of the recipe.
    """
    has_layout = clip.layout.joints == run.layout.joints
    if has_layout and clip.space == run.space:
        return ""
    converted = not has_layout and not run.pipeline.converts_layout
    if not converted and not clip.space.assumed:
        return ""
    return clip.describe() + f"; converted to layout {run.layout.name}" * converted


def _choose_reader(path: Path, reader: str | None, run: TrainedModel | None) -> Reader:
    if reader:
        return get_reader(reader)
    return guess_reader(path, run.header.reader["name"] if run else None)


def _plan(
    reader: Reader, path: Path, options: dict[str, Any], run: TrainedModel | None
) -> tuple[ReadPlan, dict[str, Any]]:
    """Return the plan and the options; the layout is the run's if nothing else states it."""
    if run and "layout" in reader.options and "layout" not in options:
        try:
            return reader.plan(path, options), options
        except ReadError:  # the files do not show it, or there is another error, raised below
            options = {**options, "layout": run.layout}
    return reader.plan(path, options), options


def take_facts(stated: dict[str, Any], own: Container[str] = ()) -> dict[str, Any]:
    """Remove those of CLIP_FACTS that are not options of a reader's ``own``, and return them.

    Raises:
        ReadError: a value that is not a number above 0; only one side of an image.
    """
    facts = {n: stated.pop(n) for n in CLIP_FACTS if n in stated and n not in own}
    for name, value in facts.items():
        if not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ReadError(f"expected {name} to be a number above 0, got {value!r}")
    if ("width" in facts) != ("height" in facts):
        raise ReadError("expected width and height of the image, both or none")
    return facts
