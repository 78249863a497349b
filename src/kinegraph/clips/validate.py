"""What is wrong with a store, in plain words, before anyone trains on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import CLEAN_SUFFIX, PROTOCOLS, find_leaked, split_by_protocol
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ProtocolError

Severity = Literal["error", "warning", "note"]

FEW_FRAMES = 2
IMBALANCE = 10  # largest class over smallest
SIZE_OUTLIER = 10  # body size over the set's median, or below its inverse
JUMP = 1.0  # body sizes that a whole body moves between two frames
MANY_MISSING = 0.1  # share of joints not seen
WORST_JOINTS = 3


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing.

    Attributes:
        severity: ``error`` (results would be wrong), ``warning`` (look at it), ``note``.
        text: one sentence.
        clips: ids of the clips it is about, if about some only.
    """

    severity: Severity
    text: str
    clips: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitReport:
    """How a protocol divides the store: clips in train and test, test clips seen in training."""

    train: int
    test: int
    leaked: int
    leaked_ids: tuple[str, ...]


@dataclass(frozen=True)
class StoreReport:
    """What a store holds and what is wrong with it.

    Attributes:
        path, layout, clips: the store, its layout's name, N.
        classes: clips by class name (label where classes have no names).
        unlabelled: clips without a label.
        frames: min, median and max of T.
        persons: clips by M.
        missing: share of joints not seen: ``all``, and ``joints`` by name.
        empty_frames: share of frames in which no joint of anybody was seen.
        duplicates: groups of clips of equal joints, by id.
        protocols: every protocol that divides the store into two splits, by name.
        findings: what is worth knowing, the worst first.
    """

    path: str
    layout: str
    clips: int
    classes: dict[str, int]
    unlabelled: int
    frames: dict[str, float]
    persons: dict[int, int]
    missing: dict[str, Any]
    empty_frames: float
    duplicates: tuple[tuple[str, ...], ...]
    protocols: dict[str, SplitReport]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)


def validate_store(store: ClipStore) -> StoreReport:
    """Look at every clip of a store once, one at a time.

    Raises:
        ClipError: a clip's joints are damaged beyond reading.
    """
    signs = ClipStatistics(store)
    for i, clip in enumerate(store):
        signs.look(i, clip)
    duplicates = _duplicates(store)
    protocols = _protocols(store)
    findings = [
        *_rounding_findings(store),
        *_class_findings(store),
        *signs.findings(),
        *_duplicate_findings(store, duplicates),
        *_protocol_findings(store, protocols),
    ]
    rank = {"error": 0, "warning": 1, "note": 2}
    return StoreReport(
        path=str(store.path),
        layout=store.layout.name,
        clips=len(store),
        classes=_class_counts(store),
        unlabelled=int((store.labels < 0).sum()),
        frames=_spread(store.frames),
        persons={int(m): int(n) for m, n in sorted(Counter(store.persons.tolist()).items())},
        missing=signs.missing(),
        empty_frames=float(signs.empty_frames / store.frames.sum()),
        duplicates=tuple(tuple(store.ids[i] for i in group) for group in duplicates),
        protocols=protocols,
        findings=tuple(sorted(findings, key=lambda finding: rank[finding.severity])),
    )


# --------------------------------------------------------------------- joints


class ClipStatistics:
    """What one pass over the joints collects: a few numbers a clip."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store
        self.empty_frames = 0
        self._absent = np.zeros(store.layout.num_joints, np.int64)
        self._places = 0
        self._size = np.full(len(store), np.nan)
        self._jump = np.zeros(len(store))
        self._marks: dict[str, list[int]] = {"damaged": [], "unseen": [], "zero": [], "frozen": []}

    def look(self, i: int, clip: Clip) -> None:
        """Take note of one clip."""
        valid = clip.valid
        self._absent += valid.shape[0] * valid.shape[1] - valid.sum(axis=(0, 1))
        self._places += valid.shape[0] * valid.shape[1]
        self.empty_frames += int((~valid.any(axis=(0, 2))).sum())
        self._size[i] = _body_size(clip.joints)
        self._jump[i] = _largest_jump(clip.joints, valid)
        mark = self._mark(clip, valid, self.store.digests[i])
        if mark is not None:
            self._marks[mark].append(i)

    def missing(self) -> dict[str, Any]:
        """The share of joints not seen, in all and by joint."""
        by_joint = self._absent / self._places
        names = self.store.layout.joints
        return {
            "all": float(by_joint.mean()),
            "joints": dict(zip(names, by_joint.tolist(), strict=True)),
        }

    def findings(self) -> list[Finding]:
        """What the joints say, in plain words."""
        few = np.flatnonzero(self.store.frames <= FEW_FRAMES)
        found = [
            self._about("error", self._marks["damaged"], "damaged: the joints fail their digest"),
            self._about("error", self._marks["unseen"], "without a single joint that was seen"),
            self._about("error", self._marks["zero"], "with nothing but zeros"),
            self._about("warning", self._marks["frozen"], "frozen: all frames are equal"),
            self._about("warning", few, f"of at most {FEW_FRAMES} frames"),
            *self._outliers(),
            self._missing_finding(),
        ]
        return [finding for finding in found if finding is not None]

    @staticmethod
    def _mark(clip: Clip, valid: NDArray[np.bool_], digest: str) -> str | None:
        if clip.digest != digest:
            return "damaged"
        if not valid.any():
            return "unseen"
        if not clip.joints[valid].any():
            return "zero"
        still = np.broadcast_to(clip.joints[:, :1], clip.joints.shape)
        frozen = clip.num_frames > 1 and np.array_equal(clip.joints, still, equal_nan=True)
        return "frozen" if frozen else None

    def _outliers(self) -> list[Finding | None]:
        known = self._size[self._size > 0]
        if len(known) == 0:
            return []
        usual = float(np.median(known))
        big, small = self._size > SIZE_OUTLIER * usual, self._size < usual / SIZE_OUTLIER
        jumps = self._jump > JUMP * usual
        units = f"{usual:.3g} of the set's units"
        return [
            self._about("warning", big, f"with a body over {SIZE_OUTLIER} times the usual {units}"),
            self._about(
                "warning", small, f"with a body under 1/{SIZE_OUTLIER} of the usual {units}"
            ),
            self._about(
                "warning",
                jumps,
                f"in which a whole body jumps by more than its usual size ({units}) from one "
                "frame to the next",
            ),
        ]

    def _missing_finding(self) -> Finding | None:
        missing = self.missing()
        if missing["all"] == 0:
            return None
        worst = sorted(missing["joints"].items(), key=lambda item: -item[1])[:WORST_JOINTS]
        listed = ", ".join(f"{name} {share:.1%}" for name, share in worst)
        severity: Severity = "warning" if missing["all"] >= MANY_MISSING else "note"
        return Finding(severity, f"{missing['all']:.1%} of joints were not seen (most: {listed})")

    def _about(
        self, severity: Severity, clips: Sequence[int] | NDArray[Any], text: str
    ) -> Finding | None:
        if isinstance(clips, np.ndarray) and clips.dtype == bool:
            clips = np.flatnonzero(clips)
        if len(clips) == 0:
            return None
        return Finding(severity, f"{_clips(len(clips))} {text}", _ids(self.store, clips))


def _rounding_findings(store: ClipStore) -> list[Finding]:
    if store.dtype == "float32":
        return []
    text = f"coordinates are stored as {store.dtype}, rounded by at most {store.rounding:.3g}"
    return [Finding("note", text)]


def _body_size(joints: NDArray[np.float32]) -> float:
    """The median, over persons and frames, of the longest side of the box around the body."""
    sides = np.fmax.reduce(joints, axis=2) - np.fmin.reduce(joints, axis=2)
    longest = sides.max(axis=-1)
    seen = longest[~np.isnan(longest)]
    return float(np.median(seen)) if len(seen) else np.nan


def _largest_jump(joints: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """The longest way that a person's mean joint goes between two frames."""
    both = (valid[:, 1:] & valid[:, :-1])[..., None]
    steps = np.where(both, joints[:, 1:] - joints[:, :-1], 0).sum(axis=2, dtype=np.float64)
    mean = steps / np.maximum(both.sum(axis=2), 1)
    return float(np.sqrt(np.square(mean).sum(axis=-1)).max(initial=0))


# --------------------------------------------------------------------- classes


def _class_counts(store: ClipStore) -> dict[str, int]:
    counts = np.bincount(store.labels[store.labels >= 0], minlength=store.num_classes)
    names = store.classes or [str(label) for label in range(store.num_classes)]
    # two classes of one name (or none) must not be added up
    keys = names if len(set(names)) == len(names) else [f"{i}: {n}" for i, n in enumerate(names)]
    return dict(zip(keys, counts.tolist(), strict=True))


def _class_findings(store: ClipStore) -> list[Finding]:
    counts = _class_counts(store)
    found = []
    unlabelled = np.flatnonzero(store.labels < 0)
    if len(unlabelled):
        text = f"{_clips(len(unlabelled))} without a label"
        found.append(Finding("warning", text, _ids(store, unlabelled)))
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        listed = ", ".join(empty)
        found.append(
            Finding("warning", f"{len(empty)} of {len(counts)} classes have no clip: {listed}")
        )
    found += _imbalance({name: count for name, count in counts.items() if count})
    return found


def _imbalance(counts: dict[str, int]) -> list[Finding]:
    if not counts:
        return []
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[most] < IMBALANCE * counts[least]:
        return []
    text = (
        f"classes are uneven: {most!r} has {_clips(counts[most])}, "
        f"{least!r} has {counts[least]}; look at the mean class accuracy too"
    )
    return [Finding("note", text)]


# --------------------------------------------------------------------- repetitions


def _duplicates(store: ClipStore) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, digest in enumerate(store.digests):
        groups.setdefault(digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _duplicate_findings(store: ClipStore, groups: list[list[int]]) -> list[Finding]:
    if not groups:
        return []
    members = [i for group in groups for i in group]
    text = f"{_clips(len(members))} in {len(groups)} groups of equal joints"
    found = [Finding("warning", text, _ids(store, members))]
    torn = [i for group in groups if len({*store.labels[group].tolist()}) > 1 for i in group]
    if torn:
        text = f"{_clips(len(torn))} with joints equal to a clip of another label"
        found.append(Finding("error", text, _ids(store, torn)))
    return found


def _protocols(store: ClipStore) -> dict[str, SplitReport]:
    """The protocols that the store's reader names and its meta supports, else all it supports."""
    named = [name for name in store.provenance.get("protocols") or () if name in PROTOCOLS]
    divided = {name: _protocol(store, name) for name in named}
    if not any(divided.values()):
        divided = {name: _protocol(store, name) for name in PROTOCOLS}
    return {name: report for name, report in divided.items() if report is not None}


def _protocol(store: ClipStore, name: str) -> SplitReport | None:
    if not PROTOCOLS[name].keys:
        return None  # a split that any store supports says nothing about this one
    try:
        train, test = split_by_protocol(store, name)
    except ProtocolError:
        return None
    if len(train) == 0 or len(test) == 0:
        return None
    again = find_leaked(store, train, test)
    return SplitReport(len(train), len(test), len(again), _ids(store, again))


def _protocol_findings(store: ClipStore, protocols: dict[str, SplitReport]) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"protocol {name!r}: {report.leaked} of {report.test} test clips equal a training "
            f"clip; {name + CLEAN_SUFFIX!r} leaves them out",
            report.leaked_ids,
        )
        for name, report in protocols.items()
        if report.leaked
    ]


# --------------------------------------------------------------------- words


def _spread(values: NDArray[np.int64]) -> dict[str, float]:
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "max": int(values.max()),
    }


def _ids(store: ClipStore, clips: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(store.ids[i] for i in clips)


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"
