"""Every exception that Kitaru raises on purpose.

Each message says what happened, to which execution or checkpoint, and what to
do next. Callers may rely on the tree, on the attributes, and on the errors
surviving ``copy`` and ``pickle``; this file knows nothing of the rest of the
package.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitaru.model import FailureInfo
    from kitaru.status import ExecutionStatus


class FailureOrigin(enum.StrEnum):
    """Whose fault a failure is: known where it happened, never guessed from text."""

    USER_CODE = "user_code"
    RUNTIME = "runtime"
    BACKEND = "backend"
    DIVERGENCE = "divergence"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


def _rebuild(cls: type[KitaruError], args: tuple[Any, ...], state: dict[str, Any]) -> KitaruError:
    # A timeout is an OSError too, whose memory only OSError's own __new__ lays out.
    base = OSError if issubclass(cls, OSError) else Exception
    error: KitaruError = base.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class KitaruError(Exception):
    """The base of all that Kitaru raises on purpose.

    ``code`` names what went wrong, for programs and for looking it up: it stays
    the same while words change. ``kitaru explain CODE`` prints its page. It is
    None where somebody else raised the error.

    >>> error = KitaruUsageError("cache='maybe': pass True or False", code="option-invalid")
    >>> error.code, error.__notes__
    ('option-invalid', ['kitaru explain option-invalid'])
    """

    code: str | None = None

    def __init__(self, *args: Any, code: str | None = None) -> None:
        super().__init__(*args)
        if code is not None:
            self.code = code
            # A note, not a part of the message: Python prints it below the
            # message, and str(error) stays what happened.
            self.add_note(f"kitaru explain {code}")

    def __reduce__(self) -> tuple[Any, ...]:
        # Rebuilt without __init__: subclasses take keyword arguments that the
        # default reduction would lose.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class KitaruUsageError(KitaruError, ValueError):
    """A wrong call, refused at once; nothing was recorded."""


class KitaruWaitValidationError(KitaruUsageError):
    """An input does not fit the wait's schema; nothing changed, the wait stays open."""


class KitaruContextError(KitaruError, RuntimeError):
    """A right call in the wrong place, for example a checkpoint outside a flow."""


class KitaruStateError(KitaruError, RuntimeError):
    """The thing is not in a state that allows this."""


class KitaruTimeoutError(KitaruStateError, TimeoutError):
    """Waiting took longer than asked; the execution itself goes on.

    ``timeout_seconds`` is what was asked, ``elapsed_seconds`` what passed, and
    ``last_status`` what the execution was last seen as, or None while the store is away.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        exec_id: str | None = None,
        timeout_seconds: float | None = None,
        elapsed_seconds: float | None = None,
        last_status: ExecutionStatus | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.exec_id = exec_id
        self.timeout_seconds = timeout_seconds
        self.elapsed_seconds = elapsed_seconds
        self.last_status = last_status


class KitaruNotFoundError(KitaruError, LookupError):
    """No such execution, checkpoint, artifact or wait."""


class KitaruValueError(KitaruError):
    """A value that cannot be stored or read back.

    ``path`` points into the value (``$.items[3].client``); ``checkpoint`` names
    whose value it is, where that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        path: str | None = None,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.path = path
        self.checkpoint = checkpoint


class KitaruRuntimeError(KitaruError, RuntimeError):
    """Something failed while running or while reaching the store."""


class KitaruBackendError(KitaruRuntimeError):
    """The store is away, full, locked, foreign or corrupt."""


class KitaruLogRetrievalError(KitaruBackendError):
    """Logs exist but cannot be read."""


class KitaruExecutionError(KitaruRuntimeError):
    """An execution did not complete.

    ``failure`` is the recorded :class:`kitaru.FailureInfo`, ``checkpoint`` the
    name of the checkpoint whose failure left the flow, if one did.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        exec_id: str | None = None,
        status: ExecutionStatus | None = None,
        failure_origin: FailureOrigin = FailureOrigin.UNKNOWN,
        failure: FailureInfo | None = None,
        checkpoint: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.exec_id = exec_id
        self.status = status
        self.failure_origin = failure_origin
        self.failure = failure
        self.checkpoint = checkpoint


class KitaruUserCodeError(KitaruExecutionError):
    """User code raised; ``__cause__`` is the original exception where it is known."""


class KitaruCancelledError(KitaruExecutionError):
    """The execution was cancelled."""


class KitaruDivergenceError(KitaruExecutionError):
    """A strict flow made another call than the recorded one."""


class KitaruFeatureNotAvailableError(KitaruError, NotImplementedError):
    """Needs an extra, an engine or a later release; the message says which."""
