"""How a connection to PostgreSQL is made, which servers are refused, and what bounds a wait.

Between the program and the server may stand a pooler that hands each transaction to another
session. It is told by what it cannot hide: the process it names at the start is not the one
that answers. Behind it nothing is prepared or set for a session; the bounds of a transaction
are then set inside it (``Connection.begin``).
"""

from __future__ import annotations

import os
import re
from asyncio import _get_running_loop
from collections.abc import Callable
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Ping
from psycopg.types.numeric import Int8BinaryDumper
from psycopg.types.string import StrBinaryDumper

from kitaru._core.names import did_you_mean
from kitaru._store.address import Address
from kitaru._store.postgres.connection import BEGIN, Connection, literal
from kitaru._store.postgres.errors import away, backend_error, not_let_in, text_of, unfit
from kitaru.env import Env
from kitaru.errors import KitaruBackendError, KitaruUsageError

OLDEST = 140000
"""PostgreSQL 14: earlier ones are without support by now."""


class Bounds(NamedTuple):
    """How long each thing may take. Each bound is wider than those that it has to outlast."""

    connect_seconds: int = 5
    idle_seconds: int = 10
    """Of a transaction between its statements: a process that stands still holds its locks."""
    lock_seconds: int = 15
    """Longer than ``idle_seconds``, so that whoever waits outlives a transaction left open."""
    statement_seconds: int = 25
    answer_seconds: float = 30.0
    """Then the connection is given up: somebody in between swallows what is sent."""


BOUNDS = Bounds()

_SETTINGS = "pg_backend_pid(), pg_is_in_recovery(), current_setting('transaction_read_only')"
_LOOK: LiteralString = f"""
select {_SETTINGS}, current_setting('synchronous_commit'), current_setting('server_encoding'),
    current_setting('server_version_num')::int"""


class Connector:
    """Makes connections to one address. Keeps the password to itself."""

    def __init__(self, address: Address, env: Env, bounds: Bounds) -> None:
        self._address = address
        self._env = env
        self._bounds = bounds
        said = _understood(address)
        self._defaults = _defaults(said, bounds)
        self._options = said.get("options") or ""
        self._has_connected = False
        self.held: Callable[[], object] = lambda: None
        """Called when the thread of a running event loop waits for the server."""

    def connect(self, *, bounded: bool = True) -> Connection:
        """A new connection, or ``KitaruBackendError``; ``bounded`` false: for long work."""
        if _get_running_loop() is not None:
            self.held()
        try:
            connection = Connection.connect(
                self._address.secret(),
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                **self._defaults,
            )
        except psycopg.Error as error:
            # Without its frames: they hold the password in their variables.
            raise self._why_not(error) from error.with_traceback(None)
        try:
            self._prepare(connection, bounded)
        except BaseException:
            connection.close()
            raise
        self._has_connected = True
        return connection

    def _why_not(self, error: psycopg.Error) -> KitaruBackendError | KitaruUsageError:
        """The server that answers, and lets nobody in, is another thing than one that is away.

        One that has let us in before will do so again, or its message says why not.
        """
        found = None if self._has_connected else self._ping()
        if found == Ping.OK:
            return not_let_in(error, self._address)
        if found == Ping.NO_ATTEMPT:
            return KitaruUsageError(
                f"{self._address} leads to no server ({text_of(error)}): mend what it says, or the "
                "service or variable that it takes that from",
                code="store-place-invalid",
            )
        return away(error, self._address, "Nothing was changed")

    def _ping(self) -> Ping:
        """Whether a server listens there, whatever TLS it has. It is told no password of ours."""
        plainly = {"sslmode": "disable", "sslrootcert": "", "gssencmode": "disable"}
        if "sslnegotiation" in known_options():  # of libpq since 17
            plainly["sslnegotiation"] = "postgres"
        unsaid = {"password": "-", "passfile": os.devnull, "channel_binding": "prefer"}
        told = make_conninfo(self._address.secret(), **(self._defaults | plainly | unsaid))
        return Ping(psycopg.pq.PGconn.ping(told.encode()))

    def _prepare(self, connection: Connection, bounded: bool) -> None:
        # One type a parameter, whatever its value: one statement is prepared once.
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.adapters.register_dumper(str, StrBinaryDumper)
        connection.clock = self._env.monotonic
        connection.held = lambda: self.held()
        connection.prepare_threshold = None  # `ask` prepares, and cursors would undo it
        connection.answer_seconds = self._bounds.answer_seconds
        try:
            found = connection.execute(_LOOK).fetchall()[0]
            self._check(*found[1:])
            connection.is_pooled = found[0] != connection.info.backend_pid
            self._bound(connection, bounded)
        except psycopg.Error as error:
            raise backend_error(error, self._address, "Nothing was changed") from error
        if not bounded:
            connection.answer_seconds = None

    def _bound(self, connection: Connection, bounded: bool) -> None:
        wanted = [] if not bounded else self._settings()
        connection.local_bounds = "".join(f"set local {each}; " for each in self._settings())
        if connection.is_pooled:
            connection.begin = (BEGIN, *(f"set local {each}" for each in wanted))
        elif wanted:
            wanted.append("default_transaction_isolation = 'read committed'")
            connection.execute("; ".join(f"set {each}" for each in wanted))

    def _settings(self) -> list[LiteralString]:
        """Those that the address does not choose itself."""
        bounds = self._bounds
        seconds = {
            "statement_timeout": bounds.statement_seconds,
            "lock_timeout": bounds.lock_seconds,
            "idle_in_transaction_session_timeout": bounds.idle_seconds,
        }
        wanted = {name: str(int(value * 1000)) for name, value in seconds.items()}
        # Ours are many short questions. Of one that walks an index by steps the planner thinks
        # that it is huge, and would compile it for seconds in order to run it for nothing.
        wanted["jit"] = "off"
        return [
            literal(f"{name} = {value}")
            for name, value in wanted.items()
            if name not in self._options
        ]

    def _check(
        self, in_recovery: bool, read_only: str, commits: str, encoding: str, version: int
    ) -> None:
        """Refuse a server on which what is acknowledged could be lost, or not be written."""
        if in_recovery or read_only == "on":
            if self._has_connected:
                error = psycopg.OperationalError("the server takes no writes: it is a replica now")
                raise away(error, self._address)
            raise unfit(
                self._address,
                "it takes no writes, as a replica does. Name the primary, or all hosts: the one "
                "that takes writes is found",
            )
        if commits == "off":
            raise unfit(
                self._address,
                "synchronous_commit is off, so that a crash loses what was acknowledged. Give this "
                "role another: alter role … set synchronous_commit = on",
            )
        if encoding != "UTF8":
            raise unfit(
                self._address,
                f"its encoding is {encoding}, which has no room for every text. Make a database "
                "with encoding UTF8, and name that",
            )
        if version < OLDEST:
            raise unfit(
                self._address, f"it is PostgreSQL {version // 10000}: upgrade it to 14 or later"
            )


def _understood(address: Address) -> dict[str, Any]:
    """What libpq takes the address for. Its own complaint may quote the password: not told."""
    hidden = re.match(r"\w+://[^:?@/]*:([^?]*)@", address.secret())
    if hidden is None or not re.search(r"[/@#?\s]", hidden[1]):
        try:
            said = conninfo_to_dict(address.secret())
            if all(map(_is_port, str(said.get("port") or "").split(","))):
                return said
            why = " (a port is a number from 1 to 65,535)"
        except psycopg.Error as error:
            why = _unknown(address, str(error))
    else:
        why = ""
    raise KitaruUsageError(
        f"{address} is no address that libpq understands{why}: write "
        "postgresql://USER@HOST/DATABASE?OPTION=VALUE, with % and two hexadecimal digits for each "
        "odd character of a password (%40 for @, %2F for /), or leave the password to ~/.pgpass",
        code="store-place-invalid",
    )


def _unknown(address: Address, complaint: str) -> str:
    """Which option libpq does not know, where it is told in the address as that is shown."""
    found = re.match(r'invalid (?:URI query parameter:|connection option) "(\w+)"', complaint)
    if found is None or f"{found[1]}=" not in address:
        return ""
    return f" (there is no option {found[1]!r}.{did_you_mean(found[1], known_options())})"


def _is_port(said: str) -> bool:
    return not said or (said.isdecimal() and 0 < int(said) < 65536)


def known_options() -> list[str]:
    """What may be said in an address, as this libpq knows it."""
    return [each.keyword.decode() for each in psycopg.pq.Conninfo.get_defaults()]


def _defaults(said: dict[str, Any], bounds: Bounds) -> dict[str, Any]:
    """What libpq is told beside the address; the address itself has the last word."""
    defaults: dict[str, Any] = {
        "application_name": "kitaru",
        "connect_timeout": bounds.connect_seconds,
        # A peer that has vanished is noticed within some 15 s, with a question open or without.
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 2,
        "tcp_user_timeout": 15_000,
    }
    if "," in (said.get("host") or "") + (said.get("hostaddr") or ""):
        defaults["target_session_attrs"] = "read-write"
    chosen = {name: value for name, value in defaults.items() if not said.get(name)}
    return {**chosen, "client_encoding": "UTF8"}
