"""Accuracy of repetition counting: the table and the picture of docs/counting.md.

    python benchmarks/counting.py DATA [--videos] [--picture docs/pictures/counting.png]

DATA is the folder of the raw datasets, by name. The ten segments of an exercise, person and quality
of UI-PRMD follow each other in time, and are one recording of ten repetitions again. --videos also
counts in DATA/videos, with the counts that were found by eye.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from kinegraph.clips.clip import Clip
from kinegraph.inference.counting import RepetitionCount, count_repetitions
from kinegraph.readers import read_clips
from kinegraph.readers.synthetic.body import LEFT, RIGHT, BodyProportions, Pose
from kinegraph.reports.style import GREEN, SLATE, despine
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.counting import VideoCounter
from kinegraph.video.sources import open_source

FPS = 30
SEGMENTS = 10
#: Counts by eye, from contact sheets of all frames: complete movements out and back.
VIDEOS = {
    "pushup_01.mp4": 1,
    "squat_01.mp4": 1,
    "jumping_jacks_01.mp4": 6,
    "pullup_01.mp4": 1,
    "situp_01.mp4": 1,
    "plank_01.mp4": 0,
}


def synthetic_recordings() -> Iterator[tuple[str, int, Clip]]:
    """Yield (group, count, clip) of squats and arm raises with noise, pauses and drift."""
    rng = np.random.default_rng(0)
    for number in range(40):
        expected = int(rng.integers(0, 12))
        parts = [np.zeros(int(rng.integers(0, 60)))]
        for period in rng.uniform(0.8, 5.0) * rng.uniform(0.7, 1.3, expected):
            share = np.arange(round(period * FPS)) / round(period * FPS)
            parts += [rng.uniform(0.8, 1.0) * (0.5 - 0.5 * np.cos(2 * np.pi * share))]
            parts += [np.zeros(int(rng.integers(0, 90)) * int(rng.random() < 0.3))]
        moved = np.concatenate([*parts, np.zeros(10)])
        pose = Pose(BodyProportions.draw(rng), len(moved))
        if number % 2:
            pose.root[:, 1] -= 0.45 * pose.body.hip_height * moved
            pose.lean += 0.5 * moved
        else:
            for side in (LEFT, RIGHT):
                angle = np.pi * moved
                out, up = 0.15 + 0.8 * np.sin(angle), -0.9 * np.cos(angle)
                pose.hands[side] = pose.reach(side, out, up, 0.08)
        joints = pose.joints() + rng.normal(0, rng.uniform(0, 0.02), (len(moved), 25, 3))
        joints += np.linspace(0, rng.uniform(0, 0.5), len(moved))[:, None, None]
        clip = Clip(joints[None].astype(np.float32), get_layout("ntu25"), fps=FPS)
        yield "synthetic, 0 to 11 repetitions", expected, clip


def exercise_recordings(folder: Path) -> Iterator[tuple[str, int, Clip]]:
    """Yield (group, count, clip) of the recordings of UI-PRMD."""
    for subject in range(1, 11):
        segments = read_clips(folder / f"s{subject:02}.npz", "ui_prmd")
        names = {clip.id: clip for clip in segments}
        for quality in ("correct", "incorrect"):
            for exercise in range(1, 11):
                end = "_inc" if quality == "incorrect" else ""
                own = [
                    names[f"m{exercise:02}_s{subject:02}_e{repetition:02}{end}"]
                    for repetition in range(1, SEGMENTS + 1)
                ]
                joints = np.concatenate([clip.joints for clip in own], axis=1)
                side = "odd" if subject % 2 else "even"
                group = f"UI-PRMD, {quality}, {side} subjects"
                clip = Clip(joints, own[0].layout, id=own[0].id, fps=own[0].fps)
                yield group, SEGMENTS, clip


def count_video(path: Path) -> int:
    """Return the largest count of a person of a video."""
    counter, source = VideoCounter(), open_source(str(path))
    for _, pose in source.frames():
        if pose is not None:
            counter(pose)
    source.close()
    return max((result.count for result in counter.results().values()), default=0)


def draw(clip: Clip, result: RepetitionCount, path: Path) -> None:
    """Draw the heights of the joints of a clip over time, and its repetitions."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    ax = figure.subplots()
    despine(ax)
    time = np.arange(clip.num_frames) / FPS
    ax.plot(time, clip.joints[0, ..., 1], color=SLATE, lw=0.6, alpha=0.6)
    for number, one in enumerate(result.repetitions, start=1):
        ax.axvspan(one.start, one.end, color=GREEN, alpha=0.2, lw=0)
        middle = (one.start + one.end) / 2
        ax.text(middle, 1.02, number, transform=ax.get_xaxis_transform(), ha="center")
    ax.set(xlabel="seconds", ylabel="height of each joint (cm)")
    figure.savefig(path, dpi=90)


def main() -> None:
    """Print the table as markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--videos", action="store_true")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    errors: dict[str, list[int]] = {}
    for group, expected, clip in [
        *synthetic_recordings(),
        *exercise_recordings(options.data / "ui_prmd"),
    ]:
        (result,) = count_repetitions(clip)
        errors.setdefault(group, []).append(result.count - expected)
        if options.picture and clip.id == "m01_s01_e01":
            draw(clip, result, options.picture)
    print("| recordings | number | exact (%) | off by at most one (%) | mean error |")
    print("|---|---|---|---|---|")
    for group, found in errors.items():
        off = np.abs(found)
        shares = f"{100 * np.mean(off == 0):.1f} | {100 * np.mean(off <= 1):.1f}"
        print(f"| {group} | {len(found)} | {shares} | {np.mean(found):+.2f} |")
    for name, expected in VIDEOS.items() if options.videos else ():
        print(f"{name}: {count_video(options.data / 'videos' / name)}, by eye {expected}")


if __name__ == "__main__":
    main()
