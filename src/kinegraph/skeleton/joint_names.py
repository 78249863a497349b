"""Joints found by the names that other code and exported tables give them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any

from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

Name = tuple[str, str]
"""A side ("left", "right" or "") and the words of the rest, joined."""

_WORD = re.compile(r"[A-Z][A-Z0-9]*(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
#: The joints that bodies are centered on, the first that a layout has.
CENTER_JOINTS = ("spine_mid", "spine", "mid_hip", "torso", "belly")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def find_joint(layout: str | SkeletonLayout, text: str) -> int | None:
    """Return the index of the joint that a text names, or None if it names none or several.

    Case, punctuation and the place of the side do not matter: ``left_elbow``, ``ElbowLeft``,
    ``elbow.l``, ``LElbow`` and ``lelbow`` are one joint. Names that other code gives to the same
    place are known too (``pelvis`` for ``mid_hip``, ``RSho`` for ``right_shoulder``), as
    joint_names.yaml lists them; the name of a joint of the layout always comes first.

    Examples:
        >>> find_joint("ntu25", "ElbowLeft"), find_joint("coco17", "pelvis")
        (5, None)

    Raises:
        UnknownNameError: no layout has that name.
    """
    layout = get_layout(layout)
    if text in layout.joints:
        return layout.joints.index(text)
    index = _index_names(layout)
    name = _parse_name(text)
    found = index.get(name)
    if not found and not name[0] and name[1][:1] in _SIDES:  # lelbow: a side without a separator
        found = index.get((_SIDES[name[1][0]], _expand(name[1][1:])))
    return found[0] if found and len(found) == 1 else None


@cache
def _load_names() -> dict[str, Any]:
    import yaml

    text = resources.files("kinegraph.skeleton").joinpath("joint_names.yaml").read_text("utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    return data


@cache
def _index_names(layout: SkeletonLayout) -> dict[Name, tuple[int, ...]]:
    """Return name -> the joints that it may mean, by the layout's own names before others."""
    own: dict[Name, tuple[int, ...]] = {}
    for joint, text in enumerate(layout.joints):
        name = _parse_name(text)
        own[name] = (*own.get(name, ()), joint)
    others: dict[Name, tuple[int, ...]] = {}
    for (side, rest), joints in own.items():
        for other in _list_other_names(layout.name, rest):
            found = {*others.get((side, other), ()), *joints}
            others[side, other] = tuple(sorted(found))
    return others | own


def _list_other_names(layout: str, rest: str) -> set[str]:
    """Return the names of the same place, without the side; ``rest`` is among them."""
    names = _load_names()
    groups = [{_canonical(name.split()) for name in group} for group in names["same"]]
    groups += [
        {_canonical(name.split()) for name in (joint, *others)}
        for joint, others in names["layouts"].get(layout, {}).items()
    ]
    return {name for group in groups if rest in group for name in group}


def split_side(text: str) -> tuple[str, list[str]]:
    """Return the side that a name states ("left", "right" or "") and its other words."""
    words = [word.lower() for word in _WORD.findall(text)]
    sides = [word for word in words if word in _SIDES]
    if len(sides) == 1:
        words.remove(sides[0])
        return _SIDES[sides[0]], words
    joined = "".join(words)
    for side in ("left", "right"):  # leftelbow, elbowleft
        if joined.startswith(side) or joined.endswith(side):
            return side, [joined.removeprefix(side).removesuffix(side)]
    return "", words


def _parse_name(text: str) -> Name:
    side, words = split_side(text)
    return side, _canonical(words)


def _canonical(words: Iterable[str]) -> str:
    names = _load_names()
    return "".join(_expand(word) for word in words if word not in names["ignored"])


def _expand(word: str) -> str:
    return str(_load_names()["words"].get(word, word))


def find_body_center(layout: SkeletonLayout) -> int:
    """Return the joint that bodies are centered on: the middle of the spine, else the center."""
    for name in CENTER_JOINTS:
        if name in layout.joints:
            return layout.index(name)
    return layout.center
