"""Annotations of VIA 3, the video annotator of VGG: its project as .json, its export as .csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinegraph.errors import ReadError
from kinegraph.readers.annotations.records import (
    AnnotationFormat,
    Annotations,
    TimedLabel,
    check_label,
)
from kinegraph.readers.formats.json_file import read_json
from kinegraph.readers.formats.raw_file import read_bytes, read_head

_CSV_HEADER = "# CSV_HEADER = "
_COLUMNS = ("metadata_id", "file_list", "temporal_coordinates", "metadata")
_ATTRIBUTE = "1"  # of written projects


def _matches(path: Path) -> bool:
    if path.suffix.lower() == ".csv":
        return _CSV_HEADER.encode() in read_head(path)
    project = read_json(path)
    return isinstance(project, dict) and {"file", "view", "metadata"} <= project.keys()


def _read(path: Path) -> Annotations:
    return _read_csv(path) if path.suffix.lower() == ".csv" else _read_project(path)


def _read_project(path: Path) -> Annotations:
    project = read_json(path)
    parts = [project.get(key) for key in ("file", "view", "metadata", "attribute")]
    files, views, rows, attributes = (part if isinstance(part, dict) else {} for part in parts)
    found: dict[str, list[TimedLabel]] = {}
    for key, row in rows.items():
        where = f"{path}: metadata {key[:20]}"
        row = row if isinstance(row, dict) else {}
        view = views.get(str(row.get("vid")))
        listed = view.get("fid_list") if isinstance(view, dict) else None
        file = files.get(str(listed[0])) if isinstance(listed, list) and listed else None
        name = file.get("fname") if isinstance(file, dict) else None
        if not isinstance(name, str):
            raise ReadError(f"{where}: names no file of the project")
        _add(found, name, row.get("z"), row.get("av"), attributes, where)
    return found


def _read_csv(path: Path) -> Annotations:
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: expected text in UTF-8") from error
    header: list[str] = []
    found: dict[str, list[TimedLabel]] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}"
        if line.startswith(_CSV_HEADER):
            header = line.removeprefix(_CSV_HEADER).split(",")
        if line.startswith("#") or not line.strip():
            continue
        try:
            row = dict(zip(header, next(csv.reader([line])), strict=True))
            files, times, values = (json.loads(row[name]) for name in _COLUMNS[1:])
        except (ValueError, KeyError, RecursionError, csv.Error) as error:
            raise ReadError(f"{where}: expected the columns {', '.join(_COLUMNS)}") from error
        if not (isinstance(files, list) and files and isinstance(files[0], str)):
            raise ReadError(f"{where}: expected a list of files, got {row['file_list'][:40]!r}")
        _add(found, files[0], times, values, {}, where)
    return found


def _add(
    found: dict[str, list[TimedLabel]],
    name: str,
    times: Any,
    values: Any,
    attributes: Mapping[str, Any],
    where: str,
) -> None:
    """Add a row; one without times, which describes the whole file or a frame, is left out."""
    labels = found.setdefault(name, [])
    if not isinstance(times, list) or not times:
        return
    if not isinstance(values, dict) or len(values) != 1:
        raise ReadError(f"{where}: expected one attribute with the action, got {values!r:.60}")
    ((attribute, value),) = values.items()
    definition = attributes.get(attribute)
    options = definition.get("options") if isinstance(definition, dict) else None
    if isinstance(options, dict) and isinstance(value, str):
        value = options.get(value, value)  # selections state the key of an option
    end = times[1] if len(times) > 1 else None
    labels.append(check_label(value, times[0], end, where))


def _write_via(annotations: Annotations) -> str:
    files, views, rows = {}, {}, {}
    for number, (name, labels) in enumerate(annotations.items(), start=1):
        files[str(number)] = {"fid": str(number), "fname": name, "type": 4, "loc": 1, "src": name}
        views[str(number)] = {"fid_list": [str(number)]}
        for count, one in enumerate(labels):
            times = [round(one.start, 3), round(one.end or one.start, 3)]
            rows[f"{number}_{count}"] = {
                "vid": str(number), "flg": 0, "z": times, "xy": [], "av": {_ATTRIBUTE: one.label},
            }  # fmt: skip
    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__",
                    "pname": "kinegraph", "vid_list": [*views]},
        "config": {},
        "attribute": {_ATTRIBUTE: {"aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0",
                                   "type": 1, "desc": "action", "options": {},
                                   "default_option_id": ""}},
        "file": files,
        "metadata": rows,
        "view": views,
    }  # fmt: skip
    return json.dumps(project)


VIA_FORMAT = AnnotationFormat(
    name="via",
    summary="a project of VIA 3 (.json), or its export (.csv), which is only read",
    suffixes=(".json", ".csv"),
    matches=_matches,
    read=_read,
    write=_write_via,
)
