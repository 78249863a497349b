"""Atomic writes, locks of files and folders, checksums, and the folder of a user's files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from kinegraph.errors import CheckpointError, LockedError

#: Seconds to wait for the lock of a folder: loader processes of a killed training keep it a while.
LOCK_TIMEOUT_S = 10.0
PARTIAL_SUFFIX = ".partial"


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file so that a kill or a power cut leaves the old content or the new content.

    Raises:
        CheckpointError: the file cannot be written, such as on a full disk.
    """
    try:
        with atomic_path(path) as partial, partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error


def user_data_folder() -> Path:
    """Return the folder for files that commands of this user keep; it may not exist yet.

    ``KINEGRAPH_HOME`` names it; without, it is ``kinegraph`` in the place of the system.
    """
    if named := os.environ.get("KINEGRAPH_HOME"):
        return Path(named)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "kinegraph"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` to write a file or folder to; rename it when the block ends.

    If the block raises an error, what was written is deleted and ``path`` stays as it was. Several
    processes may write the same ``path``: each has a path of its own, and the last one stays.

    Raises:
        OSError: the file cannot be written; the error names ``path``, or a file within it.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex[:16]}{PARTIAL_SUFFIX}")
    try:
        yield partial
        replace_durably(partial, path)
    except OSError as error:
        # errors of a full disk name no file, others the partial one
        if error.filename is None or Path(error.filename) == partial:
            error.filename = str(path)
        raise
    finally:
        _delete(partial)


def _delete(partial: Path) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    with suppress(OSError):
        partial.unlink()


def replace_durably(source: Path, target: Path) -> None:
    """Rename a file or folder over another of the same file system, and flush both to disk.

    Raises:
        OSError: it cannot be renamed.
    """
    if source.is_file():
        with source.open("rb+") as file:
            os.fsync(file.fileno())
    source.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Flush the renames in a folder to disk, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file, or any file of a folder.

    Partial files that a killed process left there are deleted. Where the file system does not
    support locks, nothing is locked.

    Raises:
        LockedError: another process holds the lock.
    """
    is_folder = path.is_dir()
    lock = FileLock(path / ".lock" if is_folder else path.with_name(f".{path.name}.lock"))
    lock_file = Path(lock.lock_file)
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S if is_folder else 0)
    except Timeout as error:
        raise LockedError(
            f"another process is writing {path}: wait until it ends, or choose another name (if "
            f"there is none, delete {lock_file})"
        ) from error
    except OSError:  # no locks here; any other fault of the folder shows when a file is written
        yield
        return
    try:
        for partial in find_partial(path):
            _delete(partial)
        yield
    finally:
        with suppress(OSError):  # Windows does not delete open files
            lock_file.unlink()  # while it is locked, so that waiting processes notice
        lock.release()


def find_partial(path: Path) -> list[Path]:
    """Return the partial files of a file, or of all files of a folder, that are there now."""
    if path.is_dir():
        return list(path.glob(f".*{PARTIAL_SUFFIX}"))
    return list(path.parent.glob(f".{escape(path.name)}.*{PARTIAL_SUFFIX}"))


def is_leftover(path: Path) -> bool:
    """Return whether a file or folder is a partial one or a lock, as a killed process leaves it."""
    return path.name.startswith(".") and path.name.endswith((PARTIAL_SUFFIX, ".lock"))


def add_checksum(kind: str, body: bytes) -> bytes:
    """Return ``body`` after a line with the kind of the file and the SHA-256 of the body."""
    return f"{kind} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def verify_checksum(path: Path, kind: str) -> bytes:
    """Return the body of a file whose content `add_checksum` made.

    Raises:
        CheckpointError: the file is missing, of another kind, cut short or altered.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    line, _, body = content.partition(b"\n")
    if line != f"{kind} {hashlib.sha256(body).hexdigest()}".encode():
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    return body
