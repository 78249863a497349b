"""Views: several inputs made of each clip in an evaluation, whose class scores are averaged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.class_sides import find_mirrored_classes, names_side
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.training.checkpoint import CheckpointHeader
from kinegraph.training.recipe import AUTO
from kinegraph.transforms.registry import View


def list_views(header: CheckpointHeader) -> tuple[View | None, ...]:
    """Return the views of each clip by the recipe keys ``test_clips`` and ``test_mirror``."""
    count = int(header.recipe.get("test_clips", 1))
    mirrors = header.recipe.get("test_mirror", False)
    if mirrors == AUTO:
        mirrors = _has_mirrored_classes(header)
    if count == 1 and not mirrors:
        return (None,)
    sides = (False, True) if mirrors else (False,)
    return tuple(View(number, count, side) for side in sides for number in range(count))


def _has_mirrored_classes(header: CheckpointHeader) -> bool:
    """Return whether the model has the class of each mirrored clip, as far as names show."""
    layout = SkeletonLayout.from_dict(header.layout)
    if not header.classes or not layout.mirror_pairs:
        return False
    return None not in find_mirrored_classes(header.classes)


def average_views(
    logits: NDArray[np.float32], views: Sequence[View | None], classes: Sequence[str] | None
) -> NDArray[np.float32]:
    """Return logits (N, classes) whose softmax is the mean of the softmax of all views.

    The scores of a mirrored view count for the mirrored classes: "swipe left" gets that of "swipe
    right". A class that names a side and has no opposite gets none from mirrored views; its score
    is the mean of the others, and the scores of all classes are divided by their sum again.

    Args:
        logits: (N x views, classes), all views of a clip one after another.
        views: the views of each clip.
        classes: class names by label; None if the classes have no names.
    """
    from scipy.special import log_softmax, logsumexp

    if len(views) == 1:
        return logits
    scores = log_softmax(logits.reshape(-1, len(views), logits.shape[1]).astype(np.float64), axis=2)
    mirrored = np.array([view is not None and view.mirrored for view in views])
    if mirrored.any() and any(names_side(name) for name in classes or ()):
        order = find_mirrored_classes(classes or ())
        known = [label for label, other in enumerate(order) if other is not None]
        turned = np.full_like(scores[:, mirrored], -np.inf)
        turned[:, :, known] = scores[:, mirrored][:, :, [order[label] for label in known]]
        scores[:, mirrored] = turned
    used = np.isfinite(scores).sum(axis=1)
    averaged = logsumexp(scores, axis=1) - np.log(np.maximum(used, 1))
    return np.asarray(averaged - logsumexp(averaged, axis=1, keepdims=True), dtype=np.float32)
