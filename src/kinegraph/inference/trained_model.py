"""Trained model: the network of a run, and raw clips as its input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError
from kinegraph.inference.backends.exported_model import is_exported, load_exported
from kinegraph.skeleton.joint_mapping import missing_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.training.batch import Batch, Preprocessor, collate
from kinegraph.training.checkpoint import CheckpointHeader, load_model
from kinegraph.training.data import ClipDataset, create_loader
from kinegraph.training.devices import default_device
from kinegraph.transforms.registry import View

ProgressCallback = Callable[[int, int | None], None]  # (done, total if known)
S = TypeVar("S")  # the type of scores


class TrainedModel:
    """The model of a run in evaluation mode, with its preprocessing.

    Attributes:
        model: the model, on ``device``.
        header: the header of its checkpoint.
        layout: the skeleton layout of the persons in its clips.
        persons: the number of persons that it takes of a clip.
        space: what the coordinates of its training clips mean.
        pipeline: the transforms of the run, without augmentation.
        preprocessor: converts clips to the input of the model.
        objective: the objective that it was trained for.
    """

    def __init__(self, model: nn.Module, header: CheckpointHeader) -> None:
        self.header = header
        self.space = header.clip_space()
        self.pipeline = header.pipeline().for_evaluation()
        self.layout = self.pipeline.input_layout(SkeletonLayout.from_dict(header.layout))
        self.persons = 2 if self.pipeline.joins_persons else header.persons
        self.preprocessor = Preprocessor(
            self.pipeline,
            header.persons,
            header.confidence,
            self.space,
            header.fps,
            None if self.pipeline.converts_layout else self.layout,
            header.training.get("coordinates"),
        )
        self.objective = header.create_objective()
        self.device = default_device()
        self.model = model.eval().to(self.device)

    @cached_property
    def frame_space(self) -> Space:
        """The space of joints in the model's layout: that of its clips, or their projection."""
        is_projected = self.pipeline.has_camera and self.space.kind == "world"
        return Space("image", assumed=True) if is_projected else self.space

    @property
    def prepares_frames(self) -> bool:
        """Whether frames as recorded can be prepared one by one as its training clips were."""
        name = self.space.prepared
        return name == "recorded" or self.pipeline.prepares_frames(name)

    @classmethod
    def load(cls, run: str | Path) -> Self:
        """Load a run, a checkpoint file or an exported file.

        Raises:
            CheckpointError, ExportError: the file is missing or damaged.
        """
        path = Path(run)
        return cls(*(load_exported(path) if is_exported(path) else load_model(path)))

    def batch(self, clip: Clip, views: Sequence[View | None] = (None,)) -> Batch:
        """Return the views of one clip as a batch, on the model's device.

        Raises:
            CheckpointError: the clip has another layout than the model.
            TransformError: the transforms do not fit the clip.
        """
        self._check_layout(clip.layout, f"clip {clip.id!r}")
        samples = [self._preprocessor_of(view)(clip, view=view) for view in views]
        if samples[0].x.shape[0] != self.header.in_channels:
            self._check_channels(clip.num_channels, f"clip {clip.id!r}")
        return self._on_device(collate(samples))

    def batches(
        self,
        store: ClipStore,
        indices: Sequence[int] | NDArray[np.int64],
        *,
        batch_size: int = 64,
        progress: ProgressCallback | None = None,
        views: Sequence[View | None] = (None,),
    ) -> Iterator[Batch]:
        """Yield the views of ``batch_size`` clips of a store, in the order of the indices.

        Raises:
            CheckpointError: the store has another layout than the model.
            TransformError: the transforms do not fit a clip.
        """
        self._check_layout(store.layout, str(store.path))
        if not self.pipeline.converts_layout:
            self._check_channels(store.num_channels, str(store.path))
        preprocessor = self._preprocessor_of(views[0])
        dataset = ClipDataset(store, indices, preprocessor, views=views)
        done = 0
        for batch in create_loader(dataset, batch_size * len(views), workers=0):
            yield self._on_device(batch)
            done += len(batch.labels) // len(views)
            if progress:
                progress(done, len(indices))

    def _preprocessor_of(self, view: View | None) -> Preprocessor:
        """Return the preprocessor, with the random steps that a view may apply in evaluation."""
        return self.preprocessor if view is None else self._view_preprocessor

    @cached_property
    def _view_preprocessor(self) -> Preprocessor:
        return replace(self.preprocessor, pipeline=self.header.pipeline())

    def _on_device(self, batch: Batch) -> Batch:
        return Batch(*(tensor.to(self.device) for tensor in batch))

    def _check_layout(self, layout: SkeletonLayout, what: str) -> None:
        if self.pipeline.converts_layout:  # the transform itself checks the layout
            return
        missing = [] if layout.is_same(self.layout) else missing_joints(layout, self.layout)
        if missing:
            raise CheckpointError(
                f"{what} has layout {layout.name!r} ({layout.num_joints} joints), the model was "
                f"trained on {self.layout.name!r} ({self.layout.num_joints} joints), of which it "
                f"lacks {', '.join(missing[:3])}{' and others' * (len(missing) > 3)}"
            )

    def _check_channels(self, channels: int, what: str) -> None:
        trained = self.header.training.get("coordinates", channels)
        if channels != trained:
            raise CheckpointError(
                f"{what} has {channels} coordinates a joint, the model was trained on {trained}"
            )


class Scorer(TrainedModel, ABC, Generic[S]):
    """A trained model that gives scores to clips.

    Attributes:
        views: the inputs that it makes of each clip.
    """

    views: Sequence[View | None] = (None,)

    @abstractmethod
    def score_batches(self, ids: Sequence[str], batches: Iterable[Batch]) -> S:
        """Return the scores of the clips of some batches, of which one is in memory at a time.

        A batch holds all views of each of its clips, one clip after another.
        """

    def score(self, clips: Iterable[Clip]) -> S:
        """Return the scores of clips of any length, computed one clip at a time."""
        clips = list(clips)
        batches = (self.batch(clip, self.views) for clip in clips)
        return self.score_batches([clip.id for clip in clips], batches)

    def score_store(
        self,
        store: ClipStore,
        indices: Sequence[int] | NDArray[np.int64],
        *,
        batch_size: int = 64,
        progress: ProgressCallback | None = None,
    ) -> S:
        """Return the scores of clips of a store, computed in batches; see `batches`."""
        batches = self.batches(
            store, indices, batch_size=batch_size, progress=progress, views=self.views
        )
        return self.score_batches([store.ids[i] for i in indices], batches)
