"""The composition root: settings, store, environment and engine become a running Kitaru.

One per process, made at first use and remade in a forked child. Nothing
happens at import: no file is made before the first flow is run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kitaru import settings as _settings
from kitaru._engine.draining import drain
from kitaru._engine.execution import FlowSpec
from kitaru._engine.held import say_who_holds
from kitaru._engine.host import Host
from kitaru._engine.leases import Leases
from kitaru._engine.liveness import Liveness, LockFiles
from kitaru._engine.logs import LogWriter
from kitaru._engine.loop import LoopThread
from kitaru._engine.pool import Pool
from kitaru._engine.runner import Runner
from kitaru._engine.services import Services
from kitaru._engine.store_time import StoreTime
from kitaru._store.logs import LogStore
from kitaru._store.protocol import Store
from kitaru.env import Env, SystemEnv
from kitaru.errors import KitaruError
from kitaru.housekeeping import Housekeeper


class Kitaru:
    """Everything that one process needs to run flows against one store."""

    def __init__(
        self,
        *,
        settings: _settings.Settings,
        store: Store,
        liveness: Liveness,
        env: Env,
        project: str,
        root: str | None,
        logs: LogStore | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.env = env
        self.project = project
        self.root = root
        self.logs = logs
        """Where logs are looked for; whether any are kept is the settings' word."""
        self.housekeeper = Housekeeper(store, logs, env)
        loop = LoopThread(store)
        self.services = Services(
            store=store,
            env=env,
            project=project,
            root=root,
            bodies=Pool("body", settings.max_concurrency),
            loop=loop,
            logs=LogWriter(logs, env) if logs is not None and settings.logs else None,
            max_transactions=settings.max_transactions,
        )
        self.runner = Runner(
            self.services,
            liveness,
            max_concurrency=settings.max_concurrency,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        self.services.is_owner = self.runner.ownership.holds
        if isinstance(liveness, Leases):
            self.services.when_renewed = self.runner.ownership.when_renewed
            self.services.silence = self.runner.ownership.silence
            self.runner.poll_seconds = settings.poll_seconds
        self.runner.flows = known_flows
        asker = self.services.asker
        asker.answered = asker.left_open = lambda question: self.runner.look(question.exec_id)
        self.host = Host(self.runner, self._at_exit)

    def close(self, seconds: float) -> int:
        """End what runs within ``seconds``, let go of all -> how many were handed back."""
        self.host.stop()
        left = 0 if self.runner.wait_idle(seconds) else self.runner.busy
        if left:
            drain(self.runner, 0.0)
        self.runner.close()
        self.services.bodies.close()
        if self.services.logs is not None:
            self.services.logs.close()
        self.store.close()
        self.services.loop.stop()
        if self.services.remote is not None:
            self.services.remote.close()
        return left

    def be_silent(self) -> None:
        """Say nothing any more: a test has killed this life, and whatever it says is no news."""
        self.services.is_silent = True
        self.services.loop.be_silent()

    def _at_exit(self) -> tuple[str, float | None]:
        now = _settings.current()
        return now.at_exit, now.at_exit_seconds


_app: Kitaru | None = None
_lock = threading.Lock()
_env: Env = SystemEnv()
_importing = False


def current() -> Kitaru:
    """The running Kitaru of this process; made now if there is none."""
    app = _app
    if app is not None:
        return app
    return _make()


def refuse(error: Callable[[], KitaruError] | None) -> None:
    """From now on this process makes no Kitaru, but raises what ``error()`` gives."""
    global _refusal
    _refusal = error


_refusal: Callable[[], KitaruError] | None = None


def _make() -> Kitaru:
    global _app
    if _refusal is not None:
        raise _refusal()
    with _lock:
        if _app is None:
            _app = _compose()
            _tell_importing()
        return _app


def _compose() -> Kitaru:
    # Not at the top: `import kitaru` must not load the database driver.
    from kitaru.opening import logs_of, open_store

    opened = open_store(_env)
    settings, location, store = opened
    _settings.hold(
        store=location.place,
        project=store.project,
        max_concurrency=settings.max_concurrency,
        max_transactions=settings.max_transactions,
        logs=settings.logs,
        max_log_bytes=settings.max_log_bytes,
        max_log_folder_bytes=settings.max_log_folder_bytes,
        objects=settings.objects,
        lease_seconds=settings.lease_seconds,
        poll_seconds=settings.poll_seconds,
    )
    env, liveness = _env, None
    if location.address is not None:
        env = StoreTime(_env)
        env.measure(store)
        liveness = Leases(store, env, lease_seconds=settings.lease_seconds)
        liveness.measured = env.measured
    made = Kitaru(
        settings=settings,
        store=store,
        liveness=liveness or LockFiles(location.folder, env=_env),
        env=env,
        project=store.project,
        root=location.root,
        logs=logs_of(opened),
    )
    if location.address is not None:
        store.when_held(lambda: say_who_holds(made.services))  # type: ignore[attr-defined]
    return made


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While Kitaru itself imports a module: nothing at its top level may start a flow.

    Makes no Kitaru: the module may still choose the store with ``configure()``.
    """
    global _importing
    before, _importing = _importing, True
    _tell_importing()
    try:
        yield
    finally:
        _importing = before
        _tell_importing()


def _tell_importing() -> None:
    if _app is not None:
        _app.services.importing = _importing


def use(app: Kitaru | None) -> None:
    """Make ``app`` this process's Kitaru; None: forget, so that the next use makes a new one."""
    global _app
    _settings.forget_current()
    _settings.hold()
    with _lock:
        _app = app


def set_aside() -> Kitaru | None:
    """Forget this process's Kitaru, for now -> it, to be given to :func:`use` again."""
    app = _app
    use(None)
    return app


def close(seconds: float) -> int:
    """End this process's Kitaru if there is one -> how many executions were handed back."""
    app = set_aside()
    return 0 if app is None else app.close(seconds)


def use_env(env: Env) -> None:
    """The environment with which the next Kitaru is made; tests hand in crash points."""
    global _env
    _env = env


def _forget_in_child() -> None:
    # The parent's connections, locks and threads are not ours: never close,
    # never use them. What refers to them stays referenced, so nothing is
    # closed by the collector either.
    global _app, _lock
    if _app is not None:
        _inherited.append(_app)
    _app = None
    _lock = threading.Lock()


_inherited: list[Kitaru] = []
os.register_at_fork(after_in_child=_forget_in_child)


# --- flows known to this process -----------------------------------------------------

_flows: dict[str, Any] = {}


def register_flow(flow: Any, spec: FlowSpec) -> None:
    """Make a flow known by its id and aliases; the newest definition of one function wins."""
    for name in (spec.id, *spec.aliases):
        _flows[name] = flow


def find_flow(flow_id: str) -> Any | None:
    return _flows.get(flow_id)


def known_flows() -> dict[str, FlowSpec]:
    """Flow id -> what the engine knows of it."""
    return {name: flow.spec for name, flow in _flows.items()}
