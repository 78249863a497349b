"""YAML and JSON texts from anywhere, parsed into plain data with bounded memory and depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinegraph.errors import KinegraphError

MAX_TEXT_BYTES = 1 << 17  # the largest bundled recipe has 4 kB; a layout of 1000 joints about 64 kB
#: Maximum number of nested lists and maps, and of values, counting those of aliases each time.
MAX_YAML_DEPTH, MAX_YAML_VALUES = 30, 1 << 16
#: Memory that parsed JSON may take beside `_JSON_MEMORY_RATIO` times its text.
FREE_JSON_BYTES = 1 << 27
_JSON_MEMORY_RATIO = 3
#: Memory of parsed JSON: of an empty list and map, and of a number with its place in a list.
_BYTES_PER_LIST, _BYTES_PER_MAP, _BYTES_PER_VALUE = 56, 64, 40
_MAX_INTEGER = 1 << 63  # printing one of thousands of digits is an error


class PlainTextError(KinegraphError, ValueError):
    """A text that is not YAML or JSON of plain data, or that would take too much memory."""


def read_plain_text(path: Path) -> str:
    """Return the text of a short UTF-8 file, such as a recipe or a layout.

    Raises:
        OSError: the file cannot be opened.
        PlainTextError: it is not a regular file, too long, or not UTF-8.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait
        raise PlainTextError("expected a file, found a folder, a pipe or a device")
    with path.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise PlainTextError(f"expected a file of at most {MAX_TEXT_BYTES} bytes, got a larger one")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PlainTextError("expected UTF-8 text, found binary data") from error


def parse_json(text: str | bytes) -> Any:
    """Return the content of a JSON text.

    Raises:
        PlainTextError: it is not JSON, nested too deeply, or would take far more memory than its
            text; the message names the line.
    """
    try:
        _check_json_memory(text)
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise PlainTextError(f"line {error.lineno}: expected JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise PlainTextError("expected JSON text, found binary data") from error
    except (RecursionError, ValueError) as error:
        raise PlainTextError(f"expected JSON of plain data: {error}") from error


def _check_json_memory(text: str | bytes) -> None:
    comma, colon, bracket, brace = ",:[{" if isinstance(text, str) else (b",", b":", b"[", b"{")
    lists, maps = text.count(bracket), text.count(brace)  # type: ignore[arg-type]
    values = text.count(comma) + text.count(colon) + lists + maps  # type: ignore[arg-type]
    needed = _BYTES_PER_LIST * lists + _BYTES_PER_MAP * maps + _BYTES_PER_VALUE * values
    if needed > FREE_JSON_BYTES + _JSON_MEMORY_RATIO * len(text):
        raise ValueError(f"{len(text)} bytes of it hold {values} values")


def parse_yaml(text: str) -> Any:
    """Return the content of a YAML text: texts, numbers, booleans, None, lists and maps of them.

    Raises:
        PlainTextError: it is not YAML, has values of another type (such as dates), or is too long,
            too deep, or too large after its aliases are replaced.
    """
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    if len(text) > MAX_TEXT_BYTES:
        raise PlainTextError(f"expected at most {MAX_TEXT_BYTES} characters, got {len(text)}")
    try:
        _check_yaml_size(yaml.parse(text, loader))
        data = yaml.load(text, loader)
    # an invalid date, boolean or number is any error of the function that converts it
    except Exception as error:
        raise PlainTextError(f"not valid YAML: {' '.join(str(error).split())}") from error
    _check_plain(data, "", 0)
    return data


def _check_yaml_size(events: Any) -> None:
    """Refuse YAML by its events, before anything is built."""
    import yaml

    values = 0
    sizes: dict[str | None, int] = {}  # values below each anchor
    opened: list[tuple[str | None, int]] = []  # anchor, and number of values before it
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes[anchor] = values - before
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in [anchor for anchor, _ in opened]:
                raise ValueError(f"*{event.anchor} contains itself")
            values += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
        if len(opened) > MAX_YAML_DEPTH:
            raise ValueError(f"lists and maps are nested more than {MAX_YAML_DEPTH} deep")
        if values > MAX_YAML_VALUES:
            raise ValueError(f"it has more than {MAX_YAML_VALUES} values")


def _check_plain(value: Any, where: str, depth: int) -> None:
    at = f"{where}: " if where else ""
    if depth > MAX_YAML_DEPTH:  # by aliases within aliases
        raise PlainTextError(f"{at}lists and maps are nested more than {MAX_YAML_DEPTH} deep")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise PlainTextError(f"{at}expected keys of text, got {key!r:.40}: quote it")
            _check_plain(item, f"{where}.{key}".lstrip("."), depth + 1)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _check_plain(item, f"{where}.{number}".lstrip("."), depth + 1)
    elif type(value) is int and abs(value) >= _MAX_INTEGER:
        raise PlainTextError(f"{at}expected numbers of 64 bits, got a larger one")
    elif type(value) not in (str, int, float, bool, type(None)):
        kind = type(value).__name__
        raise PlainTextError(
            f"{at}expected text, a number, a list or a map, got a {kind}: quote it"
        )
