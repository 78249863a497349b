"""The registry of writers: stores to the files that other tools read."""

from __future__ import annotations

from kinegraph.errors import unknown_name
from kinegraph.writers import ctrgcn, pyskl, stacked
from kinegraph.writers.writer import Writer

__all__ = ["WRITERS", "Writer", "get_writer"]

WRITERS: dict[str, Writer] = {
    writer.name: writer for writer in (stacked.WRITER, pyskl.WRITER, ctrgcn.WRITER)
}
"""Every writer by name."""


def get_writer(name: str) -> Writer:
    """Return the writer of that name.

    Raises:
        UnknownNameError: the writer is unknown; the message suggests the nearest name.
    """
    if name not in WRITERS:
        raise unknown_name("format to convert to", name, WRITERS)
    return WRITERS[name]
