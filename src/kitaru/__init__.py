"""Kitaru: durable execution for plain Python.

Two decorators, :func:`flow` and :func:`checkpoint`; one SQLite file. What has
been done is not done again, whatever dies in between.

Names are loaded when they are first used, so that ``import kitaru`` stays
light; nothing inside the package imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitaru._core.fanout import unmapped as unmapped
    from kitaru._core.values.changes import upcast as upcast
    from kitaru._core.values.registering import register_codec as register_codec
    from kitaru._core.verdicts import Done as Done
    from kitaru._core.verdicts import NotDone as NotDone
    from kitaru._core.verdicts import Unknown as Unknown
    from kitaru.checkpoints import Checkpoint as Checkpoint
    from kitaru.checkpoints import checkpoint as checkpoint
    from kitaru.checkpoints import step as step
    from kitaru.client import KitaruClient as KitaruClient
    from kitaru.errors import FailureOrigin as FailureOrigin
    from kitaru.errors import KitaruBackendError as KitaruBackendError
    from kitaru.errors import KitaruCancelledError as KitaruCancelledError
    from kitaru.errors import KitaruContextError as KitaruContextError
    from kitaru.errors import KitaruDivergenceError as KitaruDivergenceError
    from kitaru.errors import KitaruError as KitaruError
    from kitaru.errors import KitaruExecutionError as KitaruExecutionError
    from kitaru.errors import KitaruFeatureNotAvailableError as KitaruFeatureNotAvailableError
    from kitaru.errors import KitaruLogRetrievalError as KitaruLogRetrievalError
    from kitaru.errors import KitaruNotFoundError as KitaruNotFoundError
    from kitaru.errors import KitaruRuntimeError as KitaruRuntimeError
    from kitaru.errors import KitaruStateError as KitaruStateError
    from kitaru.errors import KitaruTimeoutError as KitaruTimeoutError
    from kitaru.errors import KitaruUsageError as KitaruUsageError
    from kitaru.errors import KitaruUserCodeError as KitaruUserCodeError
    from kitaru.errors import KitaruValueError as KitaruValueError
    from kitaru.errors import KitaruWaitValidationError as KitaruWaitValidationError
    from kitaru.fleet import LiveWorker as LiveWorker
    from kitaru.fleet import QueueDepth as QueueDepth
    from kitaru.fleet import QueueLimit as QueueLimit
    from kitaru.flows import Flow as Flow
    from kitaru.flows import flow as flow
    from kitaru.futures import CheckpointFuture as CheckpointFuture
    from kitaru.handles import FlowHandle as FlowHandle
    from kitaru.later import llm as llm
    from kitaru.model import ArtifactRef as ArtifactRef
    from kitaru.model import CheckpointAttempt as CheckpointAttempt
    from kitaru.model import CheckpointCall as CheckpointCall
    from kitaru.model import Execution as Execution
    from kitaru.model import FailureInfo as FailureInfo
    from kitaru.model import FlowSchedule as FlowSchedule
    from kitaru.model import LogEntry as LogEntry
    from kitaru.model import MemoryEntry as MemoryEntry
    from kitaru.model import MemoryScope as MemoryScope
    from kitaru.model import Note as Note
    from kitaru.model import PendingWait as PendingWait
    from kitaru.model import Why as Why
    from kitaru.plans import LivePlan as LivePlan
    from kitaru.plans import Plan as Plan
    from kitaru.plans import PlannedCall as PlannedCall
    from kitaru.recovery import recover as recover
    from kitaru.remembering import memory as memory
    from kitaru.retrying import Retry as Retry
    from kitaru.saving import load as load
    from kitaru.saving import save as save
    from kitaru.scope import check as check
    from kitaru.scope import current as current
    from kitaru.scope import current_execution_id as current_execution_id
    from kitaru.scope import log as log
    from kitaru.scope import now as now
    from kitaru.scope import random as random
    from kitaru.scope import uuid4 as uuid4
    from kitaru.secret import Secret as Secret
    from kitaru.sessions import async_session as async_session
    from kitaru.sessions import session as session
    from kitaru.settings import configure as configure
    from kitaru.status import ExecutionStatus as ExecutionStatus
    from kitaru.transactions import async_connection as async_connection
    from kitaru.transactions import connection as connection
    from kitaru.waits import sleep as sleep
    from kitaru.waits import wait as wait

__version__ = "0.1.0"

_HOMES = {
    "_core.verdicts": "Done NotDone Unknown",
    "_core.fanout": "unmapped",
    "_core.values.changes": "upcast",
    "_core.values.registering": "register_codec",
    "checkpoints": "Checkpoint checkpoint step",
    "client": "KitaruClient",
    "errors": "FailureOrigin KitaruBackendError KitaruCancelledError KitaruContextError "
    "KitaruDivergenceError KitaruError KitaruExecutionError KitaruFeatureNotAvailableError "
    "KitaruLogRetrievalError KitaruNotFoundError KitaruRuntimeError KitaruStateError "
    "KitaruTimeoutError KitaruUsageError KitaruUserCodeError KitaruValueError "
    "KitaruWaitValidationError",
    "fleet": "LiveWorker QueueDepth QueueLimit",
    "flows": "Flow flow",
    "futures": "CheckpointFuture",
    "handles": "FlowHandle",
    "later": "llm",
    "model": "ArtifactRef CheckpointAttempt CheckpointCall Execution FailureInfo FlowSchedule "
    "LogEntry MemoryEntry MemoryScope Note PendingWait Why",
    "plans": "LivePlan Plan PlannedCall",
    "recovery": "recover",
    "remembering": "memory",
    "retrying": "Retry",
    "saving": "load save",
    "scope": "check current current_execution_id log now random uuid4",
    "secret": "Secret",
    "sessions": "async_session session",
    "settings": "configure",
    "status": "ExecutionStatus",
    "transactions": "async_connection connection",
    "waits": "sleep wait",
}

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'kitaru' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"kitaru.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
