"""The websocket of a video: receives images, and sends the poses and actions in them."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.websockets import WebSocket

from kinegraph.errors import KinegraphError, VideoError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.server.batch_worker import BatchWorker
from kinegraph.server.errors import RequestRejectedError, too_large, unavailable
from kinegraph.server.protocol import prediction_payload, to_json
from kinegraph.server.service import Service
from kinegraph.server.web_model import skeleton_payload
from kinegraph.server.ws_connection import ENDING, WebSocketConnection, run_until_first
from kinegraph.video.estimators.base import default_estimator, load_estimator
from kinegraph.video.pipeline import ActionPipeline
from kinegraph.video.segmentation import Segment, dominant_action

T = TypeVar("T")
TIME = struct.Struct("<d")
MAX_IMAGE_SIDE = 1920
"""Pixels of the longer side of an image."""
MAX_PENDING_IMAGES = 2
"""Images that wait; the oldest ones are skipped."""
MAX_VIDEO_S = 6 * 3600.0


def missing_requirement() -> str | None:
    """Return what must be installed to process images; None if nothing is missing."""
    try:
        default_estimator()
    except VideoError as error:
        return str(error)
    return None


class VideoConnection(WebSocketConnection):
    """A websocket that sends the images of one video, in which a model recognizes actions.

    Args:
        socket, service: see `WebSocketConnection`.
        recognizer: the model.
        source: name of the video in events.
    """

    def __init__(
        self, socket: WebSocket, service: Service, recognizer: Recognizer, source: str
    ) -> None:
        super().__init__(socket, service)
        self._recognizer = recognizer
        self._send_segments = partial(service.send_segments, source)
        self._thread = ThreadPoolExecutor(1, "video")
        self._images = asyncio.Queue[bytes | None]()  # None ends the video
        self._skipped = 0

    async def run(self) -> None:
        """Serve the connection.

        Raises:
            RequestRejectedError: video is not available, or see `WebSocketConnection.run`.
        """
        if requirement := missing_requirement():
            raise RequestRejectedError(requirement, HTTPStatus.NOT_IMPLEMENTED)
        videos = sum(isinstance(one, VideoConnection) for one in self.service.connections)
        if videos >= self.service.limits.max_videos:
            raise unavailable(f"all {videos} video connections are in use")
        await super().run()

    async def serve(self) -> None:
        try:
            arguments = self._recognizer, self.service.window, self._send_segments
            session = await self._run(VideoSession, *arguments)
        except KinegraphError as error:
            await self._reject(error)
            return
        try:
            await self.socket.send_text(to_json(session.skeleton()))
            await run_until_first(self._read(), self._process(session))
        finally:
            self._thread.submit(session.close)
            self._thread.shutdown(wait=False)

    def on_worker_lost(self, worker: BatchWorker) -> None:
        """Do nothing: a video is processed by a thread of its own."""

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    async def _read(self) -> None:
        max_bytes = self.service.limits.max_image_bytes
        try:
            while (message := await self.receive()) is not None:
                image = message.get("bytes")
                if image is None:
                    break
                if len(image) > max_bytes:
                    await self._reject(too_large(f"expected images of at most {max_bytes} bytes"))
                else:
                    self._put(image)
        except RequestRejectedError as error:  # the connection was idle
            await self._reject(error)
            return
        if message is not None or self.close_code in ENDING:
            self._put(None)
            await asyncio.sleep(math.inf)  # until all images are processed

    def _put(self, image: bytes | None) -> None:
        if self._images.qsize() >= MAX_PENDING_IMAGES and image is not None:
            self._images.get_nowait()
            self._skipped += 1
        self._images.put_nowait(image)

    async def _process(self, session: VideoSession) -> None:
        rejected = 0
        while rejected <= self.service.limits.max_errors:
            image = await self._images.get()
            if image is None:
                await self.socket.send_text(to_json(await self._run(session.finish)))
                return
            try:
                result = await self._run(session.process, image)
                rejected = 0
            except KinegraphError as error:
                rejected += 1
                await self._reject(error)
                continue
            self.service.metrics.images.inc()
            await self.socket.send_text(to_json(result | {"skipped": self._skipped}))

    async def _reject(self, error: KinegraphError) -> None:
        await self.socket.send_text(self.rejection(error))


class VideoSession:
    """The pose estimator and action pipeline of one video; all methods run in one thread.

    Args:
        recognizer: the model.
        window: see `ActionPipeline`.
        on_segments: called with the segments that have ended.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        window: float | None,
        on_segments: Callable[[list[Segment]], None],
    ) -> None:
        self._on_segments = on_segments
        self._estimator = load_estimator()
        self._pipeline = ActionPipeline(recognizer, self._estimator.layout, window=window)
        self._last_time = -math.inf
        self._segments: list[Segment] = []

    def skeleton(self) -> dict[str, Any]:
        """Return the joints and bones of the poses, and the maximum number of persons."""
        return skeleton_payload(self._estimator.layout, self._estimator.people)

    def process(self, data: bytes) -> dict[str, Any]:
        """Return the persons in an image, and the segments that it ends.

        Args:
            data: time in seconds as a little-endian float64, then a JPEG.

        Raises:
            RequestRejectedError: the image cannot be decoded, or its time is not increasing.
        """
        time = self._parse_time(data)
        image = _decode_jpeg(data[TIME.size :])
        self._last_time = time
        frame = self._estimator(image, time)
        poses, segments = self._pipeline(frame)
        self._add(segments)
        predictions, repetitions = self._pipeline.latest(), self._pipeline.repetitions()
        persons = [
            {
                "person": pose.person,
                "joints": _to_points(pose.joints),
                **prediction_payload(predictions.get(pose.person)),
                "repetitions": repetitions.get(pose.person, 0),
            }
            for pose in poses
        ]
        size = {"width": frame.width, "height": frame.height}
        return {"time": time, **size, "persons": persons, "segments": _to_dicts(segments)}

    def finish(self) -> dict[str, Any]:
        """Return the last segments, and the dominant action of the video."""
        segments = self._pipeline.finish()
        self._add(segments)
        main = dominant_action(self._segments).to_dict()
        return {"end": True, "segments": _to_dicts(segments), "main": main}

    def close(self) -> None:
        """Add the last segments if the client has left, and release the pose estimator."""
        self._add(self._pipeline.finish())
        self._estimator.close()

    def _add(self, segments: list[Segment]) -> None:
        self._segments += segments
        try:
            self._on_segments(segments)
        except VideoError as error:  # the client has nothing to do with it
            logging.getLogger(__name__).error("%s", error)

    def _parse_time(self, data: bytes) -> float:
        if len(data) <= TIME.size:
            raise RequestRejectedError("expected 8 bytes of time and a JPEG")
        (time,) = TIME.unpack_from(data)
        if not 0 <= time <= MAX_VIDEO_S or time <= self._last_time:
            raise RequestRejectedError(
                f"expected a time from 0 to {MAX_VIDEO_S:g} s, after {self._last_time:g} s, got "
                f"{time:g} s"
            )
        return float(time)


def _decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) of a JPEG."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if max(image.size) > MAX_IMAGE_SIDE:
                raise too_large(
                    f"expected images of at most {MAX_IMAGE_SIDE} pixels, got {image.size}"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise RequestRejectedError(f"expected a JPEG: {error}") from error


def _to_dicts(segments: list[Segment]) -> list[dict[str, Any]]:
    return [segment.to_dict() for segment in segments]


def _to_points(joints: NDArray[np.float32]) -> list[list[float] | None]:
    """Return joints in pixels, with None where a joint is not visible."""
    return [None if np.isnan(x) else [round(float(x), 1), round(float(y), 1)] for x, y in joints]
