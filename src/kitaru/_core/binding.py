"""Arguments by the names of their parameters, and back.

A call is identified by what is passed under which name, however it is written:
``f(1)`` and ``f(a=1)`` are the same call. Names in a bound call are those of the
parameters; what ``*names`` collects stands under ``"*names"`` as a tuple, and
each extra keyword of ``**options`` under ``"**keyword"``. Defaults are not filled
in, so that adding an optional parameter changes nothing for the calls of the past.

This file knows nothing of digests and looks into no argument.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NoReturn

from kitaru._core.names import nearest
from kitaru.errors import KitaruUsageError

Bound = dict[str, object]

_VARARGS = inspect.CO_VARARGS
_VARKEYWORDS = inspect.CO_VARKEYWORDS


class _Layout:
    """The parameters of one signature, sorted into what binding has to know."""

    __slots__ = ("defaults", "keyword_only", "positional", "positional_only", "rest", "rest_keys")

    def __init__(
        self,
        positional: tuple[str, ...],
        positional_only: int,
        keyword_only: tuple[str, ...],
        rest: str | None,
        rest_keys: str | None,
        defaults: dict[str, object],
    ) -> None:
        self.positional = positional
        self.positional_only = positional_only
        self.keyword_only = keyword_only
        self.rest = rest
        self.rest_keys = rest_keys
        self.defaults = defaults


def _layout_of_function(fn: FunctionType) -> _Layout:
    # Straight from the code object: ten times cheaper than inspect.signature,
    # and decoration happens while the user's program is being imported.
    code = fn.__code__
    count = code.co_argcount
    names = code.co_varnames
    positional = names[:count]
    after_keywords = count + code.co_kwonlyargcount
    given = fn.__defaults__ or ()
    defaults: dict[str, object] = dict(zip(positional[count - len(given) :], given, strict=True))
    defaults.update(fn.__kwdefaults__ or {})
    rest = rest_keys = None
    if code.co_flags & _VARARGS:
        rest = names[after_keywords]
        after_keywords += 1
    if code.co_flags & _VARKEYWORDS:
        rest_keys = names[after_keywords]
    keyword_only = names[count : count + code.co_kwonlyargcount]
    return _Layout(positional, code.co_posonlyargcount, keyword_only, rest, rest_keys, defaults)


def _layout_of_signature(signature: inspect.Signature) -> _Layout:
    kinds = inspect.Parameter
    positional: list[str] = []
    keyword_only: list[str] = []
    positional_only, rest, rest_keys = 0, None, None
    defaults: dict[str, object] = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is kinds.VAR_POSITIONAL:
            rest = name
        elif parameter.kind is kinds.VAR_KEYWORD:
            rest_keys = name
        else:
            (keyword_only if parameter.kind is kinds.KEYWORD_ONLY else positional).append(name)
            positional_only += parameter.kind is kinds.POSITIONAL_ONLY
            if parameter.default is not kinds.empty:
                defaults[name] = parameter.default
    return _Layout(
        tuple(positional), positional_only, tuple(keyword_only), rest, rest_keys, defaults
    )


def _layouts(fn: Callable[..., Any]) -> list[_Layout]:
    """How calls of ``fn`` may be bound, the best first."""
    if isinstance(fn, FunctionType) and not hasattr(fn, "__wrapped__"):
        if not hasattr(fn, "__signature__"):
            return [_layout_of_function(fn)]
        return [_layout_of_signature(inspect.signature(fn)), _layout_of_function(fn)]
    try:
        layouts = [_layout_of_signature(inspect.signature(fn))]
    except (ValueError, TypeError):
        # Some builtins tell nobody what they take.
        return [_Layout((), 0, (), "args", "kwargs", {})]
    if isinstance(fn, FunctionType):
        # A decorator that hands in arguments of its own (``@with_client``) is
        # called otherwise than what it wraps: its own parameters decide then.
        layouts.append(_layout_of_function(fn))
    return layouts


class Binder:
    """Binds calls of one function to the names of its parameters, and unbinds them.

    The signature is read at the first use, from then on for good. Safe to use from
    several threads.

    >>> def greet(name, greeting="Hello", *, loud=False): ...
    >>> binder = Binder(greet)
    >>> binder.bind(("Ada",), {"loud": True})
    {'name': 'Ada', 'loud': True}
    >>> binder.unbind({"name": "Ada", "loud": True})
    (('Ada',), {'loud': True})
    """

    __slots__ = ("_layouts", "_plain_names", "_required", "digested_defaults", "fn", "may_capture")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.may_capture = not isinstance(fn, FunctionType) or fn.__closure__ is not None
        """Whether the function may hold values of its own: False for a plain one."""
        self.digested_defaults: Any = None
        """Kept here by whoever digests the inputs; it lives as long as the function."""
        self._layouts: list[_Layout] | None = None
        self._plain_names: tuple[str, ...] = ()
        self._required = -1

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order of the signature, as they are written: ``"*rest"``."""
        layout = self._read()[0]
        rest = () if layout.rest is None else (f"*{layout.rest}",)
        rest_keys = () if layout.rest_keys is None else (f"**{layout.rest_keys}",)
        return (*layout.positional, *rest, *layout.keyword_only, *rest_keys)

    @property
    def defaults(self) -> dict[str, object]:
        """Parameter name -> its default."""
        return self._read()[0].defaults

    @property
    def rest_keys(self) -> str | None:
        """The name of ``**options``, if the function has such a parameter."""
        return self._read()[0].rest_keys

    @property
    def shown_name(self) -> str:
        """What the function is called in messages: ``research()``."""
        name = getattr(self.fn, "__qualname__", None)
        return f"{name if isinstance(name, str) else type(self.fn).__name__}()"

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Bound:
        """The arguments passed, by name, in the order of the signature; no defaults.

        Raises ``KitaruUsageError`` where Python would raise ``TypeError``.
        """
        if not kwargs and self._required <= len(args) <= len(self._plain_names) and args:
            return dict(zip(self._plain_names, args, strict=False))
        return self._bind_any(args, kwargs)

    def _bind_any(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Bound:
        layouts = self._read()
        for layout in layouts:
            bound = _bind(layout, args, kwargs)
            if not isinstance(bound, str):
                return bound
        self._refuse(str(_bind(layouts[0], args, kwargs)))

    def _refuse(self, misfit: str) -> NoReturn:
        name = self.shown_name
        try:
            signature = f"{name[:-2]}{inspect.signature(self.fn)}"
        except (ValueError, TypeError):
            signature = f"{name[:-2]}(...)"
        raise KitaruUsageError(
            f"{name} {misfit}: pass what its signature asks for, {signature}",
            code="arguments-do-not-fit",
        )

    def unbind(self, bound: Mapping[str, object]) -> tuple[tuple[object, ...], dict[str, object]]:
        """``(args, kwargs)`` with which the function is called again as it was.

        ``bound`` may come from an earlier version of the function: what its
        parameters no longer take is passed all the same, and refused by Python.
        """
        if self._required >= 0 and not bound.keys() - self._plain_names:
            return _unbind_plain(self._plain_names, bound)
        layouts = self._read()
        return _unbind(next((each for each in layouts if _fits(each, bound)), layouts[0]), bound)

    def _read(self) -> list[_Layout]:
        if self._layouts is None:
            layouts = _layouts(self.fn)
            first = layouts[0]
            if first.rest is None and not first.keyword_only:
                # The names last: without them the short cut of `bind` is shut, and another
                # thread must not find it open before the number of required ones is known.
                self._required = sum(name not in first.defaults for name in first.positional)
                self._plain_names = first.positional
            self._layouts = layouts
        return self._layouts


def _bind(layout: _Layout, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Bound | str:
    """The bound arguments, or what is wrong with them in Python's words."""
    positional = layout.positional
    bound: Bound = dict(zip(positional, args, strict=False))
    by_keyword = (*positional[layout.positional_only :], *layout.keyword_only)
    extra = [name for name in kwargs if name not in by_keyword]
    if extra and layout.rest_keys is None:
        return _unexpected(layout, extra)
    twice = [name for name in kwargs if name in bound and name in by_keyword]
    if twice:
        return f"got multiple values for argument {twice[0]!r}"
    if len(args) > len(positional):
        if layout.rest is None:
            return _too_many(layout, len(args))
        bound[f"*{layout.rest}"] = args[len(positional) :]
    bound.update((name, kwargs[name]) for name in by_keyword if name in kwargs)
    bound.update((f"**{name}", kwargs[name]) for name in extra)
    return _missing(layout, bound) or bound


def _too_many(layout: _Layout, given: int) -> str:
    least = sum(name not in layout.defaults for name in layout.positional)
    most = len(layout.positional)
    takes = str(most) if least == most else f"from {least} to {most}"
    plural = "" if takes == "1" else "s"
    return f"takes {takes} positional argument{plural} but {given} {_were(given)} given"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _unexpected(layout: _Layout, extra: list[str]) -> str:
    positional_only = layout.positional[: layout.positional_only]
    misplaced = [name for name in extra if name in positional_only]
    if misplaced:
        return (
            "got some positional-only arguments passed as keyword arguments: "
            f"{', '.join(misplaced)!r}"
        )
    known = (*layout.positional[layout.positional_only :], *layout.keyword_only)
    meant = nearest(extra[0], known)
    hint = f" (did you mean {meant!r}?)" if meant else ""
    return f"got an unexpected keyword argument {extra[0]!r}{hint}"


def _missing(layout: _Layout, bound: Bound) -> str | None:
    for kind, names in (("positional", layout.positional), ("keyword-only", layout.keyword_only)):
        missing = [repr(n) for n in names if n not in bound and n not in layout.defaults]
        if missing:
            plural = "" if len(missing) == 1 else "s"
            comma = "," if len(missing) > 2 else ""
            listed = ", ".join(missing[:-1]) + comma + " and " if missing[1:] else ""
            listed += missing[-1]
            return f"missing {len(missing)} required {kind} argument{plural}: {listed}"
    return None


def _fits(layout: _Layout, bound: Mapping[str, object]) -> bool:
    """Whether ``bound`` was bound by this layout: whether it has a place for each name."""
    for name in bound:
        if name.startswith("**"):
            if layout.rest_keys is None:
                return False
        elif name.startswith("*"):
            if name[1:] != layout.rest:
                return False
        elif name not in layout.positional and name not in layout.keyword_only:
            return False
    return True


def _unbind_plain(
    names: tuple[str, ...], bound: Mapping[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    args: list[object] = []
    for name in names:
        if name not in bound:
            break
        args.append(bound[name])
    left = names[len(args) :]
    return tuple(args), {name: bound[name] for name in left if name in bound}


def _unbind(
    layout: _Layout, bound: Mapping[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    rest = None if layout.rest is None else bound.get(f"*{layout.rest}")
    args, kwargs = _unbind_plain(layout.positional, bound)
    if rest is not None:
        # Extra positional arguments exist only behind all the named ones.
        args = (*args, *_as_tuple(rest))
    for name, value in bound.items():
        if name.startswith("**"):
            kwargs[name[2:]] = value
        elif name not in layout.positional and not name.startswith("*"):
            kwargs[name] = value
    return args, kwargs


def _as_tuple(rest: object) -> tuple[object, ...]:
    return tuple(rest) if isinstance(rest, (tuple, list)) else (rest,)
