"""The checksum at the end of an exported file, where its format has room for notes.

Runtimes read weights without a check. So the SHA-256 of the whole file stands in its last bytes:
in ONNX as one more entry of the metadata, in OpenVINO's XML as a comment, which covers the .bin
as well. A .pt2 file is a ZIP file, whose entries have checksums of their own.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from kinegraph.errors import ExportError

NAME = b"kinegraph.sha256"
_HEX_BYTES = 64
#: What stands before and after the digits, by the suffix of the file. The bytes for ONNX are field
#: 14 of its message, `metadata_props`: an entry of 84 bytes with fields 1 (key) and 2 (value).
_MARKS = {
    ".onnx": (b"\x72\x54\x0a\x10" + NAME + b"\x12\x40", b""),
    ".xml": (b"<!-- " + NAME + b" ", b" -->\n"),
}


def append_checksum(path: Path) -> None:
    """Append the checksum to an .onnx or .xml file.

    Raises:
        OSError: the file cannot be written.
    """
    before, after = _MARKS[path.suffix]
    digest = _compute_sha256(path, path.read_bytes())
    with path.open("ab") as file:
        file.write(before + digest + after)


def verify_file(path: Path) -> bool:
    """Compare an exported file with its checksum; return whether it has one.

    Raises:
        ExportError: the file was altered, or cannot be read.
    """
    if path.suffix not in _MARKS:
        return True
    before, after = _MARKS[path.suffix]
    try:
        content = path.read_bytes()
        end = len(content) - len(before) - _HEX_BYTES - len(after)
        mark = content[max(0, end) :]
        if not mark.startswith(before):
            return False
        expected = before + _compute_sha256(path, content[:end]) + after
    except OSError as error:
        raise ExportError(f"{path}: cannot read {error.filename}: {error.strerror}") from error
    if mark != expected:
        raise damaged_file(path)
    return True


def damaged_file(path: Path) -> ExportError:
    """Return the error for a file that was altered after its export."""
    return ExportError(
        f"{path} is damaged, or was changed after its export: it does not match its checksum; "
        "export the run again"
    )


def _compute_sha256(path: Path, body: bytes) -> bytes:
    digest = hashlib.sha256(body)
    if path.suffix == ".xml":
        digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest().encode()
