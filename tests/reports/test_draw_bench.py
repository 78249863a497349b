"""Bars of a benchmark: from 1, blue where the target is reached, orange where it is not."""

from __future__ import annotations

import io

import pytest
from matplotlib.colors import to_hex

from kinegraph.reports.draw_bench import Bar, draw_bench
from kinegraph.reports.style import BLUE, ORANGE

BARS = [
    Bar("fast", 2.0, 1.9, 2.1, 1.5, 2.5),
    Bar("slow", 0.5, 0.4, 0.6, 6, 8),
    Bar("many", 24.0, minimum=20, goal=60, unit="persons"),
    Bar("absent", None, minimum=2, goal=3),
]


def test_bars_begin_at_one_and_tell_whether_the_target_is_reached():
    (ax,) = draw_bench(BARS, "a machine").axes
    bars = [patch for patch in ax.patches if patch.get_width()]
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(1, 1.0), (1, -0.5), (1, 23.0)]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [BLUE, ORANGE, BLUE]
    assert [text.get_text() for text in ax.texts] == ["2x", "0.5x", "24 persons", "not measured"]
    assert ax.get_xlim()[1] > 60
    assert ax.get_xlim()[0] < 0.5


@pytest.mark.parametrize("bars", [[], BARS[:1], [Bar("alone $x$", 1.5)], [BARS[3]]])
def test_any_number_of_bars_is_drawn(bars):
    file = io.BytesIO()
    draw_bench(bars).savefig(file)
    assert file.tell() > 1000
