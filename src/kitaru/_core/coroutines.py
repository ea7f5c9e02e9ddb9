"""What a coroutine that has not begun is going to run: its name and its arguments.

This is what tells concurrent branches apart, read from the coroutine's frame
before it starts. It must work for whatever people put into tasks, at once and
without an error: what is large, strange or broken counts by its type.
"""

from __future__ import annotations

import types
from typing import Any

from kitaru._core.inputs import digest_tree
from kitaru._core.naming import module_name
from kitaru._core.objects import Uncoded, mark, type_name
from kitaru._core.values.shapes import shape_of, state_of

MAX_NODES = 10_000
"""Values looked at in all arguments of one coroutine; a task should begin within a millisecond
or so, and 10,000 small values take about five."""

_CHARACTERS_A_NODE = 64
_ITEMS = (list, tuple, set, frozenset)
_TEXTS = (str, bytes, bytearray)


def coroutine_digest(coro: object) -> tuple[str, bytes]:
    """``(lasting qualified name, digest of its arguments)`` of a coroutine. Never raises.

    Arguments are the frame's variables before it starts: parameters and what the
    function captures. Functions among them count by name, not by code, so that a
    change of code moves no branch. A coroutine that has begun counts by its name.
    """
    try:
        reader = _Reader()
        tree = reader.arguments(coro, "")
        return coroutine_name(coro), digest_tree(tree)
    except Exception:
        return _fallback_name(coro), digest_tree(None)


def coroutine_name(coro: object) -> str:
    """Lasting module name and qualified name of a coroutine's function."""
    frame = _frame(coro)
    qualname = getattr(coro, "__qualname__", None)
    if not isinstance(qualname, str):
        return _fallback_name(coro)
    module = None if frame is None else frame.f_globals.get("__name__")
    return f"{module_name(module)}.{qualname}" if isinstance(module, str) else qualname


def _fallback_name(coro: object) -> str:
    cls = type(coro)
    return f"{cls.__module__}.{cls.__qualname__}"


def _frame(coro: object) -> types.FrameType | None:
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    return frame if isinstance(frame, types.FrameType) else None


def _has_begun(coro: object) -> bool:
    state = (getattr(coro, "cr_running", False), getattr(coro, "cr_suspended", False))
    return _frame(coro) is None or any(state)


class _Reader(Uncoded):
    """Reads arguments leniently, and coroutines among them by *their* arguments."""

    __slots__ = ("_nodes_left",)

    def __init__(self) -> None:
        super().__init__(None)
        self._nodes_left = MAX_NODES

    def arguments(self, coro: object, path: str) -> object:
        frame = _frame(coro)
        if frame is None or _has_begun(coro):
            return None
        # Taken as a copy: reading the frame's own variables must not change them.
        variables = sorted(dict(frame.f_locals).items())
        return [[name, self._argument(value, f"{path}.{name}")] for name, value in variables]

    def _argument(self, value: object, path: str) -> object:
        if not self._is_small(value):
            return mark("large", type_name(type(value)), _length(value))
        try:
            return self.encode(value, path)
        except Exception:
            return mark("unreadable", type_name(type(value)))

    def _thing(self, value: Any, path: str) -> object:
        if isinstance(value, types.CoroutineType):
            # `bounded(semaphore, fetch(url))`: the inner one says what is done.
            return mark("coroutine", coroutine_name(value), self.arguments(value, path))
        return super()._thing(value, path)

    def _is_small(self, value: object) -> bool:
        """Whether encoding this is bounded work; what it costs is taken off what is left."""
        left = self._nodes_left
        stack = [value]
        while stack:
            current = stack.pop()
            cls = type(current)
            left -= 1 + _bulk(current)
            if cls in _ITEMS:
                items: Any = current
                if len(items) > left:
                    return False
                stack.extend(items)
            elif cls is dict:
                mapping: Any = current
                if len(mapping) > left:
                    return False
                stack.extend(mapping)
                stack.extend(mapping.values())
            elif cls not in _TEXTS and (shape := shape_of(cls)) is not None:
                stack.extend(state_of(current, shape).values())
            if left < 0:
                return False
        self._nodes_left = left
        return True


def _bulk(value: Any) -> int:
    """How many more nodes a text or an array is as dear as."""
    if type(value) in _TEXTS:
        return len(value) // _CHARACTERS_A_NODE
    if type(value) is int:
        return value.bit_length() // 1024
    if type(value).__module__ in ("builtins", "datetime"):
        return 0
    try:
        size = object.__getattribute__(value, "nbytes")
        return size // _CHARACTERS_A_NODE if type(size) is int else 0
    except Exception:
        return 0


def _length(value: Any) -> int:
    try:
        return len(value)
    except Exception:
        return -1
