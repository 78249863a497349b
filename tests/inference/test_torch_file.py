"""Files of `torch.save` are read as data, in both formats."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from kinegraph.errors import ReadError
from kinegraph.inference.torch_file import load_torch
from readers.pickle_attacks import attacks

BASE = torch.arange(24.0).reshape(4, 6)
CONTENT = {
    "state_dict": collections.OrderedDict(a=BASE, b=BASE.t(), c=BASE[1:3, ::2], d=torch.tensor(3)),
    "types": [torch.zeros(2, dtype=d) for d in (torch.bfloat16, torch.int64, torch.bool)],
    "other": {"epoch": 3, "size": BASE.shape, "parameter": torch.nn.Parameter(BASE)},
    "array": np.arange(3),
    "empty": torch.zeros(0, 4),
}


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_of_torch(zipped, tmp_path):
    path = tmp_path / "w.pt"
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    ours = load_torch(path)
    for key, value in CONTENT["state_dict"].items():
        assert torch.equal(ours["state_dict"][key], value)
    for mine, value in zip(ours["types"], CONTENT["types"], strict=True):
        assert mine.dtype == value.dtype
    assert ours["other"]["size"] == (4, 6)
    assert torch.equal(ours["other"]["parameter"], BASE)
    assert ours["array"].tolist() == [0, 1, 2]
    assert ours["empty"].shape == (0, 4)


class Acting:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_executed_and_no_cut_file_is_read(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "w.pt"
    torch.save({"a": BASE, "b": Acting()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ReadError, match="names"):
        load_torch(path)
    torch.save(CONTENT, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for end in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:end])
        with pytest.raises(ReadError):
            load_torch(path)
    assert not (tmp_path / "executed").exists()


NESTED = ("a nested tuple as a key", "a nested tuple in a set", "a nested tuple", "nested lists")
ATTACKS = {name: data for name, data in attacks(200_000) if name in NESTED}


@pytest.mark.parametrize("name", ATTACKS)
def test_nested_keys_do_not_end_the_process(name, tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("w/data.pkl", ATTACKS[name])
        archive.writestr("w/version", "3")
    old = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    for content in (file.getvalue(), old + ATTACKS[name]):
        path = tmp_path / "w.pt"
        path.write_bytes(content)
        with pytest.raises(ReadError):
            load_torch(path)
