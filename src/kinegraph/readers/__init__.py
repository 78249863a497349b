"""The registry of readers, and functions that read clips with them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers import (
    alphapose,
    arrays,
    bvh,
    c3d,
    ddnet,
    deeplabcut,
    florence3d,
    kinetics,
    mmpose,
    movement,
    nw_ucla,
    openpose,
    penn_action,
    pyskl,
    rtmlib,
    sbu,
    stacked,
    stores,
    ui_prmd,
    ultralytics,
    utd_mhad,
    utkinect,
)
from kinegraph.readers.ntu import reader as ntu
from kinegraph.readers.pose_files import PoseFormat
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.synthetic import reader as synthetic

__all__ = [
    "POSE_FORMATS",
    "READERS",
    "ReadPlan",
    "ReadTask",
    "Reader",
    "find_readers",
    "get_reader",
    "guess_reader",
    "iterate_clips",
    "read_clip",
    "read_clips",
    "require_any",
]

T = TypeVar("T")

_ALL_READERS = (
    ntu.READER, kinetics.READER, openpose.READER, alphapose.READER, mmpose.READER,
    ultralytics.READER, rtmlib.READER, nw_ucla.READER, utd_mhad.READER,
    penn_action.READER, sbu.READER, florence3d.READER, utkinect.READER, ddnet.READER,
    ui_prmd.READER, bvh.READER, c3d.READER, deeplabcut.DEEPLABCUT, deeplabcut.LIGHTNING_POSE,
    movement.SLEAP, movement.NWB, pyskl.READER, stacked.FSD_READER, stacked.READER, arrays.READER,
    stores.READER, synthetic.READER,
)  # fmt: skip
READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL_READERS}
"""Every reader by name."""

POSE_FORMATS: dict[str, PoseFormat] = {
    form.name: form
    for form in (
        openpose.OPENPOSE,
        alphapose.ALPHAPOSE,
        mmpose.MMPOSE,
        ultralytics.ULTRALYTICS,
        rtmlib.RTMLIB,
    )
}
"""The formats of pose files, by the name of their reader."""

_MAX_FILES_TRIED = 50


def get_reader(name: str) -> Reader:
    """Return the reader of that name.

    Raises:
        UnknownNameError: the reader is unknown; the message suggests the nearest name.
    """
    if name not in READERS:
        raise unknown_name("reader", name, READERS)
    return READERS[name]


def guess_reader(path: str | Path, preferred: str | None = None) -> Reader:
    """Return the only reader that matches a file, or one of the first files of a folder.

    The reader named ``preferred`` is tried first; if it matches, the others are not tried.

    Raises:
        ReadError: the file does not exist, or no reader or several readers match.
    """
    path = Path(path)
    if preferred in READERS and find_readers(path, [preferred]):
        return READERS[preferred]
    names = [reader.name for reader in find_readers(path, READERS)]
    if not names:
        raise ReadError(
            f"{path}: no reader recognizes this format{_hint_at_format(path)}; "
            f"choose one with --reader: {', '.join(READERS)}"
        )
    if len(names) > 1:
        raise ReadError(
            f"{path} could be read by {' or '.join(names)}; choose one, such as --reader {names[0]}"
        )
    return READERS[names[0]]


def find_readers(path: Path, names: Iterable[str]) -> list[Reader]:
    """Return the readers, of some names, that match a file or one of the first of a folder.

    Raises:
        ReadError: the file does not exist, or the folder is empty.
    """
    if not path.exists():
        raise ReadError(f"file or folder {path} does not exist")
    inside = (file for file in sorted(path.rglob("*")) if file.is_file())
    files = [path] if path.is_file() else list(islice(inside, _MAX_FILES_TRIED))
    if not files:
        raise ReadError(f"{path} is an empty folder: expected raw files of a dataset")
    return [READERS[name] for name in names if any(map(READERS[name].matches, files))]


def _hint_at_format(path: Path) -> str:
    files = islice(path.rglob("*"), _MAX_FILES_TRIED) if path.is_dir() else [path]
    suffixes = {file.suffix.lower() for file in files}
    if suffixes & {".zip", ".tar", ".gz", ".7z", ".rar"}:
        return " (an archive: unpack it)"
    if suffixes & {".npy", ".npz"}:
        return " (own arrays are (persons, frames, joints, coordinates) of numbers: try arrays)"
    if ".json" in suffixes:
        return " (poses as JSON are read as OpenPose, AlphaPose, MMPose and Ultralytics write them)"
    return ""


def read_clips(path: str | Path, reader: str | None = None, **options: Any) -> list[Clip]:
    """Return every clip of a raw file or folder.

    Args:
        path: the file or folder.
        reader: a reader's name; None guesses it from the file.
        options: the reader's options.

    Raises:
        ReadError: a clip cannot be read, or there is none. To keep the good clips among bad ones,
            use `kinegraph.readers.convert.convert`.
        UnknownNameError: the reader or an option is unknown.
    """
    return list(_iterate_source(path, reader, options))


def read_clip(path: str | Path, reader: str | None = None, **options: Any) -> Clip:
    """Return the first, usually the only, clip of a raw file; see `read_clips`."""
    return next(_iterate_source(path, reader, options))


def _iterate_source(
    path: str | Path, name: str | None, options: Mapping[str, Any]
) -> Iterator[Clip]:
    reader = guess_reader(path) if name is None else get_reader(name)
    plan = reader.plan(Path(path), options)
    return require_any(iterate_clips(reader, plan.tasks), reader, Path(path), plan)


def iterate_clips(reader: Reader, tasks: Iterable[ReadTask]) -> Iterator[Clip]:
    """Yield the clips of some tasks of a plan.

    Raises:
        ReadError: a clip cannot be read.
    """
    for task in tasks:
        for clip in reader.read(task):
            if isinstance(clip, ReadError):
                raise clip
            yield clip


def require_any(found: Iterable[T], reader: Reader, path: Path, plan: ReadPlan) -> Iterator[T]:
    """Yield what was found in a source.

    Raises:
        ReadError: nothing was found.
    """
    empty = True
    for item in found:
        empty = False
        yield item
    if empty:
        reason = f": {plan.refused[0][0].name}: {plan.refused[0][1]}" if plan.refused else ""
        raise ReadError(f"reader {reader.name!r} found no usable clip in {path}{reason}")
