"""The FastAPI service over real HTTP, killed in the middle of a batch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import PATIENCE_SECONDS, Workbench

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

BATCH = {
    "issued": "2026-03-31",
    "orders": [
        {"number": number, "customer": "Ada Byron", "amounts": ["19.90", "5.00"]}
        for number in (1, 2, 3, 4)
    ],
}


class Server:
    """The service on a port of its own, which stays the same when it is started again."""

    def __init__(self, bench: Workbench) -> None:
        self.folder = bench.copy("service")
        self._bench = bench
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        # No connection outlives its answer: an idle one would be left open by the test.
        self.web = httpx.Client(
            base_url=f"http://127.0.0.1:{self._port}",
            timeout=PATIENCE_SECONDS,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.process: subprocess.Popen[str]

    def start(self) -> None:
        words = ("-m", "uvicorn", "app:app", "--app-dir", self.folder, "--port", self._port)
        self.process = self._bench.start(*words, "--log-level", "warning")
        self.until(lambda: self._answers())

    def _answers(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self._port)) != 0:
                assert self.process.poll() is None, self.process.communicate()[1]
                return False
        return self.web.get("/openapi.json").status_code == 200

    def until(self, condition: Callable[[], bool]) -> None:
        """Ask until it holds; each question is a request, so this is no busy loop."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"

    def invoice(self, number: int) -> Path:
        return self._bench.folder / "invoices" / f"{number}.json"


def test_a_batch_goes_on_after_its_server_was_killed(bench: Workbench) -> None:
    server = Server(bench)
    server.start()
    # The third invoice is written into a pipe that nobody reads: there the batch stands still.
    server.invoice(3).parent.mkdir()
    os.mkfifo(server.invoice(3))
    key = {"Idempotency-Key": "march"}

    started = server.web.post("/batches", json=BATCH, headers=key)
    assert started.status_code == 202
    place = started.headers["Location"]

    def progress() -> Any:
        return server.web.get(place).json()

    server.until(lambda: progress()["invoices_done"] == 2)
    assert (progress()["status"], progress()["invoices_total"]) == ("running", 4)
    written = [server.invoice(number).stat().st_mtime_ns for number in (1, 2)]
    again = server.web.post("/batches", json=BATCH, headers=key)
    assert again.json()["id"] == started.json()["id"], "a repeated POST is the same execution"

    server.process.send_signal(signal.SIGKILL)
    server.process.wait(PATIENCE_SECONDS)
    server.invoice(3).unlink()
    server.start()

    invoices = server.web.get(f"{place}/result").json()
    assert [invoice["number"] for invoice in invoices] == [1, 2, 3, 4]
    assert invoices[0]["total"] == "29.63"
    assert progress()["status"] == "completed"
    assert progress()["result"] == invoices
    after = [server.invoice(number).stat().st_mtime_ns for number in (1, 2)]
    assert after == written, "what was issued before the kill is not issued again"


def test_wrong_requests_have_answers_that_say_so(bench: Workbench) -> None:
    server = Server(bench)
    server.start()
    key = {"Idempotency-Key": "april"}
    assert server.web.post("/batches", json={**BATCH, "orders": []}, headers=key).status_code == 422
    assert server.web.post("/batches", json=BATCH).status_code == 422
    started = server.web.post("/batches", json=BATCH, headers=key)
    assert server.web.get(f"{started.headers['Location']}/result").status_code == 200
    other = {**BATCH, "issued": "2026-04-30"}
    conflict = server.web.post("/batches", json=other, headers=key)
    assert (conflict.status_code, "april" in conflict.json()["detail"]) == (409, True)
    assert server.web.get("/batches/0198c0de").status_code == 404
    assert server.web.get("/batches/0198c0de/result").status_code == 404
