"""Flows with ``effect="once"``: killed at every point, a body starts once; somebody decides."""

from __future__ import annotations

from typing import Any

import kitaru
from kitaru import checkpoint, flow

from .corpus import KEY, scenario, work
from .journal import body, got, variant, write


@checkpoint(effect="once")
def once(what: str) -> str:
    with body(f"once({what})") as mark:
        return f"{what}{mark}"


def _was_it_done(what: str) -> Any:
    """The bank would know by the key; this one never heard of it."""
    write("verified", call=kitaru.current().idempotency_key)
    return kitaru.NotDone


@checkpoint(effect="once", verify=_was_it_done)
def once_verified(what: str) -> str:
    with body(f"once({what})") as mark:
        return f"{what}{mark}"


@checkpoint(cache=False)
def around(what: str) -> list[Any]:
    with body(f"around({what})") as mark:
        return [got(f"in {what}", once(f"{what}/inner")), mark]


@flow
def pays() -> Any:
    first = got("first", work("first"))
    return [first, got("paid", once("pay")), got("last", work("last"))]


@flow
def pays_inside() -> Any:
    return [got("around", around("a")), got("last", work("last"))]


@flow
def pays_verified() -> Any:
    return [got("paid", once_verified("pay")), got("last", work("last"))]


@flow
def pays_what_changes() -> Any:
    return [got(f"paid {variant()}", once(f"pay {variant()}")), got("last", work("last"))]


def settled(played: Any, decision: str, **more: Any) -> Any:
    """Run or resume, and decide whenever somebody has to."""
    executions = kitaru.KitaruClient().executions
    handle = played.options(key=KEY).run()
    while True:
        try:
            return handle.wait(timeout=0.02)
        except kitaru.KitaruTimeoutError:
            for wait in executions.pending_waits(handle.exec_id):
                chosen, with_ = decision, more
                if decision == "adopt" and wait.metadata["records"]:
                    with_ = {}
                write("decided", decision=chosen)
                try:
                    executions.decide(handle.exec_id, wait.metadata["call"], chosen, **with_)
                except kitaru.KitaruStateError:
                    continue  # decided in the life before, and not noticed yet
        except kitaru.KitaruCancelledError:
            return "cancelled"


def decided_to_run() -> Any:
    return settled(pays, "run")


def decided_to_adopt() -> Any:
    return settled(pays, "adopt", value="adopted")


def decided_to_abort() -> Any:
    return settled(pays, "abort")


def decided_inside() -> Any:
    return settled(pays_inside, "run")


def decided_about_a_change() -> Any:
    return settled(pays_what_changes, "adopt", value="adopted")


scenario(decided_to_run)
scenario(decided_to_adopt, also=(["first~", "adopted", "last~"],))
scenario(decided_to_abort, also=("cancelled",))
scenario(decided_inside)
scenario(pays_verified)
scenario(
    decided_about_a_change,
    variants=("old", "new"),
    also=(["adopted", "last~"], ["pay old~", "last~"]),
)
