"""A connection's pictures: looked at by a pose estimator of its own, answered with what is seen."""

from __future__ import annotations

import asyncio
import io
import math
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import KinegraphError
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.protocol import prediction_payload, to_json
from kinegraph.server.service import Service
from kinegraph.video.estimators.base import PoseEstimator, load_estimator, missing_package
from kinegraph.video.pipeline import ActionPipeline
from kinegraph.video.segmentation import Segment, dominant_action

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

TIME = struct.Struct("<d")
MAX_IMAGE_SIDE = 1920
"""Pixels of a picture's longer side."""
MAX_PENDING_IMAGES = 2
"""Pictures that wait; of more, the oldest are left out."""
MAX_VIDEO_S = 6 * 3600.0
"""Seconds of a video."""


def missing() -> str | None:
    """What has to be installed before pictures can be looked at; None for nothing."""
    return None if find_spec("mediapipe") else str(missing_package("mediapipe"))


class VideoConnection:
    """One websocket that sends pictures."""

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self._socket, self._service = socket, service
        self._looking = ThreadPoolExecutor(1, "pictures")
        self._pictures: deque[bytes | None] = deque()
        self._skipped = 0
        self._filled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._ending = False

    async def serve(self) -> None:
        """Until one side has had enough."""
        session = VideoSession(self._service)
        try:
            hello = await self._look(session.open)
            await self._socket.send_text(to_json(hello))
            self._tasks = [
                asyncio.create_task(self._read()),
                asyncio.create_task(self._see(session)),
            ]
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        except KinegraphError as error:
            await self._refuse(error)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._looking.submit(session.close)
            self._looking.shutdown(wait=False)

    async def end(self) -> None:
        """Part: the server is about to end."""
        self._ending = True
        self._put(None)
        while self in self._service.connections:
            await asyncio.sleep(0.01)

    async def _look(self, work: Any, *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._looking, work, *given)

    async def _read(self) -> None:
        limits = self._service.limits
        while True:
            try:
                async with asyncio.timeout(limits.idle_timeout):
                    message = await self._socket.receive()
            except TimeoutError:
                return
            if message["type"] != "websocket.receive":
                return
            data = message.get("bytes")
            if data is None:
                self._put(None)
                await asyncio.sleep(math.inf)  # the rest is what was seen
            elif len(data) > limits.max_image_bytes:
                await self._refuse(
                    RequestRejectedError(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        f"expected pictures of at most {limits.max_image_bytes} bytes",
                    )
                )
            else:
                self._put(data)

    def _put(self, data: bytes | None) -> None:
        if len(self._pictures) >= MAX_PENDING_IMAGES and data is not None:
            self._pictures.popleft()
            self._skipped += 1
        self._pictures.append(data)
        self._filled.set()

    async def _see(self, session: VideoSession) -> None:
        refused = 0
        while refused <= self._service.limits.max_errors:
            while not self._pictures:
                self._filled.clear()
                await self._filled.wait()
            data = self._pictures.popleft()
            if data is None:
                await self._socket.send_text(to_json(await self._look(session.finish)))
                await self._socket.close(1001 if self._ending else 1000)
                return
            try:
                seen = await self._look(session.see, data)
                refused = 0
            except KinegraphError as error:
                refused += 1
                await self._refuse(error)
                continue
            self._service.metrics.pictures.inc()
            await self._socket.send_text(to_json(seen | {"skipped": self._skipped}))

    async def _refuse(self, error: KinegraphError) -> None:
        status = error.status if isinstance(error, RequestRejectedError) else HTTPStatus.BAD_REQUEST
        self._service.metrics.refused.labels(status).inc()
        await self._socket.send_text(to_json({"error": str(error), "status": status}))


class VideoSession:
    """Pictures in, what is seen and done in them out; all of it in one thread."""

    def __init__(self, service: Service) -> None:
        self._recognizer = service.recognizer
        self._estimator: PoseEstimator | None = None
        self._watcher: ActionPipeline | None = None
        self._latest = -math.inf
        self._start = 0.0
        self._segments: list[Segment] = []

    def open(self) -> dict[str, Any]:
        """Make ready; what the client should know."""
        self._estimator = load_estimator()
        layout = self._estimator.layout
        self._watcher = ActionPipeline(self._recognizer, layout)
        bones = [[a, b] for a, b in layout.bones]
        sides = [_side(name) for name in layout.joints]
        return {"joints": list(layout.joints), "bones": bones, "sides": sides}

    def see(self, data: bytes) -> dict[str, Any]:
        """What is seen in a picture: its time in seconds as a float64, then a JPEG.

        Raises:
            RequestRejectedError: it is no picture, or older than the one before.
        """
        if self._estimator is None or self._watcher is None:
            raise RequestRejectedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "the pose estimator is not ready"
            )
        time = self._time(data)
        image = _picture(data[TIME.size :])
        self._latest = time
        frame = self._estimator(image, time)
        seen, segments = self._watcher(frame)
        self._segments += segments
        answers = self._watcher.latest()
        persons = [
            {
                "person": one.person,
                "joints": _points(one.joints),
                **prediction_payload(answers.get(one.person)),
            }
            for one in seen
        ]
        size = {"width": frame.width, "height": frame.height}
        over = [segment.to_dict() for segment in segments]
        return {"time": time, **size, "persons": persons, "segments": over}

    def finish(self) -> dict[str, Any]:
        """What was still going on, and what it was all about."""
        segments = self._watcher.finish() if self._watcher else []
        self._segments += segments
        over = [segment.to_dict() for segment in segments]
        return {"end": True, "segments": over, "main": dominant_action(self._segments).to_dict()}

    def close(self) -> None:
        """Give back what the estimator holds."""
        if self._estimator is not None:
            self._estimator.close()

    def _time(self, data: bytes) -> float:
        if len(data) <= TIME.size:
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST, "expected 8 bytes of time, and a JPEG"
            )
        (time,) = TIME.unpack_from(data)
        if not 0 <= time <= MAX_VIDEO_S or time <= self._latest:
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST,
                f"time {time:g} s is not after {self._latest:g} s, and before {MAX_VIDEO_S:g} s",
            )
        return float(time)


def _picture(data: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) of a JPEG.

    Raises:
        RequestRejectedError: it is none, or too large.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if max(image.size) > MAX_IMAGE_SIDE:
                raise RequestRejectedError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"expected pictures of at most {MAX_IMAGE_SIDE} pixels, got {image.size}",
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestRejectedError(HTTPStatus.BAD_REQUEST, f"expected a JPEG: {error}") from error


def _points(joints: NDArray[np.float32]) -> list[list[float] | None]:
    """Joints for JSON: pixels, null where not seen."""
    return [None if np.isnan(x) else [round(float(x), 1), round(float(y), 1)] for x, y in joints]


def _side(joint: str) -> str:
    return joint.partition("_")[0] if joint.startswith(("left_", "right_")) else "trunk"
