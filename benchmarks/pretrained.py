"""Makes the weights that install with kinegraph: `make pretrained`.

    python benchmarks/pretrained.py DATA [--out runs/pretrained] [--only measure]

DATA is the folder that holds the raw sets by name. It builds the stores, trains the recipe
`penn_action_live`, calibrates the model on clips that were held out of training, measures it on
Penn Action's official test split, and writes checkpoint and model card to src/kinegraph/pretrained.
`--only measure` measures the weights that are there, and prints the figures of the card.

Clips of other sets, converted to Penn Action's joints, teach the model what is none of its
actions. Those that it is reported on are of other sets, or of other actions, than those that it
was trained and its threshold was chosen with.
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
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.calibration import Calibration, fit_temperature
from kinegraph.inference.evaluate import evaluate
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.scores import Scores
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
BLOCK = 20  # clips of neighbouring numbers may be cut from one video: they are held out together

# labels of other sets that show an action of Penn Action, or come too near to one
ALIKE: dict[str, set[int]] = {
    "nw_ucla": {8},  # throw
    "utd_mhad": {4, 11, 13, 14, 16, 26},  # throw, bowling, baseball, tennis, tennis, squat
    "sbu": set(),
    "jhmdb14": {2, 6, 11},  # golf, pullup, throw
    "utkinect": {5},  # throw
    "florence3d": set(),
}
# how many clips of a set are for training; none: all of them are for the report
TAUGHT = {"nw_ucla": 150, "utd_mhad": 200, "sbu": 100, "jhmdb14": 190}
# actions of the one set from video that are for the report: catch, jump, push, run, wave
REPORTED = {"jhmdb14": {0, 3, 7, 8, 13}}
STILL = 50
PIECE = 60  # frames: a clip that is longer is also taught in pieces

Change = Callable[[Clip, np.random.Generator], Clip]


# --------------------------------------------------------------------- stores


def penn_clips(data: Path) -> list[Clip]:
    """Penn Action with blocks to hold out together; what is invisible has the confidence 0."""
    clips = read_clips(data / "penn_action", invisible="keep")
    return [replace(c, meta={**c.meta, "block": f"penn-{int(c.id) // BLOCK}"}) for c in clips]


def pieces(clip: Clip) -> Iterator[Clip]:
    """Of a long clip what a stream sees at a time, so that each second of it counts alike."""
    if clip.num_frames > PIECE:
        for begin in range(0, clip.num_frames - PIECE + 1, PIECE):
            frames = np.arange(begin, begin + PIECE)
            yield replace(take_frames(clip, frames), id=f"{clip.id}-{begin:03d}")


def other_clips(data: Path, name: str) -> Iterator[Clip]:
    """Persons of another set that do none of the actions, flat, from any side."""
    for clip in read_clips(data / name):
        if clip.label in ALIKE[name] or clip.meta.get("fold", 1) != 1:
            continue
        rng = np.random.default_rng([len(name), *clip.id.encode()])
        block = f"{name}-{clip.label}"
        reported = name not in TAUGHT or clip.label in REPORTED.get(name, set())
        meta = {"split": "test" if reported else "train", "block": block}
        for number, joints in enumerate(_seen_from_somewhere(clip, rng).joints):
            yield Clip(joints[None], LAYOUT, None, OTHER, f"{name}-{clip.id}-{number}", meta=meta)


def _seen_from_somewhere(clip: Clip, rng: np.random.Generator) -> Clip:
    if clip.num_channels == 2:
        return convert_layout(clip, LAYOUT)
    centered = TRANSFORMS["center"](clip, None, frame="first")
    turned = TRANSFORMS["random_rotate"](centered, rng, degrees=[8, 75, 8])
    return convert_layout(turned, LAYOUT, "front")


def as_visible_as(clip: Clip, other: Clip) -> Clip:
    """The clip with the confidence of another one, so that hidden joints do not tell the set."""
    places = np.linspace(0, other.num_frames - 1, clip.num_frames).round().astype(int)
    if other.confidence is None:
        return clip
    return replace(clip, confidence=other.confidence[:, places])


def noise(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """Nobody: joints that have changed their names, in half of them with every frame."""
    for number, i in enumerate(rng.choice(len(clips), STILL, replace=False)):
        order = np.argsort(rng.random((clips[i].num_frames if number % 2 else 1, 13)), axis=1)
        mixed = np.take_along_axis(clips[i].joints, order[None, :, :, None], axis=2)
        meta = {"split": "train", "block": f"noise-{number % 4}"}
        made = replace(clips[i], joints=mixed, confidence=None, label=OTHER)
        yield replace(made, id=f"noise-{number:02d}", meta=meta)


def still(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """People who do nothing: one frame of a clip, held."""
    for number, i in enumerate(rng.choice(len(clips), STILL, replace=False)):
        held = np.full(40, int(rng.integers(0, clips[i].num_frames)))
        meta = {"split": "train", "block": f"still-{number % 4}"}
        yield replace(take_frames(clips[i], held), id=f"still-{number:02d}", meta=meta)


def build(data: Path, out: Path) -> None:
    """Two stores: Penn Action with what is taught beside it, and the unknown of the report."""
    rng = np.random.default_rng(0)
    penn = penn_clips(data)
    seen = [clip for clip in penn if clip.meta["split"] == "train"]
    taught: list[Clip] = []
    reported: list[Clip] = []
    for name in ALIKE:
        clips = list(other_clips(data, name))
        reported += [clip for clip in clips if clip.meta["split"] == "test"]
        own = [clip for clip in clips if clip.meta["split"] == "train"]
        chosen = rng.choice(len(own), min(TAUGHT.get(name, 0), len(own)), replace=False)
        taught += [as_visible_as(own[i], seen[rng.integers(len(seen))]) for i in sorted(chosen)]
    taught += list(still(taught, rng))
    taught += list(noise(seen, rng))
    parts = [piece for clip in seen for piece in pieces(clip)]
    write(out / f"{RECIPE}.arrow", [*penn, *parts, *taught])
    write(out / "unknown.arrow", reported)


def write(path: Path, clips: Sequence[Clip]) -> None:
    """A store of clips of Penn Action's joints."""
    provenance = {"reader": "penn_action", "options": {}}
    with StoreWriter(path, LAYOUT, [*ACTIONS, "other"], provenance) as writer:
        for clip in clips:
            writer.write(clip)


# --------------------------------------------------------------------- training, calibration


def train(out: Path) -> Path:
    """The run of the recipe; an unfinished one goes on, a finished one is kept."""
    folder = out / "run"
    if not (folder / "report.html").exists():
        resume = ["--resume"] if (folder / "resume.ckpt").exists() else []
        words = ["train", RECIPE, f"store={out / RECIPE}.arrow", "--out", str(folder), *resume]
        command = [sys.executable, "-m", "kinegraph", *words]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return folder


def half_of_it(clip: Clip, rng: np.random.Generator) -> Clip:
    """A window of half the clip, as a stream sees it: at least 24 frames."""
    length = min(clip.num_frames, max(24, clip.num_frames // 2))
    begin = int(rng.integers(0, clip.num_frames - length + 1))
    return take_frames(clip, np.arange(begin, begin + length))


def as_it_is(clip: Clip, _: np.random.Generator) -> Clip:
    """No change."""
    return clip


def score(
    recognizer: Recognizer, store: ClipStore, indices: NDArray[np.int64], change: Change = as_it_is
) -> Scores:
    """Logits of changed clips."""
    clips = (change(store[int(i)], np.random.default_rng(int(i))) for i in indices)
    return recognizer.score(clips)


def calibrated(recognizer: Recognizer, store: ClipStore, held: NDArray[np.int64]) -> Calibration:
    """Temperature and threshold by held-out training clips, whole and halved.

    The threshold is the lowest at which at most 2 % of the actions are named wrongly, and at
    least 90 % of the others are not named.
    """
    parts = [score(recognizer, store, held, change) for change in (as_it_is, half_of_it)]
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
    """Each joint of each frame is hidden with a probability of 30 %."""
    return TRANSFORMS["joint_dropout"](clip, rng, p=0.3, per="frame")


def drop_throughout(clip: Clip, rng: np.random.Generator) -> Clip:
    """Each joint is hidden throughout the clip with a probability of 30 %."""
    return TRANSFORMS["joint_dropout"](clip, rng, p=0.3, per="clip")


def half_rate(clip: Clip, _: np.random.Generator) -> Clip:
    """Every other frame."""
    return TRANSFORMS["reduce_frame"](clip, None, step=2)


CHANGES: dict[str, Change] = {
    "all joints": as_it_is,
    "30 % of the joints dropped at random, in every frame anew": drop_in_frames,
    "30 % of the joints dropped at random, for the whole clip": drop_throughout,
    "half the frame rate": half_rate,
    "half of the clip": half_of_it,
}


def measure(recognizer: Recognizer, penn: ClipStore, unknown: ClipStore) -> dict[str, Any]:
    """All figures of the model card."""
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
    strangers: dict[str, Any] = {}
    scores = score(recognizer, unknown, np.arange(len(unknown)))
    shares = recognizer.calibration.probabilities(scores.logits)
    refused = ~recognizer.calibration.is_confident(shares)
    sets = np.array([name.split("-")[0] for name in scores.ids])
    for name in np.unique(sets):
        own = refused[sets == name]
        strangers[str(name)] = {"clips": len(own), "unknown": float(own.mean())}
    return {"test": rows, "unknown": strangers, "clips": len(test)}


# --------------------------------------------------------------------- model card

CARD = Path(__file__).with_name("penn_action_card.md")


def card(recognizer: Recognizer, figures: dict[str, Any], path: Path) -> str:
    """The model card."""
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


def counts(store: ClipStore, held: NDArray[np.int64]) -> dict[str, int]:
    """How many clips taught what, those of Penn Action counted whole."""
    train = get_split_indices(store, "official", "train")
    penn = {int(i) for i in train if store.ids[i].isdigit()}
    taught = int((store.labels[train] == OTHER).sum())
    return {"train": len(penn), "held": len(penn & set(held.tolist())), "taught": taught}


def main() -> None:
    """Build, train, calibrate, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--only", choices=["measure"])
    words = parser.parse_args()
    paths = words.out / f"{RECIPE}.arrow", words.out / "unknown.arrow"
    if not all(path.exists() for path in paths):
        build(words.data, words.out)
    penn, unknown = map(ClipStore, paths)
    if words.only:
        print(json.dumps(measure(Recognizer.load(NAME), penn, unknown), indent=1))
        return
    run = train(words.out)
    model, header = load_model(run)
    held = split_training_clips(load_recipe(RECIPE, [f"store={paths[0]}"]), penn).val
    made = calibrated(Recognizer(model, header), penn, held)
    facts = {**header.training, "counts": counts(penn, held)}
    header = replace(header, calibration=made.to_dict(), training=facts)
    PRETRAINED_FOLDER.mkdir(exist_ok=True)
    path = PRETRAINED_FOLDER / f"{NAME}.safetensors"
    save_checkpoint(path, model.state_dict(), header)
    recognizer = Recognizer.load(path)
    figures = measure(recognizer, penn, unknown)
    model_card(NAME).write_text(card(recognizer, figures, path), encoding="utf-8")


if __name__ == "__main__":
    main()
