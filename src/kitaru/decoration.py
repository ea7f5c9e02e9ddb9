"""What the two decorators share: what a function is called, and checks of their options."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kitaru._core.checks import check_strings
from kitaru._core.names import check_name, shortened
from kitaru._core.naming import import_folder, module_name
from kitaru._core.promised import unstorable_return
from kitaru._engine.frames import folding
from kitaru.errors import KitaruUsageError

_CO_GENERATOR = 0x20
_CO_COROUTINE = 0x80
_CO_ASYNC_GENERATOR = 0x200

_MAX_WRAPPERS = 100


def decorated(
    what: str,
    func: Any,
    options: dict[str, Any],
    known: Sequence[str],
    make: Callable[..., Any],
) -> Any:
    """What ``@what`` makes of a function; or, with options alone, what makes it of one."""
    if func is None:
        check_options(what, options, known)
        return folding(lambda function: make(function, **options))
    if options or not callable(func):
        raise KitaruUsageError(
            f"{what} was given {shortened(func)}: use {what}, or {what}(retries=2, ...) with "
            "options by name",
            code="decorator-without-function",
        )
    return make(func)


def plain_function(func: Any) -> Any:
    """The function under partials, methods and callable objects."""
    for _ in range(_MAX_WRAPPERS):
        if isinstance(func, functools.partial):
            func = func.func
        elif isinstance(func, (types.MethodType, staticmethod, classmethod)):
            func = func.__func__
        elif isinstance(func, (types.FunctionType, type)):
            break
        else:
            call = type(func).__dict__.get("__call__")
            if not isinstance(call, types.FunctionType):
                break
            func = call
    return func


def function_id(func: Any, plain: Any) -> str:
    """Module and qualified name: what a function is called if it is given no name."""
    module = getattr(plain, "__module__", None) or type(func).__module__
    qualname = getattr(plain, "__qualname__", None) or type(func).__qualname__
    return check_name("function", f"{module_name(module)}.{qualname}")


def check_function(what: str, func: Any) -> None:
    """Refuse what is no function: a class would be made anew in each life, and not recorded."""
    if isinstance(func, type) or not callable(func):
        raise KitaruUsageError(
            f"{what} needs a function, not {shortened(func)}: pass or decorate one",
            code="decorator-without-function",
        )


def is_coroutine_function(plain: Any) -> bool:
    """Whether calling the function gives a coroutine."""
    return bool(_flags(plain) & _CO_COROUTINE)


def refuse_generator(kind: str, id: str, plain: Any) -> None:
    if _flags(plain) & (_CO_GENERATOR | _CO_ASYNC_GENERATOR):
        raise KitaruUsageError(
            f"{kind} {id!r} is a generator function: what it yields could not be recorded; "
            "return a list",
            code="generator-function",
        )


def refuse_unstorable_return(kind: str, id: str, plain: Any) -> None:
    """Refuse an annotation which shows that no returned value could be recorded."""
    found = unstorable_return(plain)
    if found is not None:
        raise KitaruUsageError(
            f"{kind} {id!r} is annotated to return what cannot be stored: at {found.path}: a "
            f"{found.kind}: {found.remedy}",
            code="value-not-storable",
        )


def _flags(plain: Any) -> int:
    flags: int = getattr(getattr(plain, "__code__", None), "co_flags", 0)
    return flags


_claimed: dict[tuple[str, str], tuple[str, str]] = {}
"""(kind, explicit name) -> (module, qualified name) of the function that bears it."""


def claim_name(kind: str, name: str, plain: Any) -> None:
    """Give an explicit name to one function; the same function defined again may keep it.

    At a prompt and in a notebook the newest definition has it, as is the way
    with names there: who edits a cell and runs it again means the new function.
    """
    module = str(getattr(plain, "__module__", ""))
    who = (
        module_name(module),
        str(getattr(plain, "__qualname__", type(plain).__qualname__)),
    )
    other = _claimed.setdefault((kind, name), who)
    if other[0] == who[0] and import_folder(module) is None:
        _claimed[kind, name] = who
    elif other != who:
        raise KitaruUsageError(
            f"two different functions are {kind}s named {name!r}: {'.'.join(other)} and "
            f"{'.'.join(who)}. Give one of them another name=",
            code="name-taken",
        )


def check_options(what: str, options: Iterable[str], known: Sequence[str]) -> None:
    """Refuse the first option that does not exist, with the nearest that does."""
    for option in options:
        if option not in known:
            import difflib

            near = difflib.get_close_matches(option, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}"
            raise KitaruUsageError(
                f"{what} has no option {option!r}; {hint}", code="option-unknown"
            )


def check_names(kind: str, option: str, values: Sequence[str]) -> tuple[str, ...]:
    return tuple(check_name(kind, value) for value in check_strings(option, values))


def check_bool(option: str, value: bool | None) -> bool | None:
    if value is not None and type(value) is not bool:
        raise KitaruUsageError(
            f"{option}={shortened(value)}: pass True or False", code="option-invalid"
        )
    return value


def check_callable(option: str, value: Any) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise KitaruUsageError(
            f"{option}={shortened(value)}: pass a function", code="option-invalid"
        )
    found: Callable[..., Any] | None = value
    return found
