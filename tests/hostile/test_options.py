"""Every option said wrongly is refused at once, by name and with a remedy; nothing is recorded."""

from __future__ import annotations

import pytest

from kitaru import (
    KitaruClient,
    KitaruExecutionError,
    KitaruFeatureNotAvailableError,
    KitaruStateError,
    KitaruUsageError,
    flow,
    settings,
)

from .doors import PATIENCE_SECONDS
from .options import RIGHT, WRONG, item, plain

pytestmark = [pytest.mark.usefixtures("shared_store"), pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_option_is_refused_at_once(name: str) -> None:
    before = len(KitaruClient().executions.list(limit=500))
    try:
        with pytest.raises((KitaruUsageError, KitaruFeatureNotAvailableError)) as caught:
            WRONG[name]()
        recorded = len(KitaruClient().executions.list(limit=500)) - before
    finally:
        settings.forget_configuration()
    assert recorded == (1 if name.startswith("wait(") else 0)
    message = str(caught.value)
    assert len(message) < 500
    assert ":" in message or ";" in message, "what is wrong, and what to do"


@pytest.mark.parametrize("name", RIGHT)
def test_an_odd_option_that_means_something_is_taken(name: str) -> None:
    RIGHT[name]()


def test_a_key_that_was_used_with_other_inputs_is_refused_and_shows_whose_it_is() -> None:
    first = plain.options(key="order-42").run(1)
    assert first.wait(timeout=PATIENCE_SECONDS) == 1
    with pytest.raises(KitaruStateError, match="order-42"):
        plain.options(key="order-42").run(2)
    again = plain.options(key="order-42").run(1)
    assert (again.exec_id, again.wait(timeout=PATIENCE_SECONDS)) == (first.exec_id, 1)


@flow
def fans_out(concurrency: object, on_error: object) -> list[int]:
    return item.map([1, 2], concurrency=concurrency, on_error=on_error).results()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("concurrency", "on_error"),
    [(value, "stop") for value in (0, -1, True, 1.5, "3")]
    + [(None, value) for value in ("maybe", 3, None, "", True)],
)
def test_a_wrong_option_of_map_fails_the_flow_and_names_it(
    concurrency: object, on_error: object
) -> None:
    handle = fans_out.run(concurrency, on_error)
    with pytest.raises(KitaruExecutionError) as caught:
        handle.wait(timeout=PATIENCE_SECONDS)
    assert isinstance(caught.value.__cause__, KitaruUsageError)
    assert caught.value.failure_origin == "user_code"
    assert KitaruClient().executions.get(handle.exec_id).list_checkpoints() == []


@pytest.mark.parametrize("words", [{"x": 1, "y": 2}, {"x": [], "*x": 3}])
def test_arguments_that_do_not_bind_are_refused(words: dict[str, object]) -> None:
    with pytest.raises(KitaruUsageError, match="plain"):
        plain.run(**words)  # type: ignore[call-overload]
    with pytest.raises(KitaruUsageError, match="plain"):
        plain.run(1, 2)  # type: ignore[call-arg]
