"""What ``@checkpoint(...)`` was told, checked: from a function and its options to its spec.

What makes no sense is refused here, where the function is decorated; of calls nothing is known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kitaru._core.binding import Binder
from kitaru._core.checks import bytes_of, check_strings, seconds_of
from kitaru._core.names import check_name, shortened
from kitaru._core.retry import as_policy
from kitaru._engine.call import CheckpointSpec
from kitaru._engine.loaded import remember
from kitaru.decoration import (
    check_bool,
    check_callable,
    check_function,
    check_names,
    claim_name,
    function_id,
    is_coroutine_function,
    plain_function,
    refuse_generator,
    refuse_unstorable_return,
)
from kitaru.errors import KitaruFeatureNotAvailableError, KitaruUsageError

if TYPE_CHECKING:
    from kitaru.retrying import Retry


OPTIONS = (
    *("name", "retries", "type", "runtime", "cache", "cache_ttl", "key", "ignore", "version"),
    *("aliases", "timeout", "codec", "effect", "verify", "transaction", "resources"),
)

_RUNTIMES = ("inline", "process", "isolated", "ray")


def checkpoint_spec(
    func: Callable[..., Any],
    *,
    name: str | None = None,
    retries: int | Retry = 0,
    type: str | None = None,
    runtime: str = "inline",
    cache: bool | None = None,
    cache_ttl: float | timedelta | None = None,
    key: Callable[..., Any] | None = None,
    ignore: Sequence[str] = (),
    version: str | None = None,
    aliases: Sequence[str] = (),
    timeout: float | timedelta | None = None,
    codec: str | None = None,
    resources: Mapping[str, Any] | None = None,
    effect: str | None = None,
    verify: Callable[..., Any] | None = None,
    transaction: bool = False,
    unique: bool = True,
) -> CheckpointSpec:
    """The checkpoint that a function is with these options; not ``unique``: one of ``step``."""
    check_function("@checkpoint", func)
    plain = plain_function(func)
    id = check_name("checkpoint", name) if name is not None else function_id(func, plain)
    where_it_runs = _checked_runtime(id, plain, runtime, resources)
    refuse_generator("checkpoint", id, plain)
    if unique and codec is None:
        refuse_unstorable_return("checkpoint", id, plain)
    binder = Binder(func)
    if name is not None and unique:
        claim_name("checkpoint", id, plain)
    spec = CheckpointSpec(
        id=id,
        name=id if name is not None else check_name("function", getattr(plain, "__name__", id)),
        fn=func,
        is_async=is_coroutine_function(plain),
        binder=binder,
        aliases=check_names("checkpoint", "aliases", aliases),
        kind=None if type is None else check_name("checkpoint type", type),
        policy=as_policy(retries),
        cache=check_bool("cache", cache),
        cache_ttl_seconds=_checked_ttl(cache_ttl),
        key=check_callable("key", key),
        ignore=_checked_ignore(id, binder, ignore),
        version=None if version is None else check_name("checkpoint version", version),
        pickled=_checked_codec(id, codec) == "pickle",
        once=_checked_effect(id, effect),
        verify=_checked_verify(id, plain, effect, verify),
        transactional=_checked_transaction(id, transaction, runtime, effect),
        timeout_seconds=seconds_of("timeout", timeout),
        **where_it_runs,
    )
    if unique and (name is not None or spec.aliases):
        remember(spec)
    return spec


def _checked_runtime(id: str, plain: Any, runtime: object, resources: object) -> dict[str, Any]:
    """Where bodies run, as options of the spec; ``isolated`` is a process here."""
    if not isinstance(runtime, str) or runtime.lower() not in _RUNTIMES:
        raise KitaruUsageError(
            f"runtime={shortened(runtime)}: pass one of {', '.join(map(repr, _RUNTIMES))}",
            code="option-invalid",
        )
    if runtime.lower() == "ray":
        raise KitaruFeatureNotAvailableError(
            'runtime="ray" comes with a later release; use runtime="process", which runs a '
            "checkpoint in a process of its own on this machine",
            code="not-yet-available",
        )
    is_inline = runtime.lower() == "inline"
    memory_bytes = _checked_resources("inline" if is_inline else "process", resources)
    if is_inline:
        return {}
    from kitaru._engine.importable import refuse_local

    defined_at = (str(getattr(plain, "__module__", "")), str(getattr(plain, "__qualname__", "")))
    refuse_local(id, *defined_at)
    return {"runtime": "process", "memory_bytes": memory_bytes, "defined_at": defined_at}


def _checked_resources(runtime: str, resources: object) -> int | None:
    """The memory, in bytes, that the process of a body may have."""
    if resources is None:
        return None
    if not isinstance(resources, Mapping) or not all(isinstance(each, str) for each in resources):
        raise KitaruUsageError(
            f'resources={shortened(resources)}: name each, as in {{"memory": "512MiB"}}',
            code="option-invalid",
        )
    others = [name for name in resources if name != "memory"]
    if others:
        raise KitaruFeatureNotAvailableError(
            f"resources={{{others[0]!r}: ...}} needs an engine that places checkpoints on "
            'machines, which comes with a later release; leave it out, or pass "memory" alone',
            code="not-yet-available",
        )
    if runtime == "inline":
        raise KitaruUsageError(
            'resources={"memory": ...}: add runtime="process", because the memory of one body '
            "inside a process cannot be told from that of others",
            code="option-invalid",
        )
    if not sys.platform.startswith("linux"):
        raise KitaruFeatureNotAvailableError(
            'resources={"memory": ...} needs Linux, whose kernel enforces it; leave it out here',
            code="platform-unsupported",
        )
    return bytes_of('resources["memory"]', resources["memory"]) if resources else None


def _checked_codec(id: str, codec: str | None) -> str:
    if codec is None:
        return "json"
    if isinstance(codec, str) and codec in ("json", "pickle"):
        return codec
    hint = 'pass "json" or "pickle"'
    if isinstance(codec, str):
        import difflib

        near = difflib.get_close_matches(codec.lower(), ("json", "pickle"), 1)
        hint = f"did you mean {near[0]!r}?" if near else hint
    raise KitaruUsageError(
        f"checkpoint {id!r}: codec={shortened(codec)} is none; {hint} (a codec of your own is "
        "found by the class of the value: see kitaru.register_codec)",
        code="option-invalid",
    )


def _checked_effect(id: str, effect: object) -> bool:
    if effect is None or effect == "once":
        return effect is not None
    raise KitaruUsageError(
        f'checkpoint {id!r}: effect={shortened(effect)}: pass "once", or leave it out',
        code="option-invalid",
    )


def _checked_verify(
    id: str, plain: Callable[..., Any], effect: object, verify: Callable[..., Any] | None
) -> Callable[..., Any] | None:
    if verify is None:
        return None
    check_callable("verify", verify)
    if effect is None:
        raise KitaruUsageError(
            f'checkpoint {id!r}: verify= tells whether an effect took place: add effect="once", '
            "or leave verify out",
            code="option-invalid",
        )
    if is_coroutine_function(plain_function(verify)) and not is_coroutine_function(plain):
        raise KitaruUsageError(
            f"checkpoint {id!r} is a plain function and its verify= is async: make both plain, or "
            "the checkpoint async",
            code="option-invalid",
        )
    return verify


def _checked_transaction(id: str, transaction: bool, runtime: str, effect: object) -> bool:
    if not check_bool("transaction", transaction):
        return False
    if runtime.lower() != "inline":
        raise KitaruUsageError(
            f"checkpoint {id!r}: transaction=True lends its body a connection of this process: "
            f"leave out runtime={runtime!r}",
            code="option-invalid",
        )
    if effect is not None:
        raise KitaruUsageError(
            f"checkpoint {id!r}: with transaction=True the body's rows and its outcome are "
            'committed together, so that nothing is left to ask about: leave out effect="once". '
            "What is outside the database goes into a checkpoint of its own",
            code="option-invalid",
        )
    return True


def _checked_ttl(value: float | timedelta | None) -> float | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return None
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, (int, float))
        or not 0 <= seconds < 1e11
    ):
        raise KitaruUsageError(
            f"cache_ttl={shortened(value)}: pass seconds (0 or more) or a timedelta",
            code="option-invalid",
        )
    return float(seconds)


def _checked_ignore(id: str, binder: Binder, ignore: Sequence[str]) -> frozenset[str]:
    names = check_strings("ignore", ignore)
    known = {name.lstrip("*") for name in binder.names} if names else set()
    for name in names:
        if name.lstrip("*") not in known and binder.rest_keys is None:
            raise KitaruUsageError(
                f"checkpoint {id!r}: ignore={name!r} names no parameter: name one that it has, "
                f"{', '.join(sorted(known)) or 'none'}",
                code="option-invalid",
            )
    return frozenset(names)
