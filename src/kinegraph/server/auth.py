"""Access control: checks of the Host and Origin headers and of the token, before anything else."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_ORIGIN_LENGTH = 80
"""Characters of an origin in an error message."""
SUBPROTOCOL = "kinegraph"
"""Subprotocol of the websockets; browsers send the token as a second one."""
TOKEN_PREFIX = "token."
"""Before the token in URL-safe base64, because names of subprotocols allow few characters."""
PUBLIC_PATHS = re.compile(r"/|/health|/docs|/openapi\.json|/page/(?:[\w-]+/)?[\w.-]+|/favicon\.ico")
"""Paths that need no token: the pages, and the health check."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self)"),
    (b"cross-origin-resource-policy", b"same-origin"),
    # an isolated page may share memory between the threads of its WebAssembly
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cache-control", b"no-store"),
)


class AccessMiddleware:
    """ASGI middleware that rejects clients without access before it reads their requests.

    Without a token, only requests to a loopback host name are answered. A page of another site in
    a local browser therefore has no access, neither directly (``Origin``) nor by a domain name that
    resolves to this machine (``Host``).

    Args:
        app: the protected application.
        token: the token that clients must send; None for none.
        on_reject: called with the status of every rejection.
        origins: origins of pages that have access besides the server's own, see `parse_origin`.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        on_reject: Callable[[int], None],
        origins: Collection[str] = (),
    ) -> None:
        self._app, self._token, self._on_reject = app, token, on_reject
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run as an ASGI application."""
        from starlette.responses import JSONResponse

        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        if violation := self._find_violation(scope, headers):
            status, message = violation
            self._on_reject(status)
            challenge = {"www-authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
            await JSONResponse({"error": message}, status, challenge)(scope, receive, send)
            return
        if scope["type"] == "http":
            send = _add_headers(send, headers.get("host", ""))
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: str, host: str) -> bool:
        """Return whether an origin is the server's own or an allowed one."""
        try:
            parsed = parse_origin(origin)
        except ValueError:  # a page without an origin, or not a browser
            return False
        return urlsplit(origin).netloc.lower() == host.lower() or parsed in self._origins

    def _find_violation(
        self, scope: Scope, headers: dict[str, str]
    ) -> tuple[HTTPStatus, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and not is_loopback(_host_name(host)):
            return (
                HTTPStatus.MISDIRECTED_REQUEST,
                "this server answers requests to localhost only; start it with --token to allow "
                "other host names",
            )
        if origin is not None and not self._is_allowed(origin, host):
            return (
                HTTPStatus.FORBIDDEN,
                f"requests from pages of {origin[:MAX_ORIGIN_LENGTH]!r} are not allowed; start the "
                "server with --allow-origin to allow them",
            )
        if self._token is None or (
            scope["type"] == "http" and PUBLIC_PATHS.fullmatch(scope["path"])
        ):
            return None
        expected = self._token.encode()
        if not any(hmac.compare_digest(one.encode(), expected) for one in _tokens(scope, headers)):
            return (
                HTTPStatus.UNAUTHORIZED,
                "missing or wrong token; send the header Authorization: Bearer TOKEN",
            )
        return None


def parse_origin(origin: str) -> str:
    """Return an origin as browsers send it, such as ``https://example.org``, in lower case.

    Raises:
        ValueError: it is not a scheme and a host with an optional port.
    """
    parts = urlsplit(origin)
    port = parts.port  # raises ValueError
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected http:// or https:// and a host")
    if origin.lower() != f"{parts.scheme}://{parts.netloc.lower()}" or "@" in parts.netloc:
        raise ValueError("expected a scheme, a host and a port only")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")


def is_loopback(name: str) -> bool:
    """Return whether a host name or address is a loopback one, without a name lookup."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    match = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::\d+)?|([^:\[\]]+)(?::\d+)?", host)
    return (match[1] or match[2]) if match else ""


def _tokens(scope: Scope, headers: dict[str, str]) -> Iterator[str]:
    """Yield the tokens in the Authorization header and in the names of subprotocols."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield token.strip()
    for name in scope.get("subprotocols", ()):
        if name.startswith(TOKEN_PREFIX):
            text = name.removeprefix(TOKEN_PREFIX)
            with suppress(ValueError):
                yield base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()


def _add_headers(send: Send, host: str) -> Send:
    is_plain = re.fullmatch(r"[\w.:\[\]-]+", host)
    policy = CONTENT_SECURITY_POLICY.format(sockets=f"ws://{host} wss://{host}" if is_plain else "")

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            added = (*SECURITY_HEADERS, (b"content-security-policy", policy.encode()))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return send_with_headers
