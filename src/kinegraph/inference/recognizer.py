"""Recognizer: a trained model with everything around it, from raw clips to named actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, TransformError
from kinegraph.inference.scores import Scores
from kinegraph.skeleton.layouts import SkeletonLayout
from kinegraph.training.checkpoint import Header, load_model
from kinegraph.training.data import ClipDataset, loader
from kinegraph.transforms import to_array


@dataclass(frozen=True)
class Guess:
    """One candidate action of a clip."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """What the model says of one clip: all classes, the most probable first."""

    id: str
    guesses: tuple[Guess, ...]
    logits: NDArray[np.float32]

    @property
    def name(self) -> str:
        """The most probable action."""
        return self.guesses[0].name

    @property
    def probability(self) -> float:
        """Of the most probable action."""
        return self.guesses[0].probability

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """For JSON: id, the ``top`` guesses, all logits."""
        return {
            "id": self.id,
            "top": [vars(guess) for guess in self.guesses[:top]],
            "logits": [float(value) for value in self.logits],
        }


class Recognizer:
    """Names the action of a clip.

    >>> recognizer = Recognizer.load("runs/demo")  # doctest: +SKIP
    >>> recognizer(clip).name  # doctest: +SKIP
    'wave'
    """

    def __init__(self, model: nn.Module, header: Header) -> None:
        self.header = header
        self.layout = SkeletonLayout.from_dict(header.layout)
        self.pipeline = header.pipeline()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.eval().to(self.device)

    @classmethod
    def load(cls, run: str | Path) -> Recognizer:
        """The recognizer of a run, or of a checkpoint file.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        return cls(*load_model(Path(run)))

    def __call__(self, clip: Clip) -> Answer:
        """The answer for one clip.

        Raises:
            CheckpointError: the clip has another layout than the model.
            TransformError: the transforms do not fit the clip.
        """
        return next(iter(self.answers(self.score([clip]))))

    def score(self, clips: Iterable[Clip]) -> Scores:
        """Logits of clips of any length, one at a time."""
        ids, labels, logits = [], [], []
        for clip in clips:
            ids.append(clip.id)
            labels.append(-1 if clip.label is None else clip.label)
            logits.append(self._logits(torch.from_numpy(self._input(clip))[None])[0])
        return Scores(tuple(ids), np.array(labels, np.int64), np.stack(logits))

    def score_store(
        self,
        store: ClipStore,
        indices: Sequence[int] | NDArray[np.int64],
        *,
        batch_size: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scores:
        """Logits of clips of a store, in batches.

        Args:
            store: the clips.
            indices: which of them.
            batch_size: clips at a time.
            progress: called with (clips done, clips in all).
        """
        self._check_layout(store.layout, str(store.path))
        self._check_channels(store.num_channels, str(store.path))
        dataset = ClipDataset(
            store,
            indices,
            self.pipeline,
            persons=self.header.persons,
            confidence=self.header.confidence,
            seed=None,
        )
        logits: list[NDArray[np.float32]] = []
        for x, _ in loader(dataset, batch_size, workers=0):
            logits.extend(self._logits(x))
            if progress:
                progress(len(logits), len(dataset))
        ids = tuple(store.ids[i] for i in dataset.indices)
        return Scores(ids, store.labels[dataset.indices], np.stack(logits))

    def answers(self, scores: Scores) -> list[Answer]:
        """Named guesses for each clip."""
        answers = []
        for name, logits, probabilities in zip(
            scores.ids, scores.logits, scores.probabilities, strict=True
        ):
            guesses = tuple(
                Guess(int(i), self.header.class_name(int(i)), float(probabilities[i]))
                for i in np.argsort(-probabilities, kind="stable")
            )
            answers.append(Answer(name, guesses, logits))
        return answers

    def _input(self, clip: Clip) -> NDArray[np.float32]:
        self._check_layout(clip.layout, f"clip {clip.id!r}")
        try:
            prepared = self.pipeline(clip, None)
            x = to_array(prepared, self.header.persons, confidence=self.header.confidence)
        except TransformError as error:
            raise TransformError(f"clip {clip.id!r}: {error}") from error
        if x.shape[0] != self.header.in_channels:
            self._check_channels(clip.num_channels, f"clip {clip.id!r}")
        return x

    @torch.inference_mode()
    def _logits(self, x: torch.Tensor) -> NDArray[np.float32]:
        return self.model(x.to(self.device)).float().cpu().numpy()

    def _check_layout(self, layout: SkeletonLayout, what: str) -> None:
        if layout.joints != self.layout.joints or layout.bones != self.layout.bones:
            raise CheckpointError(
                f"{what} has layout {layout.name!r} ({layout.num_joints} joints), the model was "
                f"trained on {self.layout.name!r} ({self.layout.num_joints} joints)"
            )

    def _check_channels(self, channels: int, what: str) -> None:
        trained = self.header.training.get("coordinates", channels)
        if channels != trained:
            raise CheckpointError(
                f"{what} has {channels} coordinates a joint, the model was trained on {trained}"
            )
