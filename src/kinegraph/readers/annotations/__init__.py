"""Annotation files of recordings: which action is shown from when to when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers.annotations.boris import BORIS_FORMAT
from kinegraph.readers.annotations.csv_table import CSV_FORMAT
from kinegraph.readers.annotations.elan import ELAN_FORMAT
from kinegraph.readers.annotations.label_studio import LABEL_STUDIO_FORMAT
from kinegraph.readers.annotations.records import AnnotationFormat, Annotations, TimedLabel
from kinegraph.readers.annotations.via import VIA_FORMAT

#: Formats by name; of those that match a file, the first one reads it.
ANNOTATION_FORMATS: dict[str, AnnotationFormat] = {
    format.name: format
    for format in (ELAN_FORMAT, VIA_FORMAT, LABEL_STUDIO_FORMAT, BORIS_FORMAT, CSV_FORMAT)
}


def get_annotation_format(name: str) -> AnnotationFormat:
    """Return a format.

    Raises:
        UnknownNameError: there is no such format.
    """
    if name not in ANNOTATION_FORMATS:
        raise unknown_name("annotation format", name, ANNOTATION_FORMATS)
    return ANNOTATION_FORMATS[name]


def read_annotations(path: Path) -> Annotations:
    """Return the labels of a file, or of all annotation files in a folder.

    The suffix and the content of a file show its format.

    Raises:
        ReadError: a file cannot be read, is of no known format, or has no recording; two files of a
            folder have labels of the same recording.
    """
    if not path.is_dir():
        return _read_file(path)
    suffixes = {suffix for format in ANNOTATION_FORMATS.values() for suffix in format.suffixes}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
    if not files:
        raise ReadError(f"{path}: expected annotation files, found none")
    merged: dict[str, Sequence[TimedLabel]] = {}
    for file in files:
        for name, labels in _read_file(file).items():
            if name in merged:
                raise ReadError(f"{file}: labels of {name[:60]!r} are in another file too")
            merged[name] = labels
    return merged


def _read_file(path: Path) -> Annotations:
    if not path.is_file():
        raise ReadError(f"annotation file {path} does not exist")
    suffix = path.suffix.lower()
    for format in ANNOTATION_FORMATS.values():
        if suffix in format.suffixes and format.matches(path):
            if found := format.read(path):
                return found
            raise ReadError(f"{path}: expected labels of a recording, found none")
    known = ", ".join(f"{f.name} ({f.suffixes[0]})" for f in ANNOTATION_FORMATS.values())
    raise ReadError(f"{path}: not an annotation file of a known format; known: {known}")
