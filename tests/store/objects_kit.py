"""An object store that speaks S3: moto's server, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple

START_SECONDS = 240

_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
host, port = server.get_host_and_port()
print(f"serving {port}", flush=True)
sys.stdin.read()
server.stop()
"""


class S3(NamedTuple):
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to use it: as on any machine with keys in the environment."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "an-id",
            "AWS_SECRET_ACCESS_KEY": "a-secret-key",
        }

    def make_bucket(self, name: str) -> None:
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("PUT", f"/{name}", headers={"Authorization": "AWS an-id:x"})
        assert connection.getresponse().status == 200
        connection.close()


@contextlib.contextmanager
def serving() -> Iterator[S3]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "MOTO_CALL_RESET_API": "false"},
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    giving_up = threading.Timer(START_SECONDS, process.kill)
    giving_up.start()
    try:
        said = re.fullmatch(r"serving (\d+)\n", process.stdout.readline())
        assert said is not None, "moto's server did not start"
        giving_up.cancel()
        yield S3(int(said[1]))
    finally:
        giving_up.cancel()
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()
