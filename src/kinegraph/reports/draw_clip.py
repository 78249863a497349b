"""Figures of clips: strips of frames and animated GIFs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from kinegraph.reports import panels, style
from kinegraph.reports.rest_pose import bone_colors, bone_sides, joint_colors, joint_sides
from kinegraph.skeleton import SkeletonLayout

_TITLE_HEIGHT, _BOTTOM = 0.34, 0.24  # inches
MAX_DOT = 90.0  # area of the most important joint in square points
_SIDE_SHADES = {"left": ("#ffffff", 0.42), "right": ("#000000", 0.1), "trunk": ("#000000", 0.5)}

DrawProgress = Callable[[int, int], None]


def draw_clip(
    clip: Clip,
    *,
    frames: int = 6,
    title: str | None = None,
    importance: NDArray[np.floating] | None = None,
    below: float = 0.0,
) -> Figure:
    """Draw a strip of evenly spaced frames, all to the same scale.

    One person has the left side blue and the right side orange; several persons have a hue each,
    the left side paler. A hand is colored by finger. Joints that are not visible are not drawn.

    Args:
        frames: number of frames; a shorter clip gives fewer.
        importance: (M, T, V); if given, joints are larger the more important they are, orange where
            it is positive and blue where it is negative.
        below: inches that are left free under the strip, for another panel.

    Raises:
        ClipError: fewer than one frame, or joints of one coordinate.
    """
    chosen = panels.spaced_frames(clip.num_frames, frames, f"clip {clip.id!r}: ")
    views = panels.project_joints(clip.joints, chosen, f"clip {clip.id!r}", clip.space)
    bodies = _Bodies(clip, importance)
    margins = (
        _TITLE_HEIGHT if title else panels.PANEL_GAP,
        _BOTTOM + panels.LEGEND_HEIGHT * bool(bodies.legend) + below,
    )
    figure, rows = panels.strip_figure(views, chosen, title, margins, min_columns=2)
    for view, row in zip(views, rows, strict=True):
        for ax, frame in zip(row, chosen, strict=True):
            bodies.draw(ax, view.points, frame)
    for ax, frame in zip(rows[-1], chosen, strict=True):
        label = f"{frame}  ({frame / clip.fps:.1f} s)" if clip.fps else f"frame {frame}"
        ax.set_xlabel(label, fontsize=9, color=style.GRAY, labelpad=4)
    style.add_color_legend(figure, bodies.legend)
    return figure


def animate_clip(
    clip: Clip,
    path: str | Path,
    fps: float | None = None,
    *,
    max_frames: int = 240,
    progress: DrawProgress | None = None,
    importance: NDArray[np.floating] | None = None,
) -> Path:
    """Write the clip as a GIF with frame numbers; a failure leaves no file.

    Args:
        fps: frames per second of the recording; by default the clip's own, or 15.
        max_frames: a longer clip is drawn with this many evenly spaced frames, each shown longer,
            so that the motion keeps its speed.
        progress: called with (frames drawn, frames in total).
        importance: as for `draw_clip`.

    Raises:
        ClipError: joints of one coordinate; fps or max_frames is not above 0.
        OSError: the file cannot be written.
    """
    fps = (clip.fps or 15.0) if fps is None else fps
    if not fps > 0 or max_frames < 1:
        raise ClipError(
            f"clip {clip.id!r}: expected fps and max_frames above 0, got {fps} and {max_frames}"
        )
    chosen = panels.spaced_frames(clip.num_frames, max_frames)
    images = _render_frames(clip, chosen, progress, importance)
    # Browsers slow down images shown for less than 20 ms.
    each = max(20, round(1000 * clip.num_frames / len(chosen) / fps))
    options = {"save_all": True, "duration": each, "loop": 0, "disposal": 1}
    path = Path(path)
    first = next(images)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, partial.open("wb") as file:
        first.save(file, format="GIF", append_images=images, **options)
    return path


class _Bodies:
    """The persons of a clip with their colors, drawn frame by frame."""

    def __init__(self, clip: Clip, importance: NDArray[np.floating] | None = None) -> None:
        self.layout = clip.layout
        self.importance = importance
        if importance is not None:
            self.importance = importance / max(float(np.abs(importance).max()), 1e-12)
        self.persons = [m for m in range(clip.num_persons) if clip.valid[m].any()]
        alone = len(self.persons) < 2
        #: of bones and of joints, for each person
        self.colors = [
            _person_colors(clip.layout, None if alone else style.HUES[i % len(style.HUES)])
            for i in range(len(self.persons))
        ]
        self.legend = _legend_entries(clip.layout, self.persons)
        if importance is not None:
            gray = [style.LIGHT_GRAY] * len(clip.layout.bones), [style.GRAY] * clip.num_joints
            self.colors = [gray] * len(self.persons)
            self.legend = [("supports the class", style.ORANGE), ("against it", style.BLUE)]

    def draw(self, ax: Axes, points: NDArray[np.float32], frame: int) -> list[Any]:
        """Draw one frame of points (M, T, V, 2) and return the artists."""
        if self.importance is not None:
            return [a for m in self.persons for a in self._draw_importance(ax, points, m, frame)]
        pairs = zip(self.persons, self.colors, strict=True)
        drawn = [panels.draw_joints(ax, self.layout, points[m, frame], own) for m, own in pairs]
        return [artist for artists in drawn for artist in artists]

    def _draw_importance(
        self, ax: Axes, points: NDArray[np.float32], person: int, frame: int
    ) -> list[Any]:
        body, values = points[person, frame], self.importance[person, frame]  # type: ignore[index]
        bones, _ = self.colors[0]
        joints = [style.ORANGE if value > 0 else style.BLUE for value in values]
        seen = ~np.isnan(body).any(axis=-1)
        sizes = 2 + MAX_DOT * np.abs(values[seen])
        return panels.draw_joints(ax, self.layout, body, (bones, joints), dot=sizes)


def _person_colors(layout: SkeletonLayout, hue: str | None) -> tuple[Sequence[str], Sequence[str]]:
    """Return colors of bones and joints: by side, or as shades of a person's hue."""
    if hue is None:
        return bone_colors(layout), joint_colors(layout)
    shade = {side: style.blend(hue, *how) for side, how in _SIDE_SHADES.items()}
    if not layout.mirror_pairs:
        shade["trunk"] = hue
    return [shade[s] for s in bone_sides(layout)], [shade[s] for s in joint_sides(layout)]


def _legend_entries(layout: SkeletonLayout, persons: list[int]) -> list[tuple[str, str]]:
    if not persons:
        return [("no visible joints", style.GRAY)]
    if len(persons) > 1:
        entries = [(f"person {m + 1}", hue) for m, hue in zip(persons, style.HUES, strict=False)]
        if len(persons) > len(style.HUES):
            entries.append((f"and {len(persons) - len(style.HUES)} more", style.GRAY))
        return [*entries, ("(left side paler)", style.GRAY)] if layout.mirror_pairs else entries
    return style.SIDE_LEGEND if layout.mirror_pairs else []


def _render_frames(
    clip: Clip,
    frames: list[int],
    progress: DrawProgress | None,
    importance: NDArray[np.floating] | None,
) -> Iterator[Any]:
    """Yield one Pillow image per frame, drawn on one figure whose bodies are replaced."""
    from PIL import Image

    views = panels.project_joints(
        clip.joints, range(clip.num_frames), f"clip {clip.id!r}", clip.space
    )
    width = 3.2
    height = panels.panel_heights(views, width)[0]
    tall = _TITLE_HEIGHT + height + panels.PANEL_GAP + panels.LEGEND_HEIGHT
    figure = Figure(figsize=(width * len(views), tall), dpi=100)
    canvas = FigureCanvasAgg(figure)
    bodies = _Bodies(clip, importance)
    palette = _palette([colors for pair in bodies.colors for colors in pair])
    row = []
    for i, view in enumerate(views):
        row.append(
            panels.add_panel(figure, view, i, width, (tall - _TITLE_HEIGHT - height, height))
        )
        panels.label_projection(row[-1], view, views)
    style.add_color_legend(figure, bodies.legend)
    number = figure.text(0.02, 0.985, "", fontsize=10, color=style.BLACK, va="top")
    for done, frame in enumerate(frames, start=1):
        number.set_text(f"frame {frame} / {clip.num_frames - 1}")
        artists = []
        for ax, view in zip(row, views, strict=True):
            artists += bodies.draw(ax, view.points, frame)
        canvas.draw()
        image = Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))
        yield image.quantize(palette=palette, dither=Image.Dither.NONE)
        for artist in artists:
            artist.remove()
        if progress is not None:
            progress(done, len(frames))


def _palette(colors: list[Sequence[str]]) -> Any:
    """Return one palette for all frames: colors and their antialiased shades.

    With a common palette, unchanged regions cost no bytes in the GIF.
    """
    from PIL import Image

    grounds = ("#ffffff", style.OFF_WHITE)
    solid = sorted(
        {style.BLACK, style.GRAY, *style.HUES, *style.SIDE_COLORS.values()}.union(*colors)
    )
    shades = [style.blend(c, ground, s) for c in solid for ground in grounds for s in (0, 0.4, 0.7)]
    entries = list(dict.fromkeys([*grounds, *shades]))[:256]
    palette = Image.new("P", (1, 1))
    palette.putpalette([int(c[i : i + 2], 16) for c in entries for i in (1, 3, 5)])
    return palette
