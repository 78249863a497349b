"""Where the tests find real data, and what they say when it is not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA_ROOT = Path(
    os.environ.get("KINEGRAPH_DATA", Path(__file__).parents[2] / "shared" / "data")
).resolve()


def real_data(name: str) -> Path:
    """The folder or file of that name under KINEGRAPH_DATA, or a loud skip."""
    path = DATA_ROOT / name
    if not path.exists():
        pytest.skip(f"REAL DATA ABSENT: {name} (set KINEGRAPH_DATA to the folder that has it)")
    return path
