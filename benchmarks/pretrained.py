"""Training of the bundled pretrained model: `make pretrained`.

    python benchmarks/pretrained.py DATA [--out runs/pretrained] [--only measure | --only curve]
    python benchmarks/pretrained.py DATA --out runs/wide --wide

DATA is the folder of the raw datasets, by name. The script builds the stores, trains the recipe
`penn_action_live`, calibrates the model on held-out training clips, evaluates it on the official
test split of Penn Action, and writes checkpoint and model card to src/kinegraph/pretrained.
`--only measure` evaluates the bundled weights and prints the numbers of the model card, `--only
curve` writes kept actions against refused other clips to docs/pretrained.md. `--wide` trains a
candidate with more background clips (`background.py`) and the noise of pose estimators; its weights
stay in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from background import ACTIONS, LAYOUT, OTHER, make_background
from matplotlib.figure import Figure
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
from kinegraph.reports.style import HUES, despine
from kinegraph.skeleton.space import Space
from kinegraph.training.batch import Preprocessor, collate
from kinegraph.training.checkpoint import load_model, save_checkpoint
from kinegraph.training.data import split_training_clips
from kinegraph.training.model_zoo import PRETRAINED_FOLDER, model_card
from kinegraph.training.recipe import load_recipe
from kinegraph.transforms import TRANSFORMS
from kinegraph.transforms.temporal_sampling import take_frames

NAME = "penn-action"
RECIPE = "penn_action_live"
SPACE = Space("image", unit="pixel")
#: Consecutive clips that are held out together, because they may be cut from one video.
BLOCK_CLIPS = 20
#: Frames per piece; longer clips are trained on as pieces, too.
PIECE_FRAMES = 60
#: Further augmentation with a wide background. Measured by benchmarks/videos.py, in sizes of the
#: body: two estimators differ by 0.011 slowly and by 0.008 from frame to frame.
WIDE_STEPS = [
    {"crop_view": {"p": 0.2, "share": 0.6}},
    {"pose_noise": {"fast": 0.01, "slow": 0.02}},
]
#: What a stream sees after one and two seconds, in frames, and whole clips.
WINDOWS: dict[str, int | None] = {"1 s": 30, "2 s": 60, "whole clip": None}

#: Largest shares of held-out clips of an action with a wrong name, and of the background with one.
MAX_WRONG, MAX_NAMED = 0.02, 0.1
#: Share of the clips of an action that are named right at which scores are compared.
KEPT = 0.95
BATCH_CLIPS = 32
THRESHOLDS = np.round(np.arange(0.3, 0.96, 0.05), 2)

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


def build(data: Path, out: Path, *, wide: bool) -> None:
    """Write two stores: Penn Action with the background, and the clips of the report."""
    rng = np.random.default_rng(0)
    penn = penn_clips(data)
    seen = [clip for clip in penn if clip.meta["split"] == "train"]
    background, reported = make_background(data, seen, rng, wide=wide)
    parts = [piece for clip in seen for piece in split_clip(clip)]
    write(out / f"{RECIPE}.arrow", [*penn, *parts, *background])
    write(out / "unknown.arrow", reported)


def write(path: Path, clips: Sequence[Clip]) -> None:
    """Write a store of clips with Penn Action's joints.

    All clips state the space of Penn Action: the model depends neither on place nor on size.
    """
    provenance = {"reader": "penn_action", "options": {}}
    with StoreWriter(path, LAYOUT, [*ACTIONS, "other"], provenance) as writer:
        for clip in clips:
            writer.write(replace(clip, space=SPACE))


# --------------------------------------------------------------------- training, calibration


def recipe_changes(out: Path, *, wide: bool) -> list[str]:
    """Return the changes of the recipe: its store, and more augmentation for a wide background."""
    changes = [f"store={out / RECIPE}.arrow"]
    if wide:
        steps = list(load_recipe(RECIPE).transforms)
        place = steps.index("swap_sides") + 1
        changes.append(f"transforms={json.dumps([*steps[:place], *WIDE_STEPS, *steps[place:]])}")
    return changes


def train(out: Path, changes: Sequence[str]) -> Path:
    """Train the recipe; an unfinished run is continued, a finished one is kept."""
    folder = out / "run"
    if not (folder / "report.html").exists():
        resume = ["--resume"] if (folder / "resume.ckpt").exists() else []
        words = ["train", RECIPE, *changes, "--out", str(folder), *resume]
        command = [sys.executable, "-m", "kinegraph", *words]
        subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True)
    return folder


def cut_window(clip: Clip, rng: np.random.Generator, frames: int) -> Clip:
    """Return a random window of the clip; a shorter clip as it is."""
    length = min(clip.num_frames, frames)
    begin = int(rng.integers(0, clip.num_frames - length + 1))
    return take_frames(clip, np.arange(begin, begin + length))


def cut_half(clip: Clip, rng: np.random.Generator) -> Clip:
    """Return a random window of half the clip, at least 24 frames."""
    return cut_window(clip, rng, max(24, clip.num_frames // 2))


def keep_clip(clip: Clip, _: np.random.Generator) -> Clip:
    """Return the clip unchanged."""
    return clip


def score(
    recognizer: Recognizer, store: ClipStore, indices: NDArray[np.int64], change: Change = keep_clip
) -> Scores:
    """Score changed clips."""
    clips = (change(store[int(i)], np.random.default_rng(int(i))) for i in indices)
    return recognizer.score(clips)


def score_windows(
    recognizer: Recognizer, store: ClipStore, indices: NDArray[np.int64], frames: int | None
) -> Scores:
    """Score a random window of each clip as a stream does, without padding; None: whole clips.

    Clips that are shorter than the window are left out.
    """
    header = recognizer.header
    prepare = Preprocessor(
        recognizer.pipeline.without_length_steps(), header.persons, header.confidence
    )
    chosen = [int(i) for i in indices if store.frames[i] >= (frames or 0)]
    size = BATCH_CLIPS if frames else 1  # whole clips differ in length
    logits = []
    for start in range(0, len(chosen), size):
        clips = [(store[i], np.random.default_rng(i)) for i in chosen[start : start + size]]
        windows = [cut_window(clip, rng, frames or clip.num_frames) for clip, rng in clips]
        logits.append(recognizer.logits(collate([prepare(window) for window in windows])))
    names = tuple(store.ids[i] for i in chosen)
    return Scores(names, store.labels[chosen], np.concatenate(logits))


def calibrate(recognizer: Recognizer, store: ClipStore, held: NDArray[np.int64]) -> Calibration:
    """Fit temperature and threshold on held-out training clips, whole and cut in half."""
    parts = [score(recognizer, store, held, change) for change in (keep_clip, cut_half)]
    logits = np.concatenate([part.logits for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    made = Calibration(fit_temperature(logits, labels), 0.0, OTHER)
    return replace(made, threshold=fit_threshold(made, logits, labels))


def fit_threshold(
    calibration: Calibration, logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> float:
    """Return the lowest threshold that meets the limits on wrong names and on the background."""
    shares = calibration.probabilities(logits)
    right, best = shares.argmax(axis=1) == labels, shares.max(axis=1)
    known = labels != OTHER

    def fits(threshold: float) -> bool:
        named = best >= threshold
        wrong = (~right & named)[known].mean()
        return bool(wrong <= MAX_WRONG and named[~known].mean() <= MAX_NAMED)

    tried = [round(0.01 * step, 2) for step in range(20, 96)]
    return next(filter(fits, tried), tried[-1])


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


def _log_sum_exp(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = logits.max(axis=1)
    return np.asarray(largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)))


#: Scores that tell known actions (high) from the background, by their title.
KNOWN_SCORES: dict[str, Callable[[Calibration, NDArray[np.float32]], NDArray[np.float32]]] = {
    "probability of the first candidate": lambda made, x: made.probabilities(x).max(axis=1),
    "all actions against the background": lambda _, x: _log_sum_exp(x[:, :OTHER]) - x[:, OTHER],
    "energy of the actions": lambda _, x: _log_sum_exp(x[:, :OTHER]),
    "largest logit": lambda _, x: x[:, :OTHER].max(axis=1),
    "probability among the actions": lambda _, x: 1 / np.exp(
        _log_sum_exp(x[:, :OTHER]) - x[:, :OTHER].max(axis=1)
    ),
}  # fmt: skip


def refused_at_kept(
    known: NDArray[np.float32], right: NDArray[np.bool_], other: NDArray[np.float32]
) -> float:
    """Return the share of other clips below the score at which `KEPT` of the known are named right.

    NaN if fewer known clips are right than that.
    """
    ordered = np.sort(known[right])[::-1]
    needed = int(np.ceil(KEPT * len(known)))
    return float((other < ordered[needed - 1]).mean()) if needed <= len(ordered) else float("nan")


def measure_curve(
    calibration: Calibration, known: Scores, other: Scores
) -> list[dict[str, float]]:
    """Return the kept, wrong and refused shares at each threshold."""
    own = calibration.probabilities(known.logits)
    right, best = own.argmax(axis=1) == known.labels, own.max(axis=1)
    others = calibration.probabilities(other.logits).max(axis=1)
    return [
        {
            "threshold": float(threshold),
            "kept": float((right & (best >= threshold)).mean()),
            "wrong": float((~right & (best >= threshold)).mean()),
            "refused": float((others < threshold).mean()),
        }
        for threshold in THRESHOLDS
    ]


def measure_elsewhere(calibration: Calibration, scores: Scores) -> dict[str, tuple[int, float]]:
    """Return the number of clips, and the share named right, of known actions of each dataset."""
    shares = calibration.probabilities(scores.logits)
    right = calibration.is_confident(shares) & (shares.argmax(axis=1) == scores.labels)
    sets = np.array([name.split("-")[0] for name in scores.ids])
    rows = {}
    for name in np.unique(sets):
        for label in np.unique(scores.labels[sets == name]):
            own = right[(sets == name) & (scores.labels == label)]
            title = f"{name}, {ACTIONS[label].replace('_', ' ')}"
            rows[title] = (len(own), float(own.mean()))
    return rows


def measure_windows(
    recognizer: Recognizer, penn: ClipStore, unknown: ClipStore, held: NDArray[np.int64]
) -> dict[str, Any]:
    """Return, for each window length, scores and thresholds on held-out clips, and the curve."""
    test = find_test_clips(penn)
    rows: dict[str, Any] = {}
    others = np.flatnonzero(unknown.labels == OTHER)
    elsewhere = np.flatnonzero(unknown.labels != OTHER)
    made = recognizer.calibration
    for title, frames in WINDOWS.items():
        own = score_windows(recognizer, penn, held, frames)
        is_known = own.labels != OTHER
        right = made.probabilities(own.logits).argmax(axis=1) == own.labels
        known = score_windows(recognizer, penn, test, frames)
        other = score_windows(recognizer, unknown, others, frames)
        known_right = made.probabilities(known.logits).argmax(axis=1) == known.labels
        print(f"{title}: scored", file=sys.stderr, flush=True)
        rows[title] = {
            "scores": {
                name: (
                    refused_at_kept(
                        function(made, own.logits)[is_known],
                        right[is_known],
                        function(made, own.logits)[~is_known],
                    ),
                    refused_at_kept(
                        function(made, known.logits), known_right, function(made, other.logits)
                    ),
                )
                for name, function in KNOWN_SCORES.items()
            },
            "threshold": fit_threshold(made, own.logits, own.labels),
            "curve": measure_curve(made, known, other),
            "elsewhere": measure_elsewhere(
                made, score_windows(recognizer, unknown, elsewhere, frames)
            ),
            "known": len(known.labels),
            "other": len(other.labels),
        }
    return rows


def find_test_clips(penn: ClipStore) -> NDArray[np.int64]:
    """Return the clips of Penn Action's test split."""
    test = get_split_indices(penn, "official", "test")
    return np.asarray(test[penn.labels[test] != OTHER])


def measure(recognizer: Recognizer, penn: ClipStore, unknown: ClipStore) -> dict[str, Any]:
    """Return all numbers of the model card."""
    test = find_test_clips(penn)
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
    scores = score(recognizer, unknown, np.flatnonzero(unknown.labels == OTHER))
    shares = recognizer.calibration.probabilities(scores.logits)
    named = recognizer.calibration.is_confident(shares)
    sets = np.array([name.split("-")[0] for name in scores.ids])
    for name in np.unique(sets):
        refused = ~named[sets == name]
        by_dataset[str(name)] = {"clips": len(refused), "unknown": float(refused.mean())}
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


DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURE = DOCS / "pretrained.md", DOCS / "pictures" / "unknown_curve.png"
MARKS = "<!-- by benchmarks/pretrained.py -->", "<!-- end -->"


def render_curve(windows: Mapping[str, Any], threshold: float) -> str:
    """Return the tables of the page: the curve, the scores, and a threshold for each length."""
    numbers = ", ".join(f"{title}: {w['known']} and {w['other']}" for title, w in windows.items())
    lines = [f"Clips of actions, and other clips: {numbers}.", ""]
    lines += [f"| threshold | {' | '.join(f'{w}: kept, refused' for w in windows)} |"]
    lines += ["|---" * (1 + len(windows)) + "|"]
    for number, at in enumerate(THRESHOLDS):
        points = [w["curve"][number] for w in windows.values()]
        cells = [f"{100 * p['kept']:.1f}, {100 * p['refused']:.1f}" for p in points]
        mark = "**" if abs(at - threshold) < 0.025 else ""
        lines.append(f"| {mark}{at:.2f}{mark} | {' | '.join(cells)} |")
    lines += ["", f"| score | {' | '.join(f'{w}: held out, unseen' for w in windows)} |"]
    lines += ["|---" * (1 + len(windows)) + "|"]
    for name in KNOWN_SCORES:
        pairs = [w["scores"][name] for w in windows.values()]
        cells = [", ".join("–" if np.isnan(v) else f"{100 * v:.1f}" for v in p) for p in pairs]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| known action of another dataset | {' | '.join(windows)} |"]
    lines += ["|---" * (1 + len(windows)) + "|"]
    for name in sorted({name for w in windows.values() for name in w["elsewhere"]}):
        found = [w["elsewhere"].get(name) for w in windows.values()]
        cells = ["–" if one is None else f"{one[0]}: {100 * one[1]:.0f}" for one in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    best = ", ".join(f"{w['threshold']:.2f} ({title})" for title, w in windows.items())
    lines += ["", f"The threshold of the model is {threshold:.2f}; each length alone: {best}."]
    return "\n".join(lines)


def draw_curve(windows: Mapping[str, Any], threshold: float, path: Path) -> None:
    """Draw kept clips of actions over refused other clips, a line for each window length."""
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    ax = figure.subplots()
    despine(ax, grid="both")
    for (title, window), color in zip(windows.items(), HUES, strict=False):
        refused = [100 * point["refused"] for point in window["curve"]]
        kept = [100 * point["kept"] for point in window["curve"]]
        ax.plot(refused, kept, color=color, label=title)
        at = int(np.abs(THRESHOLDS - threshold).argmin())
        ax.plot(refused[at], kept[at], "o", color=color)
    ax.set(xlabel="other actions refused (%)", ylabel="known actions named right (%)")
    ax.legend(frameon=False, loc="lower left")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


def write_page(windows: Mapping[str, Any], recognizer: Recognizer) -> None:
    """Write the curve to the page of the docs, as tables and as a picture."""
    threshold = recognizer.calibration.threshold
    draw_curve(windows, threshold, PICTURE)
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    text = f"{MARKS[0]}\n{render_curve(windows, threshold)}\n{MARKS[1]}"
    PAGE.write_text(before + text + after, encoding="utf-8")


def main() -> None:
    """Build the stores, train, calibrate, evaluate, and write weights, model card and curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--only", choices=["measure", "curve"])
    parser.add_argument("--wide", action="store_true", help="train a candidate; keep the weights")
    options = parser.parse_args()
    paths = options.out / f"{RECIPE}.arrow", options.out / "unknown.arrow"
    if not all(path.exists() for path in paths):
        build(options.data, options.out, wide=options.wide)
    penn, unknown = map(ClipStore, paths)
    changes = recipe_changes(options.out, wide=options.wide)
    held = split_training_clips(load_recipe(RECIPE, changes), penn).val
    if options.only == "curve":
        recognizer = Recognizer.load(NAME)
        write_page(measure_windows(recognizer, penn, unknown, held), recognizer)
        return
    if options.only:
        print(json.dumps(measure(Recognizer.load(NAME), penn, unknown), indent=1))
        return
    run = train(options.out, changes)
    model, header = load_model(run)
    calibration = calibrate(Recognizer(model, header), penn, held)
    facts = {**header.training, "counts": count_clips(penn, held)}
    header = replace(header, calibration=vars(calibration), training=facts)
    folder = options.out if options.wide else PRETRAINED_FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    save_checkpoint(path, model.state_dict(), header)
    recognizer = Recognizer.load(path)
    if options.wide:
        windows = measure_windows(recognizer, penn, unknown, held)
        print(render_curve(windows, recognizer.calibration.threshold))
        return
    figures = measure(recognizer, penn, unknown)
    model_card(NAME).write_text(render_card(recognizer, figures, path), encoding="utf-8")
    write_page(measure_windows(recognizer, penn, unknown, held), recognizer)


if __name__ == "__main__":
    main()
