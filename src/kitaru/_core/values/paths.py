"""Where in a value something stands, and the errors that say so.

A path is a chain of ``(parent, step)`` pairs, cheap to build while walking and
rendered (``$.items[3].client``) only when something went wrong.
"""

from __future__ import annotations

from typing import Any

from kitaru.errors import KitaruValueError

Path = Any
"""Either a text (the root) or ``(path, step)``; a ``str`` step is a key, an ``int`` an index."""

MAX_STEP_CHARACTERS = 80
MAX_STEPS = 20


def render(path: Path) -> str:
    """The path as a person reads it.

    >>> render((((("$", "items"), 3), "client")))
    '$.items[3].client'
    """
    steps: list[str] = []
    while type(path) is tuple:
        path, step = path
        steps.append(_render_step(step))
    steps.reverse()
    if len(steps) > MAX_STEPS:
        steps = [*steps[: MAX_STEPS // 2], "…", *steps[-MAX_STEPS // 2 :]]
    return str(path) + "".join(steps)


def _render_step(step: object) -> str:
    if type(step) is int:
        return f"[{step}]"
    text = str(step)
    if len(text) > MAX_STEP_CHARACTERS:
        text = text[:MAX_STEP_CHARACTERS] + "…"
    return f".{text}" if text.isidentifier() else f"[{text!a}]"


def type_name(cls: type) -> str:
    """``module.qualname`` of a class, without running anything of it."""
    module, qualname = module_of(cls), qualname_of(cls)
    return qualname if module == "builtins" else f"{module}.{qualname}"


_get_qualname = type.__dict__["__qualname__"].__get__
_get_module = type.__dict__["__module__"].__get__
_get_namespace = type.__dict__["__dict__"].__get__
_get_mro = type.__dict__["__mro__"].__get__


def qualname_of(cls: type) -> str:
    name: str = _get_qualname(cls)
    return name


def namespace_of(cls: type) -> dict[str, Any]:
    """The class's own ``__dict__``, whatever its metaclass says."""
    namespace: dict[str, Any] = _get_namespace(cls)
    return namespace


def mro_of(cls: type) -> tuple[type, ...]:
    mro: tuple[type, ...] = _get_mro(cls)
    return mro


def module_of(cls: type) -> str:
    module = _get_module(cls)
    return module if type(module) is str else "?"


def problem(what: str, path: Path, text: str, *, code: str) -> KitaruValueError:
    """A ``KitaruValueError`` about the value of ``what`` at ``path``; ``code`` is in codes.py."""
    where = render(path)
    owner = f"{what}: " if what else ""
    return KitaruValueError(
        f"{owner}at {where}: {text}", path=where, checkpoint=what or None, code=code
    )


def looking_failed(what: str, path: Path, error: Exception) -> KitaruValueError:
    """About a value whose own code raised while it was looked at: a metaclass, ``__kitaru_key__``.

    Raise it from ``error``, whose traceback shows that code.
    """
    return problem(
        what,
        path,
        f"looking at it raised {type_name(type(error))} in code of its own: mend that code, or "
        "pass plain data instead",
        code="value-not-storable",
    )
