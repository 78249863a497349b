"""Registry of skeleton layouts: published conventions by name, and functions to add more."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from kinegraph.errors import LayoutError, unknown_name
from kinegraph.plain_text import PlainTextError, parse_json, parse_yaml, read_plain_text
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.pair_layout import PAIR_NAME, pair_layout


def _load_built_in() -> Iterator[tuple[SkeletonLayout, list[str]]]:
    """Yield the layouts of layouts.yaml and their aliases."""
    import yaml

    text = resources.files("kinegraph.skeleton").joinpath("layouts.yaml").read_text("utf-8")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for name, fields in yaml.load(text, loader).items():
        aliases = fields.pop("aliases", [])
        fields["joints"] = _flatten_lists(fields["joints"], str)
        fields["bones"] = _flatten_lists(fields["bones"], list)
        sides = ((joint, joint.replace("left_", "right_")) for joint in fields["joints"])
        pairs = [[left, right] for left, right in sides if left.startswith("left_")]
        data = {"name": name, "mirror_pairs": pairs, **fields}
        yield SkeletonLayout.from_dict(data), aliases


def _flatten_lists(items: list[Any], kind: type) -> list[Any]:
    """Flatten lists within a list of names (kind str) or of bones, which are lists (kind list)."""
    inserted = [isinstance(item, list) and isinstance(item[0], kind) for item in items]
    parts = zip(items, inserted, strict=True)
    return [joint for item, many in parts for joint in (item if many else [item])]


_BUILT_IN = list(_load_built_in())

#: Layouts by name; `register_layout` adds to it.
LAYOUTS: dict[str, SkeletonLayout] = {layout.name: layout for layout, _ in _BUILT_IN}

#: Names of these layouts in other code and in papers.
LAYOUT_ALIASES = {alias: layout.name for layout, aliases in _BUILT_IN for alias in aliases}

#: Suffixes of layout files.
LAYOUT_SUFFIXES = (".yaml", ".yml", ".json")


def get_layout(name: str | SkeletonLayout) -> SkeletonLayout:
    """Return the layout of this name or alias; a layout is returned as it is.

    ``pair(NAME)`` is the layout of two bodies of another layout, see `pair_layout`.

    Raises:
        UnknownNameError: no layout has this name.
        LayoutError: a pair of pairs.
    """
    if isinstance(name, SkeletonLayout):
        return name
    if pair := PAIR_NAME.fullmatch(str(name)):
        return pair_layout(get_layout(pair[1]))
    layout = LAYOUTS.get(LAYOUT_ALIASES.get(name, name))
    if layout is None:
        raise unknown_name("layout", str(name), LAYOUTS)
    return layout


def parse_layout(value: str | Mapping[str, Any]) -> SkeletonLayout:
    """Return the layout of this name, or with these fields (see `SkeletonLayout.to_dict`).

    Raises:
        LayoutError: the fields are wrong.
        UnknownNameError: no layout has this name.
    """
    if isinstance(value, Mapping):
        return _parse_fields(json.dumps(value, sort_keys=True))
    return get_layout(value)


@cache
def _parse_fields(text: str) -> SkeletonLayout:
    return SkeletonLayout.from_dict(json.loads(text))


def list_layouts() -> list[str]:
    """Return the names of all layouts, sorted."""
    return sorted(LAYOUTS)


def register_layout(layout: SkeletonLayout) -> SkeletonLayout:
    """Register a layout under its name; registering the same one again changes nothing.

    Raises:
        LayoutError: another layout has this name or alias.
    """
    taken = LAYOUT_ALIASES.get(layout.name) or layout.name
    if LAYOUTS.get(taken, layout) != layout:
        raise LayoutError(
            f"cannot register layout {layout.name!r}: the name belongs to another layout "
            f"({LAYOUTS[taken].num_joints} joints); choose another name"
        )
    return LAYOUTS.setdefault(layout.name, layout)


def read_layout(path: str | Path) -> SkeletonLayout:
    """Read a layout from a YAML or JSON file whose fields are those of `to_dict`.

    The field ``center`` may be spelled ``centre``. Bones, center and mirror_pairs may name joints
    instead of indices. The layout is not registered: `register_layout(read_layout(path))` does
    both.

    Raises:
        LayoutError: the file cannot be read, or is not a valid layout.
    """
    path = Path(path)
    try:
        text = read_plain_text(path)
        data = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
        return SkeletonLayout.from_dict(data)
    except LayoutError as error:
        raise LayoutError(f"{path}: {error}") from error
    except PlainTextError as error:
        raise LayoutError(f"{path}: not a layout in YAML or JSON: {error}") from error
    except OSError as error:
        raise LayoutError(f"{path}: cannot read the layout file: {error.strerror}") from error


def suggest_layouts(num_joints: int) -> str:
    """Return a hint with the layouts of so many joints, such as ``--layout coco17``; "" if none."""
    names = [layout.name for layout in LAYOUTS.values() if layout.num_joints == num_joints]
    if not names:
        return ""
    return f"; of {num_joints} joints are {', '.join(names)}: name the layout, --layout {names[0]}"
