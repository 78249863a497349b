"""Skeletons as a strip of frames and as a moving picture.

Which way is up: clips of two coordinates are taken for image coordinates, y pointing down, and
are flipped; clips of three are taken to have y up (as Kinect and motion capture do) and are seen
from the front (x to the right) and from the side (z to the right). ``y_up`` overrules the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError
from kinegraph.reports.ink import HUES, INK, MUTED, PANEL, SIDE_COLOURS, mixed, plain, replacing
from kinegraph.reports.pose import bone_colours, bone_sides, joint_colours, joint_sides
from kinegraph.skeleton import SkeletonLayout

_STRIP_WIDTH = 7.6  # inches
_TOP, _BOTTOM, _LEGEND, _GAP = 0.34, 0.24, 0.26, 0.07
_SIDE_SHADES = {"left": ("#ffffff", 0.42), "right": ("#000000", 0.1), "trunk": ("#000000", 0.5)}


@dataclass(frozen=True)
class _View:
    """One projection: points (M, T, V, 2) with y up, and the box that all its frames share."""

    name: str
    points: NDArray[np.float32]
    box: tuple[float, float, float, float]  # left, right, bottom, top


def draw_clip(
    clip: Clip, *, frames: int = 6, title: str | None = None, y_up: bool | None = None
) -> Figure:
    """A strip of evenly spaced frames, all drawn to the same scale.

    One person has the left side blue and the right side orange; several persons have a hue each,
    the left side paler. A hand is coloured by finger. Joints that were not seen are not drawn.

    Args:
        frames: how many; a shorter clip gives fewer.
        title: written above the strip.
        y_up: whether y points up; by default it does in 3D and does not in 2D.

    Raises:
        ClipError: fewer than one frame asked for, or joints of one coordinate.
    """
    if frames < 1:
        raise ClipError(f"clip {clip.id!r}: expected to draw 1 frame or more, got {frames}")
    chosen = _evenly(clip.num_frames, frames)
    views = _views(clip, chosen, y_up)
    bodies = _Bodies(clip)
    each = _STRIP_WIDTH / max(len(chosen), 4)
    heights = _panel_heights(views, each)
    top = _TOP if title else _GAP
    tall = top + sum(heights) + _GAP * len(heights) + _BOTTOM + _LEGEND * bool(bodies.legend)
    figure = Figure(figsize=(max(2, len(chosen)) * each, tall))
    panels = _panels(figure, heights, (each, len(chosen)), top)
    for view, row in zip(views, panels, strict=True):
        _name_view(row[0], view.name, len(views))
        for ax, frame in zip(row, chosen, strict=True):
            _set_box(ax, view.box)
            bodies.draw(ax, view.points, frame)
    for ax, frame in zip(panels[-1], chosen, strict=True):
        ax.set_xlabel(_frame_name(clip, frame), fontsize=9, color=MUTED, labelpad=4)
    if title:
        figure.text(0.008, 1 - 0.07 / tall, plain(title, 80), fontsize=11, color=INK, va="top")
    _legend(figure, bodies.legend)
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
    chosen = _evenly(clip.num_frames, max_frames)
    pictures = _pictures(clip, chosen, y_up, progress)
    # Browsers slow down pictures shown for less than 20 ms.
    each = max(20, round(1000 * clip.num_frames / len(chosen) / fps))
    path = Path(path)
    first = next(pictures)
    with replacing(path) as partial, partial.open("wb") as file:
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
    """The persons of a clip with their colours, ready to be drawn frame by frame."""

    def __init__(self, clip: Clip) -> None:
        self.bones = np.array(clip.layout.bones, dtype=int).reshape(-1, 2)
        self.persons = [m for m in range(clip.num_persons) if clip.valid[m].any()]
        alone = len(self.persons) < 2
        self.bone_colours: list[Sequence[str]] = []
        self.joint_colours: list[Sequence[str]] = []
        for i in range(len(self.persons)):
            bones, joints = _colours(clip.layout, None if alone else HUES[i % len(HUES)])
            self.bone_colours.append(bones)
            self.joint_colours.append(joints)
        self.legend = _legend_entries(clip.layout, self.persons)

    def draw(self, ax: Axes, points: NDArray[np.float32], frame: int) -> list[Any]:
        """The artists of one frame; ``points`` is (M, T, V, 2)."""
        artists: list[Any] = []
        for i, m in enumerate(self.persons):
            body = points[m, frame]
            seen = ~np.isnan(body).any(axis=-1)
            whole = seen[self.bones].all(axis=1)
            colours = [c for c, drawn in zip(self.bone_colours[i], whole, strict=True) if drawn]
            lines = LineCollection(
                list(body[self.bones[whole]]), colors=colours, linewidths=1.9, capstyle="round"
            )
            dots = [c for c, drawn in zip(self.joint_colours[i], seen, strict=True) if drawn]
            artists.append(ax.add_collection(lines, autolim=False))
            x, y = body[seen].T
            artists.append(ax.scatter(x, y, s=5, c=dots, linewidths=0, zorder=3))
        return artists


def _colours(layout: SkeletonLayout, hue: str | None) -> tuple[Sequence[str], Sequence[str]]:
    """Colours of bones and joints: by side, or as shades of a person's hue."""
    if hue is None:
        return bone_colours(layout), joint_colours(layout)
    shade = {side: mixed(hue, *how) for side, how in _SIDE_SHADES.items()}
    if not layout.mirror_pairs:
        shade["trunk"] = hue
    return (
        [shade[side] for side in bone_sides(layout)],
        [shade[side] for side in joint_sides(layout)],
    )


def _legend_entries(layout: SkeletonLayout, persons: list[int]) -> list[tuple[str, str]]:
    if not persons:
        return [("no joint was seen", MUTED)]
    if len(persons) > 1:
        entries = [(f"person {m + 1}", hue) for m, hue in zip(persons, HUES, strict=False)]
        if len(persons) > len(HUES):
            entries.append((f"and {len(persons) - len(HUES)} more", MUTED))
        return [*entries, ("(left side paler)", MUTED)] if layout.mirror_pairs else entries
    if not layout.mirror_pairs:
        return []
    return [(f"{side} side" if side != "trunk" else side, c) for side, c in SIDE_COLOURS.items()]


def _views(clip: Clip, frames: list[int], y_up: bool | None) -> list[_View]:
    """The projections of a clip, each with the box of what these frames show."""
    if clip.num_channels < 2:
        raise ClipError(
            f"clip {clip.id!r}: expected joints of 2 or 3 coordinates to draw, "
            f"got {clip.num_channels}"
        )
    solid = clip.num_channels > 2
    sign = np.float32(1 if (solid if y_up is None else y_up) else -1)
    x, y = clip.joints[..., 0], clip.joints[..., 1] * sign
    flat = [("front", np.stack([x, y], axis=-1))]
    if solid:
        flat.append(("side", np.stack([clip.joints[..., 2], y], axis=-1)))
    return [_View(name, points, _box(points[:, frames])) for name, points in flat]


def _box(points: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of all points seen, with a margin."""
    seen = points.reshape(-1, 2).astype(np.float64)
    seen = seen[~np.isnan(seen).any(axis=1)]
    if not len(seen):
        return -1.0, 1.0, -1.0, 1.0
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.08 * float((high - low).max()) or 1.0
    return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin


def _panel_heights(views: list[_View], width: float) -> list[float]:
    """Inches: the first view as tall as its bodies ask for within reason, a second one smaller."""
    left, right, bottom, top = views[0].box
    tall = width * float(np.clip((top - bottom) / (right - left), 0.75, 1.9))
    return [tall, 0.62 * tall][: len(views)]


def _panels(
    figure: Figure, heights: list[float], columns: tuple[float, int], top: float
) -> list[list[Axes]]:
    """Rows of equal boxes, placed by hand so that no room is lost; columns is (inches, number)."""
    each, number = columns
    rows, y = [], figure.get_size_inches()[1] - top
    for tall in heights:
        y -= tall
        boxes = [(_GAP / 2 + i * each, y, each - _GAP, tall) for i in range(number)]
        rows.append([_panel(figure, box) for box in boxes])
        y -= _GAP
    return rows


def _panel(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    width, height = figure.get_size_inches()
    x, y, w, h = box
    ax = figure.add_axes((x / width, y / height, w / width, h / height), facecolor=PANEL)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _set_box(ax: Axes, box: tuple[float, float, float, float]) -> None:
    """Show the box, widened about its middle until a unit is equally long both ways."""
    left, right, bottom, top = box
    width, height = ax.get_window_extent().size
    unit = max((right - left) / width, (top - bottom) / height)
    x, y = (left + right) / 2, (bottom + top) / 2
    ax.set_xlim(x - unit * width / 2, x + unit * width / 2)
    ax.set_ylim(y - unit * height / 2, y + unit * height / 2)


def _name_view(ax: Axes, name: str, views: int) -> None:
    if views > 1:
        ax.text(0.05, 0.97, name, transform=ax.transAxes, va="top", fontsize=8, color=MUTED)


def _frame_name(clip: Clip, frame: int) -> str:
    """Frames count from 0; the time is added where it is known."""
    return f"frame {frame}" if not clip.fps else f"{frame}  ({frame / clip.fps:.1f} s)"


def _legend(figure: Figure, entries: list[tuple[str, str]]) -> None:
    """Coloured words along the lower edge."""
    width, height = figure.get_size_inches()
    x = _GAP / 2 + 0.02
    for name, colour in entries:
        figure.text(x / width, 0.06 / height, name, fontsize=9, color=colour, va="bottom")
        x += 0.072 * len(name) + 0.16


def _evenly(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` frame numbers from the first to the last."""
    if wanted == 1:
        return [(total - 1) // 2]
    return np.unique(np.linspace(0, total - 1, wanted).round().astype(int)).tolist()


def _pictures(
    clip: Clip,
    frames: list[int],
    y_up: bool | None,
    progress: Callable[[int, int], None] | None,
) -> Any:
    """Yield one Pillow image a frame, drawn on one figure whose bodies are replaced."""
    from PIL import Image

    views = _views(clip, list(range(clip.num_frames)), y_up)
    width = 3.2
    height = _panel_heights(views, width)[0]
    figure = Figure(figsize=(width * len(views), _TOP + height + _GAP + _LEGEND), dpi=100)
    canvas = FigureCanvasAgg(figure)
    row = _panels(figure, [height], (width, len(views)), _TOP)[0]
    bodies = _Bodies(clip)
    palette = _palette(bodies.bone_colours + bodies.joint_colours)
    for ax, view in zip(row, views, strict=True):
        _set_box(ax, view.box)
        _name_view(ax, view.name, len(views))
    _legend(figure, bodies.legend)
    number = figure.text(0.02, 0.985, "", fontsize=10, color=INK, va="top")
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


def _palette(colours: list[Sequence[str]]) -> Any:
    """One palette for all pictures (what does not move then costs no bytes): colours, softened."""
    from PIL import Image

    grounds = ("#ffffff", PANEL)
    solid = sorted({INK, MUTED, *HUES, *SIDE_COLOURS.values()}.union(*colours))
    shades = [mixed(c, ground, s) for c in solid for ground in grounds for s in (0, 0.4, 0.7)]
    entries = list(dict.fromkeys([*grounds, *shades]))[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([int(c[i : i + 2], 16) for c in entries for i in (1, 3, 5)])
    return palette
