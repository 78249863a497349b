"""An HTTP server on this machine, for tests of clients."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def run_http_server(**methods: object) -> Iterator[str]:
    """Run a server in a thread; yield its address.

    Args:
        methods: functions of the request handler, such as ``do_GET``.
    """

    def log_nothing(self: BaseHTTPRequestHandler, *arguments: object) -> None:
        pass

    handler = type("Handler", (BaseHTTPRequestHandler,), {"log_message": log_nothing, **methods})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
