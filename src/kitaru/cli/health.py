"""What a worker answers on its port: whether it lives, whether it takes work, its metrics.

Three paths for probes and scrapers, read only, without a password: so it listens on this
machine alone unless somebody says otherwise. A request waits for no execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kitaru import app as _app
from kitaru._engine.serving import Serving
from kitaru.cli.metrics import metrics
from kitaru.errors import KitaruError, KitaruUsageError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Health:
    """Answers until the process ends. ``port``: the one it listens on."""

    def __init__(self, serving: Serving, *, host: str, port: int) -> None:
        try:
            server = _Server((host, port), _Handler)
        except OSError as error:
            raise KitaruUsageError(
                f"--port {port}: cannot listen on {host}:{port} ({error.strerror}): choose "
                "another one, or 0 for any that is free",
                code="command-line-invalid",
            ) from None
        server.pages = {
            "/healthz": lambda: (200, "text/plain", "alive\n"),
            "/readyz": _readiness,
            "/metrics": lambda: (200, METRICS_TYPE, metrics(serving)),
        }
        self.port = int(server.server_address[1])
        threading.Thread(target=server.serve_forever, name="kitaru-health", daemon=True).start()


Page = Callable[[], tuple[int, str, str]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    pages: dict[str, Page]


class _Handler(BaseHTTPRequestHandler):
    timeout = 10.0
    """Whoever connects and says nothing is not waited for."""

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        page = self.server.pages.get(self.path.partition("?")[0])
        try:
            status, kind, text = (404, "text/plain", "no such page\n") if page is None else page()
        except KitaruError as error:
            status, kind, text = 503, "text/plain", f"{error}\n"
        body = text.encode("utf-8", "backslashreplace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """A probe each second is no news."""


def _readiness() -> tuple[int, str, str]:
    app = _app.current()
    if app.services.draining:
        return 503, "text/plain", "draining: nothing new starts here\n"
    if app.services.outage.latch is not None:
        return 503, "text/plain", "the store is away: nothing new starts here\n"
    app.store.get_owner(app.runner.ownership.number())  # raises if the store is away
    return 200, "text/plain", "ready\n"
