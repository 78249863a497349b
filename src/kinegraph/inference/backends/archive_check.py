"""Check of .pt2 archives: only tensors and graphs of known operations are accepted.

`torch.export.load` unpickles objects, evaluates texts and calls whatever functions a file names;
so everything in the file is looked at before it is loaded.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kinegraph.errors import ExportError

_ENTRIES = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/kinegraph\.json"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
)
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_OPERATION = re.compile(
    r"torch\.ops\.aten\.\w+\.\w+|torch\.sym_(min|max|not|float|ite)|math\.(trunc|ceil|floor)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|and_|or_|eq|ne|lt|le|gt|ge|getitem)"
)
# sizes, as text: sums and the like of numbers and of symbols such as s77
_SIZE = re.compile(
    r"(Symbol\('[a-z]+\d+'|Integer|Add|Mul|Pow|Min|Max|FloorDiv|CeilDiv|CleanDiv|Mod|PythonMod"
    r"|positive|nonnegative|integer|True|False|-?\d+|[(), =]|-?oo)*"
)


def check_archive(path: Path) -> None:
    """Refuse a .pt2 file that holds more than `kinegraph export` writes.

    Raises:
        ExportError: the file is damaged, or holds pickled objects, compiled code, or texts and
            names of functions that are not those of a network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            mistake = _mistake(archive)
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, RecursionError) as error:
        raise ExportError(f"{path} is not an exported program, or is damaged: {error}") from error
    if mistake:
        raise ExportError(f"{path} is not loaded: {mistake}, which kinegraph never writes")


def _mistake(archive: zipfile.ZipFile) -> str | None:
    listed = archive.namelist()
    names = {name.partition("/")[2]: name for name in listed}
    if len(names) < len(listed):
        return "it holds files of the same name"
    strange = [name for name in names if not _ENTRIES.fullmatch(name)]
    if strange:
        return f"it holds {strange[0]!r}"
    for config in _CONFIGS:
        entries = json.loads(archive.read(names[config]))["config"]
        if any(entry["use_pickle"] is not False for entry in entries.values()):
            return "it holds a pickled object"
    if not _is_plain(archive.read(names["data/sample_inputs/model.pt"])):
        return "its sample inputs hold a pickled object"
    program = json.loads(archive.read(names["models/model.json"]))
    return next(_strange_texts(program), None)


def _is_plain(content: bytes) -> bool:
    """Whether a file of tensors can be read without running anything."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except Exception:  # of many kinds, all of which mean that it cannot
        return False
    return True


def _strange_texts(node: Any) -> Iterator[str]:
    """What a program says that is more than operations on tensors and sizes."""
    if isinstance(node, list):
        for entry in node:
            yield from _strange_texts(entry)
    elif isinstance(node, dict):
        for key, entry in node.items():
            if key == "expr_str" and not _SIZE.fullmatch(str(entry)):
                yield f"it holds the expression {str(entry)[:80]!r}"
            elif key == "target" and not _OPERATION.fullmatch(str(entry)):
                yield f"it calls {str(entry)[:80]!r}"
            else:
                yield from _strange_texts(entry)
