"""Branches: numbers of equal things, look-alikes refused, coroutines told apart."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru._core.binding import Binder
from kitaru._core.branch import Branch
from kitaru._core.coroutines import coroutine_digest
from kitaru._core.inputs import Inputs, digest_inputs
from kitaru.errors import KitaruUsageError


def inputs(fn: Callable[..., Any], *args: Any) -> Inputs:
    binder = Binder(fn)
    return digest_inputs(
        binder.bind(args, {}),
        binder=binder,
        code_digest=lambda thing: repr(thing).encode(),
        file_facts=lambda path: None,
    )


def sample(prompt): ...
def ask(self, prompt): ...


class Client: ...


# --- numbers -------------------------------------------------------------------


def test_n_counts_equal_calls_and_place_all_calls_of_a_checkpoint() -> None:
    root = Branch()
    a, b = inputs(sample, "a"), inputs(sample, "b")
    assert root.number("sample", a) == (0, 0)
    assert root.number("sample", b) == (0, 1)
    assert root.number("sample", a) == (1, 2)
    assert root.number("other", a) == (0, 0)


def test_a_named_call_takes_a_place_but_no_n() -> None:
    root = Branch()
    assert root.place("sample") == 0
    assert root.number("sample", inputs(sample, "a")) == (0, 1)
    assert root.place("sample") == 2


def test_askings_are_counted_by_kind_and_name() -> None:
    root = Branch()
    asked = [("now", None), ("now", None), ("uuid4", None), ("now", "start"), ("now", "start")]
    assert [root.ask(kind, name) for kind, name in asked] == [0, 1, 0, 0, 1]


def test_branches_count_for_themselves() -> None:
    root, same = Branch(), inputs(sample, "a")
    left, right = root.child("worker", b"1"), root.child("worker", b"2")
    assert left.number("sample", same) == right.number("sample", same) == (0, 0)
    assert left.ask("now") == right.ask("now") == 0


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12))
def test_numbers_of_equal_calls_do_not_depend_on_other_calls(prompts: list[str]) -> None:
    alone, among = Branch(), Branch()
    only_a = [alone.number("s", inputs(sample, p))[0] for p in prompts if p == "a"]
    all_of_them = [(p, among.number("s", inputs(sample, p))[0]) for p in prompts]
    assert [n for p, n in all_of_them if p == "a"] == only_a


def test_threads_that_race_for_one_branch_get_every_number_once() -> None:
    root, same = Branch(), inputs(sample, "a")
    barrier = threading.Barrier(4)

    def numbers(_: int) -> list[tuple[int, int]]:
        barrier.wait(10)
        return [root.number("sample", same) for _ in range(500)]

    with ThreadPoolExecutor(4) as pool:
        got = sorted(pair for each in pool.map(numbers, range(4)) for pair in each)
    assert got == [(k, k) for k in range(2000)]


# --- children -------------------------------------------------------------------


def test_children_differ_by_name_arguments_and_number() -> None:
    root = Branch()
    children = [
        root.child("app.worker", b"1"),
        root.child("app.worker", b"1"),
        root.child("app.worker", b"2"),
        root.child("app.other", b"1"),
        root.child("app.worker", b"1").child("app.worker", b"1"),
    ]
    assert len({child.digest for child in children}) == len(children)
    assert len({child.label for child in children}) == len(children)


def test_children_are_the_same_whatever_order_they_are_made_in() -> None:
    left, right = Branch(), Branch()
    one, two = left.child("w", b"1"), left.child("w", b"2")
    two_again, one_again = right.child("w", b"2"), right.child("w", b"1")
    assert (one.digest, two.digest) == (one_again.digest, two_again.digest)
    assert (one.label, two.label) == (one_again.label, two_again.label)


def test_labels_read_as_a_path_and_the_root_has_none() -> None:
    root = Branch()
    assert (root.label, root.digest) == ("", b"")
    child = root.child("app.worker", b"1")
    grandchild = child.child("app.fetch", b"2")
    assert child.label == f"/app.worker#{child.digest.hex()[:10]}"
    assert grandchild.label == f"{child.label}/app.fetch#{grandchild.digest.hex()[:10]}"


# --- look-alikes -----------------------------------------------------------------


def test_calls_that_differ_only_in_an_opaque_object_are_refused() -> None:
    root = Branch()
    root.number("ask", inputs(ask, Client(), "hello"))
    with pytest.raises(KitaruUsageError) as refused:
        root.number("ask", inputs(ask, Client(), "hello"))
    message = str(refused.value)
    for part in ("'ask'", "they differ only in `self`", "dataclass", "`__kitaru_key__`", "`id=`"):
        assert part in message
    assert "Client" in message


def test_a_refused_call_is_not_counted() -> None:
    root, client = Branch(), Client()
    root.number("ask", inputs(ask, client, "hello"))
    with pytest.raises(KitaruUsageError):
        root.number("ask", inputs(ask, Client(), "hello"))
    assert root.number("ask", inputs(ask, client, "hello")) == (1, 1)


def test_the_same_opaque_object_twice_is_two_samples() -> None:
    root, client = Branch(), Client()
    assert root.number("ask", inputs(ask, client, "hello")) == (0, 0)
    assert root.number("ask", inputs(ask, client, "hello")) == (1, 1)


def test_different_opaque_objects_with_other_inputs_are_told_apart() -> None:
    root = Branch()
    root.number("ask", inputs(ask, Client(), "hello"))
    assert root.number("ask", inputs(ask, Client(), "goodbye")) == (0, 1)
    assert root.child("w", b"").number("ask", inputs(ask, Client(), "hello")) == (0, 0)


def test_the_same_opaque_objects_in_a_dict_of_another_order_are_the_same() -> None:
    root, left, right = Branch(), Client(), Client()
    root.number("s", inputs(sample, {"a": left, "b": right}))
    assert root.number("s", inputs(sample, {"b": right, "a": left})) == (1, 1)
    with pytest.raises(KitaruUsageError, match=r"`prompt\.a`, `prompt\.b`"):
        root.number("s", inputs(sample, {"a": right, "b": left}))


def test_an_opaque_object_is_kept_so_that_its_id_is_not_used_again() -> None:
    root = Branch()
    for _ in range(20):
        # Without a reference each new client would take the address of the last.
        try:
            root.number("ask", inputs(ask, Client(), "hello"))
        except KitaruUsageError:
            return
    pytest.fail("twenty different clients passed for one")


# --- coroutines ------------------------------------------------------------------


async def worker(item: Any, *rest: Any, key: Any = None, **more: Any) -> None: ...
async def other(item: Any) -> None: ...


def digest(coro: Coroutine[Any, Any, Any]) -> tuple[str, bytes]:
    try:
        return coroutine_digest(coro)
    finally:
        coro.close()


def test_coroutines_differ_by_name_and_by_each_argument() -> None:
    made = [
        digest(worker(1)),
        digest(worker(2)),
        digest(worker(True)),
        digest(worker(1, 2)),
        digest(worker(1, key=2)),
        digest(worker(1, x=2)),
        digest(other(1)),
    ]
    assert len(set(made)) == len(made)
    assert digest(worker(1, {"b": 1, "a": [2]})) == digest(worker(1, {"a": [2], "b": 1}))


def test_a_coroutine_is_named_by_module_and_qualified_name() -> None:
    assert digest(worker(1))[0].endswith("test_branch.worker")


def test_captured_variables_of_a_coroutine_count() -> None:
    def make(item: int) -> Coroutine[Any, Any, None]:
        async def inner() -> None:
            assert item

        return inner()

    assert digest(make(1)) == digest(make(1))
    assert digest(make(1)) != digest(make(2))


def test_arguments_that_inner_functions_capture_count() -> None:
    async def outer(item: int) -> Callable[[], int]:
        return lambda: item

    assert digest(outer(1)) == digest(outer(1))
    assert digest(outer(1)) != digest(outer(2))


def test_a_coroutine_inside_a_coroutine_counts_by_its_arguments() -> None:
    inner = [other(1), other(1), other(2), worker(1)]
    outer = [digest(worker(coro)) for coro in inner]
    wrapped = [digest(worker([coro])) for coro in inner]
    for coro in inner:
        coro.close()
    assert outer[0] == outer[1]
    assert len(set(outer)) == 3
    assert len(set(wrapped)) == 3


def test_functions_among_the_arguments_count_by_name_not_by_code() -> None:
    def version(code: str) -> Any:
        namespace: dict[str, Any] = {"__name__": __name__}
        exec(code, namespace)
        return namespace["f"]

    before, after = version("def f(): return 1"), version("def f(): return 2")
    assert digest(worker(before)) == digest(worker(after))
    assert digest(worker(before)) != digest(worker(version("def f(): pass").__class__))


def test_opaque_arguments_count_by_their_type() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        opaque = [
            (asyncio.Lock(), asyncio.Lock()),
            (asyncio.Queue(), asyncio.Queue()),
            (loop.create_future(), loop.create_future()),
            (Client(), Client()),
            (iter([1]), iter([2])),
        ]
        digests = [digest(worker(left)) for left, _ in opaque]
        assert digests == [digest(worker(right)) for _, right in opaque]
        assert len(set(digests)) == len(digests)

    asyncio.run(scenario())


class Hostile:
    def __kitaru_key__(self) -> Any:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")


def test_nothing_strange_makes_it_raise() -> None:
    recursive: list[Any] = []
    recursive.append(recursive)
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for strange in (recursive, deep, Hostile(), object(), type, {Hostile(): 1}, "\ud800\udc00"):
        assert len(digest(worker(strange))[1]) == 16
    assert digest(worker(Hostile())) != digest(worker(1))
    for stranger in (None, 3, object(), Client, (i for i in ())):
        name, found = coroutine_digest(stranger)
        assert isinstance(name, str)
        assert len(found) == 16


def test_a_coroutine_that_has_begun_or_ended_counts_by_its_name() -> None:
    async def scenario() -> None:
        begun = asyncio.sleep(0)
        begun.send(None)
        assert coroutine_digest(begun)[0].endswith("sleep")
        begun.close()
        assert coroutine_digest(begun)[0].endswith("sleep")

    asyncio.run(scenario())


def test_large_arguments_are_bounded_work() -> None:
    large = [list(range(1000))] * 100_000
    shared: Any = [1] * 10
    for _ in range(60):
        shared = [shared] * 10  # 10 ** 60 items, were it walked
    began = time.process_time()
    for value in (large, shared, "x" * 50_000_000, set(range(1_000_000)), {"a": large}):
        digest(worker(value))
    assert time.process_time() - began < 20  # a look at each would take a minute
    assert digest(worker([0] * 20_000)) != digest(worker([0] * 20_001))


def test_reading_a_coroutine_leaves_it_able_to_run() -> None:
    async def add(a: int, b: int) -> int:
        def both() -> int:
            return a + b

        return both()

    async def scenario() -> int:
        coro = add(1, 2)
        coroutine_digest(coro)
        return await coro

    assert asyncio.run(scenario()) == 3
