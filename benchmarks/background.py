"""Background clips of the bundled model: people who do none of its actions.

Clips of other datasets are converted to the 13 joints of Penn Action. The lists below state by hand
which actions of them are known ones, and which datasets and actions are never trained on, so that
the share of them that is unknown is that of unseen sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.readers import read_clips
from kinegraph.readers.class_names import class_names
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms import TRANSFORMS, convert_layout
from kinegraph.transforms.temporal_sampling import take_frames
from kinegraph.transforms.visibility import hide

LAYOUT = get_layout("penn13")
ACTIONS = class_names("penn_action")
OTHER = len(ACTIONS)

#: Labels of other datasets that show an action of Penn Action, with the label of that action.
KNOWN_LABELS: dict[str, dict[int, str]] = {
    "utd_mhad": {
        11: "bowl",
        13: "baseball_swing",
        14: "tennis_forehand",
        16: "tennis_serve",
        26: "squat",
    },
    "ui_prmd": {0: "squat"},
    "jhmdb14": {2: "golf_swing", 6: "pullup"},
}
#: Labels that are too similar to an action to be examples of another one: throws, lunges.
SIMILAR_LABELS: dict[str, set[int]] = {
    "nw_ucla": {8},
    "utd_mhad": {4},
    "jhmdb14": {11},
    "utkinect": {5},
}
#: Number of training clips of each dataset.
TRAINING_CLIPS = {"nw_ucla": 150, "utd_mhad": 200, "sbu": 100, "jhmdb14": 190}
#: The same for a model with a wider background.
WIDE_CLIPS = {"nw_ucla": 350, "utd_mhad": 450, "sbu": 250, "jhmdb14": 400, "ui_prmd": 250}
#: Datasets of which all clips are for the report.
REPORTED_DATASETS = ("utkinect", "florence3d")
READERS = {"ui_prmd": "ui_prmd"}  # where the files of a folder do not show it
DATASETS = (*WIDE_CLIPS, *REPORTED_DATASETS)
#: Labels of the video dataset that are for the report: catch, jump, push, run, wave.
REPORTED_LABELS = {"jhmdb14": {0, 3, 7, 8, 13}}

#: Actions that are another movement when played backwards. A bench press, a clean and jerk with its
#: way down, jumps, pull-ups, push-ups, sit-ups, squats and guitars look the same both ways.
REVERSIBLE = {
    "baseball_pitch",
    "baseball_swing",
    "bowl",
    "golf_swing",
    "tennis_forehand",
    "tennis_serve",
}
#: Actions of which neither the arms nor the legs alone show the action, if they are joined with the
#: other half of a body that does an action of the other group.
UPPER_BODY = REVERSIBLE | {"jumping_jacks", "jump_rope"}
LOWER_BODY = {"bench_press", "clean_and_jerk", "pullup", "pushup", "situp", "squat"}
LEGS = [i for i, joint in enumerate(LAYOUT.joints) if joint.endswith(("hip", "knee", "ankle"))]
#: Number of synthetic background clips of each kind.
REVERSED_CLIPS, MIXED_CLIPS, LEGLESS_CLIPS, SYNTHETIC_CLIPS = 150, 120, 250, 50


def read_other_clips(data: Path, name: str) -> Iterator[Clip]:
    """Yield clips of another dataset in 2D, seen from random sides, known actions with their label.

    The meta "split" is test for clips that are reported only, and for known actions.
    """
    known, similar = KNOWN_LABELS.get(name, {}), SIMILAR_LABELS.get(name, set())
    for clip in read_clips(data / name, READERS.get(name)):
        if clip.label in similar or clip.meta.get("fold", 1) != 1:
            continue
        label = ACTIONS.index(known[clip.label]) if clip.label in known else OTHER
        rng = np.random.default_rng([len(name), *clip.id.encode()])
        reported = name in REPORTED_DATASETS or clip.label in REPORTED_LABELS.get(name, set())
        is_test = reported or label != OTHER
        meta = {"split": "test" if is_test else "train", "block": f"{name}-{clip.label}"}
        for number, joints in enumerate(_project_from_random_side(clip, rng).joints):
            yield Clip(joints[None], LAYOUT, None, label, f"{name}-{clip.id}-{number}", meta=meta)


def _project_from_random_side(clip: Clip, rng: np.random.Generator) -> Clip:
    if clip.num_channels == 2:
        return convert_layout(clip, LAYOUT)
    centered = TRANSFORMS["center"](clip, None, frame="first")
    turned = TRANSFORMS["random_rotate"](centered, rng, degrees=[8, 75, 8])
    return convert_layout(turned, LAYOUT, "front")


def copy_visibility(clip: Clip, other: Clip) -> Clip:
    """Return the clip with the confidence of another, so that it does not reveal the dataset."""
    places = np.linspace(0, other.num_frames - 1, clip.num_frames).round().astype(int)
    if other.confidence is None:
        return clip
    return replace(clip, confidence=other.confidence[:, places])


def legless_clips(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Yield clips without knees and ankles, half of them without hips, as behind a desk."""
    for number, i in enumerate(rng.choice(len(clips), LEGLESS_CLIPS)):
        missing = LEGS if number % 2 else [j for j in LEGS if not LAYOUT.joints[j].endswith("hip")]
        hidden = np.zeros(clips[i].joints.shape[:3], np.bool_)
        hidden[..., missing] = True
        yield replace(hide(clips[i], hidden), id=f"legless-{number:03d}-{clips[i].id}")


def reversed_clips(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Yield clips of `REVERSIBLE` actions, played backwards."""
    own = [clip for clip in clips if ACTIONS[clip.label] in REVERSIBLE]
    for i in rng.choice(len(own), REVERSED_CLIPS, replace=False):
        backwards = take_frames(own[i], np.arange(own[i].num_frames)[::-1])
        yield replace(backwards, label=OTHER, id=f"reversed-{own[i].id}", positions=None)


def mixed_clips(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Yield clips with the upper half of the body of one action and the lower half of another."""
    groups = [
        [clip for clip in clips if ACTIONS[clip.label] in names and _has_trunk(clip)]
        for names in (UPPER_BODY, LOWER_BODY)
    ]
    for number in range(MIXED_CLIPS):
        upper, lower = (group[int(rng.integers(len(group)))] for group in groups)
        if number % 2:
            upper, lower = lower, upper
        frames = min(upper.num_frames, lower.num_frames)
        joints = np.array(upper.joints[:, :frames])
        moved = _around_hips(lower.joints[:, :frames]) * _trunk(upper) / _trunk(lower)
        legs = moved + _hips(joints)
        joints[:, :, LEGS] = legs[:, :, LEGS]
        yield Clip(
            joints, LAYOUT, None, OTHER, f"mixed-{number:03d}",
            meta={"split": "train", "block": upper.meta["block"]},
        )  # fmt: skip


def _hips(joints: np.ndarray) -> np.ndarray:
    return joints[:, :, [LAYOUT.index("left_hip"), LAYOUT.index("right_hip")]].mean(
        axis=2, keepdims=True
    )


def _around_hips(joints: np.ndarray) -> np.ndarray:
    return joints - _hips(joints)


def _trunk(clip: Clip) -> float:
    shoulders = [LAYOUT.index("left_shoulder"), LAYOUT.index("right_shoulder")]
    trunk = clip.joints[:, :, shoulders].mean(axis=2, keepdims=True) - _hips(clip.joints)
    return float(np.nanpercentile(np.linalg.norm(trunk, axis=-1), 80))


def _has_trunk(clip: Clip) -> bool:
    trunk = [i for i, joint in enumerate(LAYOUT.joints) if joint.endswith(("hip", "shoulder"))]
    return bool(clip.valid[:, :, trunk].mean() > 0.95)


def shuffled_joints(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Yield clips with permuted joints; in half of them every frame has another permutation."""
    for number, i in enumerate(rng.choice(len(clips), SYNTHETIC_CLIPS, replace=False)):
        order = np.argsort(rng.random((clips[i].num_frames if number % 2 else 1, 13)), axis=1)
        mixed = np.take_along_axis(clips[i].joints, order[None, :, :, None], axis=2)
        meta = {"split": "train", "block": f"noise-{number % 4}"}
        made = replace(clips[i], joints=mixed, confidence=None, label=OTHER)
        yield replace(made, id=f"noise-{number:02d}", meta=meta)


def frozen_poses(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Yield clips that repeat one frame."""
    for number, i in enumerate(rng.choice(len(clips), SYNTHETIC_CLIPS, replace=False)):
        held = np.full(40, int(rng.integers(0, clips[i].num_frames)))
        meta = {"split": "train", "block": f"still-{number % 4}"}
        yield replace(take_frames(clips[i], held), id=f"still-{number:02d}", meta=meta)


def make_background(
    data: Path, penn: Sequence[Clip], rng: np.random.Generator, *, wide: bool
) -> tuple[list[Clip], list[Clip]]:
    """Return the background clips of the training, and the clips of the report.

    Args:
        data: the folder of the raw datasets.
        penn: training clips of Penn Action.
        rng: draws the clips.
        wide: whether to use more clips, and people without legs, and actions that are played
            backwards or mixed.
    """
    numbers = WIDE_CLIPS if wide else TRAINING_CLIPS
    background: list[Clip] = []
    reported: list[Clip] = []
    for name in DATASETS:
        clips = list(read_other_clips(data, name))
        reported += [clip for clip in clips if clip.meta["split"] == "test"]
        own = [clip for clip in clips if clip.meta["split"] == "train"]
        chosen = rng.choice(len(own), min(numbers.get(name, 0), len(own)), replace=False)
        background += [
            copy_visibility(own[i], penn[rng.integers(len(penn))]) for i in sorted(chosen)
        ]
    recorded = list(background)
    background += frozen_poses(recorded, rng)
    background += shuffled_joints(penn, rng)
    if wide:
        background += legless_clips(recorded, rng)
        background += reversed_clips(penn, rng)
        background += mixed_clips(penn, rng)
    return background, reported
