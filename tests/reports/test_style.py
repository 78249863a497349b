"""Shared look: names as they are drawn."""

from __future__ import annotations

from kinegraph.reports.style import blend, plot_label


def test_plain_keeps_names_on_one_line_short_and_free_of_maths() -> None:
    assert plot_label("sit\n down") == "sit down"
    assert plot_label("costs $5 or $6") == r"costs \$5 or \$6"
    assert plot_label("a" * 40, 10) == "a" * 9 + "…"
    assert plot_label("bell\x07") == "bell?"


def test_mixed_goes_from_one_color_to_the_other() -> None:
    assert blend("#000000", "#ffffff", 0) == "#000000"
    assert blend("#000000", "#ffffff", 1) == "#ffffff"
