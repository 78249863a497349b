"""Drawn people who exercise: pose estimators find them, and models name what they do."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

WIDTH, HEIGHT, FPS = 640, 480, 30
SCALE = 2  # drawn larger, for smooth edges
TRUNK = 95.0  # pixels from shoulders to hips

Point = tuple[float, float]
Color = tuple[int, int, int]


class Person(NamedTuple):
    """A drawn person.

    Attributes:
        x: place in the image, from 0 to 1.
        squats: whether it squats; else it does jumping jacks.
        shirt, trousers, skin, hair: colors.
    """

    x: float
    squats: bool
    shirt: Color
    trousers: Color
    skin: Color
    hair: Color


JUMPER = Person(0.3, False, (196, 62, 60), (46, 58, 92), (226, 178, 150), (70, 46, 30))
SQUATTER = Person(0.71, True, (60, 130, 110), (70, 70, 76), (168, 118, 90), (25, 22, 20))


def draw_frame(time: float, people: tuple[Person, ...]):
    """Return the image of a moment."""
    from PIL import Image, ImageDraw

    shade = np.linspace(0, 1, HEIGHT * SCALE)[:, None, None]
    pixels = np.array([214, 222, 228]) * (1 - shade) + np.array([238, 240, 240]) * shade
    pixels = np.repeat(pixels, WIDTH * SCALE, axis=1)
    pixels[int(0.8 * HEIGHT * SCALE) :] = (176, 160, 142)
    image = Image.fromarray(pixels.astype(np.uint8))
    for person in people:
        _draw(ImageDraw.Draw(image), person, _pose(person, time))
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def write_video(path: Path, people: tuple[Person, ...], seconds: float) -> Path:
    """Write an MP4 and return its path."""
    av = pytest.importorskip("av", reason="THE EXTRA video IS ABSENT")
    with av.open(str(path), "w") as video:
        stream = video.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for image in _images(people, seconds):
            video.mux(stream.encode(av.VideoFrame.from_image(image)))
        video.mux(stream.encode())
    return path


def write_camera(path: Path, people: tuple[Person, ...], seconds: float) -> Path:
    """Write the file of Chromium's fake camera, a sequence of JPEGs, and return its path."""
    with path.open("wb") as out:
        for image in _images(people, seconds):
            jpeg = io.BytesIO()
            image.save(jpeg, "JPEG", quality=88)
            out.write(jpeg.getvalue())
    return path


def _images(people: tuple[Person, ...], seconds: float) -> Iterator:
    return (draw_frame(i / FPS, people) for i in range(round(seconds * FPS)))


def _pose(person: Person, time: float) -> dict[str, Point]:
    """Return the joints of a moment, in pixels of the larger drawing."""
    s, x, ground = TRUNK * SCALE, person.x * WIDTH * SCALE, 0.875 * HEIGHT * SCALE
    share = (1 - math.cos(2 * math.pi * time / (2.6 if person.squats else 1.1))) / 2
    arm = math.radians(15 + 75 * share if person.squats else 12 + 150 * share)
    leg = math.radians(14 if person.squats else 4 + 22 * share)
    length, bend = 1.85 * s, 0.85 * s * share if person.squats else 0.0
    lift = 0.0 if person.squats else 0.1 * s * abs(math.sin(2 * math.pi * time / 1.1))
    hips = ground - lift - length * math.cos(leg) + bend
    joints = {"head": (x, hips - 1.42 * s)}
    for side, sign in (("left", 1), ("right", -1)):
        hip = x + sign * 0.2 * s, hips
        ankle = x + sign * (0.2 * s + length * math.sin(leg)), ground - lift
        out = math.sqrt(max(length**2 - math.dist(hip, ankle) ** 2, 0)) / 2
        shoulder = x + sign * 0.34 * s, hips - s
        elbow = _move(shoulder, sign * 0.58 * s, arm)
        joints |= {
            f"{side}_hip": hip,
            f"{side}_ankle": ankle,
            f"{side}_knee": ((hip[0] + ankle[0]) / 2 + sign * out, (hip[1] + ankle[1]) / 2),
            f"{side}_shoulder": shoulder,
            f"{side}_elbow": elbow,
            f"{side}_wrist": _move(elbow, sign * 0.52 * s, 1.04 * arm),
        }
    return joints


def _move(start: Point, length: float, angle: float) -> Point:
    return start[0] + length * math.sin(angle), start[1] + abs(length) * math.cos(angle)


def _draw(draw, person: Person, joints: dict[str, Point]) -> None:
    s = TRUNK * SCALE
    for side, sign in (("left", 1), ("right", -1)):
        hip, knee, ankle = (joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        _limb(draw, hip, knee, 0.3 * s, person.trousers)
        _limb(draw, knee, ankle, 0.22 * s, person.trousers)
        heel, toe = (
            (ankle[0], ankle[1] + 0.08 * s),
            (ankle[0] + sign * 0.12 * s, ankle[1] + 0.12 * s),
        )
        _limb(draw, heel, toe, 0.14 * s, (60, 60, 66))
    shoulders = [joints[f"{side}_shoulder"] for side in ("left", "right")]
    hips = [joints[f"{side}_hip"] for side in ("right", "left")]
    draw.polygon([*shoulders, *hips], fill=person.shirt)
    _limb(draw, *shoulders, 0.22 * s, person.shirt)
    _limb(draw, *hips, 0.3 * s, person.trousers)
    _head(draw, person, joints["head"], 0.22 * s)
    for side in ("left", "right"):
        shoulder, elbow, wrist = (joints[f"{side}_{n}"] for n in ("shoulder", "elbow", "wrist"))
        _limb(draw, shoulder, elbow, 0.19 * s, person.shirt)
        _limb(draw, elbow, wrist, 0.14 * s, person.skin)
        _disk(draw, wrist, 0.09 * s, 0.09 * s, person.skin)


def _head(draw, person: Person, center: Point, r: float) -> None:
    x, y = center
    _limb(draw, (x, y + r), (x, y + 1.9 * r), 0.77 * r, person.skin)
    _disk(draw, center, 0.9 * r, 1.1 * r, person.skin)
    draw.pieslice([x - r, y - 1.3 * r, x + r, y + 0.7 * r], 180, 360, fill=person.hair)
    for sign in (-1, 1):
        _disk(draw, (x + sign * 0.38 * r, y), 0.14 * r, 0.14 * r, (40, 40, 50))
    dark = tuple(round(0.85 * value) for value in person.skin)
    draw.polygon([(x, y), (x - 0.12 * r, y + 0.25 * r), (x + 0.12 * r, y + 0.25 * r)], fill=dark)
    draw.line([(x - 0.3 * r, y + 0.55 * r), (x + 0.3 * r, y + 0.55 * r)], fill=dark, width=4)


def _limb(draw, start: Point, end: Point, width: float, color: Color) -> None:
    draw.line([start, end], fill=color, width=round(width))
    for point in (start, end):
        _disk(draw, point, width / 2, width / 2, color)


def _disk(draw, center: Point, width: float, height: float, color: Color) -> None:
    (x, y) = center
    draw.ellipse([x - width, y - height, x + width, y + height], fill=color)
