"""A .pt2 file that would act when it is read is refused before it is read."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kinegraph.errors import ExportError
from kinegraph.inference.backends.archive_check import check_archive

PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
SAMPLES = "data/sample_inputs/model.pt"
Change = Callable[[dict[str, bytes]], None]


class Net(torch.nn.Module):
    """Something with weights, sizes and an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3) -> (2 N, 2)."""
        return self.layer(torch.cat([x, x])).view(2 * x.shape[0], 2)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The content of a good file, by the name within."""
    path = tmp_path_factory.mktemp("pt2") / "it.pt2"
    x = torch.randn(4, 3)
    program = torch.export.export(Net(), (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, path, extra_files={"kinegraph.json": "{}"})
    check_archive(path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def rewritten(entries: dict[str, bytes], change: Change, path: Path) -> Path:
    """The file with a change."""
    content = dict(entries)
    change(content)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(f"it/{name}", data)
    return path


def in_json(name: str, old: str, new: Any) -> Change:
    """Puts another text where the first one of this kind is."""

    def change(content: dict[str, bytes]) -> None:
        text = content[name].decode()
        assert old in text
        content[name] = text.replace(old, new, 1).encode()

    return change


class Acting:
    """An object that runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exit, (3,)


def acting_samples(content: dict[str, bytes]) -> None:
    """Sample inputs that act."""
    file = io.BytesIO()
    torch.save(((Acting(),), {}), file, pickle_module=pickle)
    content[SAMPLES] = file.getvalue()


def test_a_rewritten_file_is_good_as_long_as_nothing_changes(entries, tmp_path):
    check_archive(rewritten(entries, lambda _: None, tmp_path / "it.pt2"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update({"data/aotinductor/model/it.so": b""}), "it holds 'data/aotinductor"),
        (lambda c: c.update({"data/weights/model.pt": b""}), "it holds 'data/weights/model.pt'"),
        (lambda c: c.update({"data/constants/opaque_obj_0": b""}), "it holds 'data/constants/opa"),
        (in_json(WEIGHTS, '"use_pickle": false', '"use_pickle": true'), "a pickled object"),
        (acting_samples, "sample inputs hold a pickled object"),
        (
            in_json(PROGRAM, "torch.ops.aten.linear.default", "torch.hub.load"),
            "it calls 'torch.hub",
        ),
        (in_json(PROGRAM, "torch.ops.aten.linear.default", "torch.ops.aten"), "it calls 'torch.op"),
        (in_json(PROGRAM, "Integer(2)", "exit(3)"), "it holds the expression"),
        (in_json(PROGRAM, "Integer(2)", "Symbol.a"), "it holds the expression"),
    ],
)
def test_what_acts_is_refused(change, told, entries, tmp_path):
    with pytest.raises(ExportError, match=told):
        check_archive(rewritten(entries, change, tmp_path / "it.pt2"))


@pytest.mark.parametrize("gone", [PROGRAM, WEIGHTS, SAMPLES])
def test_what_is_incomplete_is_refused(gone, entries, tmp_path):
    path = rewritten(entries, lambda content: content.pop(gone), tmp_path / "it.pt2")
    with pytest.raises(ExportError, match="not an exported program, or is damaged"):
        check_archive(path)


def test_two_files_of_one_name_are_refused(entries, tmp_path):
    path = rewritten(entries, lambda _: None, tmp_path / "it.pt2")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/models/model.json", json.dumps({}))
    with pytest.raises(ExportError, match="files of the same name"):
        check_archive(path)
