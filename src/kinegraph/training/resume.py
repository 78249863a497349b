"""Resume checkpoints: resume.ckpt of the last epoch, and the one before it as a reserve."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from kinegraph.errors import CheckpointError
from kinegraph.files import add_checksum, atomic_write, sync_folder, verify_checksum

RESUME_FILE, PREVIOUS_FILE = "resume.ckpt", "resume.previous.ckpt"
RESUME_KIND = "kinegraph-resume-1"


def find_resume_checkpoint(run: Path) -> Path | None:
    """Return the file that a run continues from, None if no epoch was finished.

    resume.ckpt is missing if the run was killed between two renames, or if its user deleted it
    because it was damaged. The epoch after the previous file is then trained again.

    Raises:
        CheckpointError: the file is damaged; the message says how to continue.
    """
    found = [run / name for name in (RESUME_FILE, PREVIOUS_FILE) if (run / name).is_file()]
    if not found:
        return None
    try:
        verify_checksum(found[0], RESUME_KIND)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_recovery_hint(run, found[1:])}") from error
    return found[0]


def _recovery_hint(run: Path, others: list[Path]) -> str:
    for other in others:
        try:
            epoch = load_resume_checkpoint(other)["epoch"]
        except CheckpointError:
            break
        return (
            f"delete it, and --resume continues from {other.name}, the end of epoch {epoch + 1}, "
            "with the same final weights"
        )
    return f"train again in another folder, with init_from={run} to start from its weights"


def load_resume_checkpoint(path: Path) -> dict[str, Any]:
    """Read a resume checkpoint: tensors and plain values, no code.

    Raises:
        CheckpointError: the file is missing, damaged, or holds anything else.
    """
    body = verify_checksum(path, RESUME_KIND)
    try:
        return torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, torch.serialization.pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} is not a resume checkpoint: {reason}") from error


def is_finished(run: Path) -> bool:
    """Return whether the training in a folder is complete.

    Raises:
        CheckpointError: its resume checkpoint is damaged.
    """
    path = find_resume_checkpoint(run)
    return path is not None and load_resume_checkpoint(path)["callbacks"]["Checkpoints"]["finished"]


class ResumeCheckpointIO(CheckpointIO):
    """Atomic, checksummed resume checkpoints for Lightning, with the previous one in reserve."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write ``path``; the file it replaces becomes resume.previous.ckpt."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        new = path.with_name(f".{path.name}.next")
        try:
            atomic_write(new, add_checksum(RESUME_KIND, buffer.getvalue()))
            if path.is_file():
                path.replace(path.with_name(PREVIOUS_FILE))
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)  # after SIGTERM or Ctrl-C; the epoch is trained again
        sync_folder(path.parent)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read ``path`` with `load_resume_checkpoint`; Lightning moves the tensors."""
        return load_resume_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
