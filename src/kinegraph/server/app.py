"""The HTTP routes and websockets of the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kinegraph import __version__
from kinegraph.errors import KinegraphError
from kinegraph.inference.predict import Predictor
from kinegraph.server import schemas
from kinegraph.server.api_page import render_api_page
from kinegraph.server.errors import RequestRejectedError, status_of, too_large
from kinegraph.server.message_schemas import message_schemas
from kinegraph.server.page_routes import add_page
from kinegraph.server.service import Service
from kinegraph.server.teaching import (
    TEACH_EXAMPLE,
    ExamplesPayload,
    TaughtModel,
    pack_model,
    teach_examples,
)
from kinegraph.server.ws_connection import reject
from kinegraph.server.ws_stream import StreamConnection
from kinegraph.server.ws_video import VideoConnection, missing_requirement

LayoutQuery = Annotated[str | None, Query(description="Layout of joints that state none.")]
SpaceQuery = Annotated[
    str | None,
    Query(description="Space of joints that state none: image, world or an object as JSON."),
]
ModelQuery = Annotated[
    str | None, Query(description="Id of a taught model (POST /v1/teach); default: the model.")
]
RETRY_STATUSES = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def create_app(service: Service) -> FastAPI:
    """Create the application of a service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="kinegraph",
        summary="Skeleton-based action recognition: joints in, actions out.",
        version=__version__,
        docs_url=None,  # FastAPI's pages load scripts from other sites
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_error_handlers(app, service)
    _add_routes(app, service)
    _add_teaching(app, service)
    _add_websockets(app, service)
    add_page(app, service)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/predict",
        responses=schemas.PREDICT_ERRORS,
        openapi_extra=schemas.PREDICT_BODY,
        response_model_exclude_unset=True,
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="Number of candidate actions.")] = 5,
        layout: LayoutQuery = None,
        space: SpaceQuery = None,
        model: ModelQuery = None,
    ) -> schemas.ClipPrediction:
        """Predict the action of a clip."""
        service.check_prediction_queue()
        recognizer = service.find_model(model)
        statement = schemas.parse_statement(layout, space)
        media_type, body = await _read_body(request, service)

        def compute() -> dict[str, Any]:
            clip = schemas.parse_clip(body, media_type, recognizer, service.limits, statement)
            return Predictor(recognizer, None, top)(clip)

        prediction = await service.predict(compute)
        service.metrics.predictions.inc()
        return schemas.ClipPrediction(**prediction)

    @app.get("/v1/stream/schema", responses=schemas.error_responses())
    async def stream_schema() -> dict[str, Any]:
        """Return the JSON schemas of the text messages of WS /v1/stream."""
        return message_schemas("stream")

    @app.get("/v1/video/schema", responses=schemas.error_responses())
    async def video_schema() -> dict[str, Any]:
        """Return the JSON schemas of the text messages of WS /v1/video."""
        return message_schemas("video")

    @app.get("/v1/model", responses=schemas.error_responses())
    async def model() -> schemas.ModelInfo:
        """Describe the model and the input that it expects."""
        return _model_info(service)

    @app.get(
        "/health",
        responses=schemas.error_responses()
        | {503: {"model": schemas.HealthStatus, "description": "The server takes no streams."}},
    )
    async def health(response: Response) -> schemas.HealthStatus:
        """Return the state of the server."""
        status = service.status
        if status in ("unavailable", "draining"):
            response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        return schemas.HealthStatus(
            status=status,
            workers=len(service.workers),
            expected_workers=service.expected_workers,
            persons=service.persons,
            capacity=service.capacity,
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render_api_page(app.openapi()))

    @app.get("/metrics", response_class=PlainTextResponse, responses=schemas.error_responses())
    async def metrics() -> Response:
        """Export metrics in the text format of Prometheus."""
        return Response(service.metrics.export(), media_type="text/plain; version=0.0.4")


def _add_teaching(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/teach",
        responses=schemas.PREDICT_ERRORS,
        openapi_extra=schemas.describe_body(ExamplesPayload, TEACH_EXAMPLE),
    )
    async def teach(request: Request) -> TaughtModel:
        """Teach the model new actions from examples, and keep the taught model for a while."""
        service.check_prediction_queue()
        media_type, body = await _read_body(request, service)
        if media_type != schemas.JSON:
            raise RequestRejectedError(
                f"expected a body of type {schemas.JSON}", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            )
        recognizer, limits = service.recognizer, service.limits
        taught = await service.predict(lambda: teach_examples(body, recognizer, limits))
        return service.taught.add(taught)

    @app.get(
        "/v1/taught/{name}",
        response_class=Response,
        responses=schemas.error_responses(404, 422)
        | {200: {"content": {"application/octet-stream": {}}, "description": "A checkpoint."}},
    )
    async def taught_model(name: str) -> Response:
        """Download a taught model as a checkpoint, which every command opens."""
        content = pack_model(service.taught.get(name))
        return Response(content, media_type="application/octet-stream")


def _add_websockets(app: FastAPI, service: Service) -> None:
    @app.websocket("/v1/stream")
    async def stream(
        socket: WebSocket,
        top: Annotated[int, Query(ge=0, le=9999)] = 0,
        logits: bool = False,
        coalesce: bool = False,
        layout: LayoutQuery = None,
        space: SpaceQuery = None,
    ) -> None:
        statement = schemas.parse_statement(layout, space)
        await StreamConnection(socket, service, top, logits, coalesce, statement).run()

    @app.websocket("/v1/video")
    async def video(
        socket: WebSocket,
        model: ModelQuery = None,
        source: Annotated[str, Query(min_length=1, max_length=200)] = "video",
    ) -> None:
        await VideoConnection(socket, service, service.find_model(model), source).run()


async def _read_body(request: Request, service: Service) -> tuple[str, bytes]:
    """Read the body of a request within the limits; return its media type and content."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in schemas.MEDIA_TYPES:
        raise RequestRejectedError(
            f"expected a body of type {schemas.JSON} or {schemas.NPZ}, got {content_type[:64]!r}",
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )
    media_type, parts, size, limits = schemas.MEDIA_TYPES[content_type], [], 0, service.limits
    max_bytes = limits.max_json_bytes if media_type == schemas.JSON else limits.max_body_bytes
    size_error = too_large(f"expected at most {max_bytes} bytes of {content_type}")
    content_length = request.headers.get("content-length", "")
    if content_length.isdecimal() and int(content_length[:18]) > max_bytes:
        raise size_error
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise size_error
            parts.append(part)
    except ClientDisconnect as error:
        raise RequestRejectedError("the client disconnected within its request") from error
    return media_type, b"".join(parts)


def _model_info(service: Service) -> schemas.ModelInfo:
    recognizer, header = service.recognizer, service.recognizer.header
    layout, calibration = recognizer.layout, recognizer.calibration
    requirement = missing_requirement()
    return schemas.ModelInfo(
        name=service.name,
        classes=[header.class_name(i) for i in range(header.num_classes)],
        layout=schemas.LayoutInfo(
            name=layout.name, joints=list(layout.joints), bones=[tuple(b) for b in layout.bones]
        ),
        space=schemas.SpaceInfo(
            **recognizer.frame_space.to_dict(), description=recognizer.frame_space.describe()
        ),
        coordinates=service.shape[1],
        persons=recognizer.persons,
        confidence=header.confidence,
        threshold=calibration.threshold,
        background=calibration.background,
        stream=schemas.StreamInfo(
            mode=service.mode,
            frame_rate=service.limits.frame_rate,
            capacity=service.capacity,
            max_message_bytes=service.limits.max_message_bytes,
        ),
        video=schemas.VideoInfo(available=requirement is None, requirement=requirement),
    )


def _add_error_handlers(app: FastAPI, service: Service) -> None:
    """Answer every error with `ErrorBody`, and every error of a websocket with a message."""

    async def respond(connection: Any, error: Exception) -> Any:
        status, message = status_of(error), str(error)
        if isinstance(error, HTTPException):
            status = HTTPStatus(error.status_code)
            message = f"{connection.scope['method']} {connection.url.path}: {error.detail}"
        elif isinstance(error, RequestValidationError | WebSocketRequestValidationError):
            first = error.errors()[0]
            status = HTTPStatus.UNPROCESSABLE_ENTITY
            message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        elif not isinstance(error, KinegraphError):
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            message = "the request failed; see the server's log"
        if isinstance(connection, WebSocket):
            service.metrics.count_rejection(status)
            await reject(connection, message, status)
            return None
        headers = {"retry-after": "1"} if status in RETRY_STATUSES else None
        return JSONResponse(schemas.ErrorBody(error=message).model_dump(), status, headers)

    for kind in (
        KinegraphError,
        HTTPException,
        RequestValidationError,
        WebSocketRequestValidationError,
        Exception,
    ):
        app.add_exception_handler(kind, respond)
