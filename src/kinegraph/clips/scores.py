"""Scores: the logits of clips, with clip ids so that scores of several runs can be joined."""

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
        """Softmax of the logits, (N, classes)."""
        from scipy.special import softmax

        return np.asarray(softmax(self.logits, axis=1))

    def require_finite(self, name: str = "the run") -> None:
        """Check that all logits are finite.

        Raises:
            CheckpointError: a logit is NaN or infinite; the message begins with ``name``.
        """
        if not np.isfinite(self.logits).all():
            raise CheckpointError(f"{name}: some scores are not finite, the training has diverged")

    def save(self, path: Path) -> None:
        """Write an .npz file with ids, labels and logits atomically.

        Raises:
            CheckpointError: the file cannot be written.
        """
        content = io.BytesIO()
        np.savez_compressed(content, ids=np.array(self.ids), labels=self.labels, logits=self.logits)
        atomic_write(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Scores:
        """Read a file that `save` wrote.

        Raises:
            CheckpointError: the file does not contain scores.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                ids = tuple(str(name) for name in data["ids"])
                return cls(ids, data["labels"], data["logits"])
        except (OSError, EOFError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path} does not contain kinegraph scores: {error}") from error
