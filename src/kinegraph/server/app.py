"""The routes: what is answered where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocketDisconnect

from kinegraph import __version__
from kinegraph.errors import KinegraphError
from kinegraph.inference.predict import Predictor
from kinegraph.server.auth import SUBPROTOCOL
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.protocol import to_json
from kinegraph.server.schemas import ERRORS, PREDICT, TEXT
from kinegraph.server.service import Connection, Service
from kinegraph.server.uploads import JSON, NPZ, parse_clip
from kinegraph.server.ws_stream import CLOSE_TRY_AGAIN, StreamConnection
from kinegraph.server.ws_video import VideoConnection, missing

PAGE = {
    "index.html": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
KINDS = {JSON: JSON, NPZ: NPZ, "application/octet-stream": NPZ, "application/zip": NPZ}
CLOSE_INTERNAL_ERROR = 1011


def create_app(service: Service) -> FastAPI:
    """The application that a service answers by."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="kinegraph",
        summary="Skeletons in, named actions out.",
        version=__version__,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    _tell_errors(app)
    _add_requests(app, service)
    _add_streams(app, service)
    _add_page(app)
    return app


def _add_requests(app: FastAPI, service: Service) -> None:
    @app.post("/v1/predict", responses=ERRORS, openapi_extra=PREDICT)
    async def predict(
        request: Request, top: int = Query(5, ge=1, le=1000, description="How many guesses.")
    ) -> dict[str, Any]:
        """Name the action of a clip."""
        service.check_predictions()
        kind, body = await _body(request, service)

        def work() -> dict[str, Any]:
            clip = parse_clip(body, kind, service.recognizer.layout, service.limits)
            return Predictor(service.recognizer, None, top)(clip)

        answer = await service.predict(work)
        service.metrics.predictions.inc()
        return answer

    @app.get("/v1/model", responses=ERRORS)
    async def model() -> dict[str, Any]:
        """What the model knows, and what it expects."""
        return _about(service)

    @app.get("/health", responses={503: ERRORS[503]})
    async def health() -> JSONResponse:
        """Whether there is somebody at home."""
        state = "draining" if service.draining else "ok"
        told = {
            "status": state,
            "persons": service.admission.in_use,
            "room": service.admission.capacity,
        }
        return JSONResponse(told, 503 if service.draining else 200)

    @app.get("/metrics", response_class=Response, responses=TEXT)
    async def metrics() -> Response:
        """What was counted, for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_streams(app: FastAPI, service: Service) -> None:
    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        options = _stream_options(socket)

        def connection() -> StreamConnection:
            if isinstance(options, RequestRejectedError):
                raise options
            return StreamConnection(socket, service, *options)

        await _serve(socket, service, connection)

    @app.websocket("/v1/video")
    async def video(socket: WebSocket) -> None:
        def connection() -> VideoConnection:
            if sentence := missing():
                raise RequestRejectedError(501, sentence)
            open_now = [c for c in service.connections if isinstance(c, VideoConnection)]
            if len(open_now) >= service.limits.max_videos:
                raise RequestRejectedError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{len(open_now)} videos are being watched; come back",
                )
            return VideoConnection(socket, service)

        await _serve(socket, service, connection)


def _add_page(app: FastAPI) -> None:
    folder = files("kinegraph.server") / "page"
    held = {name: (folder / name).read_bytes() for name in PAGE}

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        return Response(held["index.html"], media_type=PAGE["index.html"])

    @app.get("/page/{name}", include_in_schema=False)
    async def part(name: str) -> Response:
        if name not in held:
            raise HTTPException(404)
        return Response(held[name], media_type=PAGE[name])

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return Response(held["icon.svg"], media_type=PAGE["icon.svg"])


async def _serve(socket: WebSocket, service: Service, connection: Callable[[], Connection]) -> None:
    """Run a connection from its acceptance to its end, or say why there is none."""
    await socket.accept(
        SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None
    )
    one: Connection | None = None
    try:
        try:
            one = connection()
            service.register(one)
        except RequestRejectedError as error:
            service.metrics.refused.labels(error.status).inc()
            await socket.send_text(to_json({"error": str(error), "status": error.status}))
            await socket.close(
                CLOSE_TRY_AGAIN
                if error.status == HTTPStatus.SERVICE_UNAVAILABLE
                else CLOSE_INTERNAL_ERROR
            )
            return
        await one.serve()
        await socket.close()
    except (WebSocketDisconnect, RuntimeError):
        pass  # the client has gone, or is about to
    finally:
        if one is not None:
            service.connections.discard(one)


def _stream_options(socket: WebSocket) -> tuple[int, bool, bool] | RequestRejectedError:
    top = socket.query_params.get("top", "0")
    flags = [socket.query_params.get(name, "false") for name in ("logits", "together")]
    if not (top.isascii() and top.isdecimal() and len(top) < 5) or {*flags} - {"true", "false"}:
        return RequestRejectedError(
            HTTPStatus.BAD_REQUEST, "expected ?top=NUMBER, ?logits=true or ?together=true"
        )
    return int(top), flags[0] == "true", flags[1] == "true"


async def _body(request: Request, service: Service) -> tuple[str, bytes]:
    """(kind, content) of a request, of which no more is read than is allowed.

    Raises:
        RequestRejectedError: it is too long, too slow, or of another kind.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in KINDS:
        raise RequestRejectedError(
            415, f"expected a body of type {JSON} or {NPZ}, got {given[:64]!r}"
        )
    kind, parts, size = KINDS[given], [], 0
    most = service.limits.max_json_bytes if kind == JSON else service.limits.max_body_bytes
    refusal = RequestRejectedError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {most} bytes of {given}"
    )
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated[:18]) > most:
        raise refusal
    try:
        async with asyncio.timeout(service.limits.read_timeout):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise refusal
                parts.append(part)
    except TimeoutError as error:
        raise RequestRejectedError(
            408, f"the body took over {service.limits.read_timeout:g} s"
        ) from error
    return kind, b"".join(parts)


def _about(service: Service) -> dict[str, Any]:
    recognizer, header = service.recognizer, service.recognizer.header
    coordinates = service.shape[1]
    return {
        "name": service.name,
        "classes": [header.class_name(i) for i in range(header.num_classes)],
        "layout": {
            "name": recognizer.layout.name,
            "joints": list(recognizer.layout.joints),
            "bones": [list(bone) for bone in recognizer.layout.bones],
        },
        "coordinates": coordinates,
        "persons": header.persons,
        "confidence": header.confidence,
        "threshold": recognizer.calibration.threshold,
        "background": recognizer.calibration.background,
        "stream": {
            "mode": service.mode,
            "rate": service.limits.frame_rate,
            "room": service.admission.capacity,
            "message": service.limits.max_message_bytes,
        },
        "video": {"ready": missing() is None, "needs": missing()},
    }


def _tell_errors(app: FastAPI) -> None:
    """Every mistake is told as ``{"error": sentence}``."""

    def told(status: int, sentence: str) -> JSONResponse:
        again = (
            {"retry-after": "1"}
            if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
            else None
        )
        return JSONResponse({"error": sentence}, status, again)

    Handler = Callable[[Request, Any], Awaitable[Response]]

    def tells(error: type[Exception], handler: Handler) -> None:
        app.add_exception_handler(error, handler)

    async def kinegraphs(request: Request, error: KinegraphError) -> Response:
        return told(
            error.status if isinstance(error, RequestRejectedError) else HTTPStatus.BAD_REQUEST,
            str(error),
        )

    async def starlettes(request: Request, error: HTTPException) -> Response:
        return told(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    async def fastapis(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return told(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    async def others(request: Request, error: Exception) -> Response:
        return told(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "this could not be answered; the server's log says why",
        )

    tells(KinegraphError, kinegraphs)
    tells(HTTPException, starlettes)
    tells(RequestValidationError, fastapis)
    tells(Exception, others)
