"""The errors of requests and messages that the server rejects, with their HTTP status."""

from __future__ import annotations

from http import HTTPStatus

from kinegraph.errors import KinegraphError, ServerError, UnexpectedError


class RequestRejectedError(KinegraphError):
    """A request or message that is rejected with an HTTP status."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: Exception) -> HTTPStatus:
    """Return the HTTP status of an error; most errors of the other rooms are about the input."""
    if isinstance(error, UnexpectedError):
        return HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, ServerError):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return getattr(error, "status", HTTPStatus.BAD_REQUEST)


def too_large(message: str) -> RequestRejectedError:
    """Return the error of a request that exceeds a size limit."""
    return RequestRejectedError(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def unavailable(message: str) -> RequestRejectedError:
    """Return the error of a request that may succeed later."""
    return RequestRejectedError(f"{message}; retry later", HTTPStatus.SERVICE_UNAVAILABLE)
