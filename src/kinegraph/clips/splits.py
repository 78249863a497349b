"""How a set of clips is divided into training and test: named splits as predicates over meta.

A protocol sees one clip's facts (its meta, and its id) and answers ``"train"``, ``"test"``,
``"val"`` or None (in neither). Any protocol name may carry the suffix ``-clean``: test clips whose
joints equal those of a training clip, byte for byte, are then left out of the test.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ProtocolError, unknown_name

ClipMeta = Mapping[str, MetaValue]
Split = Literal["train", "test", "val"]
Indices = NDArray[np.int64]

CLEAN_SUFFIX = "-clean"
HOLDOUT_FRACTION = 0.2

# NTU RGB+D 60 trains on the first twenty of these; NTU RGB+D 120 adds the others (Shahroudy et
# al. 2016, section 4.3; Liu et al. 2019, section 3.3).
# fmt: off
NTU_TRAIN_SUBJECTS = frozenset((
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38,
    45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85,
    86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
))
# fmt: on

# The five folds of SBU Kinect Interaction (Yun et al. 2012), as pairs of actors.
SBU_FOLDS = (
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)


class ClipSet(typing.Protocol):
    """What dividing a set needs to know of it; a `ClipStore` is one."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def metas(self) -> Sequence[ClipMeta]: ...
    @property
    def labels(self) -> NDArray[np.int64]: ...
    @property
    def digests(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Protocol:
    """One named way to divide a set.

    Attributes:
        name: what recipes call it.
        summary: one line for `kinegraph list protocols`.
        keys: the meta keys that `assign_split` asks for; every clip must have them.
        assign_split: facts of one clip (meta plus ``id``) -> its split, or None if in neither.
        clean: whether test clips that repeat a training clip are left out.
    """

    name: str
    summary: str
    keys: tuple[str, ...]
    assign_split: Callable[[ClipMeta], Split | None]
    clean: bool = False


def get_protocol(name: str) -> Protocol:
    """The protocol of that name, with or without ``-clean``.

    Raises:
        UnknownNameError: there is none; the nearest known name is given.
    """
    base = name.removesuffix(CLEAN_SUFFIX)
    if base not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    protocol = PROTOCOLS[base]
    if base == name:
        return protocol
    return replace(
        protocol,
        name=name,
        summary=f"{protocol.summary}; without test clips that repeat a training clip",
        clean=True,
    )


def list_protocols() -> list[str]:
    """The names of all protocols; each may carry the suffix ``-clean``."""
    return sorted(PROTOCOLS)


def split_by_protocol(clips: ClipSet, protocol: str) -> tuple[Indices, Indices]:
    """The clip indices of the training and the test split, each ascending, either may be empty.

    ``"val"`` counts as test in a set without test clips (Kinetics publishes no test labels), and
    is in neither split of a set that has them. Meta ``split`` may also say ``"none"`` (HMDB51's
    splits leave clips out).

    Raises:
        UnknownNameError: there is no such protocol.
        ProtocolError: a clip lacks a meta key, or its value makes no sense.
    """
    chosen = get_protocol(protocol)
    splits = np.array([_split_of(chosen, clips, i) or "" for i in range(len(clips.ids))])
    if "test" not in splits:
        splits[splits == "val"] = "test"
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    if chosen.clean:
        test = np.setdiff1d(test, find_leaked(clips, train, test))
    return train, test


def find_leaked(clips: ClipSet, train: Indices, test: Indices) -> Indices:
    """The test clips whose joints equal those of a training clip, byte for byte."""
    known = {clips.digests[i] for i in train}
    return np.array([i for i in test if clips.digests[i] in known], dtype=np.int64)


def get_split_indices(clips: ClipSet, protocol: str, split: str) -> Indices:
    """The clip indices of a split, ascending.

    Args:
        clips: a store, or anything with ids, metas, labels and digests.
        protocol: its name, e.g. ``"xsub"`` or ``"ucla-xview-clean"``.
        split: ``"train"``, ``"test"``, or ``"all"`` for both together.

    Raises:
        UnknownNameError: there is no such protocol.
        ProtocolError: a clip lacks a meta key, the split is empty or unknown.
    """
    if split not in ("train", "test", "all"):
        raise ProtocolError(f"expected the split train, test or all, got {split!r}")
    train, test = split_by_protocol(clips, protocol)
    chosen = {"train": train, "test": test, "all": np.union1d(train, test)}[split]
    if len(chosen) == 0:
        raise ProtocolError(
            f"protocol {protocol!r} leaves the split {split!r} empty: of {len(clips.ids)} clips "
            f"{len(train)} are in train and {len(test)} in test"
        )
    return chosen


def validation_split(
    indices: Indices | Sequence[int],
    clips: ClipSet,
    fraction: float,
    seed: int,
    by: str | None = None,
) -> tuple[Indices, Indices]:
    """Divide training clips once more, so that epochs are chosen without the test split.

    Every class gives about the same share. Equal arguments give equal splits, in whatever order
    the indices come.

    Args:
        indices: clip indices to divide.
        clips: the set they belong to.
        fraction: the share to validate on, between 0 and 1.
        seed: of the choice.
        by: a meta key whose groups (e.g. all clips of a subject) stay on one side.

    Returns:
        (train, validation) clip indices, each ascending and not empty.

    Raises:
        ProtocolError: a fraction out of range, too few clips or groups, a clip without the key.
    """
    if not 0 < fraction < 1:
        raise ProtocolError(f"expected a validation fraction between 0 and 1, got {fraction}")
    chosen = np.unique(np.asarray(indices, dtype=np.int64))
    rng = np.random.default_rng(seed)
    if by is None:
        groups = [chosen[i : i + 1] for i in range(len(chosen))]
    else:
        groups = _groups(chosen, clips, by)
    if len(groups) < 2:
        what = "clips" if by is None else f"groups of {by!r}"
        raise ProtocolError(f"expected at least two {what} to validate on one, got {len(groups)}")
    held = _held_clips if by is None else _held_groups
    validation = held(groups, np.asarray(clips.labels), fraction, rng)
    return np.setdiff1d(chosen, validation), validation


# --------------------------------------------------------------------- one clip's split


def _split_of(protocol: Protocol, clips: ClipSet, index: int) -> Split | None:
    facts = {**clips.metas[index], "id": clips.ids[index]}
    _require(facts, protocol.keys, f"protocol {protocol.name!r}")
    return protocol.assign_split(facts)


def _require(facts: ClipMeta, keys: Sequence[str], wanted_by: str) -> None:
    missing = [key for key in keys if facts.get(key) is None]
    if missing:
        present = [key for key, value in facts.items() if value is not None and key != "id"]
        raise ProtocolError(
            f"{wanted_by} needs the meta key {missing[0]!r}, which clip {facts['id']!r} lacks; "
            f"it has {', '.join(sorted(present)) or 'no meta at all'}"
        )


def _number(facts: ClipMeta, key: str) -> int:
    value: Any = facts[key]
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and value != number):
        raise ProtocolError(
            f"clip {facts['id']!r}: expected meta {key!r} to be a whole number, got {value!r}"
        )
    return number


def _xsub(facts: ClipMeta) -> Split:
    return "train" if _number(facts, "subject") in NTU_TRAIN_SUBJECTS else "test"


def _xview(facts: ClipMeta) -> Split | None:
    splits: dict[int, Split] = {1: "test", 2: "train", 3: "train"}
    return splits.get(_number(facts, "camera"))


def _xset(facts: ClipMeta) -> Split:
    return "train" if _number(facts, "setup") % 2 == 0 else "test"


def _ucla_xview(facts: ClipMeta) -> Split | None:
    splits: dict[int, Split] = {1: "train", 2: "train", 3: "test"}
    return splits.get(_number(facts, "camera"))


def _odd_even_subjects(facts: ClipMeta) -> Split:
    return "train" if _number(facts, "subject") % 2 == 1 else "test"


def _official(facts: ClipMeta) -> Split | None:
    known: dict[MetaValue, Split | None] = {
        "train": "train",
        "test": "test",
        "val": "val",
        "none": None,
    }
    if facts["split"] in known:
        return known[facts["split"]]
    raise ProtocolError(
        f"clip {facts['id']!r}: expected meta 'split' to be train, test, val or none, "
        f"got {facts['split']!r}"
    )


def _holdout(facts: ClipMeta) -> Split:
    digest = hashlib.blake2b(str(facts["id"]).encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") < HOLDOUT_FRACTION * 2**64 else "train"


def _every_seventh(facts: ClipMeta) -> Split:
    return "test" if _number(facts, "row") % 7 == 1 else "train"


def _sbu_fold(fold: int) -> Callable[[ClipMeta], Split | None]:
    def assign_split(facts: ClipMeta) -> Split | None:
        if facts["pair"] in SBU_FOLDS[fold - 1]:
            return "test"
        return "train" if any(facts["pair"] in pairs for pairs in SBU_FOLDS) else None

    return assign_split


def _ddnet_split(fold: int) -> Callable[[ClipMeta], Split | None]:
    def assign_split(facts: ClipMeta) -> Split | None:
        return _official(facts) if _number(facts, "fold") == fold else None

    return assign_split


def _named(*protocols: Protocol) -> dict[str, Protocol]:
    return {protocol.name: protocol for protocol in protocols}


PROTOCOLS: dict[str, Protocol] = _named(
    Protocol("xsub", "NTU RGB+D 60 and 120 by subject", ("subject",), _xsub),
    Protocol("xview", "NTU RGB+D 60: cameras 2 and 3, test camera 1", ("camera",), _xview),
    Protocol("xset", "NTU RGB+D 120: even setups, test odd setups", ("setup",), _xset),
    Protocol("ucla-xview", "NW-UCLA: cameras 1 and 2, test camera 3", ("camera",), _ucla_xview),
    Protocol(
        "odd-even-subjects",
        "odd subjects, test even subjects (UTD-MHAD, Florence 3D, UTKinect)",
        ("subject",),
        _odd_even_subjects,
    ),
    Protocol("official", "the split that the set's own files give", ("split",), _official),
    Protocol(
        "every-seventh",
        "test on rows 1, 8, 15 ... of an array (the figure skating tutorial)",
        ("row",),
        _every_seventh,
    ),
    Protocol("holdout", "test on a fifth of the clips, by the hash of their ids", (), _holdout),
    *(
        Protocol(
            f"sbu-fold{fold}", f"SBU, test on pair set {fold} of 5", ("pair",), _sbu_fold(fold)
        )
        for fold in range(1, 6)
    ),
    *(
        Protocol(
            f"ddnet-split{fold}",
            f"DD-Net's JHMDB files, split {fold} of 3",
            ("fold", "split"),
            _ddnet_split(fold),
        )
        for fold in range(1, 4)
    ),
)


# --------------------------------------------------------------------- validation


def _groups(chosen: Indices, clips: ClipSet, by: str) -> list[Indices]:
    members: dict[Hashable, list[int]] = {}
    for i in chosen:
        facts = {**clips.metas[i], "id": clips.ids[i]}
        _require(facts, (by,), "a validation split")
        members.setdefault(facts[by], []).append(int(i))
    return [np.array(group, dtype=np.int64) for group in members.values()]


def _held_clips(
    groups: list[Indices], labels: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> Indices:
    """Largest remainders: the total is right, and each class is as near its share as can be."""
    clips = rng.permutation(np.concatenate(groups))
    classes, sizes = np.unique(labels[clips], return_counts=True)
    quota = fraction * sizes
    take = np.floor(quota).astype(np.int64)
    total = min(max(round(fraction * len(clips)), 1), len(clips) - 1)
    first = rng.permutation(len(classes))
    by_remainder = first[np.argsort(-(quota - take)[first], kind="stable")]
    take[by_remainder[: max(total - take.sum(), 0)]] += 1
    parts = [clips[labels[clips] == label][:n] for label, n in zip(classes, take, strict=True)]
    return np.sort(np.concatenate(parts))


def _held_groups(
    groups: list[Indices], labels: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> Indices:
    """Take groups, in random order, while they bring the classes nearer to their shares."""
    classes = np.unique(labels[np.concatenate(groups)])
    counts = np.array([(labels[group][:, None] == classes).sum(0) for group in groups])
    missing = fraction * counts.sum(0)
    held: list[int] = []
    for g in rng.permutation(len(groups)):
        nearer = np.square(missing - counts[g]).sum() < np.square(missing).sum()
        if nearer and len(held) < len(groups) - 1:
            held.append(int(g))
            missing = missing - counts[g]
    if not held:
        held = [int(np.argmin([len(group) for group in groups]))]
    return np.sort(np.concatenate([groups[g] for g in held]))
