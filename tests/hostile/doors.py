"""The doors through which a value gets into Kitaru, each for both colours of functions.

A door takes what makes a value and says what became of it: ``Kept`` with what came back, or
``Refused`` with the error and what was recorded. Everything else (an error that is none of
ours, a value that came back as another) is for the tests to complain about.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import kitaru
from kitaru import KitaruClient, KitaruError, checkpoint, flow

PATIENCE_SECONDS = 120.0

Make = Callable[[], Any]


class Kept(NamedTuple):
    value: Any
    exec_id: str | None = None


class Refused(NamedTuple):
    error: BaseException
    exec_id: str | None
    """The execution in which it was refused; None: before there was one."""


Verdict = Kept | Refused


class Mailbox:
    """What passes between a test and the bodies that it runs; not seen by any digest."""

    make: Make = staticmethod(lambda: None)
    got: Any = None


@checkpoint(cache=False)
def give() -> Any:
    return Mailbox.make()


@checkpoint(cache=False)
async def give_async() -> Any:
    return Mailbox.make()


@checkpoint(cache=False)
def take(value: Any) -> None:
    Mailbox.got = value


@checkpoint(cache=False)
async def take_async(value: Any) -> None:
    Mailbox.got = value


@flow
def with_input(value: Any) -> None:
    Mailbox.got = value


@flow
async def with_input_async(value: Any) -> None:
    Mailbox.got = value


@flow
def with_argument() -> None:
    take(Mailbox.make())


@flow
async def with_argument_async() -> None:
    await take_async(Mailbox.make())


@flow
def with_submitted_argument() -> None:
    take.submit(Mailbox.make()).result()


@flow
def with_result() -> None:
    Mailbox.got = give()


@flow
async def with_result_async() -> None:
    Mailbox.got = await give_async()


@flow
def with_submitted_result() -> None:
    Mailbox.got = give.submit().result()


@flow
def flow_result() -> Any:
    return Mailbox.make()


@flow
async def flow_result_async() -> Any:
    return Mailbox.make()


@checkpoint(cache=False)
def note() -> None:
    kitaru.log(value=Mailbox.make())


@flow
def with_metadata() -> None:
    note()


@flow
async def with_metadata_async() -> None:
    kitaru.log(value=Mailbox.make())


@flow
def asks() -> int:
    return 1


def _end(handle: Any, *, has_result: bool = False) -> Verdict:
    try:
        result = handle.wait(timeout=PATIENCE_SECONDS)
    except KitaruError as error:
        return Refused(error, handle.exec_id)
    return Kept(result if has_result else Mailbox.got, handle.exec_id)


def _through(flow: Any, make: Make, *, has_result: bool = False) -> Verdict:
    Mailbox.make = staticmethod(make)
    Mailbox.got = NOTHING
    return _end(flow.run(), has_result=has_result)


NOTHING = object()
"""No body got a value."""


def _as_input(flow: Any, make: Make) -> Verdict:
    Mailbox.got = NOTHING
    try:
        handle = flow.run(make())
    except KitaruError as error:
        return Refused(error, None)
    return _end(handle)


def _metadata(flow: Any, make: Make, *, of_checkpoint: bool) -> Verdict:
    Mailbox.make = staticmethod(make)
    handle = flow.run()
    try:
        handle.wait(timeout=PATIENCE_SECONDS)
    except KitaruError as error:
        return Refused(error, handle.exec_id)
    execution = KitaruClient().executions.get(handle.exec_id)
    found: Any = execution.checkpoints[0] if of_checkpoint else execution
    return Kept(found.metadata["value"], handle.exec_id)


def _as_option(say: Callable[[Any], Any], make: Make) -> Verdict:
    value = make()
    try:
        handle = say(value).run()
    except KitaruError as error:
        return Refused(error, None)
    handle.wait(timeout=PATIENCE_SECONDS)
    execution = KitaruClient().executions.get(handle.exec_id)
    said = (execution.key, *execution.tags)
    return Kept(said[0] if said[0] is not None else said[-1])


@flow
def names_a_call() -> None:
    take.options(id=Mailbox.make())(1)
    Mailbox.got = Mailbox.make()


INPUT: dict[str, Callable[[Make], Verdict]] = {
    "input": lambda make: _as_input(with_input, make),
    "input, async": lambda make: _as_input(with_input_async, make),
}
ARGUMENT: dict[str, Callable[[Make], Verdict]] = {
    "argument": lambda make: _through(with_argument, make),
    "argument, async": lambda make: _through(with_argument_async, make),
    "argument, submitted": lambda make: _through(with_submitted_argument, make),
}
RESULT: dict[str, Callable[[Make], Verdict]] = {
    "result": lambda make: _through(with_result, make),
    "result, async": lambda make: _through(with_result_async, make),
    "result, submitted": lambda make: _through(with_submitted_result, make),
    "result of the flow": lambda make: _through(flow_result, make, has_result=True),
    "result of the flow, async": lambda make: _through(flow_result_async, make, has_result=True),
}
METADATA: dict[str, Callable[[Make], Verdict]] = {
    "metadata": lambda make: _metadata(with_metadata, make, of_checkpoint=True),
    "metadata, async": lambda make: _metadata(with_metadata_async, make, of_checkpoint=False),
}
OPTION: dict[str, Callable[[Make], Verdict]] = {
    "key": lambda make: _as_option(lambda value: asks.options(key=value), make),
    "tag": lambda make: _as_option(lambda value: asks.options(tags=[value]), make),
    "id": lambda make: _through(names_a_call, make),
}
