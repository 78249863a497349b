"""Files that are whole or not there: written beside, synced, renamed, checked when read back.

A folder is written to by one training at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kinegraph.errors import CheckpointError

#: Seconds that loading processes outlive a training that was killed, and hold its lock, at most.
LOCK_TIMEOUT_S = 10.0


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file so that a kill or a power cut leaves the old one or the new one.

    Raises:
        CheckpointError: the file cannot be written, such as on a full disk.
    """
    partial = path.with_name(f".{path.name}.partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make renames last, where the system can (Windows cannot open folders)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Keep other trainings from writing to a folder, where its file system knows locks.

    Raises:
        CheckpointError: another one is writing to it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout as error:
        raise CheckpointError(
            f"another training is writing to {folder} (if none is, delete {lock.lock_file})"
        ) from error
    except OSError:  # no locks here; what else is wrong with the folder, the first file will tell
        pass
    try:
        yield
    finally:
        lock.release()


def add_checksum(kind: str, body: bytes) -> bytes:
    """``body`` after a line that says what it is and carries its SHA-256."""
    return f"{kind} {hashlib.sha256(body).hexdigest()}\n".encode() + body


def verify_checksum(path: Path, kind: str) -> bytes:
    """The body of a file written by `add_checksum`.

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
