"""Validation of a store before training: class counts, missing joints, outliers, duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.body_checks import BodyChecker, BodyProblem, Severity
from kinegraph.clips.clip import Clip
from kinegraph.clips.clip_checks import ClipComparer
from kinegraph.clips.intervals import has_intervals, parse_intervals
from kinegraph.clips.splits import (
    CLEAN_SUFFIX,
    LEAVE_ONE_OUT,
    PROTOCOLS,
    find_leaked,
    find_published_split,
    split_by_protocol,
)
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ProtocolError

ClipIndices = Sequence[int] | NDArray[np.int64]

SHORT_CLIP_FRAMES = 2
IMBALANCE_RATIO = 10  # largest class over smallest
OUTLIER_RATIO = 10  # body size over the median of the store, or below its inverse
MAX_MEAN_STEP = 1.0  # body sizes that the mean joint moves between two frames
MISSING_WARNING = 0.1  # fraction of absent joints
NUM_LISTED_JOINTS = 3


@dataclass(frozen=True)
class Finding:
    """One observation about a store."""

    severity: Severity  # "error": results would be wrong; "warning": to be checked; or "note"
    text: str  # one sentence
    clips: tuple[str, ...] = ()  # ids of the clips concerned, if only some are


@dataclass(frozen=True)
class SplitReport:
    """The split of a store by a protocol.

    Attributes:
        train, test: number of clips.
        published: the same of the complete data set, None where that is not known.
        leaked: number of test clips that equal a training clip, and their ids.
    """

    train: int
    test: int
    published: tuple[int, int] | None
    leaked: int
    leaked_ids: tuple[str, ...]


@dataclass(frozen=True)
class StoreReport:
    """The contents of a store and the findings about it.

    Attributes:
        path, layout, clips: the store, its layout's name, the number of clips.
        classes: number of clips, or of intervals in recordings, by class name (by label if classes
            have no names).
        unlabeled: number of clips without a label and without intervals.
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


def validate_store(store: ClipStore) -> StoreReport:
    """Read every clip of a store once and report what the store holds and what is wrong with it.

    Raises:
        ClipError: a clip's joints cannot be read.
    """
    bodies = BodyChecker(store.layout, store.space)
    comparer = ClipComparer(store.layout, store.space)
    measured = []
    for clip, digest in zip(store, store.digests, strict=True):
        measured.append(_measure_clip(clip, digest))
        bodies.measure(clip)
        comparer.measure(clip)
    missing = _missing_joints(store, measured)
    duplicates = _find_duplicates(store)
    protocols = _split_by_protocols(store)
    findings = [
        *_rounding_findings(store),
        *_class_findings(store),
        *_joint_findings(store, measured),
        *_problem_findings(store, bodies.find_problems(store.rates.tolist())),
        *_problem_findings(store, comparer.find_problems(store.labels)),
        *_missing_findings(missing),
        *_duplicate_findings(store, duplicates),
        *_leak_findings(protocols),
        *_count_findings(store, protocols),
    ]
    severities = ("error", "warning", "note")
    frames = store.frames
    shortest, longest = int(frames.min()), int(frames.max())
    return StoreReport(
        path=str(store.path),
        layout=store.layout.name,
        clips=len(store),
        classes=_class_counts(store),
        unlabeled=int((~_is_labeled(store)).sum()),
        frames={"min": shortest, "median": float(np.median(frames)), "max": longest},
        persons=dict(sorted(Counter(store.persons.tolist()).items())),
        missing=missing,
        empty_frames=float(sum(clip.empty_frames for clip in measured) / frames.sum()),
        duplicates=tuple(_ids(store, group) for group in duplicates),
        protocols=protocols,
        findings=tuple(sorted(findings, key=lambda finding: severities.index(finding.severity))),
    )


class _ClipMeasures(NamedTuple):
    absent: NDArray[np.int64]  # (V,): in how many frames of all persons
    empty_frames: int
    size: float
    step: float
    defect: str


def _measure_clip(clip: Clip, digest: str) -> _ClipMeasures:
    valid, joints = clip.valid, clip.joints
    absent, empty = (~valid).sum(axis=(0, 1)), int((~valid.any(axis=(0, 2))).sum())
    size, step = _body_size(joints), _largest_step(joints, valid)
    return _ClipMeasures(absent, empty, size, step, _find_defect(clip, valid, digest))


def _find_defect(clip: Clip, valid: NDArray[np.bool_], digest: str) -> str:
    if clip.digest != digest:
        return "damaged"
    if not valid.any():
        return "absent"
    if not clip.joints[valid].any():
        return "zero"
    first = np.broadcast_to(clip.joints[:, :1], clip.joints.shape)
    frozen = clip.num_frames > 1 and np.array_equal(clip.joints, first, equal_nan=True)
    return "frozen" if frozen else ""


def _missing_joints(store: ClipStore, measured: Sequence[_ClipMeasures]) -> dict[str, Any]:
    """Return the fraction of absent joints, in total and by joint."""
    absent = np.sum([clip.absent for clip in measured], axis=0)
    by_joint = absent / (store.persons * store.frames).sum()
    joints = dict(zip(store.layout.joints, by_joint.tolist(), strict=True))
    return {"all": float(by_joint.mean()), "joints": joints}


def _missing_findings(missing: dict[str, Any]) -> list[Finding]:
    if missing["all"] == 0:
        return []
    most = sorted(missing["joints"].items(), key=lambda item: -item[1])[:NUM_LISTED_JOINTS]
    listed = ", ".join(f"{name} {fraction:.1%}" for name, fraction in most)
    text = f"{missing['all']:.1%} of joints are absent (most: {listed})"
    return [Finding("warning" if missing["all"] >= MISSING_WARNING else "note", text)]


def _joint_findings(store: ClipStore, measured: Sequence[_ClipMeasures]) -> list[Finding]:
    defects = np.array([clip.defect for clip in measured])
    size = np.array([clip.size for clip in measured])
    step = np.array([clip.step for clip in measured])
    known = size[size > 0]
    median = float(np.median(known)) if len(known) else np.nan
    unit = f"the median size ({median:.3g} in the store's unit)"
    jumps = step > MAX_MEAN_STEP * median
    errors = [
        (defects == "damaged", "damaged: the joints do not match their digest"),
        (defects == "absent", "without any present joint"),
        (defects == "zero", "with all joints at zero"),
    ]
    warnings = [
        (defects == "frozen", "frozen: all frames are equal"),
        (store.frames <= SHORT_CLIP_FRAMES, f"of at most {SHORT_CLIP_FRAMES} frames"),
        (size > OUTLIER_RATIO * median, f"with a body larger than {OUTLIER_RATIO} times {unit}"),
        (size < median / OUTLIER_RATIO, f"with a body smaller than 1/{OUTLIER_RATIO} of {unit}"),
        (jumps, f"in which a body jumps by more than {unit} between two frames"),
    ]
    found = [_clip_findings(store, "error", np.flatnonzero(mask), text) for mask, text in errors]
    found += [_clip_findings(store, "warning", np.flatnonzero(m), text) for m, text in warnings]
    return list(chain.from_iterable(found))


def _problem_findings(store: ClipStore, problems: Iterable[BodyProblem]) -> Iterator[Finding]:
    for problem in problems:
        if problem.clips:
            yield from _clip_findings(store, problem.severity, problem.clips, problem.text)
        else:
            yield Finding(problem.severity, problem.text)


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
    for i in np.flatnonzero(has_intervals(store.metas)):
        for interval in parse_intervals(store.metas[i], int(store.frames[i]), len(counts)) or ():
            counts[interval.label] += 1
    names = store.classes or [str(label) for label in range(store.num_classes)]
    # classes of the same name are counted apart
    keys = names if len(set(names)) == len(names) else [f"{i}: {n}" for i, n in enumerate(names)]
    return dict(zip(keys, counts.tolist(), strict=True))


def _is_labeled(store: ClipStore) -> NDArray[np.bool_]:
    return (store.labels >= 0) | has_intervals(store.metas)


def _class_findings(store: ClipStore) -> list[Finding]:
    counts, unlabeled = _class_counts(store), np.flatnonzero(~_is_labeled(store))
    found = _clip_findings(store, "warning", unlabeled, "without a label")
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        text = f"{len(empty)} of {len(counts)} classes have no clip: {', '.join(empty)}"
        found.append(Finding("warning", text))
    present = [(count, name) for name, count in counts.items() if count]
    if present and max(present)[0] >= IMBALANCE_RATIO * min(present)[0]:
        (fewest, rare), (most, frequent) = min(present), max(present)
        text = (
            f"classes are imbalanced: {frequent!r} has {_count_clips(most)}, {rare!r} has "
            f"{fewest}; compare the mean class accuracy too, and train with "
            "train.class_weights=balanced"
        )
        found.append(Finding("note", text))
    return found


def _find_duplicates(store: ClipStore) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, digest in enumerate(store.digests):
        groups.setdefault(digest, []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def _duplicate_findings(store: ClipStore, groups: list[list[int]]) -> list[Finding]:
    members = [i for group in groups for i in group]
    mixed = [i for group in groups if len({*store.labels[group].tolist()}) > 1 for i in group]
    return [
        *_clip_findings(store, "warning", members, f"in {len(groups)} groups of equal joints"),
        *_clip_findings(store, "error", mixed, "with joints equal to a clip of another label"),
    ]


def _split_by_protocols(store: ClipStore) -> dict[str, SplitReport]:
    """Split by the protocols that the store's reader names, or by all if none of these fits.

    Those that leave one subject out fit any store with subjects, and are not listed then.
    """
    named = [name for name in store.provenance.get("protocols") or () if name in PROTOCOLS]
    others = [name for name in PROTOCOLS if not name.startswith(LEAVE_ONE_OUT)]
    for names in (named, others):
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
    complete = find_published_split(store, name)
    published = (complete.train, complete.test) if complete else None
    return SplitReport(len(train), len(test), published, len(leaked), _ids(store, leaked))


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


def _count_findings(store: ClipStore, protocols: dict[str, SplitReport]) -> list[Finding]:
    """Compare the sizes of the splits with the published ones."""
    found = []
    for name, report in protocols.items():
        complete = find_published_split(store, name)
        counts = report.train, report.test
        if complete is None or counts == report.published:
            continue
        reason = complete.known.get(counts, "accuracies cannot be compared with published ones")
        text = (
            f"protocol {name!r}: {report.test:,} of {complete.test:,} test clips and "
            f"{report.train:,} of {complete.train:,} training clips of {complete.data} "
            f"({complete.source}): {reason}"
        )
        found.append(Finding("warning", text))
    return found


def _clip_findings(
    store: ClipStore, severity: Severity, clips: ClipIndices, text: str
) -> list[Finding]:
    """Return the finding about these clips, or none if there are no such clips."""
    found = [Finding(severity, f"{_count_clips(len(clips))} {text}", _ids(store, clips))]
    return found if len(clips) else []


def _ids(store: ClipStore, clips: ClipIndices) -> tuple[str, ...]:
    return tuple(store.ids[i] for i in clips)


def _count_clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"
