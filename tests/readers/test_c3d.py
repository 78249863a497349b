"""Reader of .c3d files: points by name, absent points, what the file states of its coordinates."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinegraph.errors import ReadError
from kinegraph.readers import guess_reader, read_clip
from kinegraph.skeleton import get_layout

needs_ezc3d = pytest.mark.skipif(
    importlib.util.find_spec("ezc3d") is None, reason="PACKAGE ABSENT: ezc3d"
)
NAMES = [f"Sub01:{joint}" for joint in get_layout("florence15").joints] + ["C7"]


def write(path: Path, unit: str = "mm", up: str = "", **changes: Any) -> tuple[Path, np.ndarray]:
    """Write a standing body of florence15 with an invalid, a zero and a further point."""
    import ezc3d

    names = changes.pop("names", NAMES)
    heights = {"head": 1.7, "neck": 1.5, "shoulder": 1.4, "spine": 1.2, "hip": 1.0, "knee": 0.5}
    points = np.ones((4, len(names), 6))
    points[:3] = np.random.default_rng(0).normal(0, 0.02, (3, len(names), 6)) * 1000
    for k, name in enumerate(names):
        points[2, k] += 1000 * next((h for part, h in heights.items() if part in name), 0.1)
    points[:3, 0, 1] = np.nan
    points[:3, 1, 2] = 0
    file = ezc3d.c3d()
    facts = file["parameters"]["POINT"]
    facts["RATE"]["value"], facts["UNITS"]["value"] = [100.0], [unit]
    facts["LABELS"]["value"] = names
    file["data"]["points"] = points
    if up:
        file.add_parameter("POINT", "Y_SCREEN", [up])
    file.write(str(path))
    return path, points


@needs_ezc3d
def test_points_are_matched_by_name(tmp_path: Path) -> None:
    path, points = write(tmp_path / "walk.c3d")
    clip = read_clip(path)
    assert (clip.id, clip.fps, clip.layout.name) == ("walk", 100.0, "florence15")
    assert clip.joints.shape == (1, 6, 15, 3)
    np.testing.assert_allclose(clip.joints[0, 0], points[:3, :15, 0].T, rtol=1e-5)
    assert np.argwhere(~clip.valid[0]).tolist() == [[1, 0], [2, 1]]
    assert (clip.space.up, clip.space.unit) == ("z", "mm")
    assert clip.space.assumed  # the axis was found by the bodies
    assert clip.notes == ("points left out: C7",)
    assert guess_reader(path).name == "c3d"


@needs_ezc3d
def test_the_file_and_the_user_state_the_axes(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "a.c3d", up="+Z")
    space = read_clip(path).space
    assert (space.up, space.unit, space.assumed) == ("z", "mm", False)
    path, _ = write(tmp_path / "b.c3d", unit="furlong")
    assert read_clip(path, unit="mm", up="z").space == space
    with pytest.raises(ReadError, match="no registered layout has joints of these names"):
        read_clip(write(tmp_path / "c.c3d", names=["LFHD", "RFHD"])[0])


@needs_ezc3d
def test_damaged_files(tmp_path: Path) -> None:
    path, _ = write(tmp_path / "a.c3d")
    data = path.read_bytes()
    for size in (3, 300, 700):
        path.write_bytes(data[:size])
        with pytest.raises(ReadError, match=r"a\.c3d: .*it is cut off"):
            read_clip(path, "c3d")
    path.write_text("not motion")
    with pytest.raises(ReadError, match="does not begin as one"):
        read_clip(path, "c3d")


@pytest.mark.skipif(importlib.util.find_spec("ezc3d") is not None, reason="ezc3d is installed")
def test_without_the_package_a_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    path = tmp_path / "a.c3d"
    path.write_bytes(b"\x02\x50")
    assert guess_reader(path).name == "c3d"
    with pytest.raises(ReadError, match=r"need the package ezc3d .*pip install .*\[mocap\]"):
        read_clip(path)
