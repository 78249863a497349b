"""The error of a request or message that the server rejects."""

from __future__ import annotations

from http import HTTPStatus

from kinegraph.errors import KinegraphError


class RequestRejectedError(KinegraphError):
    """A request or message that is rejected with an HTTP status."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: Exception) -> HTTPStatus:
    """Return the HTTP status of an error; errors of the other rooms are about the input."""
    return getattr(error, "status", HTTPStatus.BAD_REQUEST)
