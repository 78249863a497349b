"""The registry of array formats: the files of other tools that stores are written to."""

from __future__ import annotations

from kinegraph.errors import unknown_name
from kinegraph.writers import ctrgcn, pyskl, stacked
from kinegraph.writers.array_format import ArrayFormat

__all__ = ["ARRAY_FORMATS", "ArrayFormat", "get_array_format"]

ARRAY_FORMATS: dict[str, ArrayFormat] = {
    known.name: known for known in (stacked.STACKED, pyskl.PYSKL, ctrgcn.CTRGCN_NPZ)
}
"""Every array format by name."""


def get_array_format(name: str) -> ArrayFormat:
    """Return the array format of that name.

    Raises:
        UnknownNameError: the format is unknown; the message suggests the nearest name.
    """
    if name not in ARRAY_FORMATS:
        raise unknown_name("format to convert to", name, ARRAY_FORMATS)
    return ARRAY_FORMATS[name]
