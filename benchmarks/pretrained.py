"""Training of the bundled pretrained model: `make pretrained`.

    python benchmarks/pretrained.py DATA [--out runs/pretrained] [--only measure]

DATA is the folder of the raw datasets, by name. The script builds the stores, trains the recipe
`penn_action_live`, calibrates the model on held-out training clips, evaluates it on the official
test split of Penn Action, and writes checkpoint and model card to src/kinegraph/pretrained.
`--only measure` evaluates the bundled weights and prints the numbers of the model card.

Clips of other datasets, converted to the joints of Penn Action, are the training clips of the
background class. The reported rate of unknown clips is measured on other datasets, or other
actions, than those of the training and of the choice of the threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.calibration import Calibration, fit_temperature
from kinegraph.inference.evaluate import evaluate
from kinegraph.inference.recognizer import Recognizer
from kinegraph.readers import read_clips
from kinegraph.readers.class_names import class_names
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.checkpoint import load_model, save_checkpoint
from kinegraph.training.data import split_training_clips
from kinegraph.training.model_zoo import PRETRAINED_FOLDER, model_card
from kinegraph.training.recipe import load_recipe
from kinegraph.transforms import TRANSFORMS, convert_layout
from kinegraph.transforms.temporal_sampling import take_frames

NAME = "penn-action"
RECIPE = "penn_action_live"
LAYOUT = get_layout("penn13")
ACTIONS = class_names("penn_action")
OTHER = len(ACTIONS)
#: Consecutive clips that are held out together, because they may be cut from one video.
BLOCK_CLIPS = 20

#: Labels of other datasets that show an action of Penn Action, or a similar one.
SIMILAR_LABELS: dict[str, set[int]] = {
    "nw_ucla": {8},  # throw
    "utd_mhad": {4, 11, 13, 14, 16, 26},  # throw, bowling, baseball, tennis, tennis, squat
    "sbu": set(),
    "jhmdb14": {2, 6, 11},  # golf, pullup, throw
    "utkinect": {5},  # throw
    "florence3d": set(),
}
#: Number of training clips of each dataset; all clips of the others are for the report.
TRAINING_CLIPS = {"nw_ucla": 150, "utd_mhad": 200, "sbu": 100, "jhmdb14": 190}
#: Labels of the video dataset that are for the report: catch, jump, push, run, wave.
REPORTED_LABELS = {"jhmdb14": {0, 3, 7, 8, 13}}
#: Synthetic background clips of each kind.
SYNTHETIC_CLIPS = 50
#: Frames per piece; longer clips are trained on as pieces, too.
PIECE_FRAMES = 60

Change = Callable[[Clip, np.random.Generator], Clip]


# --------------------------------------------------------------------- stores


def penn_clips(data: Path) -> list[Clip]:
    """Read Penn Action, with blocks to hold out together; invisible joints have confidence 0."""
    clips = read_clips(data / "penn_action", invisible="keep")
    return [replace(c, meta={**c.meta, "block": f"penn-{int(c.id) // BLOCK_CLIPS}"}) for c in clips]


def split_clip(clip: Clip) -> Iterator[Clip]:
    """Yield the pieces of a long clip, so that each second has the same weight in training."""
    if clip.num_frames > PIECE_FRAMES:
        for begin in range(0, clip.num_frames - PIECE_FRAMES + 1, PIECE_FRAMES):
            frames = np.arange(begin, begin + PIECE_FRAMES)
            yield replace(take_frames(clip, frames), id=f"{clip.id}-{begin:03d}")


def read_background(data: Path, name: str) -> Iterator[Clip]:
    """Yield clips of another dataset without the actions, in 2D, seen from random sides."""
    for clip in read_clips(data / name):
        if clip.label in SIMILAR_LABELS[name] or clip.meta.get("fold", 1) != 1:
            continue
        rng = np.random.default_rng([len(name), *clip.id.encode()])
        block = f"{name}-{clip.label}"
        reported = name not in TRAINING_CLIPS or clip.label in REPORTED_LABELS.get(name, set())
        meta = {"split": "test" if reported else "train", "block": block}
        for number, joints in enumerate(_project_from_random_side(clip, rng).joints):
            yield Clip(joints[None], LAYOUT, None, OTHER, f"{name}-{clip.id}-{number}", meta=meta)


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


def build(data: Path, out: Path) -> None:
    """Write two stores: Penn Action with the background, and the unknown clips of the report."""
    rng = np.random.default_rng(0)
    penn = penn_clips(data)
    seen = [clip for clip in penn if clip.meta["split"] == "train"]
    background: list[Clip] = []
    reported: list[Clip] = []
    for name in SIMILAR_LABELS:
        clips = list(read_background(data, name))
        reported += [clip for clip in clips if clip.meta["split"] == "test"]
        own = [clip for clip in clips if clip.meta["split"] == "train"]
        chosen = rng.choice(len(own), min(TRAINING_CLIPS.get(name, 0), len(own)), replace=False)
        background += [
            copy_visibility(own[i], seen[rng.integers(len(seen))]) for i in sorted(chosen)
        ]
    background += list(frozen_poses(background, rng))
    background += list(shuffled_joints(seen, rng))
    parts = [piece for clip in seen for piece in split_clip(clip)]
    write(out / f"{RECIPE}.arrow", [*penn, *parts, *background])
    write(out / "unknown.arrow", reported)


def write(path: Path, clips: Sequence[Clip]) -> None:
    """Write a store of clips with Penn Action's joints."""
    provenance = {"reader": "penn_action", "options": {}}
    with StoreWriter(path, LAYOUT, [*ACTIONS, "other"], provenance) as writer:
        for clip in clips:
            writer.write(clip)


# --------------------------------------------------------------------- training, calibration


def train(out: Path) -> Path:
    """Train the recipe; an unfinished run is continued, a finished one is kept."""
    folder = out / "run"
    if not (folder / "report.html").exists():
        resume = ["--resume"] if (folder / "resume.ckpt").exists() else []
        words = ["train", RECIPE, f"store={out / RECIPE}.arrow", "--out", str(folder), *resume]
        command = [sys.executable, "-m", "kinegraph", *words]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return folder


def cut_half(clip: Clip, rng: np.random.Generator) -> Clip:
    """Return a random window of half the clip, at least 24 frames."""
    length = min(clip.num_frames, max(24, clip.num_frames // 2))
    begin = int(rng.integers(0, clip.num_frames - length + 1))
    return take_frames(clip, np.arange(begin, begin + length))


def keep_clip(clip: Clip, _: np.random.Generator) -> Clip:
    """Return the clip unchanged."""
    return clip


def score(
    recognizer: Recognizer, store: ClipStore, indices: NDArray[np.int64], change: Change = keep_clip
) -> Scores:
    """Score changed clips."""
    clips = (change(store[int(i)], np.random.default_rng(int(i))) for i in indices)
    return recognizer.score(clips)


def calibrate(recognizer: Recognizer, store: ClipStore, held: NDArray[np.int64]) -> Calibration:
    """Fit temperature and threshold on held-out training clips, whole and cut in half.

    The threshold is the lowest with at most 2 % of the actions named wrongly and at least 90 % of
    the background answered with "unknown".
    """
    parts = [score(recognizer, store, held, change) for change in (keep_clip, cut_half)]
    logits = np.concatenate([part.logits for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    made = Calibration(fit_temperature(logits, labels), 0.0, OTHER)
    shares = made.probabilities(logits)
    right, best = shares.argmax(axis=1) == labels, shares.max(axis=1)
    known = labels != OTHER

    def fits(threshold: float) -> bool:
        named = best >= threshold
        return bool((~right & named)[known].mean() <= 0.02 and named[~known].mean() <= 0.1)

    tried = [round(0.01 * step, 2) for step in range(20, 96)]
    return replace(made, threshold=next(filter(fits, tried), tried[-1]))


# --------------------------------------------------------------------- figures


def drop_in_frames(clip: Clip, rng: np.random.Generator) -> Clip:
    """Hide each joint of each frame with a probability of 30 %."""
    return TRANSFORMS["joint_dropout"](clip, rng, p=0.3, per="frame")


def drop_throughout(clip: Clip, rng: np.random.Generator) -> Clip:
    """Hide each joint in the whole clip with a probability of 30 %."""
    return TRANSFORMS["joint_dropout"](clip, rng, p=0.3, per="clip")


def half_rate(clip: Clip, _: np.random.Generator) -> Clip:
    """Keep every second frame."""
    return TRANSFORMS["reduce_frame"](clip, None, step=2)


CHANGES: dict[str, Change] = {
    "all joints": keep_clip,
    "30 % of the joints hidden at random in each frame": drop_in_frames,
    "30 % of the joints hidden at random in the whole clip": drop_throughout,
    "half the frame rate": half_rate,
    "half of the clip": cut_half,
}


def measure(recognizer: Recognizer, penn: ClipStore, unknown: ClipStore) -> dict[str, Any]:
    """Return all numbers of the model card."""
    test = get_split_indices(penn, "official", "test")
    test = test[penn.labels[test] != OTHER]
    rows = {}
    for title, change in CHANGES.items():
        scores = score(recognizer, penn, test, change)
        found = evaluate(scores, recognizer.header.class_name, recognizer.calibration)
        shares = recognizer.calibration.probabilities(scores.logits)
        named = recognizer.calibration.is_confident(shares)
        right = shares.argmax(axis=1) == scores.labels
        wrong = float((named & ~right).mean())
        rows[title] = {
            "top1": found.top1, "unknown": found.unknown, "wrong": wrong, "ece": found.ece
        }  # fmt: skip
        print(f"{title}: {rows[title]}", file=sys.stderr, flush=True)
    by_dataset: dict[str, Any] = {}
    scores = score(recognizer, unknown, np.arange(len(unknown)))
    shares = recognizer.calibration.probabilities(scores.logits)
    refused = ~recognizer.calibration.is_confident(shares)
    sets = np.array([name.split("-")[0] for name in scores.ids])
    for name in np.unique(sets):
        own = refused[sets == name]
        by_dataset[str(name)] = {"clips": len(own), "unknown": float(own.mean())}
    return {"test": rows, "unknown": by_dataset, "clips": len(test)}


# --------------------------------------------------------------------- model card

CARD = Path(__file__).with_name("penn_action_card.md")


def render_card(recognizer: Recognizer, figures: dict[str, Any], path: Path) -> str:
    """Return the text of the model card."""
    header = recognizer.header
    rows = [
        f"| {title} | {100 * f['top1']:.1f} | {100 * f['wrong']:.1f} | {100 * f['unknown']:.1f} "
        f"| {f['ece']:.3f} |"
        for title, f in figures["test"].items()
    ]
    unknown = [
        f"| {name} | {f['clips']} | {100 * f['unknown']:.1f} |"
        for name, f in figures["unknown"].items()
    ]
    return CARD.read_text(encoding="utf-8").format(
        actions=", ".join(name.replace("_", " ") for name in ACTIONS),
        parameters=sum(p.numel() for p in recognizer.model.parameters()),
        kilobytes=path.stat().st_size // 1024,
        rows="\n".join(rows),
        unknown="\n".join(unknown),
        clips=figures["clips"],
        temperature=recognizer.calibration.temperature,
        threshold=recognizer.calibration.threshold,
        **header.training["counts"],
    )


def count_clips(store: ClipStore, held: NDArray[np.int64]) -> dict[str, int]:
    """Count training, held-out and background clips; pieces of a clip are not counted."""
    train = get_split_indices(store, "official", "train")
    penn = {int(i) for i in train if store.ids[i].isdigit()}
    taught = int((store.labels[train] == OTHER).sum())
    return {"train": len(penn), "held": len(penn & set(held.tolist())), "taught": taught}


def main() -> None:
    """Build the stores, train, calibrate, evaluate, and write weights and model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--only", choices=["measure"])
    options = parser.parse_args()
    paths = options.out / f"{RECIPE}.arrow", options.out / "unknown.arrow"
    if not all(path.exists() for path in paths):
        build(options.data, options.out)
    penn, unknown = map(ClipStore, paths)
    if options.only:
        print(json.dumps(measure(Recognizer.load(NAME), penn, unknown), indent=1))
        return
    run = train(options.out)
    model, header = load_model(run)
    held = split_training_clips(load_recipe(RECIPE, [f"store={paths[0]}"]), penn).val
    calibration = calibrate(Recognizer(model, header), penn, held)
    facts = {**header.training, "counts": count_clips(penn, held)}
    header = replace(header, calibration=vars(calibration), training=facts)
    PRETRAINED_FOLDER.mkdir(exist_ok=True)
    path = PRETRAINED_FOLDER / f"{NAME}.safetensors"
    save_checkpoint(path, model.state_dict(), header)
    recognizer = Recognizer.load(path)
    figures = measure(recognizer, penn, unknown)
    model_card(NAME).write_text(render_card(recognizer, figures, path), encoding="utf-8")


if __name__ == "__main__":
    main()
