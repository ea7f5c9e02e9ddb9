"""The server that tests, demo and bench start: nothing of it outlives them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.leases.kit import until

ROOT = Path(__file__).resolve().parent.parent

STARTS = """
import sys
from tools import postgres_server

with postgres_server.running() as server:
    print(server.port, server.data.parent, flush=True)
    sys.stdin.read()
"""


def start() -> tuple[subprocess.Popen[str], int, Path]:
    """A process with a server of its own -> and the port and the folder of that."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTS],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port, folder = process.stdout.readline().split(maxsplit=1)
    return process, int(port), Path(folder.strip())


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("end", ["killed", "by itself"])
def test_a_server_and_its_folder_go_with_the_process_that_started_it(end: str) -> None:
    process, port, folder = start()
    assert is_served(port)
    assert folder.is_dir()
    if end == "killed":
        process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if end == "killed" else 0)
    until(lambda: not folder.exists())
    assert not is_served(port)
