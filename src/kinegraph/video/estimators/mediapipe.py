"""Pose estimation by MediaPipe 0.10.14: several persons, 33 landmarks, models in the wheel."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import VideoError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import (
    DEFAULT_PEOPLE,
    Array,
    Image,
    PoseFrame,
    missing_package,
    select_visible,
)

MIN_VISIBILITY = 0.5  # landmarks below are hidden
_VISIBILITY_SHARE = 0.1  # of the newest frame in a visibility, as in MediaPipe's filter
DETECTION_INTERVAL_S = 0.25  # between searches for more persons
LOST_SEARCH_S = 1.0  # how long every frame is searched after a person was lost
_REGION_SCALE = 1.25  # side of a region, in diameters of the body
_SAME_REGION = 0.1  # distance of the regions of one person, in sides
_MAX_OVERLAP = 0.7  # share of the box of a new person inside that of another
_SAME_PERSON = 0.08  # mean distance of the landmarks of one person, in diagonals of the body
_SQUARE_RATIO = 1.2  # ratio of the sides of an image from which on its squares are searched too
_BLANK = np.zeros((64, 64, 3), np.uint8)

_DETECTOR = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""
_LANDMARKER = """
input_stream: "image"
input_stream: "region"
input_side_packet: "complexity"
input_side_packet: "segmentation"
output_stream: "landmarks"
output_stream: "alignment"
node {
  calculator: "PoseLandmarkByRoiCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "MODEL_COMPLEXITY:complexity"
  input_side_packet: "ENABLE_SEGMENTATION:segmentation"
  output_stream: "LANDMARKS:landmarks"
  output_stream: "AUXILIARY_LANDMARKS:alignment"
}
"""


@dataclass(frozen=True)
class _Region:
    """The square around a person in pixels, turned so that the body is upright in it."""

    x: float
    y: float
    side: float
    turn: float

    @classmethod
    def around(cls, center: Any, rim: Any, width: int, height: int) -> _Region:
        """Return the region of a body by the middle of its hips and a point of its circle.

        Both are points of MediaPipe, with x and y as shares of the image.
        """
        dx, dy = (rim.x - center.x) * width, (rim.y - center.y) * height
        side = 2 * _REGION_SCALE * math.hypot(dx, dy)
        return cls(center.x * width, center.y * height, side, math.pi / 2 + math.atan2(dy, dx))

    def is_same(self, other: _Region) -> bool:
        """Return whether both are certainly regions of one person."""
        distance = math.hypot(self.x - other.x, self.y - other.y)
        return distance < _SAME_REGION * max(self.side, other.side)


@dataclass(frozen=True)
class _Person:
    """The landmarks of a person (33, 3): x, y in pixels, visibility; and the next region."""

    marks: Array
    region: _Region

    def overlaps(self, other: _Person) -> bool:
        """Return whether most of one body lies inside the box of the other."""
        low, high = self.marks[:, :2].min(axis=0), self.marks[:, :2].max(axis=0)
        points = other.marks[:, :2]
        other_low, other_high = points.min(axis=0), points.max(axis=0)
        shared = (np.minimum(high, other_high) - np.maximum(low, other_low)).clip(0).prod()
        smaller = min((high - low).prod(), (other_high - other_low).prod())
        return bool(shared > _MAX_OVERLAP * smaller)

    def is_same(self, other: _Person) -> bool:
        """Return whether both are estimates of one person."""
        distance = np.linalg.norm(self.marks[:, :2] - other.marks[:, :2], axis=1).mean()
        sizes = [float(np.linalg.norm(np.ptp(p.marks[:, :2], axis=0))) for p in (self, other)]
        return bool(distance <= _SAME_PERSON * max(sizes))


_Candidate = tuple[_Region, _Person | None]
"""A region where a person may be, and the person who was there in the frame before."""


class MediapipePoses:
    """The pose estimator of MediaPipe for several persons.

    The detector of MediaPipe finds persons in the whole image. Each person is then followed by
    the landmark model in the region where the person was in the frame before. Landmarks that are
    hidden or outside the image are absent; visibility is smoothed over time, because landmarks
    that come and go are harder to recognize.

    Args:
        people: maximum number of persons in a frame, the most certain first.

    Raises:
        VideoError: MediaPipe or a system library that it needs is not installed.
    """

    def __init__(self, people: int = DEFAULT_PEOPLE) -> None:
        self.layout = get_layout("mediapipe33")
        self.people = people
        self._followed: list[_Person] = []
        self._searched = self._lost = -math.inf  # times of the last search and loss
        self._searches = 0
        with _silence_stderr():
            _import_mediapipe()
            self._detector = _Graph(_DETECTOR, ("detections",))
            self._landmarker = _Graph(_LANDMARKER, ("landmarks", "alignment"))
            self._search(_BLANK)
            self._find_landmarks(_BLANK, _Region(32, 32, 64, 0))

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """Detect the persons in an image (H, W, 3) in RGB."""
        height, width = image.shape[:2]
        followed: list[_Candidate] = [(one.region, one) for one in self._followed]
        found = self._add_persons([], image, followed, _Person.is_same)
        if len(found) < len(followed):
            self._lost = time
        if len(found) < self.people and (not found or self._is_search_due(time)):
            self._searched = time
            known = [person.region for person in found]
            regions = self._search(image)
            new: list[_Candidate] = [
                (region, None) for region in regions if not any(map(region.is_same, known))
            ]
            found = self._add_persons(found, image, new, _Person.overlaps)
        self._followed = found
        marks = np.array([person.marks for person in found], np.float32)
        marks = marks.reshape(-1, self.layout.num_joints, 3)
        return select_visible(time, marks[..., :2], marks[..., 2], MIN_VISIBILITY, width, height)

    def close(self) -> None:
        """Release the graphs."""
        with _silence_stderr():
            self._detector.close()
            self._landmarker.close()

    def _is_search_due(self, time: float) -> bool:
        is_recent = 0 <= time - self._searched < DETECTION_INTERVAL_S
        return not is_recent or 0 <= time - self._lost < LOST_SEARCH_S

    def _add_persons(
        self,
        found: list[_Person],
        image: Image,
        candidates: list[_Candidate],
        is_double: Callable[[_Person, _Person], bool],
    ) -> list[_Person]:
        """Return the persons, and those in further regions that are not doubles of them."""
        found = list(found)
        for region, before in candidates:
            if len(found) == self.people:
                break
            person = self._find_landmarks(image, region, before)
            if person is not None and not any(is_double(person, one) for one in found):
                found.append(person)
        return found

    def _search(self, image: Image) -> list[_Region]:
        """Return the regions of the persons that the detector finds, the most certain first.

        The detector misses persons who are small or beside others, so the whole image and square
        parts of it are searched in turn.
        """
        areas = _search_areas(*image.shape[:2])
        top, left, bottom, right = areas[self._searches % len(areas)]
        self._searches += 1
        found = self._detector(image[top:bottom, left:right])["detections"] or []
        regions = []
        for detection in sorted(found, key=lambda one: -one.score[0]):
            center, rim = detection.location_data.relative_keypoints[:2]
            region = _Region.around(center, rim, right - left, bottom - top)
            regions.append(replace(region, x=region.x + left, y=region.y + top))
        return regions

    def _find_landmarks(
        self, image: Image, region: _Region, before: _Person | None = None
    ) -> _Person | None:
        """Return the person in a region, if there is one, who was there before or is new."""
        height, width = image.shape[:2]
        found = self._landmarker(image, region)
        if found["landmarks"] is None or found["alignment"] is None:
            return None
        points = [(m.x * width, m.y * height, m.visibility) for m in found["landmarks"].landmark]
        marks = np.array(points, np.float32)
        if before is not None:
            marks[:, 2] += (1 - _VISIBILITY_SHARE) * (before.marks[:, 2] - marks[:, 2])
        center, rim = found["alignment"].landmark
        next_region = _Region.around(center, rim, width, height)
        return _Person(marks, next_region) if next_region.side > 1 else None


def _search_areas(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Return the whole image and squares along its longer side: top, left, bottom, right."""
    side = min(height, width)
    areas = [(0, 0, height, width)]
    if max(height, width) >= _SQUARE_RATIO * side:
        for share in (0.0, 0.5, 1.0):
            top, left = round(share * (height - side)), round(share * (width - side))
            areas.append((top, left, top + side, left + side))
    return areas


def open_estimator(people: int) -> MediapipePoses:
    """Return an estimator on one core of the CPU."""
    return MediapipePoses(people)


class _Graph:
    """A graph of MediaPipe's calculators, called with one image at a time."""

    def __init__(self, config: str, outputs: tuple[str, ...]) -> None:
        from google.protobuf import text_format
        from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
        from mediapipe.python import packet_creator
        from mediapipe.python._framework_bindings.calculator_graph import CalculatorGraph

        parsed = text_format.Parse(config, CalculatorGraphConfig())
        self._graph = CalculatorGraph(graph_config=parsed)
        self._outputs = dict.fromkeys(outputs)
        for name in outputs:
            self._graph.observe_output_stream(name, self._outputs.__setitem__)
        options = {
            "complexity": packet_creator.create_int(1),  # the model in the wheel
            "segmentation": packet_creator.create_bool(False),
        }
        self._graph.start_run({n: options[n] for n in parsed.input_side_packet})
        self._frames = 0

    def __call__(self, image: Image, region: _Region | None = None) -> dict[str, Any]:
        """Return the outputs by name, None where there is none."""
        from mediapipe.framework.formats.rect_pb2 import NormalizedRect
        from mediapipe.python import packet_creator, packet_getter
        from mediapipe.python._framework_bindings.image_frame import ImageFormat

        height, width = image.shape[:2]
        self._frames += 1
        self._outputs.update(dict.fromkeys(self._outputs))
        packet = packet_creator.create_image_frame(
            np.ascontiguousarray(image), image_format=ImageFormat.SRGB
        )
        self._graph.add_packet_to_input_stream("image", packet.at(self._frames))
        if region is not None:
            rectangle = NormalizedRect(
                x_center=region.x / width,
                y_center=region.y / height,
                width=region.side / width,
                height=region.side / height,
                rotation=region.turn,
            )
            packet = packet_creator.create_proto(rectangle).at(self._frames)
            self._graph.add_packet_to_input_stream("region", packet)
        self._graph.wait_until_idle()
        with warnings.catch_warnings():
            # MediaPipe calls a function that protobuf has deprecated
            warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)
            return {
                name: found
                and (
                    packet_getter.get_proto_list
                    if name == "detections"
                    else packet_getter.get_proto
                )(found)
                for name, found in self._outputs.items()
            }

    def close(self) -> None:
        """Release the graph."""
        self._graph.close_all_packet_sources()
        self._graph.wait_until_done()


def _import_mediapipe() -> None:
    """Import MediaPipe, and set the folder of its models.

    Raises:
        VideoError: MediaPipe or a system library that it needs is not installed.
    """
    try:
        import mediapipe
        from mediapipe.python._framework_bindings import resource_util
    except ModuleNotFoundError as error:
        raise missing_package("mediapipe") from error
    except ImportError as error:
        raise VideoError(
            f"mediapipe is installed but cannot be imported ({error}); if libGL or libglib is "
            "missing, install the system packages libgl1 and libglib2.0-0 (Debian)"
        ) from error
    resource_util.set_resource_dir(str(Path(mediapipe.__file__).parents[1]))


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Redirect standard error to null: MediaPipe logs before logging can be configured."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
