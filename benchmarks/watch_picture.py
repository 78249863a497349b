"""The moving picture of the README: `watch` on two persons, with a model taught in seconds.

    python benchmarks/watch_picture.py DATA [--out docs/pictures/watch.gif]

DATA is the folder of the raw datasets, by name. UI-PRMD is in the public domain, so its skeletons
may be shown. The bundled model is taught three exercises by two examples of each from five persons;
two others, whom it has not seen, are seen from the front, beside each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from accuracy import run
from numpy.typing import NDArray
from PIL import Image

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.readers import read_clips
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms.convert_layout import convert_layout

ACTIONS = {1: "deep squat", 4: "side lunge", 7: "arm abduction"}  # by the number of the exercise
TEACHERS, EXAMPLES = ("s02", "s03", "s04", "s05", "s06"), 2
#: What the two persons do: (exercise, number of repetitions), and where they stand in the image.
SCENES = {("s01", 400.0): [(1, 3), (7, 3)], ("s08", 880.0): [(7, 2), (4, 3), (1, 1)]}
LAYOUT = "mpi15"
WIDTH, HEIGHT, FPS, PIXELS_PER_CM = 1280, 720, 30, 3.2
PAUSE = 12  # frames between two repetitions, which the recordings do not contain
SIZE, EVERY, COLORS = (512, 288), 4, 32  # of the picture: pixels, frames of the video, palette
DARK, BACKGROUND = 56, (26, 26, 26)


@cache
def _correct_clips(data: Path, person: str) -> tuple[Clip, ...]:
    clips = read_clips(data / "ui_prmd" / f"{person}.npz", reader="ui_prmd")
    return tuple(clip for clip in clips if not clip.id.endswith("_inc"))


def take_repetitions(data: Path, person: str, exercise: int, count: int) -> list[Clip]:
    """Return the first repetitions of a person that are done correctly."""
    prefix = f"m{exercise:02d}_{person}"
    return [clip for clip in _correct_clips(data, person) if clip.id.startswith(prefix)][:count]


def write_examples(data: Path, path: Path) -> None:
    """Write the store of the examples, a class for each action."""
    layout = get_layout("ui_prmd22")
    with StoreWriter(path, layout, list(ACTIONS.values()), {"reader": "ui_prmd"}) as writer:
        for label, exercise in enumerate(ACTIONS):
            for person in TEACHERS:
                for clip in take_repetitions(data, person, exercise, EXAMPLES):
                    writer.write(replace(clip, label=label))


def join_repetitions(clips: Sequence[Clip]) -> NDArray[np.float64]:
    """Return joints (T, V, 2) in centimeters: x from the start of each clip, y up."""
    parts: list[NDArray[np.float64]] = []
    share = np.linspace(0, 1, PAUSE)[1:-1, None, None]
    for clip in clips:
        joints = convert_layout(clip, LAYOUT).joints[0, :, :, :2].astype(np.float64)
        joints[..., 0] -= np.nanmean(joints[0, :, 0])
        if parts:
            parts.append(parts[-1][-1] * (1 - share) + joints[0] * share)
        parts.append(joints)
    return np.concatenate(parts)


def write_poses(data: Path, folder: Path) -> None:
    """Write one file of OpenPose for each frame, with both persons."""
    persons = []
    for (person, x), scene in SCENES.items():
        clips = [clip for part in scene for clip in take_repetitions(data, person, *part)]
        joints = join_repetitions(clips) * (PIXELS_PER_CM, -PIXELS_PER_CM)
        persons.append(np.add(joints, (x, HEIGHT - 50)))
    folder.mkdir()
    for t in range(min(map(len, persons))):
        people = []
        for joints in persons:
            seen = ~np.isnan(joints[t, :, :1])
            points = np.concatenate([np.where(seen, joints[t], 0), seen], axis=1)
            people.append({"pose_keypoints_2d": np.round(points, 2).ravel().tolist()})
        path = folder / f"pair_{t:012d}_keypoints.json"
        path.write_text(json.dumps({"people": people}))


def write_gif(video: Path, path: Path) -> None:
    """Write some frames of a video as a moving picture of few colors."""
    frames = []
    with av.open(str(video)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % EVERY == 0:
                image = np.array(frame.to_image().resize(SIZE, Image.Resampling.LANCZOS))
                image[image.max(axis=2) < DARK] = BACKGROUND  # noise of the compression
                frames.append(Image.fromarray(image))
    coverage = Image.Quantize.MAXCOVERAGE
    palette = frames[len(frames) // 2].quantize(COLORS, coverage, dither=Image.Dither.NONE)
    first, *others = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    duration = 1000 * EVERY // FPS
    first.save(path, save_all=True, append_images=others, duration=duration, loop=0, optimize=True)


def main() -> None:
    """Teach, watch, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/watch.gif"))
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_examples(options.data, folder / "examples.arrow")
        write_poses(options.data, folder / "poses")
        print(run(["teach", "penn-action", folder / "examples.arrow", "--out", folder / "taught"]))
        size = ["--width", WIDTH, "--height", HEIGHT, "--fps", FPS, "--layout", LAYOUT]
        taught = ["--model", folder / "taught", "--out", folder / "pair.mp4"]
        print(run(["watch", folder / "poses", *size, *taught]))
        write_gif(folder / "pair.mp4", options.out)


if __name__ == "__main__":
    main()
