"""Annotations as JSON exports of Label Studio: labels of time series, sounds and videos."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from kinegraph.errors import ReadError
from kinegraph.readers.annotations.records import (
    AnnotationFormat,
    Annotations,
    TimedLabel,
    check_label,
)
from kinegraph.readers.formats.json_file import read_json

_TIME_LABELS = ("timeserieslabels", "labels")  # kinds of results with start and end in seconds
_TIMELINE = "timelinelabels"  # the kind with ranges of frames, counted from 1, the end included
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio writes before the name of an upload


def _matches(path: Path) -> bool:
    tasks = read_json(path)
    return isinstance(tasks, list) and all(
        isinstance(task, dict) and isinstance(task.get("annotations"), list) for task in tasks
    )


def _read(path: Path) -> Annotations:
    found: dict[str, list[TimedLabel]] = {}
    for number, task in enumerate(read_json(path)):
        where = f"{path}: task {number}"
        labels = found.setdefault(_name_of(task, where), [])
        for annotation in task["annotations"]:
            if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
                continue
            results = annotation.get("result")
            for result in results if isinstance(results, list) else []:
                labels += _read_result(result, where)
    return found


def _name_of(task: dict[str, Any], where: str) -> str:
    data = task.get("data")
    values = [task.get("file_upload"), *(data.values() if isinstance(data, dict) else ())]
    texts = [unquote(value) for value in values if isinstance(value, str) and value]
    if not texts:
        raise ReadError(f"{where}: names no file")
    name = next((text for text in texts if PurePosixPath(text).suffix), texts[0])
    return _UPLOAD.sub("", PurePosixPath(name).name)


def _read_result(result: Any, where: str) -> list[TimedLabel]:
    """Return the labels of a result; other kinds, such as boxes, have none."""
    kind = result.get("type") if isinstance(result, dict) else None
    value = result.get("value") if isinstance(result, dict) else None
    if kind not in (*_TIME_LABELS, _TIMELINE) or not isinstance(value, dict):
        return []
    names = value.get(kind)
    if not isinstance(names, list) or len(names) != 1:
        raise ReadError(f"{where}: expected one action in {kind}, got {names!r:.40}")
    if kind != _TIMELINE:
        return [check_label(names[0], value.get("start"), value.get("end"), where)]
    ranges = value.get("ranges")
    found = []
    for item in ranges if isinstance(ranges, list) else []:
        item = item if isinstance(item, dict) else {}
        one = check_label(names[0], item.get("start"), item.get("end"), where)
        found.append(one._replace(start=max(0.0, one.start - 1), in_frames=True))
    return found


def _write_label_studio(annotations: Annotations) -> str:
    tasks = [
        {
            "id": number,
            "data": {"video": name},
            "annotations": [
                {
                    "result": [
                        {
                            "id": f"{number}-{count}",
                            "type": _TIME_LABELS[0],
                            "from_name": "label",
                            "to_name": "ts",
                            "value": {
                                "start": round(one.start, 3),
                                "end": round(one.end or one.start, 3),
                                _TIME_LABELS[0]: [one.label],
                            },
                        }
                        for count, one in enumerate(labels)
                    ]
                }
            ],
        }
        for number, (name, labels) in enumerate(annotations.items(), start=1)
    ]
    return json.dumps(tasks)


LABEL_STUDIO_FORMAT = AnnotationFormat(
    name="label_studio",
    summary="a JSON export of Label Studio: timeserieslabels, labels and timelinelabels",
    suffixes=(".json",),
    matches=_matches,
    read=_read,
    write=_write_label_studio,
)
