"""The pictures of shifts hold the joints and frames that the layers read."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.models.shift_layers import local_sources, nonlocal_sources
from kinegraph.reports.draw_shift import draw_layout_shifts, draw_shifts
from kinegraph.skeleton import SkeletonLayout, get_layout

BONES = ((0, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3))
TOY = SkeletonLayout("toy", tuple("abcdefg"), BONES, center=1)


def test_the_panels_hold_the_sources_of_the_layers() -> None:
    _, forth, back, local, naive, adaptive = draw_layout_shifts(TOY, 20).axes
    for ax, sources in (
        (forth, nonlocal_sources(7, 20, 1)),
        (back, nonlocal_sources(7, 20, -1)),
        (local, local_sources(TOY, 20)),
    ):
        joints = (sources.view(7, 20) // 20).numpy()
        assert np.array_equal(ax.images[0].get_array(), joints)
        texts = [text.get_text() for text in ax.texts if text.get_text().isdigit()]
        assert texts == [str(joint) for joint in joints.flat]
    assert [text.get_text() for text in local.texts][:10] == ["0"] * 10  # own half of joint a
    read = naive.images[0].get_array().filled(np.nan)
    assert np.array_equal(read[0], [*range(1, 12), np.nan], equal_nan=True)
    assert np.array_equal(read[4], [np.nan, *range(11)], equal_nan=True)
    assert np.array_equal(read[11], range(12))
    assert "0.8" in [text.get_text() for text in adaptive.texts]


def test_small_cells_have_no_numbers() -> None:
    body, forth, *_ = draw_layout_shifts(get_layout("ntu25"), 256).axes
    assert len(body.texts) == 25
    assert not [text for text in forth.texts if text.get_text().isdigit()]


def test_sources_of_another_layout_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shift: expected \(7, channels\) joints"):
        draw_shifts(TOY, [("shift", "", np.zeros((8, 4), int))])
