"""Pictures of learned parts: every figure from the numbers it was given, odd ones included."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from kinegraph.reports.draw_learned import (
    draw_edge_importance,
    draw_feature_masks,
    draw_free_edges,
    draw_links,
    draw_temporal_shifts,
)
from kinegraph.reports.style import BLUE, ORANGE
from kinegraph.skeleton import LAYOUTS, adjacency, get_layout

NTU = LAYOUTS["ntu25"]


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def texts(figure: Figure) -> list[str]:
    inside = [text.get_text() for ax in figure.axes for text in ax.texts]
    return [text.get_text() for text in figure.texts] + inside


def arrows(figure: Figure) -> list[list[FancyArrowPatch]]:
    """The arrows of each panel that has any."""
    found = [[p for p in ax.patches if isinstance(p, FancyArrowPatch)] for ax in figure.axes]
    return [patches for patches in found if patches]


def test_shifts_have_a_strip_a_layer_with_its_figures() -> None:
    shifts = [("in", np.array([-0.5, 0.5, 2.0, -3.0])), ("out", np.array([0.25, -0.25]))]
    figure = drawn(draw_temporal_shifts(shifts))
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["in", "out"]
    said = texts(figure)
    assert "mean |s| 1.50   50 % > 1 frame" in said
    assert "mean |s| 0.25   0 % > 1 frame" in said
    assert "6 channels: -3.00 to 2.00 frames, mean |s| 1.08, 33 % beyond one frame" in said
    assert ax.get_xlim() == (-3, 3)


def test_the_longest_name_of_a_published_networks_layer_is_not_cut() -> None:
    (ax,) = draw_temporal_shifts([("10 branch out", np.array([0.5]))]).axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["10 branch out"]


def test_shifts_into_the_past_are_blue_and_into_the_future_orange() -> None:
    figure = draw_temporal_shifts([("a", np.array([-2.0, 1.5, 1.5]))])
    bars = [p for p in figure.axes[0].patches if p.get_height() and p.get_width() < 1]
    sides = {(p.get_x() < 0, p.get_facecolor()[:3]) for p in bars}
    assert sides == {(True, to_rgb(BLUE)), (False, to_rgb(ORANGE))}
    assert max(-p.get_height() for p in bars if p.get_x() > 0) == pytest.approx(0.85)


@pytest.mark.parametrize("values", [[0.0], [1.0], [-1e-8, 1e-8], [90.0]])
def test_few_or_equal_shifts_are_drawn(values: list[float]) -> None:
    limits = draw_temporal_shifts([("a", np.array(values))]).axes[0].get_xlim()
    assert limits[0] <= min(values) and max(values) <= limits[1]


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.zeros(0), np.array([1.0, np.nan])])
def test_shifts_of_another_kind_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match="layer 'a': expected one finite shift per channel"):
        draw_temporal_shifts([("a", values)])


def test_masks_show_factors_and_means() -> None:
    mask = np.zeros((25, 4))
    mask[3], mask[7] = 2.0, -1.0
    figure = drawn(draw_feature_masks([("l1", mask), ("l2", np.zeros((25, 1)))], NTU))
    body, heat, *_ = figure.axes
    assert len(figure.axes) == 4
    assert np.allclose(heat.images[0].get_array(), np.tanh(mask))
    assert "l1: 25 joints, 4 channels" in texts(figure)
    assert "factors 0.24 to 1.96, by joint 0.24 to 1.96" in texts(figure)
    dots = body.collections[1]
    red, _, blue = dots.get_facecolors()[3][:3]
    assert red > blue
    red, _, blue = dots.get_facecolors()[7][:3]
    assert blue > red
    assert int(np.argmax(dots.get_sizes())) == 3


def test_a_mask_that_learned_nothing_is_white() -> None:
    figure = draw_feature_masks([("l1", np.zeros((21, 8)))], LAYOUTS["hand21"])
    assert (figure.axes[0].collections[1].get_facecolors() == 1).all()


def test_next_to_nothing_does_not_look_like_much() -> None:
    figure = draw_feature_masks([("l1", np.full((25, 2), 1e-3))], NTU)
    assert figure.axes[0].collections[1].get_facecolors()[0][:3].min() > 0.95


@pytest.mark.parametrize(
    "mask", [np.zeros((1, 25, 4)), np.zeros((20, 4)), np.zeros((25, 0)), np.full((25, 2), np.inf)]
)
def test_masks_of_another_kind_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"unit 'l1': expected a finite mask .*\(25, channels\)"):
        draw_feature_masks([("l1", mask)], NTU)


def test_nothing_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="one layer or more"):
        draw_temporal_shifts([])
    with pytest.raises(ValueError, match="one unit or more"):
        draw_feature_masks([], NTU)


def test_the_strongest_links_are_arrows_and_the_matrix_has_all() -> None:
    rng = np.random.default_rng(0)
    links = rng.random((2, 25, 25))
    links[0, 4, 9] = 3.0
    figure = drawn(draw_links(links, NTU, "drink", strongest=12))
    assert [len(patches) for patches in arrows(figure)] == [12, 12]
    widths = [patch.get_linewidth() for patch in arrows(figure)[0]]
    assert np.all(np.diff(widths) >= 0)
    assert widths[-1] > 1.5 * widths[-2]
    matrix = next(ax for ax in figure.axes if ax.images)
    shown = np.where(np.eye(25, dtype=bool), 0, links[0])
    assert np.array_equal(matrix.images[0].get_array(), shown)
    assert matrix.get_yticklabels()[3].get_text() == "head  3"
    assert {"drink", "link type 1 of 2", "link type 2 of 2"} <= set(texts(figure))
    assert any(t.startswith("the 12 strongest of 600: 3 to 0.9") for t in texts(figure))


def test_one_type_needs_no_number_and_self_links_are_passed_over() -> None:
    figure = drawn(draw_links(np.eye(18), LAYOUTS["openpose18"], "alone"))
    assert {"links", "none above 0"} <= set(texts(figure))
    assert arrows(figure) == []


def test_an_arrow_runs_from_source_to_target() -> None:
    from kinegraph.reports.rest_pose import rest_pose

    layout = LAYOUTS["hand21"]
    links = np.zeros((21, 21))
    links[8, 4] = 0.5
    ((arrow,),) = arrows(draw_links(links, layout, "pinch"))
    ends = [vertex for vertex, _ in arrow.get_path().iter_segments()]
    pose = rest_pose(layout)
    to_start = np.linalg.norm(np.asarray(ends[0]) - pose[[8, 4]], axis=1)
    assert to_start[0] < to_start[1]


def test_the_links_given_are_left_as_they_are() -> None:
    links = np.ones((20, 20))
    draw_links(links, LAYOUTS["kinect20"], "all", strongest=1)
    assert (links == 1).all()


@pytest.mark.parametrize("links", [np.zeros((3, 3)), np.zeros(25), np.zeros((0, 25, 25))])
def test_links_of_another_shape_are_refused(links: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected links of shape \(25, 25\) or \(types"):
        draw_links(links, NTU, "x")


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_impossible_weights_are_refused(value: float) -> None:
    links = np.zeros((25, 25))
    links[1, 2] = value
    with pytest.raises(ValueError, match="finite weights, none negative"):
        draw_links(links, NTU, "x")


def test_importance_colors_gains_orange_and_losses_blue() -> None:
    layout = get_layout("kinect20")
    A = adjacency(layout)
    more, less = np.full_like(A, 2.0), np.full_like(A, 0.5)
    figure = drawn(draw_edge_importance(A, [("a", more), ("b", less), ("c", 0 * A + 1)], layout))
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c"]
    gained, lost, same = (ax.collections[0].get_colors()[0][:3] for ax in figure.axes)
    assert gained == pytest.approx(to_rgb("#dd6b20"), abs=0.02)
    assert lost == pytest.approx(to_rgb("#2b7bba"), abs=0.02)
    assert np.ptp(same) < 0.1


def test_importance_widens_the_bones_that_weigh_more() -> None:
    layout = get_layout("kinect20")
    A = adjacency(layout)
    weights = np.ones_like(A)
    child, parent = layout.bones[5]
    weights[:, child, parent] = weights[:, parent, child] = 9
    widths = (
        draw_edge_importance(A, [("a", weights)], layout).axes[0].collections[0].get_linewidths()
    )
    assert int(np.argmax(widths)) == 5


def test_importance_of_nothing_can_be_drawn() -> None:
    layout = get_layout("kinect20")
    A = adjacency(layout)
    drawn(draw_edge_importance(A, [("a", np.zeros_like(A))], layout))
    drawn(draw_edge_importance(A, [], layout))


def test_importance_of_another_shape_is_refused() -> None:
    layout = get_layout("kinect20")
    A = adjacency(layout)
    with pytest.raises(ValueError, match=r"expected A of shape \(partitions, 20, 20\)"):
        draw_edge_importance(A[:, :5, :5], [], layout)
    with pytest.raises(ValueError, match="block 2: expected importance of shape"):
        draw_edge_importance(A, [("block 1", A), ("block 2", A[:2])], layout)


def test_the_strongest_free_edges_are_arrows_without_self_links():
    layout = LAYOUTS["penn13"]
    weights = np.zeros((3, 13, 13), np.float32)
    weights[0, 2, 5], weights[1, 2, 5], weights[2, 7, 1] = -0.5, 0.25, 0.5
    weights[:, 4, 4] = 9.0
    figure = draw_free_edges([("block 1", weights), ("block 2", 0 * weights)], layout)
    first, second = figure.axes
    assert [len(patches) for patches in arrows(figure)] == [2]
    assert not second.patches
    assert first.get_title() == "block 1\nup to 0.75"
    one = draw_free_edges([("block 1", weights)], layout, strongest=1).axes[0]
    assert len(one.patches) == 1


def test_free_edges_of_another_shape_are_refused():
    layout = LAYOUTS["penn13"]
    with pytest.raises(ValueError, match="got none"):
        draw_free_edges([], layout)
    with pytest.raises(ValueError, match=r"block 1: expected finite weights .* got shape"):
        draw_free_edges([("block 1", np.zeros((3, 12, 12)))], layout)
