"""The registry of readers: every source of raw files that is known by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers import (
    arrays,
    ddnet,
    florence3d,
    fsd,
    kinetics,
    nw_ucla,
    openpose,
    penn_action,
    pyskl,
    sbu,
    stacked,
    utd_mhad,
    utkinect,
)
from kinegraph.readers.ntu import reader as ntu
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.synthetic import reader as synthetic

__all__ = [
    "READERS",
    "ReadPlan",
    "ReadTask",
    "Reader",
    "empty_source_error",
    "get_reader",
    "guess_reader",
    "iterate_clips",
    "list_readers",
    "read_clip",
    "read_clips",
]

READERS: dict[str, Reader] = {
    "ntu": ntu.READER,
    "kinetics": kinetics.READER,
    "openpose": openpose.READER,
    "nw_ucla": nw_ucla.READER,
    "utd_mhad": utd_mhad.READER,
    "penn_action": penn_action.READER,
    "sbu": sbu.READER,
    "florence3d": florence3d.READER,
    "utkinect": utkinect.READER,
    "ddnet": ddnet.READER,
    "pyskl": pyskl.READER,
    "fsd": fsd.READER,
    "stacked": stacked.READER,
    "arrays": arrays.READER,
    "synthetic": synthetic.READER,
}

_FILES_TRIED = 50


def get_reader(name: str) -> Reader:
    """The reader of that name.

    Raises:
        UnknownNameError: there is none; the nearest known name is given.
    """
    if name not in READERS:
        raise unknown_name("reader", name, READERS)
    return READERS[name]


def list_readers() -> list[str]:
    """The names of all readers, sorted."""
    return sorted(READERS)


def guess_reader(path: str | Path, likely: str | None = None) -> Reader:
    """The only reader whose kind of file this is; of a folder, its first files are looked at.

    Where several know it, the one named ``likely`` is taken if it is among them.

    Raises:
        ReadError: there is no such file, or none or several readers know it.
    """
    path = Path(path)
    if not path.exists():
        raise ReadError(f"there is no file or folder {path}")
    files = [path] if path.is_file() else list(islice(_files(path), _FILES_TRIED))
    names = [name for name, reader in READERS.items() if any(map(reader.matches, files))]
    if len(names) == 1 or likely in names:
        return READERS[likely if likely in names else names[0]]
    if names:
        raise ReadError(
            f"{path} could be read by {' or '.join(names)}; choose one, as --reader {names[0]}"
        )
    raise ReadError(
        f"{path} is no kind of file that is known by its looks; "
        f"choose one of --reader {', '.join(READERS)}"
    )


def read_clips(path: str | Path, reader: str | None = None, **options: Any) -> list[Clip]:
    """Every clip of a raw file or folder.

    Args:
        path: the file or folder.
        reader: a reader's name; None guesses it from the file.
        options: the reader's options.

    Raises:
        ReadError: a clip cannot be read, or there is none. To keep the good ones among bad ones,
            use `kinegraph.readers.convert.convert`.
        UnknownNameError: no such reader or option.
    """
    return list(_clips(path, reader, options))


def read_clip(path: str | Path, reader: str | None = None, **options: Any) -> Clip:
    """The first, usually the only, clip of a raw file; as `read_clips`, but no further ones."""
    return next(_clips(path, reader, options))


def _clips(path: str | Path, name: str | None, options: Mapping[str, Any]) -> Iterator[Clip]:
    reader = guess_reader(path) if name is None else get_reader(name)
    plan = reader.plan(Path(path), options)
    found = False
    for clip in iterate_clips(reader, plan.tasks, options):
        found = True
        yield clip
    if not found:
        raise empty_source_error(reader, Path(path), plan)


def iterate_clips(
    reader: Reader, tasks: Iterable[ReadTask], options: Mapping[str, Any]
) -> Iterator[Clip]:
    """The clips of some of a plan's tasks.

    Raises:
        ReadError: a clip cannot be read.
    """
    for task in tasks:
        for clip in reader.read(task, **options):
            if isinstance(clip, ReadError):
                raise clip
            yield clip


def empty_source_error(reader: Reader, path: Path, plan: ReadPlan) -> ReadError:
    """The error for a source in which no clip was found."""
    reason = f": {plan.refused[0][0].name}: {plan.refused[0][1]}" if plan.refused else ""
    return ReadError(f"reader {reader.name!r} found no usable clip in {path}{reason}")


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
