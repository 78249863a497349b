"""A small run of `make gates`: interrupted commands leave whole files and no processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gates import FAULTS, run_gates

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="lists processes in /proc"
)


@pytest.mark.parametrize(
    "title",
    [
        "convert",
        "teach",
        *(pytest.param(one, marks=pytest.mark.slow) for one in ("train", "export", "report")),
    ],
)
def test_an_interrupted_command_leaves_whole_files(title):
    rows = list(run_gates(3, 1, (title,)))
    assert {row.fault for row in rows} == set(FAULTS)
    assert sum(row.interrupted for row in rows) > len(rows)
    assert not [(row.title, row.fault, row.broken) for row in rows if row.broken]
