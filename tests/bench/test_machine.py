"""What the machine can do, and what it is called."""

from __future__ import annotations

import platform

import torch

from kinegraph.bench import machine
from kinegraph.bench.machine import _copy, _gemm


def test_what_is_measured(monkeypatch):
    monkeypatch.setattr(machine, "_SIDE", 64)
    monkeypatch.setattr(machine, "_COPIED", 1 << 16)
    monkeypatch.setattr(machine, "_SECONDS", 0.0)
    assert _gemm(torch.float32) > 1e6
    assert _copy() > 1e6


def test_the_roof_is_measured_once_for_a_type_and_a_number_of_threads(monkeypatch):
    machine._roof.cache_clear()
    measured = []
    monkeypatch.setattr(machine, "_gemm", lambda dtype: measured.append(dtype) or 1.0)
    roof = machine.roof(torch.float32)
    assert machine.roof(torch.float32) is roof
    assert machine.roof(torch.bfloat16) is not roof
    assert measured == [torch.float32, torch.bfloat16]
    machine._roof.cache_clear()


def test_the_machine_in_words_names_the_kind_and_nobodys_machine():
    words = machine.in_words()
    assert f"PyTorch {torch.__version__}" in words
    assert f"{torch.get_num_threads()} threads" in words
    assert ("no bf16 units" in words) is not machine.has_bf16()
    assert platform.node() not in words.split(", ")


def test_without_linux_list_of_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "Path", lambda _: tmp_path / "none")
    assert machine.has_bf16() is False
    assert "cores" in machine.in_words()
