"""Reader of stores: the clips of several stores as one set, in one layout and one space.

Joints are converted by the parts of the body that they mark; those that a store's layout lacks are
absent. All clips get the axes of a Kinect sensor and meters. A clip of an image, which has no
depth, lies in the plane z = 0, in its own unit. Its depth is not made up: recipes bring clips of
different units to one size with the step ``scale``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import split_by_protocol, validation_clips
from kinegraph.clips.store import ClipStore, is_store
from kinegraph.errors import KinegraphError, ReadError
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, clip_or_error
from kinegraph.skeleton.joint_mapping import convert_joints, map_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT, UNITS, Space

_NAME = "stores"
_LAYOUT = "kinect20"
_COMMON_SPACE = Space("world", "y", "z")  # the unit is not stated: images have none


def _scan(
    source: Path, *, layout: str = _LAYOUT, protocols: Mapping[str, str] | None = None
) -> ReadPlan:
    target, chosen = get_layout(layout), _check_protocols(protocols)
    files = [source] if source.is_file() else sorted(source.rglob("*.arrow"))
    tasks: list[ReadTask] = []
    classes: list[str] = []
    refused: list[tuple[Path, str]] = []
    for path in files:
        try:
            store = ClipStore(path)
            if store.provenance.get("reader") == _NAME:
                continue  # an earlier result in the same folder
            if path.stem in (task.path.stem for task in tasks):
                raise ReadError("another store has this name, by which its clips are known")
            _check_convertible(store, target)
            protocol = _choose_protocol(store, chosen.get(path.stem))
            split_by_protocol(store, protocol)
        except KinegraphError as error:
            refused.append((path, str(error)))
            continue
        info = {"layout": target.name, "protocol": protocol, "first_label": len(classes)}
        tasks.append(ReadTask(path, info))
        classes += [f"{path.stem}: {name}" for name in _titled_classes(store)]
    if not tasks and not refused:
        raise ReadError(f"{source}: expected stores (.arrow) of `kinegraph convert`, found none")
    if unknown := sorted(chosen.keys() - {path.stem for path in files}):
        raise ReadError(f"protocols: {unknown[0]!r} is not a store in {source}")
    return ReadPlan(tasks, target, tuple(classes), tuple(refused))


def _check_convertible(store: ClipStore, target: SkeletonLayout) -> None:
    map_joints(store.layout, target)
    store.space.rotation_to(KINECT)
    if store.num_channels not in (2, 3):
        raise ReadError(f"expected 2 or 3 coordinates per joint, got {store.num_channels}")


def _check_protocols(protocols: Any) -> dict[str, str]:
    """Return store name -> protocol."""
    if protocols is None:
        return {}
    if isinstance(protocols, Mapping) and all(
        isinstance(word, str) for pair in protocols.items() for word in pair
    ):
        return dict(protocols)
    raise ReadError(
        'expected protocols as "{STORE: PROTOCOL, ...}", such as "{sbu: sbu-fold1}", got '
        f"{protocols!r}"
    )


def _choose_protocol(store: ClipStore, stated: str | None) -> str:
    if stated is not None:
        return stated
    usual = store.provenance.get("protocols")
    if not (isinstance(usual, list) and usual):
        raise ReadError(f'it states no protocol: give one, as "{{{store.path.stem}: holdout}}"')
    return str(usual[0])


def _titled_classes(store: ClipStore) -> list[str]:
    return list(store.classes or (f"class {label}" for label in range(store.num_classes)))


def _read(task: ReadTask) -> ReadResults:
    """Yield the clips of a store, with meta store, and split by the store's protocol."""
    store = ClipStore(task.path)
    splits = _find_splits(store, task.info["protocol"])
    for index, split in enumerate(splits):
        yield clip_or_error(store.ids[index], _combine, task, store[index], split)


def _find_splits(store: ClipStore, protocol: str) -> Iterator[str]:
    """Return the split of each clip: train, test, val, or none for a clip in neither."""
    train, test = split_by_protocol(store, protocol)
    names = dict.fromkeys(validation_clips(store, protocol), "val")
    names |= dict.fromkeys(test, "test") | dict.fromkeys(train, "train")
    return (names.get(index, "none") for index in range(len(store)))


def _combine(task: ReadTask, clip: Clip, split: str) -> Clip:
    joints, confidence = convert_joints(
        _to_kinect(clip), clip.layout, task.info["layout"], clip.confidence
    )
    if np.isnan(joints).all():
        raise ReadError("no joint of the layout was seen")
    name = task.path.stem
    return replace(
        clip,
        joints=joints,
        confidence=confidence,
        layout=get_layout(task.info["layout"]),
        label=None if clip.label is None else task.info["first_label"] + clip.label,
        id=f"{name}/{clip.id}",
        meta={**clip.meta, "store": name, "split": split},
        space=_COMMON_SPACE,
    )


def _to_kinect(clip: Clip) -> NDArray[np.float32]:
    """Return joints (M, T, V, 3) in the axes of Kinect, those with a known unit in meters."""
    joints = clip.joints
    if clip.num_channels == 2:
        depth = np.where(clip.valid, np.float32(0), np.float32(np.nan))
        joints = np.concatenate([joints, depth[..., None]], axis=-1)
    turned = joints @ clip.space.rotation_to(KINECT).T
    return np.asarray(turned * np.float32(UNITS["world"].get(clip.space.unit or "", 1.0)))


READER = Reader(
    name=_NAME,
    summary="stores of any layouts (.arrow), as one set in one layout, for pre-training",
    scan=_scan,
    read=_read,
    matches=is_store,
    options={
        "layout": f"layout of all clips (default {_LAYOUT})",
        "protocols": 'protocol that splits each store, as "{sbu: sbu-fold1}" (default: its usual)',
    },
    protocols=("official",),
    space=_COMMON_SPACE,
)
