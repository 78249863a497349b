"""Protocols, which split a set of clips into training and test by the clips' meta.

A protocol assigns each clip, by its meta and id, to ``"train"``, ``"test"``, ``"val"`` or None (in
neither). Any protocol name may have the suffix ``-clean``: test clips whose joints equal those of a
training clip, byte for byte, are then left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import NOTES_KEY, MetaValue
from kinegraph.clips.schema import Indices
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ProtocolError, unknown_name

ClipMeta = Mapping[str, MetaValue]
Split = Literal["train", "test", "val"]
SplitFunction = Callable[[ClipMeta], Split | None]

CLEAN_SUFFIX = "-clean"
LEAVE_ONE_OUT = "loso-"  # of the names of protocols that leave one subject out
HOLDOUT_FRACTION = 0.2
SPLIT_HINT = "the file has several pairs of splits: convert it again and choose one with --split"


@dataclass(frozen=True)
class Protocol:
    """A named rule that splits a set of clips.

    Attributes:
        name: the name in recipes.
        summary: one line for `kinegraph list protocols`.
        keys: the meta keys that `assign_split` uses; every clip must have them.
        assign_split: meta and ``id`` of one clip -> its split, or None if in neither.
        clean: whether test clips that equal a training clip are left out.
    """

    name: str
    summary: str
    keys: tuple[str, ...]
    assign_split: SplitFunction
    clean: bool = False


@dataclass(frozen=True)
class PublishedSplit:
    """The number of clips in both splits of a complete data set.

    Attributes:
        protocol, data: names of the protocol and of the data set.
        source: where the counts come from.
        train, test: numbers of clips.
        ids: a pattern that is in every clip id of the data set.
        readers: names of the readers that read it; empty for any.
        known: reasons of other counts, by (train, test).
        leaked: a pattern of the ids of test clips that equal a training clip; None if the complete
            data set is not known to have such clips.
    """

    protocol: str
    data: str
    source: str
    train: int
    test: int
    ids: str
    readers: tuple[str, ...]
    known: Mapping[tuple[int, int], str]
    leaked: str | None = None


def find_published_split(clips: ClipStore, protocol: str) -> PublishedSplit | None:
    """Return the published counts of a protocol for the data set that the clips come from.

    The data set is recognized by the ids of the clips. Synthetic recordings have the names of NTU
    RGB+D, but no published counts.
    """
    reader = clips.provenance.get("reader")
    for published in PUBLISHED_SPLITS if reader != "synthetic" else ():
        if published.protocol != protocol or (
            published.readers and reader not in published.readers
        ):
            continue
        pattern = re.compile(published.ids)
        if all(pattern.search(name) for name in clips.ids):
            return published
    return None


def find_splits_of_names(names: Sequence[str]) -> list[PublishedSplit]:
    """Return the published splits of the data sets that all of these clip names are from."""
    return [
        split
        for split in PUBLISHED_SPLITS
        if split.ids and all(re.fullmatch(split.ids, name) for name in names)
    ]


def get_protocol(name: str) -> Protocol:
    """Return the protocol of this name, with or without ``-clean``.

    Raises:
        UnknownNameError: no protocol has this name.
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
        summary=f"{protocol.summary}; without test clips that equal a training clip",
        clean=True,
    )


def split_by_protocol(clips: ClipStore, protocol: str) -> tuple[Indices, Indices]:
    """Return the clip indices of the training and the test split, ascending and possibly empty.

    ``"val"`` counts as test in a set without test clips (Kinetics publishes no test labels), and
    is in neither split of a set that has them, see `validation_clips`. Meta ``split`` may also say
    ``"none"`` (HMDB51's splits leave clips out).

    Raises:
        UnknownNameError: no protocol has this name.
        ProtocolError: a clip lacks a meta key, or its value is not valid.
    """
    chosen = get_protocol(protocol)
    splits = _assign_splits(chosen, clips)
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    if chosen.clean:
        test = np.setdiff1d(test, find_leaked(clips, train, test))
    return train, test


def validation_clips(clips: ClipStore, protocol: str) -> Indices:
    """Return the clips that a protocol states are for validation, none if they are the test clips.

    Raises:
        UnknownNameError, ProtocolError: see `split_by_protocol`.
    """
    return np.flatnonzero(_assign_splits(get_protocol(protocol), clips) == "val")


def _assign_splits(protocol: Protocol, clips: ClipStore) -> NDArray[np.str_]:
    splits = np.array([_assign_split(protocol, clips, i) or "" for i in range(len(clips.ids))])
    if "test" not in splits:
        splits[splits == "val"] = "test"
    return splits


def find_leaked(clips: ClipStore, train: Indices, test: Indices) -> Indices:
    """Return the test clips whose joints equal those of a training clip, byte for byte."""
    known = {clips.digests[i] for i in train}
    return np.array([i for i in test if clips.digests[i] in known], dtype=np.int64)


def get_split_indices(clips: ClipStore, protocol: str, split: str) -> Indices:
    """Return the clip indices of a split, ascending.

    Args:
        clips: the store that they belong to.
        protocol: its name, e.g. ``"xsub"`` or ``"ucla-xview-clean"``.
        split: ``"train"``, ``"test"``, or ``"all"`` for both together.

    Raises:
        UnknownNameError: no protocol has this name.
        ProtocolError: a clip lacks a meta key, or the split is empty or unknown.
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
    clips: ClipStore,
    fraction: float,
    seed: int,
    by: str | None = None,
) -> tuple[Indices, Indices]:
    """Split training clips into training and validation, about the same fraction of each class.

    Equal arguments give equal splits, in any order of the indices.

    Args:
        indices: clip indices to split.
        clips: the store that they belong to.
        fraction: the fraction to validate on, between 0 and 1.
        seed: the seed of the random choice.
        by: a meta key whose groups (e.g. all clips of a subject) stay together.

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
        groups = _group_clips(chosen, clips, by)
    if len(groups) < 2:
        what = "clips" if by is None else f"groups of {by!r}"
        raise ProtocolError(f"expected at least two {what} to validate on one, got {len(groups)}")
    select = _select_clips if by is None else _select_groups
    validation = select(groups, np.asarray(clips.labels), fraction, rng)
    return np.setdiff1d(chosen, validation), validation


def _assign_split(protocol: Protocol, clips: ClipStore, index: int) -> Split | None:
    meta = {**clips.metas[index], "id": clips.ids[index]}
    _require_keys(meta, protocol.keys, f"protocol {protocol.name!r}")
    return protocol.assign_split(meta)


def _require_keys(meta: ClipMeta, keys: Sequence[str], wanted_by: str) -> None:
    missing = [key for key in keys if meta.get(key) is None]
    if missing:
        present = [
            key for key, value in meta.items() if value is not None and key not in ("id", NOTES_KEY)
        ]
        raise ProtocolError(
            f"{wanted_by} needs the meta key {missing[0]!r}, which clip {meta['id']!r} lacks; "
            f"it has {', '.join(sorted(present)) or 'no meta at all'}{_hint_at_pairs(present)}"
        )


def _hint_at_pairs(present: Sequence[str]) -> str:
    """Return the way out if the clip is in several pairs of splits, of which none was chosen."""
    names = {key.removeprefix("split:") for key in present if key.startswith("split:")}
    return f"; {SPLIT_HINT}" if names else ""


def _integer(meta: ClipMeta, key: str) -> int:
    value: Any = meta[key]
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or (isinstance(value, float) and value != number):
        raise ProtocolError(
            f"clip {meta['id']!r}: expected meta {key!r} to be a whole number, got {value!r}"
        )
    return number


def _make_number_protocol(
    name: str, summary: str, key: str, train: Any, test: Any, modulo: int = 0
) -> Protocol:
    """Return a protocol of protocols.yaml; ``train`` or ``test`` may be "others"."""

    def assign_split(meta: ClipMeta) -> Split | None:
        number = _integer(meta, key)
        value = number % modulo if modulo else number
        if train == "others":
            return "test" if value in test else "train"
        if value in train:
            return "train"
        return "test" if test == "others" or value in test else None

    return Protocol(name, summary, (key,), assign_split)


def _assign_official(meta: ClipMeta) -> Split | None:
    split: Any = meta["split"]
    if split in ("train", "test", "val"):
        return cast(Split, split)
    if split == "none":
        return None
    raise ProtocolError(
        f"clip {meta['id']!r}: expected meta 'split' to be train, test, val or none, got {split!r}"
    )


def _assign_holdout(meta: ClipMeta) -> Split:
    digest = hashlib.blake2b(str(meta["id"]).encode(), digest_size=8).digest()
    return "train" if int.from_bytes(digest, "big") >= HOLDOUT_FRACTION * 2**64 else "test"


def _make_sbu_rule(tested: Sequence[str], pairs: Sequence[str]) -> SplitFunction:
    return lambda meta: (
        "test" if meta["pair"] in tested else "train" if meta["pair"] in pairs else None
    )


def _make_ddnet_rule(fold: int) -> SplitFunction:
    return lambda meta: _assign_official(meta) if _integer(meta, "fold") == fold else None


def _read_protocols() -> dict[str, Any]:
    import yaml

    text = resources.files("kinegraph.clips").joinpath("protocols.yaml").read_text("utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def _make_published(
    *, known: Sequence[Mapping[str, Any]] = (), readers: Sequence[str] = (), **facts: Any
) -> PublishedSplit:
    reasons = {(counts["train"], counts["test"]): counts["reason"] for counts in known}
    return PublishedSplit(known=reasons, readers=tuple(readers), **facts)


def _make_protocols(data: Mapping[str, Any]) -> Iterator[Protocol]:
    for name, rule in data["by_number"].items():
        yield _make_number_protocol(name, **rule)
    for subject in range(1, data["leave_one_subject_out"] + 1):
        summary = f"leave one subject out: test on subject {subject}, train on the others"
        name = f"{LEAVE_ONE_OUT}{subject}"
        yield _make_number_protocol(name, summary, "subject", "others", [subject])
    official = "the split that the data set's own files give"
    yield Protocol("official", official, ("split",), _assign_official)
    holdout = "test on a fifth of the clips, by the hash of their ids"
    yield Protocol("holdout", holdout, (), _assign_holdout)
    yield Protocol("all", "train on every clip, test on none", (), lambda meta: "train")
    pairs = [pair for fold in data["sbu_folds"] for pair in fold]
    for fold, tested in enumerate(data["sbu_folds"], start=1):
        summary = f"SBU, test on pair set {fold} of 5"
        yield Protocol(f"sbu-fold{fold}", summary, ("pair",), _make_sbu_rule(tested, pairs))
    for fold in (1, 2, 3):
        summary = f"DD-Net's JHMDB files, split {fold} of 3"
        yield Protocol(f"ddnet-split{fold}", summary, ("fold", "split"), _make_ddnet_rule(fold))


_CONTENT = _read_protocols()

#: Protocols by name.
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _make_protocols(_CONTENT)}

#: Published counts of complete data sets.
PUBLISHED_SPLITS = tuple(_make_published(**facts) for facts in _CONTENT["published"])


def _group_clips(chosen: Indices, clips: ClipStore, by: str) -> list[Indices]:
    members: dict[Hashable, list[int]] = {}
    for i in chosen:
        meta = {**clips.metas[i], "id": clips.ids[i]}
        _require_keys(meta, (by,), "a validation split")
        members.setdefault(meta[by], []).append(int(i))
    return [np.array(group, dtype=np.int64) for group in members.values()]


def _select_clips(
    groups: list[Indices], labels: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> Indices:
    """Select clips by the largest remainder method: exact in total, closest in each class."""
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


def _select_groups(
    groups: list[Indices], labels: NDArray[np.int64], fraction: float, rng: np.random.Generator
) -> Indices:
    """Select groups, in random order, while they bring the classes closer to their fractions."""
    classes = np.unique(labels[np.concatenate(groups)])
    counts = np.array([(labels[group][:, None] == classes).sum(0) for group in groups])
    missing = fraction * counts.sum(0)
    held: list[int] = []
    for g in rng.permutation(len(groups)):
        closer = np.square(missing - counts[g]).sum() < np.square(missing).sum()
        if closer and len(held) < len(groups) - 1:
            held.append(int(g))
            missing = missing - counts[g]
    if not held:
        held = [int(np.argmin([len(group) for group in groups]))]
    return np.sort(np.concatenate([groups[g] for g in held]))
