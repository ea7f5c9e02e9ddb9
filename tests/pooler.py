"""A pgbouncer in transaction mode before a database, with very few connections of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests import needed
from tools.postgres_server import free_port

START_SECONDS = 240.0
_NOBODY = 65534

_INI = """
[databases]
* = host={host} port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
server_login_retry = 1
logfile = {log}
"""


@contextmanager
def pooling(url: str) -> Iterator[str]:
    """The same database through the pooler."""
    program = needed.program("pgbouncer")
    said = conninfo_to_dict(url)
    place = Path(tempfile.mkdtemp(prefix="kitaru-pool-"))
    port = free_port()
    users, ini = place / "users", place / "pgbouncer.ini"
    users.write_text(f'"{said["user"]}" ""\n')
    ini.write_text(
        _INI.format(
            host=said["host"], server=said["port"], port=port, users=users, log=place / "log"
        )
    )
    options: dict[str, object] = {}
    if os.geteuid() == 0:  # it refuses to run as root
        options = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        for path in (place, users, ini):
            os.chown(path, _NOBODY, _NOBODY)
    process = subprocess.Popen(
        [program, str(ini)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=place,
        **options,  # type: ignore[call-overload]
    )
    try:
        _wait_for(port, process, place / "log")
        yield make_conninfo(url, host="127.0.0.1", port=str(port))
    finally:
        process.kill()
        process.wait(START_SECONDS)
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError(f"pgbouncer does not start: {log.read_text() if log.exists() else ''}")
