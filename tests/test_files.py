"""Atomic writes: a file or folder is complete under its name, or the old one stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kinegraph import files
from kinegraph.errors import CheckpointError, LockedError
from kinegraph.files import (
    add_checksum,
    atomic_path,
    atomic_write,
    exclusive_lock,
    verify_checksum,
)


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    with atomic_path(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_the_old_file_stays_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for fails in (True, False):
        try:
            with atomic_path(path) as partial:
                partial.mkdir()
                (partial / "file").write_text("whole")
                assert not path.exists()
                if fails:
                    raise RuntimeError
        except RuntimeError:
            assert list(tmp_path.iterdir()) == []
    assert (path / "file").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_two_processes_may_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    with atomic_path(path) as one, atomic_path(path) as two:
        one.write_text("whole")
        two.write_text("whole")
    assert [found.read_text() for found in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("target", ["folder", "folder/file"])
def test_a_lock_deletes_what_killed_processes_left_behind(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "folder"
    (folder / ".file.1.partial").mkdir(parents=True)
    (folder / ".file.2.partial").write_text("half")
    (folder / "file").write_text("whole")
    with exclusive_lock(tmp_path / target):
        atomic_write(folder / "file", "new")
    assert [(p.name, p.read_text()) for p in folder.iterdir()] == [("file", "new")]


def test_a_lock_leaves_partial_files_of_other_writers(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "other") as partial:
        partial.write_text("half")
        with exclusive_lock(tmp_path / "file"), exclusive_lock(tmp_path / "[o]*"):
            assert partial.exists()


def test_a_lock_can_be_taken_again(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "LOCK_TIMEOUT_S", 0)
    for _ in range(2):
        with (
            exclusive_lock(tmp_path / "file"),
            pytest.raises(LockedError, match=r"another process is writing .*file: wait until"),
            exclusive_lock(tmp_path / "file"),
        ):
            pass
        assert not list(tmp_path.iterdir())


def test_without_locks_the_file_is_written_nevertheless(tmp_path: Path, monkeypatch) -> None:
    def fail(*_, **__) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(files.FileLock, "acquire", fail)
    with exclusive_lock(tmp_path / "file"):
        atomic_write(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


def test_content_is_on_disk_before_the_rename(tmp_path: Path, monkeypatch) -> None:
    calls = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("sync"), sync(handle))[1])
    monkeypatch.setattr(Path, "replace", lambda *p: (calls.append("rename"), replace(*p))[1])
    atomic_write(tmp_path / "file", b"content")
    assert calls == (["sync", "rename", "sync"] if os.name == "posix" else ["sync", "rename"])


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*file: No space left on device"):
        atomic_write(tmp_path / "file", b"content")
    assert not list(tmp_path.iterdir())


def test_an_altered_file_fails_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(add_checksum("kind", b"body"))
    assert verify_checksum(path, "kind") == b"body"
    for content in (b"", add_checksum("other", b"body"), add_checksum("kind", b"body")[:-1]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            verify_checksum(path, "kind")
    with pytest.raises(CheckpointError, match="cannot read"):
        verify_checksum(tmp_path / "none", "kind")
