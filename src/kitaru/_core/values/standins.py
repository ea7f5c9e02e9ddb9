"""Exceptions whose class the program has not loaded: stand-ins that are caught alike.

A stand-in has the name of the original, derives from ``KitaruUserCodeError``
and from the nearest builtin exceptions that the original derived from, so
that ``except ValueError`` decides as it did.
"""

from __future__ import annotations

import builtins
from functools import lru_cache
from typing import Any

from kitaru._core.values import exceptions
from kitaru.errors import FailureOrigin, KitaruUserCodeError


def stand_in(bare: exceptions.Bare, bases: tuple[str, ...], message: str) -> BaseException:
    """An exception of the stand-in class for ``bare.of``, which says what the original said."""
    try:
        error = exceptions.make(stand_in_class(bare.of, bases), bare)
    except (TypeError, ValueError, AttributeError):
        # A group without its members, or members of C classes that do not fit.
        error = exceptions.make(stand_in_class(bare.of, ()), bare._replace(state={}, group=None))
    error.__dict__.update(
        {name: value for name, value in _ATTRIBUTES.items() if name not in error.__dict__}
    )
    error.__dict__["recorded_message"] = message
    return error


_ATTRIBUTES: dict[str, Any] = {
    "exec_id": None,
    "status": None,
    "failure_origin": FailureOrigin.USER_CODE,
    "failure": None,
    "checkpoint": None,
}


@lru_cache(maxsize=1024)
def stand_in_class(of: str, bases: tuple[str, ...]) -> type[BaseException]:
    """The class that stands in for ``module:qualname``; the same one for each record of it.

    >>> cls = stand_in_class("shop.errors:Declined", ("ValueError", "Exception"))
    >>> cls.__name__, issubclass(cls, ValueError)
    ('Declined', True)
    """
    module, _, qualname = of.partition(":")
    namespace = {
        "__module__": module,
        "__qualname__": qualname,
        "__doc__": f"Stands in for {module}.{qualname}, which this program has not imported.",
        "__str__": _recorded_message,
        "__reduce__": _reduce,
        "recorded_of": of,
        "recorded_bases": bases,
    }
    parents = _nearest(bases)
    while True:
        try:
            made: type[BaseException] = type(
                qualname.rpartition(".")[2] or "Exception",
                (KitaruUserCodeError, *parents),
                dict(namespace),
            )
            return made
        except TypeError:
            # Two C layouts that do not fit together: keep what comes first.
            parents = parents[:-1]


def _nearest(names: tuple[str, ...]) -> tuple[type[BaseException], ...]:
    """The builtins of these names that are not bases of one another, nor of the stand-in."""
    kept: list[type[BaseException]] = []
    for name in names:
        cls = vars(builtins).get(name)
        if not isinstance(cls, type) or not issubclass(cls, BaseException):
            continue
        if not any(issubclass(other, cls) for other in (*kept, KitaruUserCodeError)):
            kept.append(cls)
    return tuple(kept)


def _recorded_message(self: BaseException) -> str:
    message: str = self.__dict__.get("recorded_message", "")
    return message


def _reduce(self: Any) -> tuple[Any, ...]:
    return _again, (self.recorded_of, self.recorded_bases, self.args, dict(self.__dict__))


def _again(
    of: str, bases: tuple[str, ...], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    message = str(state.get("recorded_message", ""))
    error = stand_in(exceptions.Bare(of, args, {}, [], None), bases, message)
    error.__dict__.update(state)
    return error
