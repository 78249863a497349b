"""Teaching: a model for new actions from a few examples of each, on the features of another model.

The network stays as it is, but for its last layer (`kinegraph.inference.few_shot`), so that it
takes seconds. The result is a checkpoint like that of a training.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, ModelError
from kinegraph.files import exclusive_lock
from kinegraph.inference.few_shot import CONFIDENCE, FewShotHead, fit_few_shot
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.trained_model import ProgressCallback, TrainedModel
from kinegraph.models.base import pool_clips
from kinegraph.models.unknown import UnknownLogit
from kinegraph.training.batch import Batch, collate
from kinegraph.training.checkpoint import (
    DEFAULT_FPS,
    LAST_FILE,
    CheckpointHeader,
    collect_versions,
    require_empty_folder,
    save_checkpoint,
)
from kinegraph.transforms.temporal_sampling import take_frames

Examples = Mapping[str, Sequence[Clip]]
#: The name of the further class of a taught model.
UNKNOWN = "unknown"


def teach(
    model: str | Path | TrainedModel,
    examples: Examples,
    out: str | Path | None = None,
    *,
    progress: ProgressCallback | None = None,
) -> Recognizer:
    """Return a recognizer of new actions, made from a model and examples of each action.

    What was taught, and how well held-out examples are named, stands in the header under
    ``training["taught"]``. The model that is given stays as it is.

    Examples:
        >>> wave, clap = kg.read_clips("wave/"), kg.read_clips("clap/")  # doctest: +SKIP
        >>> recognizer = teach("penn-action", {"wave": wave, "clap": clap})  # doctest: +SKIP
        >>> recognizer(clip).name  # doctest: +SKIP
        'wave'

    Args:
        model: a pretrained model, a run, a checkpoint file or a loaded model; of any family.
        examples: clips of each action by its name, at least one of at least two actions. Their
            layout may differ from the model's (`kinegraph.convert_layout`).
        out: new folder of a run to write the recognizer to; None to write nothing.
        progress: called after each example.

    Raises:
        CheckpointError: the model is missing or an exported file, too few actions, a name that is
            not allowed, an example without finite features, or ``out`` is not empty.
        ModelError: the model's class does not give the features that its classifier reads.
        TransformError, LayoutError: an example does not fit the model.
    """
    started = time.perf_counter()
    _check_examples(examples)
    if out is not None:
        require_empty_folder(Path(out))
    base = model if isinstance(model, TrainedModel) else TrainedModel.load(model)
    features, labels, groups = _extract_features(base, examples, progress)
    head, held_out = fit_few_shot(features, labels, groups)
    counts = {name: len(clips) for name, clips in examples.items()}
    name = base.header.recipe.get("name", base.header.model["name"])
    facts = {
        "taught": {"model": name, "examples": counts, "held_out": held_out._asdict()},
        "clips": sum(counts.values()),
        "seconds": round(time.perf_counter() - started, 2),
    }
    header = _describe(base.header, list(examples), facts)
    recognizer = Recognizer(_replace_head(base.model, head), header)
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        with exclusive_lock(Path(out)):
            save_checkpoint(Path(out) / LAST_FILE, recognizer.model.state_dict(), header)
    return recognizer


def _check_examples(examples: Examples) -> None:
    if len(examples) < 2:
        raise CheckpointError(
            f"expected examples of at least two actions, got {', '.join(examples) or 'none'}"
        )
    for name, clips in examples.items():
        if not name.strip() or name == UNKNOWN:
            raise CheckpointError(
                f"an action cannot be named {name!r}: choose another name ({UNKNOWN!r} is the "
                "answer for all other actions)"
            )
        if not clips:
            raise CheckpointError(f"action {name!r} has no examples: give at least one clip")


def _extract_features(
    model: TrainedModel, examples: Examples, progress: ProgressCallback | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return features (n, P) of all examples, in each form, with labels and example numbers (n,).

    Raises:
        CheckpointError, ModelError, TransformError, LayoutError: see `teach`.
    """
    if not all(hasattr(model.model, name) for name in ("forward_pooled", "set_classifier")):
        raise ModelError(
            f"{type(model.model).__name__} does not give the features of its classifier: teach "
            "takes runs and checkpoints, not exported files, of classes derived from SkeletonModel"
        )
    rows: list[NDArray[np.float32]] = []
    labels: list[int] = []
    groups: list[int] = []
    total = sum(map(len, examples.values()))
    for label, clips in enumerate(examples.values()):
        for clip in clips:
            number = groups[-1] + 1 if groups else 0
            found = pool_example(model, clip)
            rows += found
            labels += [label] * len(found)
            groups += [number] * len(found)
            if progress:
                progress(number + 1, total)
    return np.stack(rows).astype(np.float64), np.array(labels), np.array(groups)


def pool_example(model: TrainedModel, clip: Clip) -> list[NDArray[np.float32]]:
    """Return the features (P,) of a clip as a prediction sees it, and as streams do.

    A stream is not padded, and covers a window of seconds: a clip of two windows or more is cut.

    Raises:
        CheckpointError, TransformError, LayoutError: the clip does not fit the model, or its
            features are not finite.
    """
    pooled = [_pool_batch(model, model.batch(clip), clip.id)]
    pipeline = model.pipeline.without_length_steps()
    preprocessor = replace(model.preprocessor, pipeline=pipeline)
    seconds = model.header.stream_window_seconds
    for window in _cut_windows(clip, max(1, round(seconds * (clip.fps or DEFAULT_FPS)))):
        if window is clip and pipeline == model.pipeline:
            continue
        sample = preprocessor(window)
        if sample.x.shape[1] >= getattr(model.model, "min_frames", 1):
            pooled.append(_pool_batch(model, collate([sample]), clip.id))
    return pooled


def _cut_windows(clip: Clip, frames: int) -> list[Clip]:
    if clip.num_frames < 2 * frames:
        return [clip]
    starts = range(0, clip.num_frames - frames + 1, frames)
    return [take_frames(clip, np.arange(start, start + frames)) for start in starts]


@torch.inference_mode()
def _pool_batch(model: TrainedModel, batch: Batch, name: str) -> NDArray[np.float32]:
    x, lengths = batch.x.to(model.device), batch.lengths.to(model.device)
    pooled = pool_clips(model.model, x, lengths)[0].float().cpu().numpy()
    if not np.isfinite(pooled).all():
        raise CheckpointError(
            f"clip {name!r}: its features are not finite: the coordinates are too large, or the "
            "training of the model has diverged"
        )
    return pooled


def _describe(
    header: CheckpointHeader, actions: list[str], training: dict[str, object]
) -> CheckpointHeader:
    """Return the header of the taught model."""
    kept = {key: header.training[key] for key in ("coordinates",) if key in header.training}
    calibration = {"threshold": CONFIDENCE, "background": len(actions)}
    return replace(
        header,
        num_classes=len(actions) + 1,
        classes=[*actions, UNKNOWN],
        objective={"name": "recognition"},
        calibration=calibration,
        training={**kept, **training},
        versions=collect_versions(),
        unknown_centers=len(actions),
    )


def _replace_head(model: torch.nn.Module, head: FewShotHead) -> torch.nn.Module:
    """Return a copy of the model with another head."""
    taught = copy.deepcopy(model).cpu()
    arrays = head.weight / head.temperature, head.bias / head.temperature, head.centers
    weight, bias, centers = (torch.from_numpy(array.astype(np.float32)) for array in arrays)
    taught.set_classifier(weight, bias)
    taught.unknown_head = UnknownLogit(centers, head.slope, head.radius)
    return taught
