# pyright: strict, reportUnnecessaryTypeIgnoreComment=error, reportUnusedFunction=false
"""Types survive `@checkpoint`: checked by mypy --strict and pyright, never run.

A wrong call carries `# type: ignore[…]`: both checkers complain here if it stops
being an error.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.rows import TupleRow

import kitaru
from kitaru import Checkpoint, CheckpointFuture, Retry, checkpoint


@dataclass
class Page:
    url: str
    words: int


@checkpoint
def fetch(url: str, *, tries: int = 1) -> Page:
    return Page(url, tries)


@checkpoint(name="fetch-later", retries=3, type="tool_call", cache=False)
async def fetch_async(url: str, limit: float = 1.0) -> Page:
    return Page(url, int(limit))


@checkpoint(retries=Retry(max_attempts=5, retry_on=(ConnectionError,)), cache_ttl=3600.0)
def count(pages: list[Page]) -> int:
    return len(pages)


@checkpoint(cache_ttl=timedelta(hours=1), ignore=("at",), aliases=["old.name"], version="3")
def nothing(at: datetime) -> None:
    return None


def url_of(page: Page) -> str:
    return page.url


@checkpoint(key=url_of)
def by_key(page: Page) -> dict[str, int]:
    return {page.url: page.words}


class Reader:
    @checkpoint
    def read(self, path: str) -> bytes:
        return path.encode()

    @checkpoint(retries=1)
    async def read_async(self, path: str) -> bytes:
        return path.encode()

    @staticmethod
    @checkpoint
    def size(path: str) -> int:
        return len(path)


def a_sync_checkpoint_returns_the_value() -> None:
    assert_type(fetch("u"), Page)
    assert_type(fetch(url="u", tries=2), Page)
    assert_type(count([fetch("u")]), int)
    assert_type(by_key(Page("u", 1)), dict[str, int])
    fetch(1)  # type: ignore[arg-type]
    fetch("u", 2)  # type: ignore[call-arg]
    fetch("u", tries="2")  # type: ignore[arg-type]
    fetch()  # type: ignore[call-arg]
    fetch("u", other=1)  # type: ignore[call-arg]
    count(["u"])  # type: ignore[list-item]


async def an_async_checkpoint_is_awaited() -> None:
    # pyright knows the more exact CoroutineType here: hence no assert_type.
    coroutine: Coroutine[Any, Any, Page] = fetch_async("u")
    assert_type(await coroutine, Page)
    assert_type(await fetch_async("u", limit=2.0), Page)
    await fetch_async(1)  # type: ignore[arg-type]
    await fetch_async("u", limit="2")  # type: ignore[arg-type]


def submit_gives_a_future() -> None:
    assert_type(fetch.submit("u", tries=2), CheckpointFuture[Page])
    assert_type(fetch.submit("u").result(), Page)
    assert_type(fetch.submit("u").result(timeout=1.0), Page)
    assert_type(fetch.submit("u").load(), Page)
    assert_type(fetch.submit("u").done(), bool)
    assert_type(fetch_async.submit("u"), CheckpointFuture[Page])
    assert_type(fetch_async.submit("u").result(), Page)


async def a_future_is_awaitable() -> None:
    assert_type(await fetch.submit("u"), Page)
    assert_type(await fetch_async.submit("u"), Page)


def map_and_product_give_futures_in_order() -> None:
    futures = fetch.map(["a", "b"])
    assert_type(futures[0], CheckpointFuture[Page])
    assert_type(futures.results(), list[Page])
    assert_type([future.result() for future in futures], list[Page])
    assert_type(fetch_async.map(["a"], concurrency=4, on_error="collect").results(), list[Page])
    assert_type(fetch.product(["a"], kitaru.unmapped([1])).results(), list[Page])
    assert_type(count.map([[Page("u", 1)]]).results(), list[int])
    fetch.map(["a"], on_error="sometimes")  # type: ignore[arg-type]


def options_keep_the_types() -> None:
    assert_type(fetch.options(id="first", retries=2)("u"), Page)
    assert_type(fetch.options(id="second").submit("u").result(), Page)
    fetch.options(id=1)  # type: ignore[arg-type]
    fetch.options(unknown=True)  # type: ignore[arg-type]


async def options_keep_the_types_of_async_ones() -> None:
    assert_type(await fetch_async.options(id="charge-42")("u"), Page)


async def methods_are_bound() -> None:
    reader = Reader()
    assert_type(reader.read("p"), bytes)
    assert_type(await reader.read_async("p"), bytes)
    assert_type(reader.read.submit("p"), CheckpointFuture[bytes])
    assert_type(Reader.size("p"), int)
    reader.read(1)  # type: ignore[arg-type]


def the_plain_function_is_there_for_unit_tests() -> None:
    assert_type(fetch.func("u", tries=2), Page)


def the_decorator_is_nameable() -> None:
    def wanted(urls: Callable[[str], Page]) -> None: ...

    wanted(fetch)
    typed: Checkpoint[[datetime], None] = nothing
    assert_type(typed(datetime.now()), None)


def scope_functions_are_typed() -> None:
    assert_type(kitaru.now(), datetime)
    assert_type(kitaru.now(name="start"), datetime)
    assert_type(kitaru.uuid4(), UUID)
    assert_type(kitaru.random(), float)
    assert_type(kitaru.current_execution_id(), str | None)
    assert_type(kitaru.step("length", len, "abc"), int)
    kitaru.log(tokens=3, model={"name": "m"})
    kitaru.log("tokens")  # type: ignore[call-arg]
    Retry(max_attempts="3")  # type: ignore[arg-type]


@checkpoint(retries="3")  # type: ignore[call-overload, untyped-decorator]
def wrong_retries() -> None: ...


@checkpoint(effects="once")  # type: ignore[call-overload, untyped-decorator]
def wrong_option() -> None: ...


# --- codecs -----------------------------------------------------------------------------


class Tensor:
    """Something without an encoding."""


def tensor_bytes(tensor: Tensor) -> bytes:
    return b""


def tensor_of(data: bytes) -> Tensor:
    return Tensor()


@checkpoint(codec="pickle")
def pickled() -> Tensor:
    return Tensor()


kitaru.register_codec(Tensor, name="t", encode=tensor_bytes, decode=tensor_of)
kitaru.register_codec(Tensor, name="t", encode=None, decode=tensor_of, preview=repr, exact=True)
kitaru.register_codec(Page, name="p", encode=tensor_bytes, decode=tensor_of)  # type: ignore[arg-type]
checkpoint(codec="yaml")  # type: ignore[call-overload]


@checkpoint(transaction=True)
def pay(cents: int) -> int:
    assert_type(kitaru.connection(), Connection[TupleRow])
    return cents


@checkpoint(transaction=True)
async def pay_async(cents: int) -> int:
    assert_type(kitaru.async_connection(), AsyncConnection[TupleRow])
    return cents


assert_type(pay(3), int)
assert_type(pay.submit(3), CheckpointFuture[int])
assert_type(pay_async.submit(3), CheckpointFuture[int])
