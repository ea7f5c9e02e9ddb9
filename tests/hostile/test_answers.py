"""Every value of the table as an answer: recorded as the JSON it is, or nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.waits_kit import Asks, waiting

from kitaru import KitaruClient, KitaruError, app
from kitaru._core.lifecycle import WaitState
from kitaru._core.values import decode
from kitaru._engine import schemas

from .same import difference
from .values import HUGE, KEPT, METADATA, OPAQUE, READ_ONCE, REFUSED, SLOW

pytestmark = [pytest.mark.usefixtures("shared_store"), pytest.mark.timeout(600)]

VALUES: dict[str, Callable[[], Any]] = {**KEPT, **REFUSED, **OPAQUE, **READ_ONCE}
# pydantic asks an object of 5,000 digits for its repr, and says that it cannot be raised.
LEFT_OUT = {"Fraction", *SLOW, *HUGE}
PLAIN = (str, int, float, bool, type(None))


def is_json(value: Any) -> bool:
    if type(value) is list:
        return all(map(is_json, value))
    if type(value) is dict:
        return all(type(key) is str and is_json(each) for key, each in value.items())
    return type(value) in PLAIN


def given(asked: Any, value: Any) -> Any:
    """Answer with it -> what is recorded, or the error."""
    row = waiting(Asks(asked=asked))
    store = app.current().store
    try:
        KitaruClient().executions.input(row.exec_id, wait="approve", value=value)
    except KitaruError as error:
        (found,) = store.list_waits(row.id)
        assert found.state is WaitState.OPEN
        assert found.payload is None
        return error
    (found,) = store.list_waits(row.id)
    assert found.payload is not None
    return decode(found.payload, what="answer")


@pytest.mark.parametrize("name", [name for name in VALUES if name not in LEFT_OUT])
def test_an_answer_is_the_json_that_it_is_or_refused(name: str) -> None:
    value = VALUES[name]()
    found = given(Any, value)
    if isinstance(found, KitaruError):
        may_be_refused = name in REFUSED or "digits" in name or "surrogate" in name
        assert may_be_refused or not is_json(value), f"{name}: {found}"
        assert len(str(found)) < 3_000
        return
    assert is_json(found), f"{name}: {type(found)}"
    if is_json(value):
        assert difference(value, found) is None


@pytest.mark.parametrize("name", sorted(METADATA))
@pytest.mark.parametrize("asked", [bool, str, int, list[int], dict[str, int] | None], ids=str)
def test_what_was_not_asked_for_is_refused(name: str, asked: Any) -> None:
    value = KEPT[name]()
    found = given(asked, value)
    if not isinstance(found, KitaruError):
        assert not schemas.find_misfits(found, schemas.schema_of(asked), asked)
