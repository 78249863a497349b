"""Shared look: names as they are drawn, files that are whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinegraph.reports.style import blend, plot_label, replacing


def test_plain_keeps_names_on_one_line_short_and_free_of_maths() -> None:
    assert plot_label("sit\n down") == "sit down"
    assert plot_label("costs $5 or $6") == r"costs \$5 or \$6"
    assert plot_label("a" * 40, 10) == "a" * 9 + "…"
    assert plot_label("bell\x07") == "bell?"


def test_mixed_goes_from_one_color_to_the_other() -> None:
    assert blend("#000000", "#ffffff", 0) == "#000000"
    assert blend("#000000", "#ffffff", 1) == "#ffffff"


def test_replacing_writes_beside_and_renames(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    with replacing(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_replacing_leaves_the_old_file_if_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
