"""What a worker answers on its port: whether it lives, whether it takes work, its metrics.

Three paths for probes and scrapers, read only, without a password: so it listens on this
machine alone unless somebody says otherwise. A request waits for no execution.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from kitaru import app as _app
from kitaru._engine.serving import Serving
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
    app.store.get_owner(app.runner.ownership.number())  # raises if the store is away
    return 200, "text/plain", "ready\n"


# --- metrics ---------------------------------------------------------------------------------


def metrics(serving: Serving) -> str:
    """What Prometheus scrapes, in its text format."""
    app = _app.current()
    began = app.env.monotonic()
    counts = app.store.count_executions(project=app.project)
    seconds = app.env.monotonic() - began
    limits = app.store.list_limits(project=app.project)
    lines = [
        *_family(
            "kitaru_executions",
            "gauge",
            "Executions of the project in the store, by status.",
            [({"status": state.value}, count) for state, count in sorted(counts.items())],
        ),
        *_family(
            "kitaru_limit_taken",
            "gauge",
            "Places taken under a limit of a queue or key.",
            [({"limit": limit.name}, limit.taken) for limit in limits],
        ),
        *_family(
            "kitaru_limit_max",
            "gauge",
            "Places that there are under a limit.",
            [({"limit": limit.name}, limit.max) for limit in limits],
        ),
        *_of_worker(serving),
        *_one(
            "kitaru_store_read_seconds",
            "gauge",
            "How long the store took to count executions, just now.",
            seconds,
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def _of_worker(serving: Serving) -> list[str]:
    app, tally = _app.current(), serving.tally
    ended = sorted(tally.events.items())
    return [
        *_one("kitaru_worker_running", "gauge", "Executions that run here.", app.runner.busy),
        *_one(
            "kitaru_worker_concurrency",
            "gauge",
            "Executions at once, at most.",
            serving.wanted.concurrency,
        ),
        *_one(
            "kitaru_worker_draining",
            "gauge",
            "1 while it is stopping.",
            int(app.services.draining),
        ),
        *_one("kitaru_worker_claims_total", "counter", "Claims that were tried.", tally.claims),
        *_one(
            "kitaru_worker_claimed_total",
            "counter",
            "Executions taken from queues.",
            tally.claimed,
        ),
        *_one(
            "kitaru_worker_claim_seconds_total",
            "counter",
            "Time that claims took.",
            tally.claim_seconds,
        ),
        *_family(
            "kitaru_worker_events_total",
            "counter",
            "What happened to executions here: claimed, taken_over, completed, failed, ...",
            [({"event": name.removeprefix("execution.")}, count) for name, count in ended],
        ),
    ]


def _one(name: str, kind: str, help: str, value: float) -> list[str]:
    return _family(name, kind, help, [({}, value)])


def _family(
    name: str, kind: str, help: str, samples: Iterable[tuple[dict[str, str], float]]
) -> list[str]:
    lines = [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        said = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{said}}} {value}" if said else f"{name} {value}")
    return lines


def _escaped(text: str) -> str:
    """As the format wants label values.

    >>> _escaped('a"b')
    'a\\\\"b'
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
