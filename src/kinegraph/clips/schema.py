"""What a store file looks like: its columns, and the JSON header in its schema's metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa

from kinegraph.skeleton.layout import SkeletonLayout

FORMAT_VERSION = 1
HEADER_KEY = b"kinegraph"


def _schema(number: Any, *more: Any) -> Any:
    fields = [
        pa.field("id", pa.utf8(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("persons", pa.int16(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("joints", pa.large_list(number), nullable=False),
        pa.field("confidence", pa.large_list(number)),
        pa.field("fps", pa.float32()),
        pa.field("meta", pa.utf8(), nullable=False),
        pa.field("digest", pa.utf8(), nullable=False),
        pa.field("source", pa.utf8(), nullable=False),
    ]
    return pa.schema([*fields, *more])


SCHEMAS: Mapping[str, Any] = MappingProxyType(
    {
        "float32": _schema(pa.float32()),
        "float16": _schema(pa.float16(), pa.field("rounding", pa.float32(), nullable=False)),
    }
)
"""The columns by how joints and confidence are stored.

``rounding`` is the largest error of a coordinate of the clip, in the units of the clip.
"""


class StoreHeader(NamedTuple):
    """What a store says about all of its clips."""

    layout: SkeletonLayout
    coordinates: int
    classes: tuple[str, ...] | None
    provenance: dict[str, Any]

    def to_json(self) -> str:
        """The header as text, keys sorted: equal headers give equal bytes."""
        data = {
            "format": FORMAT_VERSION,
            "layout": self.layout.to_dict(),
            "coordinates": self.coordinates,
            "classes": None if self.classes is None else list(self.classes),
            "provenance": self.provenance,
        }
        return json.dumps(data, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> StoreHeader:
        """The inverse of `to_json`.

        Raises:
            ValueError, KeyError, TypeError, LayoutError: the text is no header of this version.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT_VERSION:
            found = data.get("format") if isinstance(data, dict) else data
            raise ValueError(f"expected format {FORMAT_VERSION}, got {found!r}")
        coordinates, classes = data["coordinates"], data["classes"]
        if not isinstance(coordinates, int) or coordinates < 1:
            raise ValueError(f"expected 1 or more coordinates, got {coordinates!r}")
        if classes is not None:
            classes = _checked_classes(classes)
        layout = SkeletonLayout.from_dict(data["layout"])
        return cls(layout, coordinates, classes, dict(data["provenance"]))


def _checked_classes(classes: Any) -> tuple[str, ...]:
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"expected classes to be a list of names, got {classes!r}")
    return tuple(classes)
