"""Reader of the annotation pickles of PYSKL and MMAction2.

A pickle is one annotation, a list of them, or ``{"split": {...}, "annotations": [...]}``. An
annotation has frame_dir, label, keypoint (M, T, V, D) and, for 2D, keypoint_score (M, T, V).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.formats.raw_file import describe, read_head
from kinegraph.readers.prepared import keep_origin
from kinegraph.readers.reader import (
    Reader,
    ReadPlan,
    ReadResults,
    ReadTask,
    clip_or_error,
    guess_layout,
)
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

_PYSKL_LAYOUTS = {17: "coco17", 25: "ntu25_pyskl", 18: "openpose18"}
"""The default layout of an annotation of V joints."""

_SPLIT_NAME = re.compile(r"(?:(?P<before>.+)_)?(?P<part>train|val|test)_?(?P<after>\w*)")

Annotation = Mapping[str, Any]


def _scan(
    source: Path, layout: str | SkeletonLayout = "", split: str | int = "", **stated: str
) -> ReadPlan:
    """Scan a folder of pickles, or one pickle.

    ``split`` names the pair of splits that becomes meta ``split``: ``xsub`` for xsub_train and
    xsub_val, ``1`` for train1 and test1; it is not needed if there is only one pair.
    """
    files = [source] if source.is_file() else sorted(f for f in source.glob("*") if _matches(f))
    if not files:
        raise ReadError(f"{source}: expected annotation pickles (.pkl, .pickle), found none")
    annotations, _ = _load_annotations(files[0], str(split))
    example = _find_example(files[0], annotations)
    chosen = get_layout(layout or guess_layout(example.shape[2], _PYSKL_LAYOUTS, files[0]))
    first, _ = _mask_unseen(to_float32(example), None)
    # poses of a video are of an image, also where the first person stands on the hands
    known = {"space": "image"} if first.shape[-1] == 2 else {}
    space = SpaceOptions(**{**known, **stated}).resolve(first, chosen)
    facts = {"layout": chosen, "split": str(split), "space": space}
    return ReadPlan([ReadTask(file, facts) for file in files], chosen)


def _read(task: ReadTask) -> ReadResults:
    """Yield the clips of a pickle.

    Joints of score 0, or with all coordinates 0, are absent; persons never seen are left out.
    Meta: width and height of the frame in pixels; ``split:NAME`` for every named split that has
    the clip; ``split`` (train, val, test) by the chosen pair, else the only pair or the plain one.
    """
    split = task.info["split"]
    annotations, splits = _load_annotations(task.path, split)
    facts: dict[str, dict[str, MetaValue]] = defaultdict(dict)
    for name, clips in splits.items():
        for clip in clips:
            facts[clip][f"split:{name}"] = True
    pairs = _pair_splits(splits)
    only = next(iter(pairs)) if len(pairs) == 1 else ""
    for name, part in pairs.get(split or only, {}).items():
        for clip in splits[name]:
            facts[clip]["split"] = part
    if len(pairs) > 1 and not split and "" not in pairs:
        note = f"splits {', '.join(sorted(pairs))}: choose one with --split to train by them"
        task = ReadTask(task.path, {**task.info, "notes": [note]})
    for row, annotation in enumerate(annotations):
        where = f"{task.path}: annotation {row}"
        yield clip_or_error(where, _parse_clip, task, annotation, facts)


def _load_annotations(path: Path, split: str) -> tuple[Sequence[Annotation], dict[str, list[str]]]:
    content = load_pickle(path)
    splits: Any = {}
    if isinstance(content, dict) and "annotations" in content:
        splits, content = content.get("split") or {}, content["annotations"]
    annotations = content if isinstance(content, list) else [content]
    if not any(isinstance(a, dict) for a in annotations):
        raise ReadError(f"{path}: expected annotations, each a dictionary with keypoint and label")
    if not isinstance(splits, dict) or not all(_are_names(s) for s in splits.values()):
        raise ReadError(f"{path}: expected splits as lists of clip names")
    pairs = _pair_splits(splits)
    if split and split not in pairs:
        known = ", ".join(sorted(pairs)) or "none"
        raise ReadError(f"{path}: it has no pair of splits {split!r}; it has {known}")
    return annotations, splits


def _are_names(names: Any) -> bool:
    return isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)


def _pair_splits(splits: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return pair -> {split name: train, val or test}; plain train and val are the pair ``""``."""
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    for name in splits:
        if match := _SPLIT_NAME.fullmatch(str(name)):
            pairs[match["before"] or match["after"]][name] = match["part"]
    return pairs


def _find_example(path: Path, annotations: Sequence[Annotation]) -> NDArray[Any]:
    """Return the keypoints of the first annotation of a known layout, else of the first one."""
    reasons, readable = [], []
    for row, annotation in enumerate(annotations):
        try:
            keypoint = _get_keypoint(annotation)
            _mask_unseen(to_float32(keypoint), None)
        except ReadError as error:
            reasons.append(f"annotation {row}: {error}")
        else:
            readable.append(keypoint)
            if keypoint.shape[2] in _PYSKL_LAYOUTS:
                return keypoint
    if not readable:
        raise ReadError(f"{path}: {reasons[0]}")
    return readable[0]


def _get_keypoint(annotation: Annotation) -> NDArray[Any]:
    if not isinstance(annotation, dict):
        raise ReadError(f"expected a dictionary, got {describe(annotation)}")
    keypoint = annotation.get("keypoint")
    if isinstance(keypoint, np.ndarray) and keypoint.dtype.kind in "fiu" and keypoint.ndim == 4:
        return keypoint
    found = f"shape {keypoint.shape}" if isinstance(keypoint, np.ndarray) else describe(keypoint)
    where = "; its joints are in other files" if "raw_file" in annotation else ""
    keys = ", ".join(describe(key) for key in list(annotation)[:20])
    raise ReadError(
        f"expected keypoint (persons, frames, joints, coordinates), got {found}{where}; the "
        f"annotation holds {keys}"
    )


def _parse_clip(
    task: ReadTask, annotation: Annotation, facts: Mapping[str, Mapping[str, MetaValue]]
) -> Clip:
    joints, score = _mask_unseen(
        to_float32(_get_keypoint(annotation)), annotation.get("keypoint_score")
    )
    joints = keep_origin(joints, task.info["layout"], task.info["space"])
    name = annotation.get("frame_dir", annotation.get("filename"))
    if not isinstance(name, str) or not name:
        raise ReadError(f"expected the clip's name in frame_dir, got {describe(name)}")
    label = annotation.get("label")
    if isinstance(label, bool) or not isinstance(label, int | np.integer | None):
        raise ReadError(f"expected a label that is one whole number, got {describe(label)}")
    label = None if label is None else int(label)
    meta = {**_parse_image_size(annotation), **facts.get(name, {})}
    layout = task.info["layout"]
    return task.make_clip(joints, layout, confidence=score, label=label, id=name, meta=meta)


def _mask_unseen(
    joints: NDArray[np.float32], score: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return joints and scores of the persons that were seen, NaN where a joint was not."""
    seen = np.asarray((np.abs(joints) > 0).any(axis=-1))
    if score is not None:
        if np.shape(score) != seen.shape or np.asarray(score).dtype.kind not in "fiu":
            raise ReadError(f"expected scores of shape {seen.shape}, got {np.shape(score)}")
        # networks that regress heat maps exceed 1 by a little
        score = np.clip(np.nan_to_num(to_float32(score), nan=0.0), 0, 1)
        seen = seen & (score > 0)
    if not seen.any():
        raise ReadError("no joint of any person was seen")
    persons = seen.any(axis=(1, 2))
    joints = np.where(seen[..., None], joints, np.float32(np.nan))
    return joints[persons], score[persons] if score is not None else None


def _parse_image_size(annotation: Annotation) -> dict[str, MetaValue]:
    shape = annotation.get("img_shape") or annotation.get("original_shape")
    if not isinstance(shape, list | tuple) or len(shape) < 2:
        return {}
    if not all(isinstance(side, int | np.integer) and 0 < side < 2**31 for side in shape[:2]):
        raise ReadError(f"expected img_shape as (height, width), got {describe(shape)}")
    return {"width": int(shape[1]), "height": int(shape[0])}


def _matches(path: Path) -> bool:
    if path.suffix not in (".pkl", ".pickle"):
        return False
    head = read_head(path)
    return any(key in head for key in (b"keypoint", b"frame_dir", b"annotations"))


READER = Reader(
    name="pyskl",
    summary="annotation pickles of PYSKL and MMAction2",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "layout": "a registered layout (default: by the number of joints)",
        "split": "the pair of splits to use, as xsub for xsub_train and xsub_val",
        **SPACE_OPTIONS,
    },
    dataset_only=frozenset({"split"}),
    protocols=("official", "holdout"),
)
