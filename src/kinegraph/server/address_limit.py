"""A limit on the requests and websockets of one client address."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

IPV6_NETWORK_BITS = 64
"""Bits of an IPv6 address that all addresses of one customer have in common."""


def client_network(address: str) -> str:
    """Return what the addresses of one client have in common: of IPv6 the first 64 bits."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), IPV6_NETWORK_BITS), strict=False))


class AddressLimit:
    """ASGI middleware that rejects clients with too many requests and websockets at a time.

    The health check is always answered.

    Args:
        app: the protected application.
        max_per_address: requests and websockets of one address.
        on_reject: called with the status of every rejection.
    """

    def __init__(
        self, app: ASGIApp, max_per_address: int, on_reject: Callable[[int], None]
    ) -> None:
        self._app, self._max, self._on_reject = app, max_per_address, on_reject
        self._open = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""
        from starlette.responses import JSONResponse

        if scope["type"] not in ("http", "websocket") or scope["path"] == "/health":
            await self._app(scope, receive, send)
            return
        network = client_network((scope.get("client") or ("",))[0])
        if self._open[network] >= self._max:
            status = HTTPStatus.TOO_MANY_REQUESTS
            self._on_reject(status)
            message = f"expected at most {self._max} connections of one address; retry later"
            response = JSONResponse({"error": message}, status, {"retry-after": "1"})
            await response(scope, receive, send)
            return
        self._open[network] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[network] -= 1
            if not self._open[network]:
                del self._open[network]
