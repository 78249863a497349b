"""Skeletons as a strip of frames and as a moving picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError
from kinegraph.files import atomic_path
from kinegraph.reports.panels import (
    LEGEND_HEIGHT,
    PANEL_GAP,
    STRIP_WIDTH,
    add_color_legend,
    add_panels,
    compute_panel_heights,
    draw_joints,
    label_projection,
    project_joints,
    set_equal_limits,
    spaced_frames,
)
from kinegraph.reports.rest_pose import bone_colors, bone_sides, joint_colors, joint_sides
from kinegraph.reports.style import (
    BLACK,
    GRAY,
    HUES,
    OFF_WHITE,
    SIDE_COLORS,
    blend,
    plot_label,
)
from kinegraph.skeleton import SkeletonLayout

_TOP, _BOTTOM = 0.34, 0.24  # inches
_SIDE_SHADES = {"left": ("#ffffff", 0.42), "right": ("#000000", 0.1), "trunk": ("#000000", 0.5)}


def draw_clip(
    clip: Clip, *, frames: int = 6, title: str | None = None, y_up: bool | None = None
) -> Figure:
    """A strip of evenly spaced frames, all drawn to the same scale.

    One person has the left side blue and the right side orange; several persons have a hue each,
    the left side paler. A hand is colored by finger. Joints that were not seen are not drawn.

    Args:
        frames: how many; a shorter clip gives fewer.
        title: written above the strip.
        y_up: whether y points up; by default it does in 3D and does not in 2D.

    Raises:
        ClipError: fewer than one frame asked for, or joints of one coordinate.
    """
    if frames < 1:
        raise ClipError(f"clip {clip.id!r}: expected to draw 1 frame or more, got {frames}")
    chosen = spaced_frames(clip.num_frames, frames)
    views = project_joints(clip.joints, chosen, y_up, f"clip {clip.id!r}")
    bodies = _Bodies(clip)
    each = STRIP_WIDTH / max(len(chosen), 4)
    heights = compute_panel_heights(views, each)
    top = _TOP if title else PANEL_GAP
    tall = (
        top
        + sum(heights)
        + PANEL_GAP * len(heights)
        + _BOTTOM
        + LEGEND_HEIGHT * bool(bodies.legend)
    )
    figure = Figure(figsize=(max(2, len(chosen)) * each, tall))
    rows = add_panels(figure, heights, (each, len(chosen)), top)
    for view, row in zip(views, rows, strict=True):
        label_projection(row[0], view.name, len(views))
        for ax, frame in zip(row, chosen, strict=True):
            set_equal_limits(ax, view.box)
            bodies.draw(ax, view.points, frame)
    for ax, frame in zip(rows[-1], chosen, strict=True):
        ax.set_xlabel(_frame_name(clip, frame), fontsize=9, color=GRAY, labelpad=4)
    if title:
        figure.text(
            0.008, 1 - 0.07 / tall, plot_label(title, 80), fontsize=11, color=BLACK, va="top"
        )
    add_color_legend(figure, bodies.legend)
    return figure


def animate_clip(
    clip: Clip,
    path: str | Path,
    fps: float | None = None,
    *,
    max_frames: int = 240,
    y_up: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The clip as a GIF with frame numbers, complete or not there at all.

    Args:
        fps: frames per second of the recording; by default the clip's own, or 15.
        max_frames: of a longer clip only so many evenly spaced frames are drawn, each shown
            longer, so that the motion keeps its speed.
        y_up: as in `draw_clip`.
        progress: told (pictures drawn, pictures in all).

    Raises:
        ClipError: joints of one coordinate; fps or max_frames is not above 0.
        OSError: the file cannot be written.
    """
    fps = (clip.fps or 15.0) if fps is None else fps
    if not fps > 0 or max_frames < 1:
        raise ClipError(
            f"clip {clip.id!r}: expected fps and max_frames above 0, got {fps} and {max_frames}"
        )
    chosen = spaced_frames(clip.num_frames, max_frames)
    pictures = _pictures(clip, chosen, y_up, progress)
    # Browsers slow down pictures shown for less than 20 ms.
    each = max(20, round(1000 * clip.num_frames / len(chosen) / fps))
    path = Path(path)
    first = next(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, partial.open("wb") as file:
        first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=pictures,
            duration=each,
            loop=0,
            disposal=1,
        )
    return path


class _Bodies:
    """The persons of a clip with their colors, ready to be drawn frame by frame."""

    def __init__(self, clip: Clip) -> None:
        self.layout = clip.layout
        self.persons = [m for m in range(clip.num_persons) if clip.valid[m].any()]
        alone = len(self.persons) < 2
        self.bone_colors: list[Sequence[str]] = []
        self.joint_colors: list[Sequence[str]] = []
        for i in range(len(self.persons)):
            bones, joints = _colors(clip.layout, None if alone else HUES[i % len(HUES)])
            self.bone_colors.append(bones)
            self.joint_colors.append(joints)
        self.legend = _legend_entries(clip.layout, self.persons)

    def draw(self, ax: Axes, points: NDArray[np.float32], frame: int) -> list[Any]:
        """The artists of one frame; ``points`` is (M, T, V, 2)."""
        artists: list[Any] = []
        for i, m in enumerate(self.persons):
            colors = self.bone_colors[i], self.joint_colors[i]
            artists += draw_joints(ax, self.layout, points[m, frame], colors)
        return artists


def _colors(layout: SkeletonLayout, hue: str | None) -> tuple[Sequence[str], Sequence[str]]:
    """Colors of bones and joints: by side, or as shades of a person's hue."""
    if hue is None:
        return bone_colors(layout), joint_colors(layout)
    shade = {side: blend(hue, *how) for side, how in _SIDE_SHADES.items()}
    if not layout.mirror_pairs:
        shade["trunk"] = hue
    return (
        [shade[side] for side in bone_sides(layout)],
        [shade[side] for side in joint_sides(layout)],
    )


def _legend_entries(layout: SkeletonLayout, persons: list[int]) -> list[tuple[str, str]]:
    if not persons:
        return [("no joint was seen", GRAY)]
    if len(persons) > 1:
        entries = [(f"person {m + 1}", hue) for m, hue in zip(persons, HUES, strict=False)]
        if len(persons) > len(HUES):
            entries.append((f"and {len(persons) - len(HUES)} more", GRAY))
        return [*entries, ("(left side paler)", GRAY)] if layout.mirror_pairs else entries
    if not layout.mirror_pairs:
        return []
    return [(f"{side} side" if side != "trunk" else side, c) for side, c in SIDE_COLORS.items()]


def _frame_name(clip: Clip, frame: int) -> str:
    """Frames count from 0; the time is added where it is known."""
    return f"frame {frame}" if not clip.fps else f"{frame}  ({frame / clip.fps:.1f} s)"


def _pictures(
    clip: Clip,
    frames: list[int],
    y_up: bool | None,
    progress: Callable[[int, int], None] | None,
) -> Any:
    """Yield one Pillow image a frame, drawn on one figure whose bodies are replaced."""
    from PIL import Image

    views = project_joints(clip.joints, range(clip.num_frames), y_up, f"clip {clip.id!r}")
    width = 3.2
    height = compute_panel_heights(views, width)[0]
    figure = Figure(
        figsize=(width * len(views), _TOP + height + PANEL_GAP + LEGEND_HEIGHT), dpi=100
    )
    canvas = FigureCanvasAgg(figure)
    row = add_panels(figure, [height], (width, len(views)), _TOP)[0]
    bodies = _Bodies(clip)
    palette = _palette(bodies.bone_colors + bodies.joint_colors)
    for ax, view in zip(row, views, strict=True):
        set_equal_limits(ax, view.box)
        label_projection(ax, view.name, len(views))
    add_color_legend(figure, bodies.legend)
    number = figure.text(0.02, 0.985, "", fontsize=10, color=BLACK, va="top")
    for done, frame in enumerate(frames, start=1):
        number.set_text(f"frame {frame} / {clip.num_frames - 1}")
        artists = []
        for ax, view in zip(row, views, strict=True):
            artists += bodies.draw(ax, view.points, frame)
        canvas.draw()
        picture = Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        yield picture.quantize(palette=palette, dither=Image.Dither.NONE)
        for artist in artists:
            artist.remove()
        if progress is not None:
            progress(done, len(frames))


def _palette(colors: list[Sequence[str]]) -> Any:
    """One palette for all pictures (what does not move then costs no bytes): colors, softened."""
    from PIL import Image

    grounds = ("#ffffff", OFF_WHITE)
    solid = sorted({BLACK, GRAY, *HUES, *SIDE_COLORS.values()}.union(*colors))
    shades = [blend(c, ground, s) for c in solid for ground in grounds for s in (0, 0.4, 0.7)]
    entries = list(dict.fromkeys([*grounds, *shades]))[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([int(c[i : i + 2], 16) for c in entries for i in (1, 3, 5)])
    return palette
