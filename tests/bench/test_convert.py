"""Benchmark of conversion: the same clips in both stores."""

from __future__ import annotations

import pytest

from conftest import real_data
from kinegraph.bench import data as module
from kinegraph.bench.data import bench_convert
from kinegraph.bench.fixtures import write_synthetic_ntu_files
from kinegraph.bench.result import BenchOptions
from kinegraph.errors import BenchError


def test_both_stores_have_the_same_clips(tmp_path):
    write_synthetic_ntu_files(tmp_path / "raw", 3)
    result = bench_convert(tmp_path / "raw", BenchOptions(rounds=1))
    assert result.what.startswith("3 .skeleton files")
    assert result.sides[1].figures["files/s"] > 0


def test_real_recordings():
    assert bench_convert(real_data("ntu_samples"), BenchOptions(rounds=1)).ratio.median > 0


def test_a_difference_is_found(tmp_path, monkeypatch):
    write_synthetic_ntu_files(tmp_path / "raw", 1)
    read = module.read_ntu_line_by_line
    monkeypatch.setattr(module, "read_ntu_line_by_line", lambda path: read(path) + 1)
    with pytest.raises(BenchError, match="return different joints for 'S001C001P001R001A001'"):
        bench_convert(tmp_path / "raw", BenchOptions(rounds=1))


def test_a_folder_without_recordings(tmp_path):
    with pytest.raises(BenchError, match=r"expected .skeleton files, found none"):
        bench_convert(tmp_path)
