"""Flows that are killed at every point and resumed; each shows one thing that can go wrong.

Results carry the mark of the body that made them, so that an outcome given to
the wrong call, or made twice, is seen in the result itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import kitaru
from kitaru import Retry, app, checkpoint, flow

from .journal import body, dally, dawdle, got, learnt, variant

KEY = "the-one"


class Scenario(NamedTuple):
    """``play`` runs or resumes; life *n* plays variant *n* (the last one goes on for ever)."""

    name: str
    play: Callable[[], Any]
    prelude: Callable[[], Any] | None = None
    """Run once to its end before the first life, in a process of its own."""
    variants: tuple[str, ...] = ("",)
    sequential: bool = True
    """Whether at most one body runs at a time, so that the journal's order is the order."""
    costly: bool = False
    """Its lives start programs: it is killed once at each kind of point, and not at every one."""
    also: tuple[Any, ...] = ()
    """Right results of a life that goes on where another variant died."""

    def variant_of(self, number: int) -> str:
        return self.variants[min(number, len(self.variants)) - 1]


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    played: Any,
    *args: Any,
    name: str | None = None,
    **options: Any,
) -> None:
    """Enter a flow (or a function that plays) into the corpus."""

    def play() -> Any:
        return played.options(key=KEY).run(*args).wait()

    is_flow = isinstance(played, kitaru.Flow)
    found = name or (played.spec.name if is_flow else played.__name__)
    SCENARIOS[found] = Scenario(found, play if is_flow else played, **options)


# --- the calls --------------------------------------------------------------------------


@checkpoint(cache=False)
def work(what: Any) -> str:
    with body(f"work({what})") as mark:
        dally(str(what))
        return f"{what}{mark}"


@checkpoint(cache=False)
def sample() -> str:
    """Equal calls with different results."""
    with body("sample") as mark:
        return f"sample{mark}"


@checkpoint(cache=False)
async def work_async(what: Any) -> str:
    with body(f"work_async({what})") as mark:
        await dawdle(str(what))
        return f"{what}{mark}"


@checkpoint(cache=False)
async def sample_async() -> str:
    with body("sample_async") as mark:
        await dawdle(mark)
        return f"sample{mark}"


class Refusal(ValueError):
    """What bodies raise on purpose."""


@checkpoint(cache=False)
def refuse(what: str) -> str:
    with body(f"refuse({what})") as mark:
        raise Refusal(f"{what}{mark}")


@checkpoint(cache=False, retries=Retry(max_attempts=3, initial_seconds=0))
def third_time(what: str) -> str:
    with body(f"third_time({what})") as mark:
        if kitaru.current().attempt < 3:
            raise Refusal(f"{what} not yet")
        return f"{what}{mark}"


@checkpoint(cache=False, retries=Retry(max_attempts=3, initial_seconds=0.002, jitter=False))
async def second_time_async(what: str) -> str:
    with body(f"second_time_async({what})") as mark:
        await dawdle(what)
        if kitaru.current().attempt < 2:
            raise Refusal(f"{what} not yet")
        return f"{what}{mark}"


# --- one after another ------------------------------------------------------------------


@flow
def sequential(n: int) -> list[str]:
    found = [got(f"work {i}", work(i)) for i in range(n)]
    return found + [got(f"sample {i}", sample()) for i in range(2)]


scenario(sequential, 3)


@flow
async def sequential_async(n: int) -> list[str]:
    found = [got(f"work {i}", await work_async(i)) for i in range(n)]
    found.append(got("inline", work("inline")))
    return found + [got(f"sample {i}", await sample_async()) for i in range(2)]


scenario(sequential_async, 2)


@checkpoint(cache=False)
def give(what: int) -> Any:
    with body(f"give({what})"):
        return [None, False, 0, "", [], {}, (), 0.0, "x" * 40_000][what]


@flow
def odd_values() -> list[Any]:
    values = [got(f"give {i}", give(i)) for i in range(9)]
    return [type(value).__name__ if i < 8 else len(value) for i, value in enumerate(values)]


scenario(odd_values)


@flow
def returns_none() -> None:
    got("work", work("for nothing"))


scenario(returns_none)


@flow
def large_result() -> str:
    return str(got("work", work("y" * 50_000))) + "z" * 50_000


scenario(large_result)


@flow
def logs() -> str:
    kitaru.log(stage={"one": 1})
    first = got("first", work("first"))
    kitaru.log(stage={"two": 2}, last="first")
    second = got("second", work("second"))
    kitaru.log(last="second")
    return str(first + second)


scenario(logs)


# --- inside each other ------------------------------------------------------------------


@checkpoint(cache=False)
def parent(what: str) -> list[str]:
    with body(f"parent({what})") as mark:
        return [work(f"{what}/a"), sample(), sample(), f"{what}{mark}"]


@flow
def nested() -> list[Any]:
    return [got("one", parent("one")), got("two", parent("two"))]


scenario(nested)


@checkpoint(cache=False, retries=Retry(max_attempts=3, initial_seconds=0))
def parent_retried(what: str) -> list[str]:
    with body(f"parent_retried({what})") as mark:
        attempt = kitaru.current().attempt
        found = [got(f"{what} {attempt}", work(f"{what}/child"))]
        if attempt < 3:
            raise Refusal(f"{what} not yet")
        found.append(got(f"{what} {attempt} last", work(f"{what}/last")))
        return [*found, f"{what}{mark}"]


@flow
def nested_retries() -> Any:
    return got("parent", parent_retried("p"))


scenario(nested_retries)


@checkpoint(cache=False)
async def parent_async(what: str) -> list[str]:
    with body(f"parent_async({what})") as mark:
        children = await asyncio.gather(*[work_async(f"{what}/{i}") for i in range(2)])
        return [*children, f"{what}{mark}"]


@flow
async def nested_async() -> Any:
    return await asyncio.gather(parent_async("one"), parent_async("two"))


scenario(nested_async, sequential=False)


@checkpoint(cache=False)
def parent_of_threads(what: str) -> list[str]:
    with body(f"parent_of_threads({what})") as mark:
        return [*work.map([f"{what}/{i}" for i in range(2)]).results(), f"{what}{mark}"]


@flow
def nested_threads() -> Any:
    return parent_of_threads.map(["a", "b"]).results()


scenario(nested_threads, sequential=False)


# --- side by side -----------------------------------------------------------------------


@flow
def fan_out(n: int) -> list[str]:
    return list(got("all", work.map(range(n)).results()))


scenario(fan_out, 4, sequential=False)


@checkpoint(cache=False)
def fragile(what: int) -> str:
    with body(f"fragile({what})") as mark:
        dally(str(what))
        if what == 1:
            raise Refusal(f"{what} is refused")
        return f"{what}{mark}"


@flow
def fan_out_finish() -> Any:
    futures = fragile.map(range(4), concurrency=2, on_error="finish")
    try:
        return futures.results()
    except Refusal as error:
        return [str(error), got("last", futures[3].result())]


@flow
def fan_out_collect() -> Any:
    found = fragile.map(range(4), concurrency=2, on_error="collect").results()
    return [str(one) for one in found]


@flow
def fan_out_stop() -> Any:
    try:
        return fragile.map(range(4), concurrency=1, on_error="stop").results()
    except Refusal as error:
        return [str(error), got("after", work("after"))]


scenario(fan_out_finish, sequential=False)
scenario(fan_out_collect, sequential=False)
scenario(fan_out_stop, sequential=False)


@flow
def futures_as_arguments() -> Any:
    first = work.submit("first")
    second = work.submit("second")
    both = pair.submit(first, [second])
    return got("pair", pair(both, "end"))


@checkpoint(cache=False)
def pair(left: Any, right: Any) -> list[Any]:
    with body("pair") as mark:
        return [left, right, mark]


scenario(futures_as_arguments, sequential=False)


async def branch(name: str) -> list[str]:
    """Branches make equal calls; each result must come back to its own branch."""
    await dawdle(f"before {name}")
    first = got(f"{name} first", await sample_async())
    await dawdle(f"between {name}")
    second = got(f"{name} second", await sample_async())
    return [name, first, second]


@flow
async def gather_equal_calls() -> Any:
    return await asyncio.gather(branch("a"), branch("b"), branch("c"))


scenario(gather_equal_calls, sequential=False)


async def nameless(index: int) -> list[str]:
    """Equal branches: only the order of their making tells them apart."""
    first = got(f"first {index}", await sample_async())
    return [first, got(f"inline {index}", sample())]


@flow
async def task_group() -> Any:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(nameless(index)) for index in range(3)]
    return [task.result() for task in tasks]


scenario(task_group, sequential=False)


def in_a_thread(name: str) -> list[str]:
    dally(f"before {name}")
    first = got(f"{name} first", sample())
    dally(f"between {name}")
    return [name, first, got(f"{name} second", sample())]


@flow
async def to_thread_branches() -> Any:
    return await asyncio.gather(*[asyncio.to_thread(in_a_thread, name) for name in "abc"])


scenario(to_thread_branches, sequential=False)


@flow
async def submit_async() -> Any:
    futures = [sample_async.submit() for _ in range(3)]
    threads = [sample.submit() for _ in range(2)]
    await dawdle("between")
    found = [got(f"async {i}", await future) for i, future in enumerate(futures)]
    return found + [got(f"thread {i}", await future) for i, future in enumerate(threads)]


scenario(submit_async, sequential=False)


@flow
async def map_async() -> Any:
    found = await work_async.map(range(5), concurrency=2)
    return got("all", found)


scenario(map_async, sequential=False)


@flow
def async_from_sync() -> Any:
    return got("all", work_async.map(range(3)).results())


scenario(async_from_sync, sequential=False)


@flow
async def nested_gather() -> Any:
    async def inner(name: str) -> Any:
        return await asyncio.gather(branch(name), branch(name.upper()))

    return await asyncio.gather(inner("x"), branch("y"))


scenario(nested_gather, sequential=False)


# --- failures ---------------------------------------------------------------------------


@flow
def retries() -> Any:
    return [got("one", third_time("one")), got("two", third_time("two"))]


scenario(retries)


@flow
async def retries_async() -> Any:
    return await asyncio.gather(second_time_async("one"), second_time_async("two"))


scenario(retries_async, sequential=False)


@flow
def caught() -> Any:
    """A failure is an outcome: a resume raises it again, without running the body."""
    try:
        refuse("card")
    except ValueError as error:
        kind = got("caught", f"{type(error).__name__} {error}")
    return [kind, got("instead", work("instead"))]


scenario(caught)


def failing() -> Any:
    try:
        fails.options(key=KEY).run().wait()
    except kitaru.KitaruUserCodeError as error:
        return [type(error).__name__, type(error.__cause__).__name__, error.checkpoint]
    raise AssertionError("it did not fail")


@flow
def fails() -> Any:
    got("before", work("before"))
    refuse("all")


scenario(failing)


@checkpoint(cache=False)
def at_execution_attempt(least: int) -> str:
    with body(f"at_execution_attempt({least})") as mark:
        if kitaru.current().attempt < least:
            raise Refusal("not in this attempt")
        return f"done{mark}"


@flow(retries=2)
def flow_retries() -> Any:
    first = got("first", work("first"))
    try:
        refuse("card")
    except Refusal as error:
        card = got("card", str(error))
    return [first, card, got("last", at_execution_attempt(3))]


scenario(flow_retries)


@flow(retries=1)
def body_retries() -> Any:
    found = got("work", work("kept"))
    if kitaru.current().attempt == 1:
        raise Refusal("the flow itself")
    return found


scenario(body_retries)


def retried_by_hand() -> Any:
    """The second process retries what the first left failed."""
    handle = fails_once.options(key=KEY).run()
    try:
        return handle.wait()
    except kitaru.KitaruExecutionError:
        return kitaru.KitaruClient().executions.retry(handle.exec_id).wait()


@flow
def fails_once() -> Any:
    first = got("first", work("first"))
    if kitaru.current().attempt == 1:
        refuse("once")
    return [first, got("second", work("second"))]


scenario(retried_by_hand)


# --- the code or its arguments change between the lives ---------------------------------


@flow
def drift() -> Any:
    first = got("first", work("first"))
    changed = got(f"changed {variant()}", work(f"changed {variant()}"))
    return [first, changed, got("last", work("last"))]


scenario(drift, variants=("old", "new"))


def strictly() -> Any:
    try:
        return strict_drift.options(key=KEY).run().wait()
    except kitaru.KitaruDivergenceError as error:
        return type(error).__name__


@flow(strict=True)
def strict_drift() -> Any:
    return [got(f"changed {variant()}", work(f"changed {variant()}")), got("last", work("last"))]


scenario(strictly, variants=("old", "new"), also=("KitaruDivergenceError",))


@flow
def added() -> Any:
    names = {"old": "ac", "new": "abcd"}[variant()]
    return [got(name, work(name)) for name in names]


@flow
def removed() -> Any:
    names = {"old": "abcd", "new": "ad"}[variant()]
    return [got(name, work(name)) for name in names]


@flow
def reordered() -> Any:
    names = {"old": "abcd", "new": "dbca"}[variant()]
    return sorted(got(name, work(name)) for name in names)


@flow
async def reordered_async() -> Any:
    names = {"old": "abc", "new": "cab"}[variant()]
    found = await asyncio.gather(*[branch(name) for name in names])
    return sorted(found)


for _flow in (added, removed, reordered):
    scenario(_flow, variants=("old", "new"))
scenario(reordered_async, variants=("old", "new"), sequential=False)


# --- facts and other executions ---------------------------------------------------------


@checkpoint(cache=False)
def stamp(at: Any, what: str) -> str:
    with body(f"stamp({what})") as mark:
        return f"{what}{mark}"


@flow
def facts() -> Any:
    now = learnt("now", int(kitaru.now().timestamp() * 1e6))
    identifier = got("uuid", kitaru.uuid4())
    first = got("first", stamp(now, "now"))
    second = got("second", stamp(identifier, "uuid"))
    return [first, second, got("third", stamp(got("random", kitaru.random()), "random"))]


scenario(facts)


@flow
async def facts_in_branches() -> Any:
    async def one(name: str) -> str:
        await dawdle(name)
        found: str = got(name, stamp(got(f"uuid {name}", kitaru.uuid4()), name))
        return found

    return await asyncio.gather(one("a"), one("b"))


scenario(facts_in_branches, sequential=False)


@checkpoint(cache=False)
def stamped(at: int, what: str) -> str:
    with body(f"stamped({at}, {what})") as mark:
        dally(what)
        return f"{what}{mark}"


@checkpoint(cache=False)
async def stamped_async(at: int, what: str) -> str:
    with body(f"stamped_async({at}, {what})") as mark:
        await dawdle(what)
        return f"{what}{mark}"


def _asked(name: str) -> int:
    return int(learnt(name, int(kitaru.now().timestamp() * 1e6)))


@flow
def facts_in_threads() -> Any:
    first = [stamped.submit(_asked("first"), f"a{i}") for i in range(3)]
    second = [stamped.submit(_asked("second"), f"b{i}") for i in range(2)]
    return [future.result() for future in (*first, *second)]


@flow
async def facts_at_once() -> Any:
    async def one(name: str) -> Any:
        await dawdle(name)
        found = await stamped_async(_asked(name), name)
        inline = stamped(_asked(f"{name} inline"), f"{name} inline")
        return [found, inline, await stamped.submit(_asked(f"{name} last"), f"{name} last")]

    return await asyncio.gather(one("a"), one("b"))


scenario(facts_in_threads, sequential=False)
scenario(facts_at_once, sequential=False)


# --- processes of their own, and what is printed ------------------------------------------


@checkpoint(cache=False, runtime="process")
def far_work(what: Any) -> str:
    with body(f"far_work({what})") as mark:
        print("far away", what)
        return f"{what}{mark}"


@flow
def in_own_processes() -> Any:
    print("begun")
    found = got("far", far_work("a"))
    print("that was all")
    return found


scenario(in_own_processes, costly=True)


@checkpoint(cache=False)
def prints(what: int) -> str:
    with body(f"prints({what})") as mark:
        print("line", what)
        print("no end", end="")
        return f"{what}{mark}"


@flow
def printing() -> Any:
    found = [got(f"prints {i}", prints(i)) for i in range(3)]
    print("that was all")
    return found


scenario(printing)


@flow
def left_behind() -> Any:
    return [got(f"work {i}", work(i)) for i in range(3)]


def adopted() -> Any:
    """Nobody runs it again: another process takes over what stands interrupted."""
    running = app.current()
    rows = running.store.list_executions(project=running.project, limit=10)
    if not rows:
        return left_behind.run().wait()
    kitaru.recover()
    return left_behind.handle(rows[0].exec_id).wait()


scenario(adopted)


@checkpoint
def shared(what: Any) -> str:
    with body(f"shared({what})") as mark:
        return f"{what}{mark}"


@checkpoint
def shared_sample() -> str:
    with body("shared_sample") as mark:
        return f"shared{mark}"


@flow
def reuses(whose: str) -> Any:
    found = [got(f"shared {i}", shared(i)) for i in range(3)]
    found += [got(f"sample {i}", shared_sample()) for i in range(2)]
    return [*found, got("own", work("own")), got("more", shared("more")), got(whose, work(whose))]


def first_execution() -> Any:
    return reuses.run("prelude").wait()


scenario(reuses, "second", prelude=first_execution)


@flow
def several_executions(which: int) -> Any:
    return [got(f"{which} {i}", work(f"{which}/{i}")) for i in range(2)]


def side_by_side() -> Any:
    handles = [several_executions.options(key=f"k{i}").run(i) for i in range(3)]
    return [handle.wait() for handle in handles]


scenario(side_by_side, sequential=False)


# --- replays ----------------------------------------------------------------------------


@flow
def replayed() -> Any:
    now = learnt("now", int(kitaru.now().timestamp() * 1e6))
    found: list[Any] = [got("first", work("first")), got("parent", parent("p"))]
    found.append(got("tries", third_time("t")))
    try:
        refuse("no")
    except Refusal as refusal:
        found.append(got("refused", str(refusal)))
    found += got("items", [future.result() for future in work.map(["x", "y", "z"])])
    given = got("given", stamp(now, "given"))
    found += [got("depends", stamp(given, "depends")), got("apart", work("apart"))]
    return [*found, got("uuid", stamp(got("id", kitaru.uuid4()), "uuid")), given]


def source_of_replays() -> Any:
    return replayed.options(key="source").run().wait()


def _replay(*words: Any) -> Any:
    running = app.current()
    (source,) = (
        row
        for row in running.store.list_executions(project=running.project, limit=10)
        if row.key == "source"
    )
    return replayed.options(key=KEY).replay(source.exec_id, *words).wait()


def replay_with_an_override() -> Any:
    return _replay(None, {"checkpoint.stamp#1": "somebody's words"})


def replay_from_a_call() -> Any:
    return _replay("work#6")


def replay_from_below_a_call() -> Any:
    return _replay("work#2")


for played in (replay_with_an_override, replay_from_a_call, replay_from_below_a_call):
    scenario(played, prelude=source_of_replays, sequential=False)


# --- made of what stands above ------------------------------------------------------------

from . import effects, families, kept, parked, stopped  # noqa: E402, F401
