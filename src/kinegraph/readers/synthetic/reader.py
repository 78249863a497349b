"""Makes the embedded data set, made-up performers as raw NTU files, and reads it like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.files import atomic_path
from kinegraph.readers.ntu import reader as ntu
from kinegraph.readers.ntu.skeleton_file import write_skeleton
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.synthetic.actions import ACTIONS, perform
from kinegraph.readers.synthetic.performer import Performer
from kinegraph.readers.synthetic.sensor import CAMERAS, record

PERFORMERS, REPLICATIONS, SEED = 16, 1, 0

#: Says beside the recordings what they were made with.
DESCRIPTION = "synthetic.json"

_FIRST_BODY_ID = 72057594037927936  # 2^56, where a Kinect begins to count
_MOST = 999  # the file names have three digits
_FIGURE, _EXTRA, _SCENE, _SENSOR = range(4)  # what a random generator is for


def write_dataset(
    folder: Path | str,
    performers: int = PERFORMERS,
    replications: int = REPLICATIONS,
    seed: int = SEED,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Make every performer act out every action before three cameras, as NTU files.

    Performer n is subject n, so that the protocol "xsub" tests on performers it never trained
    on: with 16 performers, it trains on 1, 2, 4, 5, 8, 9 and 13 to 16. The other person of a
    mutual action is an extra who appears with one performer only. All cameras see the same act.
    The same arguments make the same bytes; more performers or replications only add files.

    Args:
        folder: a new or empty folder; it appears once everything is written.
        performers: how many, at least 1; the protocol "xsub" needs 3.
        replications: how often everybody acts everything, at least 1.
        seed: 0 or more; another one makes other people.
        progress: called with (performances written, performances in all).

    Returns:
        The recordings, sorted: 12 actions x performers x replications x 3 cameras.

    Raises:
        ReadError: a number that makes no sense, a folder that has something in it or cannot be
            written.
    """
    wanted = _Settings(performers, replications, seed)
    folder = Path(folder).absolute()
    if folder.exists() and not _is_empty_folder(folder):
        raise ReadError(f"{folder}: expected a new or an empty folder for the synthetic data set")
    try:
        with atomic_path(folder, unique=True) as partial:
            partial.mkdir(parents=True)
            _write_all(partial, wanted, progress or _no_progress)
            if folder.exists():
                folder.rmdir()  # empty; not every system renames over a folder
    except OSError as error:
        raise ReadError(f"{folder}: cannot write the synthetic data set: {error}") from error
    return sorted(folder.glob("*.skeleton"))


@dataclass(frozen=True)
class _Settings:
    """What a data set is made with; the fields are the reader's options."""

    performers: int
    replications: int
    seed: int

    def __post_init__(self) -> None:
        _check("performers", self.performers, 1, _MOST)
        _check("replications", self.replications, 1, _MOST)
        _check("seed", self.seed, 0, 2**32 - 1)


def _check(name: str, value: object, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ReadError(
            f"synthetic data set: expected {name} to be a whole number from {least} to {most}, "
            f"got {value!r}"
        )


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _no_progress(done: int, total: int) -> None:
    """Nobody watches."""


# --------------------------------------------------------------------- writing


def _write_all(folder: Path, wanted: _Settings, progress: Callable[[int, int], None]) -> None:
    total, done = wanted.performers * wanted.replications * len(ACTIONS), 0
    for subject in range(1, wanted.performers + 1):
        who = Performer.draw(_generator(wanted, _FIGURE, subject))
        extra = Performer.draw(_generator(wanted, _EXTRA, subject))
        for replication in range(1, wanted.replications + 1):
            for label in range(len(ACTIONS)):
                _write_performance(folder, wanted, (subject, replication, label), who, extra)
                done += 1
                progress(done, total)
    description = {**vars(wanted), "classes": list(ACTIONS)}
    text = json.dumps(description, indent=2) + "\n"
    (folder / DESCRIPTION).write_bytes(text.encode())


def _write_performance(
    folder: Path,
    wanted: _Settings,
    key: tuple[int, int, int],
    who: Performer,
    extra: Performer,
) -> None:
    """One performance as every camera recorded it."""
    subject, replication, label = key
    action = list(ACTIONS.values())[label]
    scene = perform(action, who, extra, _generator(wanted, _SCENE, *key))
    for number, camera in CAMERAS.items():
        rng = _generator(wanted, _SENSOR, *key, number)
        body_id = _FIRST_BODY_ID + int(rng.integers(100, 90_000))
        name = f"S001C{number:03}P{subject:03}R{replication:03}A{label + 1:03}.skeleton"
        write_skeleton(folder / name, record(scene, camera, body_id, rng))


def _generator(wanted: _Settings, purpose: int, *key: int) -> np.random.Generator:
    """Its own generator for everything, so that no number depends on what was made before."""
    return np.random.default_rng([wanted.seed, purpose, *key])


# --------------------------------------------------------------------- reading


def _scan(
    source: Path | str,
    *,
    performers: int | None = None,
    replications: int | None = None,
    seed: int | None = None,
) -> ReadPlan:
    """Make the data set where there is none yet; the numbers must fit one that is there."""
    source = Path(source)
    options = {"performers": performers, "replications": replications, "seed": seed}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    missing = not source.exists() and source.suffix != ".skeleton"
    if missing or _is_empty_folder(source):
        write_dataset(source, **given)
    else:
        _check_made_with(source, given)
    plan = ntu.READER.scan(source)
    strange = {task.path for task in plan.tasks if task.info.get("label", 0) >= len(ACTIONS)}
    tasks = tuple(task for task in plan.tasks if task.path not in strange)
    reason = f"its action is none of the {len(ACTIONS)} synthetic ones; is it for reader 'ntu'?"
    refused = (*plan.refused, *((path, reason) for path in sorted(strange)))
    return ReadPlan(tasks, plan.layout, tuple(ACTIONS), refused)


def _check_made_with(source: Path, given: Mapping[str, Any]) -> None:
    """Refuse to read a data set as if it were another one."""
    made = _description(source if source.is_dir() else source.parent) if given else {}
    for name, value in given.items():
        if made.get(name) != value:
            raise ReadError(
                f"{source}: the recordings there were made with {name}={made.get(name)}, not "
                f"{value}; name another folder, or leave {name} out"
            )


def _description(folder: Path) -> dict[str, object]:
    path = folder / DESCRIPTION
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(1 << 16))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(
            f"{path}: cannot tell what the recordings there were made with: {error}; "
            "name another folder, or leave the options out"
        ) from error
    return found if isinstance(found, dict) else {}


def _read(
    task: ReadTask,
    *,
    performers: int | None = None,
    replications: int | None = None,
    seed: int | None = None,
) -> Iterator[Clip | ReadError]:
    return ntu.READER.read(task)


def _matches(path: Path) -> bool:
    """Never: a single file of it is a plain NTU file."""
    return False


READER = Reader(
    name="synthetic",
    summary="made-up performers of 12 actions as NTU files; a new or empty folder is filled",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "performers": f"how many people act, when the folder is filled (default {PERFORMERS})",
        "replications": f"how often each acts everything (default {REPLICATIONS})",
        "seed": f"which people, a whole number from 0 (default {SEED})",
    },
    protocols=("xsub", "xview"),
    creates_source=True,
)
