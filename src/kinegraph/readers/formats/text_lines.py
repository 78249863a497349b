"""Lines of text files, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinegraph.errors import ReadError
from kinegraph.readers.formats.raw_file import read_bytes

MAX_LINE_CHARACTERS = 1 << 20


def read_lines(path: Path, max_bytes: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, without the space around them, and before each its place.

    Raises:
        ReadError: the file is larger than ``max_bytes`` (default: that of `read_bytes`), or a line
            is longer than `MAX_LINE_CHARACTERS`: a message with it would take many times its size.
    """
    text = read_bytes(path, max_bytes).decode("utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        where = f"{path}:{number}"
        if len(line) > MAX_LINE_CHARACTERS:
            raise ReadError(f"{where}: expected lines of at most {MAX_LINE_CHARACTERS} characters")
        if line := line.strip():
            yield where, line
