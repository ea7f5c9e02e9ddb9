"""An annotation that shows that nothing can be stored is refused at once; any doubt is none."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import io
import socket
import subprocess
import sys
import threading
import types
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NewType, TypeVar

import attrs
import pydantic
import pytest

import kitaru
from kitaru import CheckpointFuture
from kitaru._core.promised import unstorable_return
from kitaru.errors import KitaruUsageError

if TYPE_CHECKING:
    pass

T = TypeVar("T")
Wire = NewType("Wire", socket.socket)


@dataclasses.dataclass
class Holder:
    name: str
    lock: threading.Lock


@dataclasses.dataclass
class Tree:
    children: list[Tree]
    lock: threading.Lock | None
    stream: io.StringIO = dataclasses.field(default=None)  # type: ignore[assignment]
    made: socket.socket = dataclasses.field(init=False)


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    sockets: dict[str, list[socket.socket]]


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


@attrs.define
class Attrs:
    stream: io.TextIOWrapper


class Row(NamedTuple):
    stream: typing.TextIO


class Alarming(type):
    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(cls) -> int:
        return 1

    def __instancecheck__(cls, instance: object) -> bool:
        raise AssertionError("asked")

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise AssertionError("asked")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # as pytest asks whatever it collects
            raise AttributeError(name)
        raise AssertionError("asked for " + name)


class Quiet(metaclass=Alarming):
    pass


class Rows(Iterator[int]):
    """An iterator of one's own, which could be a data class."""

    def __next__(self) -> int:
        raise StopIteration


def annotated(annotation: Any) -> Any:
    def body() -> Any: ...

    body.__annotations__["return"] = annotation
    return body


REFUSED = [
    (socket.socket, "$"),
    ("socket.socket", "$"),
    (threading.Lock, "$"),
    ("list[threading.Lock]", "$[*]"),
    (list[threading.RLock], "$[*]"),
    (Iterator[int], "$"),
    ("Iterator[int]", "$"),
    ("typing.Iterator[int]", "$"),
    ("Generator[int, None, None]", "$"),
    ("AsyncIterator[int]", "$"),
    ("Coroutine[Any, Any, int]", "$"),
    ("dict[str, tuple[int, socket.socket]]", "$[*][1]"),
    (dict[socket.socket, int], "$['<key>']"),
    ("typing.Dict[str, typing.List[socket.socket]]", "$[*][*]"),
    (typing.List["socket.socket"], "$[*]"),  # noqa: UP006
    ("tuple[socket.socket, ...]", "$[*]"),
    ("socket.socket | threading.Thread", "$"),
    ("typing.Union[socket.socket, Iterator[int]]", "$"),
    ("Annotated[socket.socket, 'x']", "$"),
    (Annotated[socket.socket, "x"], "$"),
    (Wire, "$"),
    ("type[int]", "$"),
    ("types.ModuleType", "$"),
    ("io.StringIO", "$"),
    ("typing.TextIO", "$"),
    ("memoryview", "$"),
    ("subprocess.Popen[bytes]", "$"),
    ("collections.abc.Sequence[socket.socket]", "$[*]"),
    (Holder, "$.lock"),
    ("list[Holder]", "$[*].lock"),
    (Model, "$.sockets[*][*]"),
    (Login, "$.password"),
    (Attrs, "$.stream"),
    (Row, "$.stream"),
    ("pydantic.SecretStr", "$"),
    ("CheckpointFuture[int]", "$"),
]


@pytest.mark.parametrize(("annotation", "path"), REFUSED, ids=str)
def test_what_can_never_be_stored_is_found_with_its_path(annotation: Any, path: str) -> None:
    found = unstorable_return(annotated(annotation))
    assert found is not None
    assert found.path == path
    assert found.remedy


@pytest.mark.parametrize(
    "annotation",
    [
        None,
        int,
        "None",
        "Any",
        Any,
        "object",
        "Missing",
        "list[Missing]",
        "no.such.name",
        "this is no annotation",
        "f()",
        "(" * 500,
        "x" * 5000,
        "socket.socket | None",
        "typing.Optional[socket.socket]",
        "int | socket.socket",
        "Iterable[int]",
        "Callable[[int], int]",
        "typing.Awaitable[int]",
        "Literal['socket.socket']",
        Literal["socket.socket"],
        "T",
        T,
        "Tree",
        Tree,
        "Rows",
        Rows,
        Quiet,
        "Quiet",
        "list[Quiet]",
        "Quiet.socket",
        "tuple[()]",
        "int if 1 else 2",
        3,
        [socket.socket],
        pydantic.BaseModel,
        "collections.abc.Sequence",
        "bytes | memoryview",
        "threading.Thread.name",
    ],
    ids=lambda value: str(value)[:40] if value is not Quiet else "Quiet",
)
def test_where_there_is_any_doubt_there_is_no_finding(annotation: Any) -> None:
    assert unstorable_return(annotated(annotation)) is None


def test_without_an_annotation_or_a_function_there_is_no_finding() -> None:
    assert unstorable_return(lambda: None) is None
    assert unstorable_return(len) is None
    assert unstorable_return(socket.socket) is None


def test_looking_asks_no_module_and_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(types.ModuleType):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("asked for " + name)

    lazy = Lazy("lazy_under_test")
    module = types.ModuleType("module_under_test")
    module.__getattr__ = lambda name: pytest.fail(f"asked for {name}")  # type: ignore[method-assign]
    monkeypatch.setitem(globals(), "lazy", lazy)
    monkeypatch.setitem(globals(), "module", module)
    before = set(sys.modules)
    for text in ("lazy.Thing", "module.Thing", "list[lazy.a.b]", "xml.dom.minidom.Document"):
        assert unstorable_return(annotated(text)) is None
    assert set(sys.modules) == before


def test_a_very_long_annotation_is_looked_at_in_bounded_time() -> None:
    wide = annotated("tuple[" + ", ".join(["int"] * 240) + ", memoryview]")
    assert unstorable_return(wide) is None
    deep: Any = int
    for _ in range(300):
        deep = list[deep]
    assert unstorable_return(annotated(deep)) is None


@pytest.mark.parametrize("decorate", [kitaru.checkpoint, kitaru.flow])
def test_the_decorator_refuses_it_and_says_where_and_what_to_do(decorate: Any) -> None:
    def connections(host: str) -> dict[str, list[socket.socket]]: ...

    with pytest.raises(KitaruUsageError, match=r"at \$\[\*\]\[\*\]: a socket\.socket: .*path") as e:
        decorate(connections)
    assert "connections" in str(e.value)


def test_async_functions_and_methods_are_looked_at_too() -> None:
    async def stream() -> AsyncIterator[int]: ...

    with pytest.raises(KitaruUsageError, match="await it"):
        kitaru.checkpoint(stream)

    class Service:
        def lock(self) -> threading.Lock: ...

    with pytest.raises(KitaruUsageError, match="lock"):
        kitaru.checkpoint(Service.lock)


def test_a_function_that_wraps_another_is_not_judged_by_its_annotation() -> None:
    def as_list(fn: Callable[[], Iterable[int]]) -> Callable[[], list[int]]:
        @functools.wraps(fn)
        def wrapper() -> list[int]:
            return list(fn())

        return wrapper

    @kitaru.checkpoint
    @as_list
    def numbers() -> Iterator[int]:
        yield 1

    assert numbers.func() == [1]


def test_pickle_and_registered_codecs_may_store_what_nothing_else_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def module() -> types.ModuleType: ...

    kitaru.checkpoint(codec="pickle")(module)
    from kitaru._core.values import registered

    codec = registered.Registered(socket.socket, "test.socket", bytes, bytes, None)
    monkeypatch.setitem(registered.by_class, socket.socket, codec)

    @kitaru.checkpoint
    def wires() -> list[socket.socket]: ...


def test_a_step_is_judged_by_what_it_returns(own_store: Any) -> None:
    def ran_once() -> Iterator[int]:
        return [1]  # type: ignore[return-value]

    @kitaru.flow
    def stepping() -> Any:
        return kitaru.step("numbers", ran_once)

    assert stepping.run().wait() == [1]


_ = (collections.abc, subprocess, Coroutine, Generator, CheckpointFuture)
