"""Who said what, and who wins.

Options come from ``kitaru.configure``, the environment (``KITARU_*``), the
project's pyproject.toml and the built-in values, in that order; flows, runs
and checkpoints have their say about ``cache`` and ``retries`` on top. Every
answer carries who gave it, so that ``why`` can tell. Knows nothing of what an
option does.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Never

from kitaru._core.limits import BOUNDS, DEFAULT_LIMITS, Limits, found_by
from kitaru._core.limits import use as use_limits
from kitaru._store import project as projects
from kitaru._store.address import is_address, masked
from kitaru.errors import KitaruUsageError
from kitaru.notices import notice_once
from kitaru.setting_values import CHECKS, Cache, check_is_option, spelled


@dataclass(frozen=True, slots=True)
class Settings:
    """Every option with its value, and in ``origin`` who said it."""

    store: str | None
    """A folder (absolute), or an :class:`Address` without its password; None: found from where
    the program lies."""
    project: str | None
    """None: the name of the project's root folder."""
    cache: Cache
    retries: int
    """Of flows: extra tries."""
    runner: str
    """``thread``: run() runs here; ``worker``: it records, and a worker runs."""
    max_concurrency: int
    max_transactions: int
    """On PostgreSQL: bodies with ``transaction=True`` that run at once, a connection each."""
    at_exit: Literal["finish", "leave"]
    at_exit_seconds: float | None
    """None: as long as it takes."""
    full_traceback: bool
    """Whether tracebacks of failed executions show Kitaru's own frames too."""
    logs: bool
    """Whether what executions print and log is kept."""
    max_log_bytes: int
    """Of one execution: what is older goes."""
    max_log_folder_bytes: int
    """Of all executions together: logs of the oldest go."""
    objects: str | None
    """The address of a bucket for large values; None: they lie with the store."""
    lease_seconds: float
    """On PostgreSQL: how long a process owns what it runs without renewing it."""
    poll_seconds: float
    """On PostgreSQL: how often it is looked for what nobody tells of."""
    limits: Limits
    """What values and names may measure."""
    queue_limits: Mapping[str, int | None]
    """How many executions of a queue, or with a key, run at once; None: as many as like."""
    origin: Mapping[str, str]

    @property
    def enqueues(self) -> bool:
        """Whether ``run()`` only records, and workers run."""
        return self.runner == "worker"


class Choice(NamedTuple):
    """A value, and a few words for ``why`` on who chose it."""

    value: Any
    who: str


BUILT_IN: Mapping[str, Any] = {
    "store": None,
    "project": None,
    "cache": True,
    "retries": 0,
    "runner": "thread",
    "max_concurrency": 32,
    "max_transactions": 8,
    "at_exit": "finish",
    "at_exit_seconds": None,
    "full_traceback": False,
    "logs": True,
    "max_log_bytes": 16 * 1024 * 1024,
    "max_log_folder_bytes": 512 * 1024 * 1024,
    "objects": None,
    "lease_seconds": 15.0,
    "poll_seconds": 2.0,
    "limits": DEFAULT_LIMITS._asdict(),
}

_VARIABLES = tuple(f"KITARU_{name.upper()}" for name in BUILT_IN)

_configured: dict[str, Choice] = {}
_configuring = threading.Lock()


def configure(
    *,
    store: str | os.PathLike[str] | None = None,
    project: str | None = None,
    cache: Cache | None = None,
    retries: int | None = None,
    runner: str | None = None,
    max_concurrency: int | None = None,
    max_transactions: int | None = None,
    at_exit: Literal["finish", "leave"] | None = None,
    at_exit_seconds: float | None = None,
    full_traceback: bool | None = None,
    logs: bool | None = None,
    max_log_bytes: int | None = None,
    max_log_folder_bytes: int | None = None,
    objects: str | None = None,
    lease_seconds: float | None = None,
    poll_seconds: float | None = None,
    limits: Mapping[str, int | None] | None = None,
    **unknown: Never,
) -> None:
    """Set defaults for this process; they win over the environment and pyproject.toml.

    An option that is left out, or None, stays what it was. Either all that is
    said takes effect or, with a ``KitaruUsageError`` that names the option,
    nothing does.

    >>> configure(cash=True)
    Traceback (most recent call last):
    ...
    kitaru.errors.KitaruUsageError: configure() has no option 'cash'; did you mean 'cache'?
    kitaru explain option-unknown
    """
    say(
        "configure()",
        {
            "store": store,
            "project": project,
            "cache": cache,
            "retries": retries,
            "runner": runner,
            "max_concurrency": max_concurrency,
            "max_transactions": max_transactions,
            "at_exit": at_exit,
            "at_exit_seconds": at_exit_seconds,
            "full_traceback": full_traceback,
            "logs": logs,
            "max_log_bytes": max_log_bytes,
            "max_log_folder_bytes": max_log_folder_bytes,
            "objects": objects,
            "lease_seconds": lease_seconds,
            "poll_seconds": poll_seconds,
            "limits": limits,
            **unknown,
        },
    )


def say(who: str, options: Mapping[str, object]) -> None:
    """What ``configure`` does, in the name of ``who`` (a command line's ``--store``)."""
    said = {}
    for name, value in options.items():
        check_is_option(name, f"{who} has no option {name!r}", {n: n for n in BUILT_IN})
        if value is not None:
            said[name] = Choice(CHECKS[name](value, f"{who}: {name}"), who)
    if "store" in said:
        # Now: a program that changes its folder later still means this one.
        said["store"] = Choice(_absolute(said["store"].value, os.curdir), who)
    with _configuring:
        global _configured
        for name, choice in said.items():
            if _in_use.get(name, choice.value) != choice.value:
                raise KitaruUsageError(
                    f"{who}: {name}={choice.value!r} comes too late: this process runs flows with "
                    f"{name}={_in_use[name]!r} already. Say it before the first flow is run",
                    code="setting-too-late",
                )
        _configured = _over(_configured, said)


_in_use: dict[str, object] = {}


def hold(**options: object) -> None:
    """These options are in use from now on, and cannot be configured otherwise."""
    _in_use.clear()
    _in_use.update(options)


@contextlib.contextmanager
def also(who: str, options: Mapping[str, object]) -> Iterator[None]:
    """While inside, these options count too, as if ``configure`` had been told."""
    global _configured
    before = _configured
    say(who, options)
    try:
        yield
    finally:
        with _configuring:
            _configured = before


def forget_configuration() -> None:
    """Take back all that ``configure`` was told: for tests."""
    with _configuring:
        global _configured
        _configured = {}
    use_limits(DEFAULT_LIMITS)


def resolve(
    *,
    cwd: str | None = None,
    main_file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """What holds now, for a program of that folder, script and environment (default: this one).

    Raises ``KitaruUsageError`` that names the variable or the file with a wrong
    value; of a name that is no option it says so once, on stderr.
    """
    cwd = current_folder() if cwd is None else cwd
    root = projects.find_root(cwd=cwd, main_file=main_file or projects.main_file()).folder
    chosen = {name: Choice(value, "built-in") for name, value in BUILT_IN.items()}
    chosen = _over(chosen, _said_by_pyproject(root))
    chosen = _over(chosen, _said_by_environment(os.environ if environ is None else environ, cwd))
    chosen = _over(chosen, _configured)
    origin = {name: choice.who for name, choice in chosen.items()}
    values = {name: choice.value for name, choice in chosen.items()}
    said = values["limits"]
    values["limits"] = Limits(**{name: said[name] for name in BOUNDS})
    queues = {name: most for name, most in said.items() if name not in BOUNDS}
    return Settings(**values, queue_limits=queues, origin=origin)


def _over(chosen: Mapping[str, Choice], said: Mapping[str, Choice]) -> dict[str, Choice]:
    """What was chosen with what was said on top; of limits, those that are not named stay."""
    if "limits" in chosen and "limits" in said:
        value, who = said["limits"]
        said = {**said, "limits": Choice({**chosen["limits"].value, **value}, who)}
    return {**chosen, **said}


_current: tuple[Mapping[str, Choice], tuple[str | None, ...], Settings] | None = None


def current() -> Settings:
    """What :func:`resolve` says for this program, asked again only after something was said.

    Each run asks, so it looks at no file: an edited pyproject.toml or another
    working folder counts from the next program, or the next ``configure``.
    """
    global _current
    said = tuple(map(os.environ.get, _VARIABLES))
    known = _current
    if known is not None and known[0] is _configured and known[1] == said:
        return known[2]
    configured = _configured
    found = resolve()
    _current = (configured, said, found)
    use_limits(found.limits)
    return found


found_by(lambda: current().limits)


def forget_current() -> None:
    """Look at everything again next time: the program has begun anew with another store."""
    global _current
    _current = None


def current_folder() -> str:
    """The working folder; ``KitaruUsageError`` if somebody removed it."""
    try:
        return os.getcwd()
    except OSError:
        raise KitaruUsageError(
            "the working folder does not exist any more: change to one that does",
            code="working-folder-gone",
        ) from None


# --- cache and retries: flows, runs and checkpoints have their say --------------------


def default_cache(*, flow: Cache | None, settings: Settings) -> Choice:
    """The execution's default, to be frozen on it: ``@flow``, else the settings."""
    if flow is not None:
        return Choice(flow, f"@flow(cache={flow!r})")
    return Choice(settings.cache, settings.origin["cache"])


def resolve_cache(*, checkpoint: Cache | None, run: Cache | None, default: Choice) -> Choice:
    """Whether a call may reuse, and who decided.

    ``@checkpoint(cache=False)`` always wins; then what the run said, what else
    the checkpoint says, and the execution's default.

    >>> resolve_cache(checkpoint=True, run=False, default=Choice(True, "built-in"))
    Choice(value=False, who='run(cache=False)')
    """
    if checkpoint is False:
        return Choice(False, "@checkpoint(cache=False)")
    if run is not None:
        return Choice(run, f"run(cache={run!r})")
    if checkpoint is not None:
        return Choice(checkpoint, f"@checkpoint(cache={checkpoint!r})")
    return default


def resolve_retries(*, run: int | None, flow: int | None, settings: Settings) -> Choice:
    """How many extra tries a flow has: what the run said, ``@flow``, the settings."""
    if run is not None:
        return Choice(run, f"run(retries={run})")
    if flow is not None:
        return Choice(flow, f"@flow(retries={flow})")
    return Choice(settings.retries, settings.origin["retries"])


# --- pyproject.toml and the environment ---------------------------------------------------


def _said_by_pyproject(root: str) -> dict[str, Choice]:
    said = {}
    who = f"[tool.kitaru] in {os.path.join(root, 'pyproject.toml')}"
    for name, value in projects.read_table(root).items():
        if _is_option(name, f"{who} has {name!r}, which is no option", {n: n for n in BUILT_IN}):
            said[name] = Choice(CHECKS[name](value, f"{who}: {name}"), who)
    if "store" in said:
        said["store"] = Choice(_absolute(said["store"].value, root), who)
    return said


def _said_by_environment(environ: Mapping[str, str], cwd: str) -> dict[str, Choice]:
    """A variable that is set to nothing says nothing."""
    variables = {f"KITARU_{name.upper()}": name for name in BUILT_IN}
    said = {}
    for variable in [v for v in environ if v.startswith("KITARU_")]:
        wrong = f"the variable {variable} is no option of Kitaru"
        if _is_option(variable, wrong, variables) and (text := environ[variable]):
            name = variables[variable]
            value = CHECKS[name](spelled(name, variable, text), variable)
            said[name] = Choice(_absolute(value, cwd) if name == "store" else value, variable)
    return said


def _absolute(store: str, folder: str) -> str:
    if is_address(store):
        return store  # an Address: who checked it has made it one
    if "://" in store:
        return masked(store)  # no place of ours, and refused later; it may hold a password
    return os.path.abspath(os.path.join(folder, os.path.expanduser(store)))


_unknown: dict[str, None] = {}


def unknown_names() -> list[str]:
    """What was said so far under a name that is no option, each as it was told."""
    return list(_unknown)


def _is_option(name: str, wrong: str, known: Mapping[str, str]) -> bool:
    try:
        check_is_option(name, wrong, known)
    except KitaruUsageError as error:
        _unknown[f"{error} It has no effect."] = None
        notice_once(f"{error} It has no effect.")
        return False
    return True
