"""Takes of synthetic actions in front of a simulated camera, as clips and as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.readers import read_clip
from kinegraph.readers.ntu.skeleton_file import write_skeleton
from kinegraph.readers.synthetic.actions import ACTIONS, perform
from kinegraph.readers.synthetic.performer import Performer
from kinegraph.readers.synthetic.sensor import SYNTHETIC_CAMERAS, record_scene

FRONT = 2  # the camera in front


def write_take(folder: Path, action: str, number: int) -> Path:
    """Write one take of an action, by a performer of its own, as an NTU file."""
    rng = np.random.default_rng([number, *action.encode()])
    performer = Performer.draw(rng)
    scene = perform(ACTIONS[action], performer, performer, rng)
    label = list(ACTIONS).index(action) + 1
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"S001C{FRONT:03}P{number + 1:03}R001A{label:03}.skeleton"
    write_skeleton(path, record_scene(scene, SYNTHETIC_CAMERAS[FRONT], 2**56, rng))
    return path


def read_take(folder: Path, action: str, number: int) -> Clip:
    """Return one take of an action as a clip."""
    return read_clip(write_take(folder, action, number))
