"""What PostgreSQL's errors mean, and what to do about each."""

from __future__ import annotations

import psycopg
from psycopg import errors as pg

from kitaru.errors import KitaruBackendError

NOTHING_WRITTEN = "Nothing of this write was recorded"

_REMEDIES: tuple[tuple[tuple[type[psycopg.Error], ...], str, str], ...] = (
    (
        (pg.LockNotAvailable, pg.QueryCanceled),
        "store-locked",
        (
            "somebody else holds what it needs for too long. Look for an open transaction in "
            "pg_stat_activity, then run again"
        ),
    ),
    (
        (pg.DiskFull, pg.OutOfMemory),
        "disk-full",
        "the server's disk or memory is full. Free some, then run again",
    ),
    (
        (pg.InsufficientPrivilege, pg.ReadOnlySqlTransaction),
        "store-may-not-be-used",
        (
            "this role may not do it there. Grant it what the page on PostgreSQL lists, and name "
            "the primary, not a replica"
        ),
    ),
    (
        (pg.InvalidPassword, pg.InvalidAuthorizationSpecification, pg.InvalidCatalogName),
        "store-may-not-be-used",
        (
            "the server does not let this role in, or has no such database. Check the URL, the "
            "password and pg_hba.conf"
        ),
    ),
    (
        (pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidSchemaName, pg.UndefinedFunction),
        "store-damaged",
        "its tables are not as Kitaru made them. Put back a backup, or choose another database",
    ),
)

_GONE = (
    psycopg.OperationalError,
    pg.AdminShutdown,
    pg.CrashShutdown,
    pg.CannotConnectNow,
    pg.TooManyConnections,
    # We stood still inside a transaction, and the server has ended it with the connection.
    pg.IdleInTransactionSessionTimeout,
    # "cached plan must not change result type": somebody has upgraded the store, and what this
    # connection has prepared fits no more. A new one has prepared nothing.
    pg.FeatureNotSupported,
)

# The server has rolled the transaction back for the sake of others: it may be done anew.
_AGAIN = (pg.DeadlockDetected, pg.SerializationFailure)


def is_away(error: psycopg.Error) -> bool:
    """Whether the connection, or the server, is gone for now."""
    known = any(isinstance(error, kinds) for kinds, _, _ in _REMEDIES)
    return isinstance(error, (*_GONE, psycopg.InterfaceError)) and not known


def may_be_done_anew(error: psycopg.Error) -> bool:
    """Whether nothing of the transaction stays, and the next try may fare better."""
    return isinstance(error, _AGAIN) or is_away(error)


def backend_error(
    error: psycopg.Error, place: str, note: str = NOTHING_WRITTEN
) -> KitaruBackendError:
    """The typed error for ``error``; raise it ``from`` that. ``place`` shows no password."""
    text = text_of(error)
    for kinds, code, remedy in _REMEDIES:
        if isinstance(error, kinds):
            return KitaruBackendError(
                f"the store {place} failed ({text}): {remedy}. {note}", code=code
            )
    if is_away(error):
        return away(error, place, note)
    return KitaruBackendError(
        f"the store {place} failed with {type(error).__name__}: {text}. Run again; if it comes "
        f"back, please report it with this text. {note}",
        code="store-failed",
    )


def away(error: psycopg.Error, place: str, note: str = NOTHING_WRITTEN) -> KitaruBackendError:
    return KitaruBackendError(
        f"the store {place} is away ({text_of(error)}): check that the server runs and can be "
        f"reached, then run again; `kitaru doctor` looks. {note}",
        code="store-away",
    )


def in_doubt(error: psycopg.Error, place: str) -> KitaruBackendError:
    """The connection went while it committed, and the server is not there to be asked."""
    note = (
        "Whether the last write was recorded is not known yet: the same program finds out once the "
        "server is back, and records it once"
    )
    return away(error, place, note)


def not_let_in(error: psycopg.Error, place: str) -> KitaruBackendError:
    return KitaruBackendError(
        f"the server of the store {place} answers, and does not let this program in "
        f"({text_of(error)}): check the role and its password, the name of the database, "
        "pg_hba.conf, sslmode and sslrootcert",
        code="store-may-not-be-used",
    )


def unfit(place: str, why: str) -> KitaruBackendError:
    return KitaruBackendError(
        f"the store {place} cannot be kept on this server: {why}", code="server-unfit"
    )


def text_of(error: psycopg.Error) -> str:
    primary = error.diag.message_primary
    text = primary or str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


def is_ours(error: psycopg.Error) -> bool:
    """Whether a statement of ours is wrong: a bug, of one write alone."""
    known = any(isinstance(error, kinds) for kinds, _, _ in _REMEDIES)
    ours = (psycopg.ProgrammingError, psycopg.IntegrityError, psycopg.DataError)
    return isinstance(error, ours) and not known
