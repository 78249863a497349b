"""Segmentation of UTKinect's recordings beside two baselines: a table of docs/numbers.md.

    python benchmarks/segmentation.py DATA [--out runs/segmentation] [--no-train]

DATA is the folder of the raw datasets. All rows have the backbone and the transforms of the recipe
utkinect_segmentation. The baselines are a classifier of windows of clips, and the linear classifier
of each frame whose labels are smoothed. Finished runs are kept, as in accuracy.py.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from accuracy import mean_and_spread, minutes, run, train_run, write_table

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import frame_classes, label_frames, parse_intervals
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.evaluate_segmentation import (
    LabeledSegmentation,
    SegmentationEvaluation,
    evaluate_segmentation,
    segment_split,
)
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.segment import Segmentation, Segmenter, smooth_labels, spread_frames
from kinegraph.inference.segment_stream import SegmentationStream
from kinegraph.training.recipe import load_recipe

RECIPE = "utkinect_segmentation"
HEADER = (
    "model", "frame accuracy", "edit score", "F1@10", "F1@25", "F1@50", "mAP at IoU 0.5", "seeds",
    "minutes per run",
)  # fmt: skip
SEEDS = 3
FRAMES_PER_SECOND = 15  # of UTKinect; the store has none, as frames are missing in the files
WINDOW, HOP = 45, 15  # frames of a window, and between the windows of training
TEST_HOP = 3  # frames between the windows of a test
SMOOTHED = 31  # frames within which the most frequent label counts, about a second
CAUSAL = "head={{name: causal, layers: 5, refinements: 1, channels: 32, dropout: 0.2, {}}}"
#: Changes of the recipe.
CASES = {
    "ms_tcn": (),
    "causal": (CAUSAL.format("delay: 4, smooth: 4"),),
    "causal_0": (CAUSAL.format("delay: 0, smooth: 4"),),
    "causal_0_single": (CAUSAL.format("delay: 0"),),
    "causal_joints": (CAUSAL.format("delay: 10"), "stream=joint"),
    "linear": ("head={name: linear}",),
}


def main() -> None:
    """Train what is missing, evaluate all runs, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--no-train", action="store_true")
    options = parser.parse_args()
    store = options.out / "recordings.arrow"
    if not store.exists():
        run(["convert", "utkinect", options.data / "utkinect", store, "--what", "recordings"])
    windows = options.out / "windows.arrow"
    if not windows.exists():
        write_windows(ClipStore(store), windows)
    if not options.no_train:
        for seed in range(SEEDS):
            for name, changes in CASES.items():
                path = folder(options.out, name, seed)
                train_run(RECIPE, path, f"store={store}", f"seed={seed}", *changes)
            train_windows(windows, folder(options.out, "windows", seed), seed)
    rows: list[tuple[str, str, Callable[[Path], list[LabeledSegmentation]]]] = [
        ("MS-TCN++", "ms_tcn", segment_split),
        ("MS-TCN++, smoothed", "ms_tcn", smooth_frames),
        *((title_causal(n, options.out), n, segment_split) for n in CASES if "causal" in n),
        ("linear classifier of frames, smoothed", "linear", smooth_frames),
        ("linear classifier of frames", "linear", segment_split),
        ("sliding window", "windows", partial(slide_window, ClipStore(store))),
    ]
    lines = [row(title, name, options.out, segment) for title, name, segment in rows]
    write_table("segmentation", HEADER, lines)


def title_causal(name: str, out: Path) -> str:
    """Return the title of a row of the causal head, with the delay of its stream."""
    frames = SegmentationStream(Segmenter.load(folder(out, name, 0))).delay
    joints = ", joints without motion" if name.endswith("joints") else ""
    return f"causal, {frames} frames ({frames / FRAMES_PER_SECOND:.1f} s) late{joints}"


def folder(out: Path, name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{name}-{seed}"


def row(
    title: str, name: str, out: Path, segment: Callable[[Path], list[LabeledSegmentation]]
) -> str:
    """Return a row of the table, over the finished runs."""
    runs = [folder(out, name, seed) for seed in range(SEEDS)]
    runs = [path for path in runs if (path / "report.html").exists()]
    found = [evaluate_segmentation(segment(path)) for path in runs]
    by_metric = zip(*map(metrics, found), strict=True)
    cells = [mean_and_spread([100 * f for f in figures]) for figures in by_metric]
    time = statistics.mean(map(minutes, runs))
    return f"| {title} | {' | '.join(cells)} | {len(runs)} | {time:.1f} |"


def metrics(result: SegmentationEvaluation) -> list[float]:
    """Return the figures of a row."""
    precision = result.mean_average_precision["0.5"]
    return [result.frame_accuracy, result.edit, *result.f1.values(), precision]


def smooth_frames(run_folder: Path) -> list[LabeledSegmentation]:
    """Return the answers of a run with smoothed labels."""
    return [
        replace(one, answer=with_labels(one.answer, smooth_labels(one.predicted, SMOOTHED)))
        for one in segment_split(run_folder)
    ]


def with_labels(answer: Segmentation, labels: np.ndarray) -> Segmentation:
    """Return an answer with other labels, and the mean probability that they had."""
    shares = answer.probabilities * 1e-6
    shares[np.arange(len(labels)), labels] = answer.probabilities.max(axis=1)
    return replace(answer, probabilities=shares)


def write_windows(store: ClipStore, path: Path) -> None:
    """Write a store of windows, labeled by the frame in their middle, the background included."""
    classes, background = frame_classes(store.classes or ())
    with StoreWriter(path, store.layout, classes) as writer:
        for clip in store:
            intervals = parse_intervals(clip.meta, clip.num_frames) or ()
            labels = label_frames(intervals, clip.num_frames, background)
            for middle in range(0, clip.num_frames, HOP):
                window = cut_window(clip, middle)
                writer.write(replace(window, label=int(labels[middle])))


def cut_window(clip: Clip, middle: int) -> Clip:
    """Return the window around a frame of a recording, shorter at its ends."""
    start, stop = max(0, middle - WINDOW // 2), middle + WINDOW // 2 + 1
    meta = {"subject": clip.meta["subject"]}
    return Clip(
        clip.joints[:, start:stop], clip.layout, id=f"{clip.id}_{middle}", meta=meta,
        space=clip.space,
    )  # fmt: skip


def train_windows(store: Path, out: Path, seed: int) -> None:
    """Train a classifier of windows, with the backbone and the transforms of the recipe."""
    steps = [
        step for step in load_recipe(RECIPE).transforms
        if not (isinstance(step, dict) and {"random_window", "downsample"} & {*step})
    ]  # fmt: skip
    train_run(
        RECIPE, out, f"store={store}", f"seed={seed}", "head=null", "objective={name: recognition}",
        f"transforms={[*steps, {'resize': {'frames': WINDOW // 3}}]}", "train.batch_size=16",
        "train.epochs=10", "train.warmup_epochs=1",
    )  # fmt: skip


def slide_window(store: ClipStore, run_folder: Path) -> list[LabeledSegmentation]:
    """Return the recordings of the test split with the class of the window around each frame."""
    recognizer = Recognizer.load(run_folder)
    classes, background = frame_classes(store.classes or ())
    found = []
    for clip in store:
        if int(clip.meta["subject"]) % 2:  # odd subjects train
            continue
        middles = np.arange(0, clip.num_frames, TEST_HOP)
        scores = recognizer.score([cut_window(clip, int(middle)) for middle in middles])
        rows = spread_frames(scores.probabilities.astype(np.float32), middles, clip.num_frames)
        intervals = parse_intervals(clip.meta, clip.num_frames) or ()
        true = label_frames(intervals, clip.num_frames, background)
        found.append(LabeledSegmentation(Segmentation(clip.id, rows, classes, background), true))
    return found


if __name__ == "__main__":
    main()
