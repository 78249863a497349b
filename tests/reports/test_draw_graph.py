"""The picture of a graph states what the graph really holds."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.reports.draw_graph import draw_graph, draw_network_graph
from kinegraph.reports.panels import draw_matrix, label_matrix, write_cell_values
from kinegraph.reports.style import BLUE_CMAP
from kinegraph.skeleton import LAYOUTS, SkeletonLayout, adjacency, hop_distance


def notes(figure: Figure) -> list[str]:
    """Headings and their second lines, panel by panel."""
    found = [t for ax in figure.axes[1:] for t in ax.texts if isinstance(t, Annotation)]
    return [text.get_text() for text in found]


def sentences(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_headings_give_the_published_counts_of_ntu25() -> None:
    figure = draw_graph("ntu25")
    assert notes(figure) == [
        "hop distance", "0 to 12 bones",
        "normalized adjacency", "73 non-zero",
        "root", "25 non-zero",
        "close 1", "24 non-zero",
        "further 1", "24 non-zero",
    ]  # fmt: skip
    assert "partitions sum to the normalized adjacency: True" in sentences(figure)
    assert "ntu25 · 25 joints, 24 bones · center: spine_shoulder" in sentences(figure)


def test_the_truncated_distance_gives_the_counts_of_the_released_code() -> None:
    counts = notes(draw_graph("ntu25", center_distance="truncated"))[5::2]
    assert counts == ["25 non-zero", "40 non-zero", "8 non-zero"]


def test_the_options_stand_below() -> None:
    figure = draw_graph("kinect20", center_distance="truncated", max_hop=2)
    expected = (
        "K = 5 partitions: spatial, neighbors up to 2 bones away, distances to the center "
        "truncated at 2"
    )
    assert expected in sentences(figure)
    full = "K = 3 partitions: spatial, neighbors up to 1 bone away, full distances to the center"
    assert full in sentences(draw_graph("kinect20"))


def test_a_network_is_drawn_with_its_own_matrices() -> None:
    layout = LAYOUTS["ntu25"]
    A = adjacency(layout, max_hop=4, center_distance="truncated")
    figure = draw_network_graph(layout, A)
    images = [ax.images[0].get_array() for ax in figure.axes[3:]]
    assert np.array_equal(images, A)
    assert any("truncated at 4" in line for line in sentences(figure))
    other = draw_network_graph(layout, A * 2)
    assert "K = 9 partitions" in sentences(other)
    assert notes(other)[2] == "sum"


def test_the_panels_hold_the_matrices() -> None:
    figure = draw_graph("kinect20", strategy="distance", max_hop=2)
    images = [ax.images[0].get_array() for ax in figure.axes[1:]]
    assert np.array_equal(images[0], hop_distance("kinect20"))
    parts = adjacency("kinect20", strategy="distance", max_hop=2)
    for image, part in zip(images[2:], parts, strict=True):
        assert np.array_equal(image, part)


def test_partitions_that_do_not_sum_are_said_not_to() -> None:
    assert any(
        line.startswith("partitions sum to the normalized adjacency: False")
        for line in sentences(draw_graph("ntu25", strategy="agcn"))
    )


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_is_drawn_with_every_joint_named(name: str) -> None:
    layout = LAYOUTS[name]
    figure = draw_graph(layout, strategy="uniform")
    labels = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert all(joint[:18] in labels for joint in layout.joints)


@pytest.mark.parametrize("name", ["ntu25", "mediapipe33", "hand21", "coco_wholebody133"])
def test_names_do_not_overlap(name: str) -> None:
    figure = draw_graph(name)
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts if isinstance(t, Annotation)]
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert len(boxes) == LAYOUTS[name].num_joints
    assert overlaps == []


def test_many_partitions_fit() -> None:
    figure = draw_graph("ntu25", max_hop=4)
    assert len(figure.axes) == 1 + 2 + 9


@pytest.mark.parametrize(("joints", "named", "values"), [(20, 20, 58), (80, 40, 0)])
def test_of_many_joints_only_some_are_named_and_no_values_are_written(
    joints: int, named: int, values: int
) -> None:
    names = tuple(f"joint {i}" for i in range(joints))
    layout = SkeletonLayout("many", names, tuple((i, i - 1) for i in range(1, joints)), 0)
    ax = Figure(figsize=(8, 8)).add_axes((0.25, 0.25, 0.7, 0.7))
    weights = adjacency(layout, strategy="uniform")[0]
    draw_matrix(ax, weights, BLUE_CMAP, 1.0)
    write_cell_values(ax, weights)
    assert len(ax.texts) == values
    label_matrix(ax, layout)
    assert len(ax.get_yticklabels()) == named


def test_mistakes_are_those_of_the_graph() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'ntu25'"):
        draw_graph("ntu-25")
    with pytest.raises(ModelError, match="max_hop"):
        draw_graph("ntu25", max_hop=0)
