"""Reader of NTU RGB+D 60 and 120 recordings, or any other `.skeleton` or `.skeleton.npy` files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.formats.raw_file import read_bytes, read_head
from kinegraph.readers.ntu.body_selection import PERSON_RULES, select_bodies
from kinegraph.readers.ntu.fast_parser import read_joints
from kinegraph.readers.ntu.npy_file import read_npy_joints
from kinegraph.readers.reader import (
    Reader,
    ReadPlan,
    ReadResults,
    ReadTask,
    check_choice,
    check_count,
)
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT

_FPS = 30.0  # Kinect v2, stated by the authors
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")
_SUFFIX, _NPY_SUFFIX = ".skeleton", ".skeleton.npy"
_MISSING_BYTES = 1 << 20  # the published list of 535 names has 12 kB


def parse_recording_name(name: str) -> dict[str, int]:
    """Return the facts in a name like S001C003P008R002A058.

    Args:
        name: the name, alone or with a folder and the suffix `.skeleton` or `.skeleton.npy`.

    Returns:
        setup, camera, subject and replication as in the name, label = action - 1; empty if the
        name has another form.
    """
    found = _NAME.fullmatch(_remove_suffixes(Path(name).name))
    if found is None or int(found[5]) == 0:
        return {}
    *numbers, action = map(int, found.groups())
    facts = ("setup", "camera", "subject", "replication")
    return {**dict(zip(facts, numbers, strict=True)), "label": action - 1}


def _remove_suffixes(name: str) -> str:
    return name.removesuffix(_NPY_SUFFIX).removesuffix(_SUFFIX)


def _scan(
    source: Path,
    *,
    persons: str = "tracks",
    max_persons: int = 2,
    missing: Path | str | None = None,
    faithful: bool = False,
) -> ReadPlan:
    check_choice("person selection", persons, [*PERSON_RULES])
    check_count("max_persons", max_persons)
    selection = {"persons": persons, "max_persons": max_persons, "faithful": faithful}
    missing_names = _read_missing_names(Path(missing)) if missing is not None else frozenset()
    tasks: dict[str, ReadTask] = {}
    refused: list[tuple[Path, str]] = []
    for path in _list_files(source):
        name = _remove_suffixes(path.name)
        if name in missing_names:
            refused.append((path, f"{name} is in the list of missing skeletons {missing}"))
        elif name in tasks:
            refused.append((path, f"another file has this name: {tasks[name].path}"))
        else:
            facts = {**parse_recording_name(path.name), "selection": selection}
            tasks[name] = ReadTask(path, facts)
    labels = [task.info["label"] for task in tasks.values() if "label" in task.info]
    sets = map(class_names, ("ntu60", "ntu120"))
    classes = next((names for names in sets if labels and max(labels) < len(names)), None)
    return ReadPlan(tuple(tasks.values()), get_layout("ntu25"), classes, tuple(refused))


def _list_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    found = source.rglob("*.skeleton*")
    files = sorted(path for path in found if path.name.endswith((_SUFFIX, _NPY_SUFFIX)))
    if not files:
        raise ReadError(
            f"{source}: expected .skeleton or .skeleton.npy files, found none; "
            "unpack the dataset's archives first"
        )
    return files


def _read_missing_names(path: Path) -> frozenset[str]:
    try:
        text = read_bytes(path, _MISSING_BYTES).decode("ascii")
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: expected a text file of names to skip: {error}") from error
    return frozenset(name.removesuffix(_SUFFIX) for name in text.split())


def _read(task: ReadTask) -> ReadResults:
    bodies = (read_npy_joints if task.path.suffix == ".npy" else read_joints)(task.path)
    joints = select_bodies(bodies, **task.info.get("selection", {}))
    if not joints.size:
        raise ReadError(f"{task.path}: expected a body in at least one frame, found none")
    meta = parse_recording_name(task.path.name)
    label = meta.pop("label", None)
    name, numbers = _remove_suffixes(task.path.name), joints.astype(np.float32)
    facts: dict[str, Any] = {"id": name, "label": label, "meta": meta, "space": READER.space}
    yield task.make_clip(numbers, "ntu25", fps=_FPS, **facts)


def _matches(path: Path) -> bool:
    if path.name.endswith(_NPY_SUFFIX):
        return read_head(path, 6) == b"\x93NUMPY"
    return path.suffix == _SUFFIX and read_head(path, 16).partition(b"\n")[0].strip().isdigit()


READER = Reader(
    name="ntu",
    summary="NTU RGB+D 60 and 120, or any Kinect v2 .skeleton (or .skeleton.npy) files, in meters",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "persons": f"which bodies become persons: {', '.join(PERSON_RULES)} (default tracks: by "
        "body id, and by place where one ends and another begins)",
        "max_persons": "maximum number of persons of a clip (default 2)",
        "missing": "text file of clip names to leave out, such as the published list of 302",
        "faithful": "with persons=ctrgcn: repeat the mistakes of the released code (default false)",
    },
    dataset_only=frozenset({"missing"}),
    protocols=("xsub", "xview", "xset"),
    space=KINECT,
)
