"""Predicted and rebuilt poses: what is drawn over what, and the errors that are written."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from kinegraph.errors import ClipError
from kinegraph.reports.draw_poses import draw_forecast, draw_reconstruction, frame_errors
from kinegraph.reports.rest_pose import rest_pose
from kinegraph.skeleton import LAYOUTS


def walking(layout: str = "ntu25", frames: int = 11, d: int = 3) -> np.ndarray:
    """(frames, V, d): the drawing pose moving right by one a frame."""
    pose = rest_pose(LAYOUTS[layout])
    joints = np.zeros((frames, len(pose), d))
    joints[..., : min(2, d)] = pose[:, : min(2, d)]
    joints[..., 0] += np.arange(frames)[:, None]
    return joints


def forecast(layout: str = "ntu25", d: int = 3, **options: object) -> Figure:
    """The true walk beside a prediction that is always 0.25 off."""
    walk = walking(layout, d=d)
    predicted = walk[1:] + 0.25 * np.eye(d)[0]
    return draw_forecast(walk[0], walk[1:], predicted, LAYOUTS[layout], **options)  # type: ignore[arg-type]


def drawn(figure: Figure) -> Figure:
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    return figure


def notes(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def bones(ax: Axes) -> list[int]:
    return [len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection)]


def test_errors_are_mean_distances_over_joints_that_both_have() -> None:
    true = np.zeros((3, 4, 2))
    other = np.broadcast_to([3.0, 4.0], true.shape).copy()
    other[0, :2] = [0.0, 1.0]
    other[1, 1:] = np.nan
    true[1, 0] = [3.0, 3.0]
    true[2] = np.nan
    assert frame_errors(true, other) == pytest.approx([3.0, 1.0, np.nan], nan_ok=True)


def test_a_forecast_has_the_last_pose_then_future_ones_over_true_ones() -> None:
    figure = drawn(forecast(d=2, title="walk $1"))
    panels = figure.axes[:-1]
    assert [bones(ax) for ax in panels] == [[24, 0]] + [[24, 24]] * 5
    assert [notes(ax) for ax in panels[:3]] == [
        ["last seen"],
        ["+1", "0.25", "zero velocity 1"],
        ["+3", "0.25", "zero velocity 3"],
    ]
    true, predicted = (c for c in panels[1].collections if isinstance(c, LineCollection))
    assert predicted.get_zorder() > true.get_zorder()
    shift = np.asarray(predicted.get_segments()) - np.asarray(true.get_segments())
    assert shift[..., 0] == pytest.approx(0.25)


def test_the_curves_are_the_errors_by_future_frame() -> None:
    still, model, dots = forecast().axes[-1].lines
    assert model.get_xdata().tolist() == list(range(1, 11))
    assert model.get_ydata() == pytest.approx(0.25)
    assert still.get_ydata() == pytest.approx(np.arange(1, 11))
    assert dots.get_xdata().tolist() == [1, 3, 5, 8, 10]


def test_3d_has_two_views_and_2d_one() -> None:
    assert len(forecast(d=3).axes) == 2 * 6 + 1
    assert len(forecast(d=2).axes) == 6 + 1


@pytest.mark.parametrize("layout", ["openpose18", "hand21", "mediapipe33"])
def test_other_layouts_are_drawn(layout: str) -> None:
    figure = forecast(layout, d=2)
    assert bones(figure.axes[1]) == [len(LAYOUTS[layout].bones)] * 2


def test_headings_of_neighboring_panels_do_not_overlap() -> None:
    figure = forecast(title="a walk")
    boxes = [t.get_window_extent() for ax in figure.axes[:6] for t in ax.texts if t.get_text()]
    boxes += [text.get_window_extent() for text in figure.texts]
    assert [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)] == []


def test_a_future_of_one_frame_is_a_dot() -> None:
    walk = walking(frames=2)
    figure = drawn(draw_forecast(walk[0], walk[1:], walk[1:], LAYOUTS["ntu25"]))
    assert figure.axes[-1].lines[1].get_marker() == "o"


def test_absent_joints_are_left_out_of_bodies_and_errors() -> None:
    walk = walking(d=2)
    predicted = walk[1:].copy()
    predicted[:, 3] += 100
    walk[1:, 3] = np.nan
    figure = draw_forecast(walk[0], walk[1:], predicted, LAYOUTS["ntu25"])
    assert bones(figure.axes[1]) == [23, 24]
    assert notes(figure.axes[1])[1] == "0"


def test_nothing_to_compare_is_said() -> None:
    walk = walking()
    nobody = np.full_like(walk[1:], np.nan)
    for figure in (
        drawn(draw_forecast(walk[0], nobody, walk[1:], LAYOUTS["ntu25"])),
        drawn(draw_reconstruction(nobody, nobody, LAYOUTS["ntu25"])),
    ):
        assert "no joints to compare" in [text.get_text() for text in figure.texts]


def test_a_reconstruction_has_even_frames_and_all_errors() -> None:
    walk = 4 * walking(d=2, frames=21)
    walk[:, 5] = np.nan
    rebuilt = walk + np.array([0.0, 0.5])
    figure = drawn(draw_reconstruction(walk, rebuilt, LAYOUTS["ntu25"], frames=3))
    assert [notes(ax)[:2] for ax in figure.axes[:3]] == [
        ["frame 0", "0.5"],
        ["frame 10", "0.5"],
        ["frame 20", "0.5"],
    ]
    assert notes(figure.axes[2])[2] == "mean pose 40"
    mean, model, dots = figure.axes[-1].lines
    assert model.get_ydata() == pytest.approx(np.full(21, 0.5))
    assert mean.get_ydata() == pytest.approx(4 * np.abs(np.arange(21) - 10.0), abs=1e-4)
    assert dots.get_xdata().tolist() == [0, 10, 20]


def test_poses_that_do_not_fit_are_refused() -> None:
    walk, layout = walking(), LAYOUTS["ntu25"]
    with pytest.raises(ClipError, match=r"predicted future: expected poses of shape \(10, 25, 3\)"):
        draw_forecast(walk[0], walk[1:], walk, layout)
    with pytest.raises(ClipError, match=r"true future: .*\(frames, 25, coordinates\).* 'ntu25'"):
        draw_forecast(walk[0], walk[1:, :5], walk[1:], layout)
    with pytest.raises(ClipError, match=r"last pose: expected poses of shape \(1, 25, 3\)"):
        draw_forecast(walk[0, :, :2], walk[1:], walk[1:], layout)
    with pytest.raises(ClipError, match="true clip: expected poses"):
        draw_reconstruction(walk[:0], walk[:0], layout)
    with pytest.raises(ClipError, match="reconstructed clip: expected poses"):
        draw_reconstruction(walk, walk[1:], layout)


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ClipError, match="expected joints of 2 or 3 coordinates to draw, got 1"):
        forecast(d=1)
    with pytest.raises(ClipError, match="draw 1 frame or more, got 0"):
        forecast(frames=0)
