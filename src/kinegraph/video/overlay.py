"""Skeletons and action labels drawn on video frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.video.estimators.base import Array, Image

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_BACKGROUND = (20, 24, 30)


def draw_person(
    image: Image, joints: Array, layout: SkeletonLayout, person: int, label: str
) -> Image:
    """Return a copy of an image with a skeleton (V, 2) in pixels and a label above its head."""
    from PIL import Image as Pillow
    from PIL import ImageDraw as Draw

    picture = Pillow.fromarray(image)
    canvas = Draw.Draw(picture)
    unit = max(1.0, min(image.shape[:2]) / 256)
    color = person_color(person)
    _draw_bones(canvas, joints, layout, color, unit)
    seen = joints[~np.isnan(joints[:, 0])]
    if label and len(seen):
        _draw_label(canvas, label, seen, color, unit, picture.size)
    return np.asarray(picture)


def person_color(person: int) -> str:
    """Return the color of a person number."""
    from kinegraph.reports.style import HUES

    return HUES[(person - 1) % len(HUES)]


def _draw_bones(
    canvas: ImageDraw, joints: Array, layout: SkeletonLayout, color: str, unit: float
) -> None:
    there = ~np.isnan(joints[:, 0])
    for width, tint in ((3.4 * unit, _BACKGROUND), (2.0 * unit, color)):
        for child, parent in layout.bones:
            if there[child] and there[parent]:
                ends = [tuple(map(float, joints[joint])) for joint in (child, parent)]
                canvas.line(ends, fill=tint, width=max(1, round(width)))
    for x, y in joints[there]:
        r = 1.8 * unit
        canvas.ellipse((x - r, y - r, x + r, y + r), fill="white", outline=color)


def _draw_label(
    canvas: ImageDraw, label: str, seen: Array, color: str, unit: float, size: Sequence[int]
) -> None:
    """Draw the label above the skeleton, inside the image."""
    font = _font(round(12 * unit))
    left, top, right, bottom = canvas.textbbox((0, 0), label, font=font)
    pad = 3 * unit
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = float(np.clip(seen[:, 0].mean() - width / 2, 0, max(0, size[0] - width)))
    y = float(np.clip(seen[:, 1].min() - height - 10 * unit, 0, max(0, size[1] - height)))
    canvas.rectangle((x, y, x + width, y + height), fill=_BACKGROUND)
    canvas.rectangle((x, y, x + 2 * unit, y + height), fill=color)
    canvas.text((x + pad - left + unit, y + pad - top), label, font=font, fill="white")


@cache
def _font(size: int) -> Any:
    """Load the font that matplotlib ships: it covers more than Latin."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", max(9, size))
