"""Why a client is not served: a status, and a sentence that says what to do."""

from __future__ import annotations

from kinegraph.errors import KinegraphError


class RequestRejectedError(KinegraphError):
    """A request or message that is not answered; ``status`` is that of HTTP."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
