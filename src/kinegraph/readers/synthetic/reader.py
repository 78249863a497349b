"""Reader of the synthetic dataset, which it first creates as raw NTU files if they do not exist."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import ReadError
from kinegraph.files import atomic_path
from kinegraph.readers.ntu import reader as ntu
from kinegraph.readers.ntu.skeleton_file import write_skeleton
from kinegraph.readers.reader import (
    Reader,
    ReadPlan,
    ReadResults,
    ReadTask,
    check_choice,
    check_count,
)
from kinegraph.readers.synthetic.actions import ACTIONS, perform
from kinegraph.readers.synthetic.performer import Performer
from kinegraph.readers.synthetic.recordings import plan_recordings, read_recording
from kinegraph.readers.synthetic.sensor import SYNTHETIC_CAMERAS, record_scene

NUM_PERFORMERS, NUM_REPLICATIONS, DEFAULT_SEED = 16, 1, 0
DESCRIPTION_FILE = "synthetic.json"  # the file beside the recordings that states their options

_TAKE_KINDS = ("takes", "recordings")
_FIRST_BODY_ID = 2**56  # where a Kinect begins to count
_MAX_NUMBER = 999  # the file names have three digits
_FIGURE, _EXTRA, _SCENE, _SENSOR = range(4)  # purposes of random generators


def write_dataset(
    folder: Path | str,
    performers: int = NUM_PERFORMERS,
    replications: int = NUM_REPLICATIONS,
    seed: int = DEFAULT_SEED,
) -> None:
    """Write recordings of every performer, action (12) and camera (3) as NTU files.

    Performer n is subject n, so the protocol "xsub" tests on performers that it does not train
    on: with 16 performers, it trains on 1, 2, 4, 5, 8, 9 and 13 to 16. The other person of a
    mutual action is an extra who appears with one performer only. All cameras record the same
    performance. The same arguments make the same bytes; more performers or replications only add
    files.

    Args:
        folder: a new or empty folder; it appears when everything is written.
        performers: number of performers, at least 1; the protocol "xsub" needs 3.
        replications: how many times each performer acts each action, at least 1.
        seed: 0 or more; it determines the performers and their motions.

    Raises:
        ReadError: a number is out of range, or the folder is not empty or cannot be written.
    """
    check_count("performers", performers, 1, _MAX_NUMBER)
    check_count("replications", replications, 1, _MAX_NUMBER)
    check_count("seed", seed, 0, 2**32 - 1)
    folder = Path(folder).absolute()
    if folder.exists() and not _is_empty_folder(folder):
        raise ReadError(f"{folder}: expected a new or an empty folder for the synthetic dataset")
    try:
        with atomic_path(folder) as partial:
            partial.mkdir(parents=True)
            counts = range(1, performers + 1), range(1, replications + 1), range(len(ACTIONS))
            for key in product(*counts):
                _write_performance(partial, seed, *key)
            counted = {"performers": performers, "replications": replications, "seed": seed}
            text = json.dumps({**counted, "classes": list(ACTIONS)}, indent=2) + "\n"
            (partial / DESCRIPTION_FILE).write_bytes(text.encode())
            if folder.exists():
                folder.rmdir()  # empty; not every system renames over a folder
    except OSError as error:
        raise ReadError(f"{folder}: cannot write the synthetic dataset: {error}") from error


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _write_performance(folder: Path, seed: int, subject: int, replication: int, label: int) -> None:
    key = subject, replication, label
    who = Performer.draw(_generator(seed, _FIGURE, subject))
    extra = Performer.draw(_generator(seed, _EXTRA, subject))
    action = list(ACTIONS.values())[label]
    scene = perform(action, who, extra, _generator(seed, _SCENE, *key))
    for number, camera in SYNTHETIC_CAMERAS.items():
        rng = _generator(seed, _SENSOR, *key, number)
        body_id = _FIRST_BODY_ID + int(rng.integers(100, 90_000))
        name = f"S001C{number:03}P{subject:03}R{replication:03}A{label + 1:03}.skeleton"
        write_skeleton(folder / name, record_scene(scene, camera, body_id, rng))


def _generator(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """Return a generator per purpose, so that no number depends on what was drawn before."""
    return np.random.default_rng([seed, purpose, *key])


def _scan(
    source: Path,
    *,
    performers: int | None = None,
    replications: int | None = None,
    seed: int | None = None,
    what: str = "takes",
) -> ReadPlan:
    """Create the dataset if it does not exist; the options must match an existing one."""
    check_choice("kind of synthetic clips", what, _TAKE_KINDS)
    options = {"performers": performers, "replications": replications, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    missing = not source.exists() and source.suffix != ".skeleton"
    if missing or _is_empty_folder(source):
        write_dataset(source, **given)
    else:
        _check_description(source, given)
    plan = ntu.READER.scan(source)
    reason = f"its action is not one of the {len(ACTIONS)} synthetic ones; use the reader 'ntu'"
    tasks, refused = [], [*plan.refused]
    for task in plan.tasks:
        if int(task.info.get("label", 0)) < len(ACTIONS):
            tasks.append(task)
        else:
            refused.append((task.path, reason))
    if what == "recordings":
        tasks = [*plan_recordings(tasks)]
    return ReadPlan(tasks, plan.layout, tuple(ACTIONS), tuple(refused))


def _read(task: ReadTask) -> ReadResults:
    return read_recording(task) if "takes" in task.info else ntu.READER.read(task)


def _check_description(source: Path, given: Mapping[str, Any]) -> None:
    if not given:
        return
    path = (source if source.is_dir() else source.parent) / DESCRIPTION_FILE
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(1 << 16))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(
            f"{path}: cannot read the options of the recordings there: {error}; "
            "choose another folder, or leave the options out"
        ) from error
    made = found if isinstance(found, dict) else {}
    for name, value in given.items():
        if made.get(name) != value:
            raise ReadError(
                f"{source}: the recordings there were created with {name}={made.get(name)}, not "
                f"{value}; choose another folder, or leave {name} out"
            )


READER = Reader(
    name="synthetic",
    summary="synthetic performers of 12 actions as NTU files; creates them in an empty folder",
    scan=_scan,
    read=_read,
    matches=lambda path: False,  # a file of this dataset is a plain NTU file
    options={
        "performers": f"number of performers to create (default {NUM_PERFORMERS})",
        "replications": f"performances of each action per performer (default {NUM_REPLICATIONS})",
        "seed": f"seed of the performers, a whole number of 0 or more (default {DEFAULT_SEED})",
        "what": "takes (a clip for each action, default) or recordings (all actions, with rests)",
    },
    protocols=("xsub", "xview"),
    creates_source=True,
    space=ntu.READER.space,
)
