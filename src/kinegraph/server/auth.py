"""Who may speak to the server at all: the right host, the right page, the right token."""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from kinegraph.server.protocol import to_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: The subprotocol of our websockets; after it, browsers name the token as a second one.
SUBPROTOCOL = "kinegraph"
TOKEN_PREFIX = "token."
#: What anybody may see: pages without which nobody could show a token, and no more.
PUBLIC_PATHS = re.compile(r"/|/health|/page/[\w.-]+|/favicon\.ico")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(self)"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class AccessMiddleware:
    """Turns away whoever may not speak, before anything is read of what they say.

    Without a token only this machine is spoken to, by its own name: a page of another site that a
    browser here has open can neither pass for ours (``Origin``) nor have its name resolve to this
    machine (``Host``).

    Args:
        app: what is guarded.
        token: that has to be shown; None for none.
        refused: called with the status of whoever is turned away.
    """

    def __init__(
        self, app: App, token: str | None = None, refused: Callable[[int], None] = lambda _: None
    ) -> None:
        self._app, self._token, self._refused = app, token, refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): v.decode("latin-1") for name, v in scope["headers"]}
        if found := self._find_violation(scope, headers):
            self._refused(found[0])
            await _reject(scope, send, *found)
            return
        if scope["type"] == "http":
            send = _add_headers(send, headers.get("host", ""))
        await self._app(scope, receive, send)

    def _find_violation(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._token is None and not is_loopback(_name(host)):
            return 421, "this server answers to localhost alone: start it with --token for others"
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, "pages of other sites may not speak to this server"
        if self._token is None or (
            scope["type"] == "http" and PUBLIC_PATHS.fullmatch(scope["path"])
        ):
            return None
        shown = [*_bearer_tokens(headers), *_subprotocol_tokens(scope)]
        if not any(hmac.compare_digest(one.encode(), self._token.encode()) for one in shown):
            return 401, "this server asks for its token: Authorization: Bearer TOKEN"
        return None


def is_loopback(name: str) -> bool:
    """Whether a host's name or address is this machine's own, whoever resolves it."""
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def token_protocol(token: str) -> str:
    """A token as the name of a subprotocol, which takes few letters."""
    return TOKEN_PREFIX + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def _name(host: str) -> str:
    """The name in a Host header."""
    found = re.fullmatch(r"\[([0-9a-fA-F:.]+)\](?::\d+)?|([^:\[\]]+)(?::\d+)?", host)
    return (found[1] or found[2]) if found else ""


def _bearer_tokens(headers: dict[str, str]) -> Iterable[str]:
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        yield token.strip()


def _subprotocol_tokens(scope: Scope) -> Iterable[str]:
    for name in scope.get("subprotocols", ()):
        if name.startswith(TOKEN_PREFIX):
            text = name.removeprefix(TOKEN_PREFIX)
            try:
                yield base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except ValueError:
                continue


def _add_headers(send: Send, host: str) -> Send:
    plain = re.fullmatch(r"[\w.:\[\]-]+", host)
    policy = CONTENT_SECURITY_POLICY.format(sockets=f"ws://{host} wss://{host}" if plain else "")

    async def sent(message: Scope) -> None:
        if message["type"] == "http.response.start":
            added = (*SECURITY_HEADERS, (b"content-security-policy", policy.encode()))
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sent


async def _reject(scope: Scope, send: Send, status: int, sentence: str) -> None:
    kind = "http" if scope["type"] == "http" else "websocket.http"
    headers = [(b"content-type", b"application/json")]
    headers += [(b"www-authenticate", b"Bearer")] if status == 401 else []
    await send({"type": f"{kind}.response.start", "status": status, "headers": headers})
    body = to_json({"error": sentence}).encode()
    await send({"type": f"{kind}.response.body", "body": body})
