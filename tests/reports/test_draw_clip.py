"""Strips and moving pictures of clips: what is drawn, which way up, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError
from kinegraph.reports.draw_clip import animate_clip, draw_clip
from kinegraph.reports.panels import project_joints
from kinegraph.reports.rest_pose import rest_pose
from kinegraph.skeleton import LAYOUTS
from kinegraph.skeleton.space import Space


def standing(layout: str = "kinect20", frames: int = 12, persons: int = 1, d: int = 3) -> Clip:
    """Persons in the drawing pose (y up), walking to the right."""
    pose = rest_pose(LAYOUTS[layout])
    joints = np.zeros((persons, frames, len(pose), d), dtype=np.float32)
    joints[..., :2] = pose
    joints[..., 0] += np.arange(frames)[None, :, None] + 6 * np.arange(persons)[:, None, None]
    return Clip(joints, LAYOUTS[layout], id="walk", fps=30)


def bones(ax: Axes) -> int:
    return sum(len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection))


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_a_strip_has_evenly_spaced_frames_on_one_scale() -> None:
    figure = draw_clip(standing(d=2), frames=4, title="walk $1")
    assert [ax.get_xlabel() for ax in figure.axes] == [
        "0  (0.0 s)", "4  (0.1 s)", "7  (0.2 s)", "11  (0.4 s)",
    ]  # fmt: skip
    limits = np.array([(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes])
    assert limits == pytest.approx(np.broadcast_to(limits[0], limits.shape))
    assert all(bones(ax) == 19 for ax in figure.axes)
    assert r"walk \$1" in words(figure)
    assert {"left side", "right side", "trunk"} <= set(words(figure))


def test_units_are_equally_long_both_ways() -> None:
    figure = draw_clip(standing())
    for ax in figure.axes:
        box = ax.get_window_extent()
        across, up = np.ptp(ax.get_xlim()) / box.width, np.ptp(ax.get_ylim()) / box.height
        assert across == pytest.approx(up)


def test_every_drawn_joint_lies_inside_its_panel() -> None:
    for ax in draw_clip(standing(persons=2)).axes:
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        dots = np.concatenate(
            [c.get_offsets() for c in ax.collections if not isinstance(c, LineCollection)]
        )
        assert left < dots[:, 0].min() and dots[:, 0].max() < right
        assert bottom < dots[:, 1].min() and dots[:, 1].max() < top


@pytest.mark.parametrize(("d", "upright"), [(3, True), (2, False)])
def test_3d_has_y_up_and_2d_y_down(d: int, upright: bool) -> None:
    clip = standing(d=d)
    ax = draw_clip(clip, frames=1).axes[0]
    dots = next(c for c in ax.collections if not isinstance(c, LineCollection)).get_offsets()
    head, foot = clip.layout.index("head"), clip.layout.index("left_foot")
    assert (dots[head, 1] > dots[foot, 1]) == upright


def test_3d_has_a_smaller_side_view() -> None:
    figure = draw_clip(standing(), frames=3)
    heights = [ax.get_position().height for ax in figure.axes]
    assert len(heights) == 6
    assert heights[3] < heights[0]


def test_missing_joints_and_their_bones_are_left_out() -> None:
    clip = standing(frames=3)
    joints = clip.joints.copy()
    joints[0, 0, clip.layout.index("left_elbow")] = np.nan
    joints[0, 1] = np.nan
    figure = draw_clip(clip.with_joints(joints), frames=3)
    assert [bones(ax) for ax in figure.axes[:3]] == [17, 0, 19]
    assert np.isfinite([ax.get_xlim() for ax in figure.axes]).all()


def test_a_clip_without_any_joint_says_so(tmp_path: Path) -> None:
    clip = Clip(np.full((2, 3, 20, 3), np.nan), LAYOUTS["kinect20"])
    assert "no visible joints" in words(draw_clip(clip))
    assert animate_clip(clip, tmp_path / "nobody.gif").exists()


def test_a_joint_that_never_moves_can_be_drawn() -> None:
    joints = np.full((1, 2, 20, 2), np.nan, dtype=np.float32)
    joints[0, :, 3] = 5.0
    ax = draw_clip(Clip(joints, LAYOUTS["kinect20"])).axes[0]
    assert ax.get_xlim()[0] < 5 < ax.get_xlim()[1]


def test_persons_have_their_own_hues_and_absent_ones_none() -> None:
    clip = standing(persons=3, frames=2)
    joints = clip.joints.copy()
    joints[1] = np.nan
    figure = draw_clip(clip.with_joints(joints), frames=1)
    assert {"person 1", "person 3"} <= set(words(figure))
    assert "person 2" not in words(figure)
    first, second = (c for c in figure.axes[0].collections if isinstance(c, LineCollection))
    assert not {tuple(c) for c in first.get_colors()} & {tuple(c) for c in second.get_colors()}


def test_a_crowd_is_counted_instead_of_listed() -> None:
    assert "and 3 more" in words(draw_clip(standing(persons=9, frames=1)))


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_every_layout_can_be_drawn(layout: str) -> None:
    figure = draw_clip(standing(layout, frames=1, d=2))
    assert bones(figure.axes[0]) == len(LAYOUTS[layout].bones)


def test_a_single_frame_gives_a_single_panel() -> None:
    assert len(draw_clip(standing(frames=1, d=2)).axes) == 1


@pytest.mark.parametrize("draw", [draw_clip, lambda clip: animate_clip(clip, "never.gif")])
def test_one_coordinate_is_refused(draw: object) -> None:
    clip = Clip(np.zeros((1, 2, 20, 1)), LAYOUTS["kinect20"], id="flat")
    with pytest.raises(ClipError, match=r"'flat': expected joints of 2 or 3 coordinates.*got 1"):
        draw(clip)  # type: ignore[operator]
    assert not Path("never.gif").exists()


def test_no_frames_are_refused() -> None:
    with pytest.raises(ClipError, match="draw 1 frame or more, got 0"):
        draw_clip(standing(), frames=0)


def test_a_gif_shows_every_frame_at_the_clips_pace(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = animate_clip(
        standing(frames=5), tmp_path / "walk.gif", 10, progress=lambda *at: told.append(at)
    )
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["duration"], gif.info["loop"]) == (5, 100, 0)
        first = np.asarray(gif.convert("RGB"))
        gif.seek(4)
        assert (np.asarray(gif.convert("RGB")) != first).any()
    assert told == [(i, 5) for i in range(1, 6)]
    assert list(tmp_path.iterdir()) == [path]


def test_a_long_clip_keeps_its_speed_with_fewer_pictures(tmp_path: Path) -> None:
    path = animate_clip(standing(frames=40), tmp_path / "long.gif", 20, max_frames=4)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (4, 500)


def test_a_gif_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        animate_clip(standing(frames=4), tmp_path / "walk.gif", progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fps", "most"), [(0, 10), (-1, 10), (float("nan"), 10), (10, 0)])
def test_an_impossible_pace_is_refused(tmp_path: Path, fps: float, most: int) -> None:
    with pytest.raises(ClipError, match="expected fps and max_frames above 0"):
        animate_clip(standing(), tmp_path / "walk.gif", fps, max_frames=most)


@pytest.mark.parametrize(
    ("space", "up"),
    [
        (Space("world", "y"), [0, 1, 0]),
        (Space("world", "-y"), [0, -1, 0]),
        (Space("world", "z"), [0, 0, 1]),
        (Space("world", "x"), [1, 0, 0]),
        (Space("image"), [0, -1, 0]),
        (Space(), [0, 1, 0]),
    ],
)
def test_bodies_are_drawn_upright_in_every_space(space, up):
    joints = np.array([[[[0, 0, 0], up]]], np.float32)
    views = project_joints(joints, [0], "a body", space)
    for view in views:
        np.testing.assert_array_equal(view.points[0, 0, 1], [0, 1])
        assert ("taken as up" in view.name) == (space.kind == "unstated")
    flat = np.array([[[[0, 0], up[:2]]]], np.float32)
    if any(up[:2]) and space.kind != "unstated" and "x" not in (space.up or ""):
        (view,) = project_joints(flat, [0], "a body", space)
        np.testing.assert_array_equal(view.points[0, 0, 1], [0, 1])
