"""Matching of the classes of a store with those of a model, by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError
from kinegraph.training.checkpoint import CheckpointHeader

#: The label of a class that the model does not have.
NO_CLASS = -1
#: So many class names stand in a message.
_SHOWN_NAMES = 4


def match_classes(
    header: CheckpointHeader, store: ClipStore, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the model's label of each label of a store, `NO_CLASS` for a class it does not have.

    Names are equal if they differ only in case, spaces and punctuation. Labels stay as they are if
    the store or the model has no names.

    Args:
        indices: the clips that will be evaluated.

    Raises:
        CheckpointError: the model has the class of none of these clips.
    """
    if not header.classes or not store.classes:
        return np.arange(store.num_classes)
    exact = {name: label for label, name in enumerate(header.classes)}
    similar = {_simplify(name): label for label, name in enumerate(header.classes)}
    labels = [exact.get(name, similar.get(_simplify(name), NO_CLASS)) for name in store.classes]
    matched = np.array(labels, dtype=np.int64)
    if len(indices) and (matched[store.labels[indices]] == NO_CLASS).all():
        raise CheckpointError(
            f"{store.path}: the model has none of these clips' classes: they are "
            f"{_list_classes([store.classes[i] for i in np.unique(store.labels[indices])])}; the "
            f"model's are {_list_classes(header.classes)}"
        )
    return matched


def _simplify(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name).strip().lower()


def _list_classes(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(names[:_SHOWN_NAMES]) + more
