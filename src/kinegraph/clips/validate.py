"""Validation of a store before training: class counts, missing joints, outliers, duplicates."""

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
ClipIndices = Sequence[int] | NDArray[np.int64]

SHORT_CLIP_FRAMES = 2
IMBALANCE_RATIO = 10  # largest class over smallest
OUTLIER_RATIO = 10  # body size over the median of the store, or below its inverse
MAX_MEAN_STEP = 1.0  # body sizes that the mean joint moves between two frames
MISSING_WARNING = 0.1  # fraction of absent joints
NUM_LISTED_JOINTS = 3


@dataclass(frozen=True)
class Finding:
    """One observation about a store.

    Attributes:
        severity: ``error`` (results would be wrong), ``warning`` (to be checked) or ``note``.
        text: one sentence.
        clips: ids of the clips concerned, if only some are.
    """

    severity: Severity
    text: str
    clips: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitReport:
    """The split of a store by a protocol: the number of clips, and test clips seen in training."""

    train: int
    test: int
    leaked: int
    leaked_ids: tuple[str, ...]


@dataclass(frozen=True)
class StoreReport:
    """The contents of a store and the findings about it.

    Attributes:
        path, layout, clips: the store, its layout's name, the number of clips.
        classes: number of clips by class name (by label if classes have no names).
        unlabeled: number of clips without a label.
        frames: min, median and max of T.
        persons: number of clips by M.
        missing: fraction of absent joints: ``all``, and ``joints`` by name.
        empty_frames: fraction of frames without any joint of any person.
        duplicates: ids of clips with equal joints, group by group.
        protocols: the protocols that split the store, by name.
        findings: errors first, then warnings and notes.
    """

    path: str
    layout: str
    clips: int
    classes: dict[str, int]
    unlabeled: int
    frames: dict[str, float]
    persons: dict[int, int]
    missing: dict[str, Any]
    empty_frames: float
    duplicates: tuple[tuple[str, ...], ...]
    protocols: dict[str, SplitReport]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain containers, for JSON."""
        return asdict(self)


def validate_store(store: ClipStore) -> StoreReport:
    """Read every clip of a store once and report what the store holds and what is wrong with it.

    Raises:
        ClipError: a clip's joints cannot be read.
    """
    statistics = ClipStatistics(store)
    for i, clip in enumerate(store):
        statistics.update(i, clip)
    duplicates = _find_duplicates(store)
    protocols = _split_by_protocols(store)
    findings = [
        *_rounding_findings(store),
        *_class_findings(store),
        *statistics.findings(),
        *_duplicate_findings(store, duplicates),
        *_leak_findings(protocols),
    ]
    severities = ("error", "warning", "note")
    frames = store.frames
    return StoreReport(
        path=str(store.path),
        layout=store.layout.name,
        clips=len(store),
        classes=_class_counts(store),
        unlabeled=int((store.labels < 0).sum()),
        frames={
            "min": int(frames.min()),
            "median": float(np.median(frames)),
            "max": int(frames.max()),
        },
        persons=dict(sorted(Counter(store.persons.tolist()).items())),
        missing=statistics.missing(),
        empty_frames=float(statistics.empty_frames / frames.sum()),
        duplicates=tuple(_ids(store, group) for group in duplicates),
        protocols=protocols,
        findings=tuple(sorted(findings, key=lambda finding: severities.index(finding.severity))),
    )


class ClipStatistics:
    """Statistics of the joints of a store, collected clip by clip."""

    def __init__(self, store: ClipStore) -> None:
        self.store = store
        self.empty_frames = 0
        self._absent = np.zeros(store.layout.num_joints, np.int64)
        self._frames = 0  # of all persons
        self._size = np.full(len(store), np.nan)
        self._step = np.zeros(len(store))
        self._defects: dict[str, list[int]] = {
            key: [] for key in ("damaged", "absent", "zero", "frozen")
        }

    def update(self, i: int, clip: Clip) -> None:
        """Add the clip with index ``i``."""
        valid = clip.valid
        frames = valid.shape[0] * valid.shape[1]
        self._absent += frames - valid.sum(axis=(0, 1))
        self._frames += frames
        self.empty_frames += int((~valid.any(axis=(0, 2))).sum())
        self._size[i] = _body_size(clip.joints)
        self._step[i] = _largest_step(clip.joints, valid)
        defect = self._find_defect(clip, valid, self.store.digests[i])
        if defect is not None:
            self._defects[defect].append(i)

    def missing(self) -> dict[str, Any]:
        """Return the fraction of absent joints, in total and by joint."""
        by_joint = self._absent / self._frames
        names = self.store.layout.joints
        return {
            "all": float(by_joint.mean()),
            "joints": dict(zip(names, by_joint.tolist(), strict=True)),
        }

    def findings(self) -> list[Finding]:
        """Return the findings about joints."""
        defects = self._defects
        short = np.flatnonzero(self.store.frames <= SHORT_CLIP_FRAMES)
        groups: list[tuple[Severity, ClipIndices, str]] = [
            ("error", defects["damaged"], "damaged: the joints do not match their digest"),
            ("error", defects["absent"], "without any present joint"),
            ("error", defects["zero"], "with all joints at zero"),
            ("warning", defects["frozen"], "frozen: all frames are equal"),
            ("warning", short, f"of at most {SHORT_CLIP_FRAMES} frames"),
            *self._outliers(),
        ]
        found = [_make_finding(self.store, *group) for group in groups if len(group[1])]
        missing = self.missing()
        if missing["all"] > 0:
            most = sorted(missing["joints"].items(), key=lambda item: -item[1])[:NUM_LISTED_JOINTS]
            listed = ", ".join(f"{name} {fraction:.1%}" for name, fraction in most)
            text = f"{missing['all']:.1%} of joints are absent (most: {listed})"
            severity: Severity = "warning" if missing["all"] >= MISSING_WARNING else "note"
            found.append(Finding(severity, text))
        return found

    @staticmethod
    def _find_defect(clip: Clip, valid: NDArray[np.bool_], digest: str) -> str | None:
        if clip.digest != digest:
            return "damaged"
        if not valid.any():
            return "absent"
        if not clip.joints[valid].any():
            return "zero"
        first = np.broadcast_to(clip.joints[:, :1], clip.joints.shape)
        frozen = clip.num_frames > 1 and np.array_equal(clip.joints, first, equal_nan=True)
        return "frozen" if frozen else None

    def _outliers(self) -> list[tuple[Severity, ClipIndices, str]]:
        sizes = self._size[self._size > 0]
        if len(sizes) == 0:
            return []
        median = float(np.median(sizes))
        unit = f"the median size ({median:.3g} in the store's unit)"
        large = np.flatnonzero(self._size > OUTLIER_RATIO * median)
        small = np.flatnonzero(self._size < median / OUTLIER_RATIO)
        jumps = np.flatnonzero(self._step > MAX_MEAN_STEP * median)
        return [
            ("warning", large, f"with a body larger than {OUTLIER_RATIO} times {unit}"),
            ("warning", small, f"with a body smaller than 1/{OUTLIER_RATIO} of {unit}"),
            ("warning", jumps, f"in which a body jumps by more than {unit} between two frames"),
        ]


def _rounding_findings(store: ClipStore) -> list[Finding]:
    if store.dtype == "float32":
        return []
    text = f"coordinates are stored as {store.dtype}, rounded by at most {store.rounding:.3g}"
    return [Finding("note", text)]


def _body_size(joints: NDArray[np.float32]) -> float:
    """Return the median, over persons and frames, of the longest side of the bounding box."""
    sides = np.fmax.reduce(joints, axis=2) - np.fmin.reduce(joints, axis=2)
    longest = sides.max(axis=-1)
    known = longest[~np.isnan(longest)]
    return float(np.median(known)) if len(known) else np.nan


def _largest_step(joints: NDArray[np.float32], valid: NDArray[np.bool_]) -> float:
    """Return the longest distance that a person's mean joint moves between two frames."""
    both = (valid[:, 1:] & valid[:, :-1])[..., None]
    steps = np.where(both, joints[:, 1:] - joints[:, :-1], 0).sum(axis=2, dtype=np.float64)
    mean = steps / np.maximum(both.sum(axis=2), 1)
    return float(np.sqrt(np.square(mean).sum(axis=-1)).max(initial=0))


def _class_counts(store: ClipStore) -> dict[str, int]:
    counts = np.bincount(store.labels[store.labels >= 0], minlength=store.num_classes)
    names = store.classes or [str(label) for label in range(store.num_classes)]
    # classes of the same name are counted apart
    keys = names if len(set(names)) == len(names) else [f"{i}: {n}" for i, n in enumerate(names)]
    return dict(zip(keys, counts.tolist(), strict=True))


def _class_findings(store: ClipStore) -> list[Finding]:
    found, counts = [], _class_counts(store)
    unlabeled = np.flatnonzero(store.labels < 0)
    if len(unlabeled):
        found.append(_make_finding(store, "warning", unlabeled, "without a label"))
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        text = f"{len(empty)} of {len(counts)} classes have no clip: {', '.join(empty)}"
        found.append(Finding("warning", text))
    present = [(count, name) for name, count in counts.items() if count]
    if present and max(present)[0] >= IMBALANCE_RATIO * min(present)[0]:
        (fewest, rare), (most, frequent) = min(present), max(present)
        text = (
            f"classes are imbalanced: {frequent!r} has {_count_clips(most)}, {rare!r} has "
            f"{fewest}; compare the mean class accuracy too"
        )
        found.append(Finding("note", text))
    return found


def _find_duplicates(store: ClipStore) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, digest in enumerate(store.digests):
        groups.setdefault(digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _duplicate_findings(store: ClipStore, groups: list[list[int]]) -> list[Finding]:
    if not groups:
        return []
    members = [i for group in groups for i in group]
    found = [_make_finding(store, "warning", members, f"in {len(groups)} groups of equal joints")]
    mixed = [i for group in groups if len({*store.labels[group].tolist()}) > 1 for i in group]
    if mixed:
        found.append(
            _make_finding(store, "error", mixed, "with joints equal to a clip of another label")
        )
    return found


def _split_by_protocols(store: ClipStore) -> dict[str, SplitReport]:
    """Split by the protocols that the store's reader names, or by all if none of these fits."""
    named = [name for name in store.provenance.get("protocols") or () if name in PROTOCOLS]
    for names in (named, PROTOCOLS):
        reports = {name: _report_split(store, name) for name in names}
        if found := {name: report for name, report in reports.items() if report is not None}:
            return found
    return {}


def _report_split(store: ClipStore, name: str) -> SplitReport | None:
    if not PROTOCOLS[name].keys:
        return None  # it splits any store, so it is not a property of this one
    try:
        train, test = split_by_protocol(store, name)
    except ProtocolError:
        return None
    if len(train) == 0 or len(test) == 0:
        return None
    leaked = find_leaked(store, train, test)
    return SplitReport(len(train), len(test), len(leaked), _ids(store, leaked))


def _leak_findings(protocols: dict[str, SplitReport]) -> list[Finding]:
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


def _make_finding(store: ClipStore, severity: Severity, clips: ClipIndices, text: str) -> Finding:
    return Finding(severity, f"{_count_clips(len(clips))} {text}", _ids(store, clips))


def _ids(store: ClipStore, clips: ClipIndices) -> tuple[str, ...]:
    return tuple(store.ids[i] for i in clips)


def _count_clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"
