"""Scores: what a model said of each clip, kept with the clips' ids so that they join by id."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import CheckpointError
from kinegraph.files import atomic_write


@dataclass(frozen=True)
class Scores:
    """Logits of N clips.

    Attributes:
        ids: N clip ids.
        labels: (N,) true labels, -1 where unknown.
        logits: (N, classes) float32.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]

    @property
    def probabilities(self) -> NDArray[np.floating]:
        """(N, classes): softmax of the logits."""
        return softmax(self.logits)

    def require_finite(self, name: str = "the run") -> None:
        """Refuse what a diverged training said.

        Raises:
            CheckpointError: logits that are no finite numbers; the message begins with ``name``.
        """
        if not np.isfinite(self.logits).all():
            raise CheckpointError(
                f"{name}: some scores are no finite numbers, the training has diverged"
            )

    def save(self, path: Path) -> None:
        """Write an .npz with ids, labels and logits: whole, or not at all.

        Raises:
            CheckpointError: it cannot be written.
        """
        content = io.BytesIO()
        np.savez_compressed(content, ids=np.array(self.ids), labels=self.labels, logits=self.logits)
        atomic_write(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Scores:
        """The inverse of `save`.

        Raises:
            CheckpointError: the file holds no scores.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                ids = tuple(str(name) for name in data["ids"])
                return cls(ids, data["labels"], data["logits"])
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} holds no scores of kinegraph: {error}") from error


def softmax(logits: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N, classes) -> (N, classes): shares that sum to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
