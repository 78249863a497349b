"""What `watch` names in videos, and how pose estimators err in them.

    python benchmarks/videos.py VIDEOS [--out runs/videos] [--model penn-action] [--noise]

VIDEOS is a folder of videos with truth.csv (columns file, truth). The poses of each estimator are
computed once and kept in --out: of each video, and of its middle frame repeated for three seconds.
The script prints the dominant action of each; with --noise it prints how the poses of the
estimators differ, beside the same figures of Penn Action's annotations (--penn FOLDER).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.inference.recognizer import Recognizer
from kinegraph.readers import read_clips
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.decode import VideoFile
from kinegraph.video.estimators.base import PoseFrame, load_estimator
from kinegraph.video.pipeline import ActionPipeline
from kinegraph.video.segmentation import Segment, dominant_action
from kinegraph.video.sources import FPS, VideoSource
from kinegraph.video.tracking import Tracker

ESTIMATORS = {"mediapipe": "mediapipe33", "movenet": "coco17"}
PERSONS = 6
STILL_SECONDS = 3
MIN_TRACK_FRAMES = 15
SLOW_FRAMES = 9  # errors that a mean over so many frames keeps are slow
LAYOUT = get_layout("penn13")
LOWER_JOINTS = [LAYOUT.index(f"{side}_{joint}") for side in ("left", "right") for joint in
                ("knee", "ankle")]  # fmt: skip

Joints = NDArray[np.float64]


# --------------------------------------------------------------------- poses


def estimate_poses(path: Path, estimator: str, *, still: bool) -> list[PoseFrame]:
    """Return the poses of a video, or of its middle frame repeated."""
    found = load_estimator(estimator, PERSONS)
    source = VideoSource(VideoFile(path), found)
    try:
        if not still:
            return [pose for _, pose in source.frames() if pose is not None]
        frames = list(source.replay())
        image = frames[len(frames) // 2].image
        return [found(image, number / FPS) for number in range(round(STILL_SECONDS * FPS))]
    finally:
        source.close()


def load_poses(path: Path, estimator: str, out: Path, *, still: bool = False) -> list[PoseFrame]:
    """Return the poses of a video, computed at the first call and kept."""
    kept = out / f"{estimator}-{path.stem}{'-still' if still else ''}.npz"
    if not kept.exists():
        poses = estimate_poses(path, estimator, still=still)
        out.mkdir(parents=True, exist_ok=True)
        np.savez(
            kept,
            times=[pose.time for pose in poses],
            counts=[len(pose.joints) for pose in poses],
            joints=np.concatenate([pose.joints for pose in poses]),
            confidence=np.concatenate([pose.confidence for pose in poses]),
            size=(poses[0].width, poses[0].height),
        )
    with np.load(kept) as arrays:
        ends = np.cumsum(arrays["counts"])[:-1]
        width, height = map(int, arrays["size"])
        joints = np.split(arrays["joints"], ends)
        confidence = np.split(arrays["confidence"], ends)
        rows = zip(arrays["times"], joints, confidence, strict=True)
        return [PoseFrame(float(time), own, sure, width, height) for time, own, sure in rows]


def find_segments(recognizer: Recognizer, estimator: str, poses: list[PoseFrame]) -> list[Segment]:
    """Return the segments that `watch` finds in these poses."""
    layout = get_layout(ESTIMATORS[estimator])
    pipeline = ActionPipeline(recognizer, layout, Tracker(PERSONS))
    found = [segment for pose in poses for segment in pipeline(pose)[1]]
    return found + pipeline.finish()


def print_actions(folder: Path, out: Path, recognizer: Recognizer) -> None:
    """Print the dominant action of each video and of each still picture."""
    with (folder / "truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print("| video | truth | " + " | ".join(f"{e} | {e}, still" for e in ESTIMATORS) + " |")
    print("|---" * (2 + 2 * len(ESTIMATORS)) + "|")
    for row in rows:
        cells = []
        for estimator in ESTIMATORS:
            for still in (False, True):
                poses = load_poses(folder / row["file"], estimator, out, still=still)
                segments = find_segments(recognizer, estimator, poses)
                main = dominant_action(segments)
                named = sum(s.seconds for s in segments if s.label is not None)
                share = named / max(main.of, 1e-9)
                cells.append(f"{main.name} {main.probability:.0%} (named {share:.0%})")
        print(f"| {row['file']} | {row['truth']} | {' | '.join(cells)} |", flush=True)


# --------------------------------------------------------------------- noise


def find_tracks(estimator: str, poses: Sequence[PoseFrame]) -> dict[int, Joints]:
    """Return the joints (T, 13, 2) of each person who is visible long enough."""
    tracker, layout = Tracker(PERSONS), get_layout(ESTIMATORS[estimator])
    found: dict[int, Joints] = {}
    for number, frame in enumerate(poses):
        for pose in tracker(frame):
            joints, _ = convert_joints(pose.joints[None], layout, LAYOUT, pose.confidence[None])
            empty = np.full((len(poses), LAYOUT.num_joints, 2), np.nan)
            found.setdefault(pose.person, empty)[number] = joints[0]
    seen = {person: ~np.isnan(joints[..., 0]).all(axis=1) for person, joints in found.items()}
    return {person: found[person] for person in found if seen[person].sum() >= MIN_TRACK_FRAMES}


def body_size(joints: Joints) -> float:
    """Return the median diagonal of the box around a body."""
    shown = joints[~np.isnan(joints[..., 0]).all(axis=1)]
    extent = np.nanmax(shown, axis=1) - np.nanmin(shown, axis=1)
    return float(np.median(np.linalg.norm(extent, axis=1)))


def measure_jitter(joints: Joints) -> float:
    """Return the noise of single frames, in sizes of the body, by second differences."""
    second = joints[2:] - 2 * joints[1:-1] + joints[:-2]
    return 1.4826 * float(np.nanmedian(np.abs(second))) / 6**0.5 / body_size(joints)


def measure_gaps(joints: Joints) -> dict[str, float]:
    """Return the shares of missing joints of a track."""
    shown = np.flatnonzero(~np.isnan(joints[..., 0]).all(axis=1))
    span = joints[shown[0] : shown[-1] + 1]
    own = np.isnan(joints[shown][..., 0])
    return {
        "frames without the person": 1 - len(shown) / len(span),
        "joints missing": float(own.mean()),
        "joints missing throughout": float((own.mean(axis=0) > 0.95).mean()),
        "joints missing at times": float(own[:, own.mean(axis=0) <= 0.95].mean())
        if (own.mean(axis=0) <= 0.95).any() else 0.0,
        "tracks without knees and ankles": float(own[:, LOWER_JOINTS].mean() > 0.9),
    }  # fmt: skip


def compare_tracks(first: Joints, second: Joints) -> dict[str, float] | None:
    """Return the differences of two estimates of a person; None if they are not of one person."""
    both = ~np.isnan(first[..., 0]) & ~np.isnan(second[..., 0])
    if (both.sum(axis=1) >= 4).sum() < MIN_TRACK_FRAMES:
        return None
    size = body_size(second)
    offset = (first - second) / size
    distance = np.nanmean(np.linalg.norm(offset, axis=2))
    if distance > 0.25:
        return None
    other = (first[:, list(LAYOUT.mirror)] - second) / size
    swapped = np.nanmean(np.linalg.norm(other, axis=2), axis=1)
    own = np.nanmean(np.linalg.norm(offset, axis=2), axis=1)
    kernel = np.ones(SLOW_FRAMES) / SLOW_FRAMES
    bias, slow, fast = [], [], []
    for joint in range(LAYOUT.num_joints):
        for axis in range(2):
            values = offset[both[:, joint], joint, axis]
            if len(values) >= MIN_TRACK_FRAMES:
                smooth = np.convolve(values, kernel, "valid")
                middle = values[SLOW_FRAMES // 2 : SLOW_FRAMES // 2 + len(smooth)]
                bias.append(abs(float(values.mean())))
                slow.append(float(smooth.std()))
                fast.append(float((middle - smooth).std()))
    return {
        "constant difference": float(np.mean(bias)),
        "slow difference": float(np.mean(slow)),
        "fast difference": float(np.mean(fast)),
        "frames with swapped sides": float((swapped < 0.6 * own).mean()),
    }


def print_noise(folder: Path, out: Path, penn: Path | None) -> None:
    """Print the mean figures of all tracks."""
    rows: dict[str, list[dict[str, float]]] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".mp4", ".avi"}):
        tracks = {e: find_tracks(e, load_poses(path, e, out)) for e in ESTIMATORS}
        for estimator, own in tracks.items():
            for joints in own.values():
                figures = {"jitter": measure_jitter(joints), **measure_gaps(joints)}
                rows.setdefault(estimator, []).append(figures)
        rows.setdefault("mediapipe - movenet", []).extend(compare_all(*tracks.values()))
    if penn is not None:
        for clip in read_clips(penn):
            joints = clip.joints[0].astype(np.float64)
            if (~np.isnan(joints[..., 0])).any(axis=1).sum() >= MIN_TRACK_FRAMES:
                figures = {"jitter": measure_jitter(joints), **measure_gaps(joints)}
                rows.setdefault("Penn Action", []).append(figures)
    for name, found in rows.items():
        print(f"{name}, {len(found)} tracks")
        for title in found[0] if found else ():
            values = np.array([one[title] for one in found])
            low, middle, high = np.nanpercentile(values, [10, 50, 90])
            print(f"  {title}: mean {np.nanmean(values):.4f}, "
                  f"10, 50, 90 %: {low:.4f} {middle:.4f} {high:.4f}")  # fmt: skip


def compare_all(first: dict[int, Joints], second: dict[int, Joints]) -> Iterator[dict[str, float]]:
    """Yield the differences of the tracks of two estimators that show one person."""
    for one in first.values():
        for other in second.values():
            if (found := compare_tracks(one, other)) is not None:
                yield found


def main() -> None:
    """Print the actions, or the noise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/videos"))
    parser.add_argument("--model", default="penn-action")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--penn", type=Path)
    options = parser.parse_args()
    if options.noise:
        print_noise(options.videos, options.out, options.penn)
    else:
        print_actions(options.videos, options.out, Recognizer.load(options.model))


if __name__ == "__main__":
    main()
