"""The tree of errors is part of the contract: what users catch, and what survives a pickle."""

from __future__ import annotations

import copy
import pickle

import pytest

from kitaru import ExecutionStatus, FailureInfo, FailureOrigin, checkpoint, errors, flow

TREE: dict[str, tuple[str, ...]] = {
    "KitaruError": ("Exception",),
    "KitaruUsageError": ("KitaruError", "ValueError"),
    "KitaruWaitValidationError": ("KitaruUsageError",),
    "KitaruContextError": ("KitaruError", "RuntimeError"),
    "KitaruStateError": ("KitaruError", "RuntimeError"),
    "KitaruTimeoutError": ("KitaruStateError", "TimeoutError"),
    "KitaruNotFoundError": ("KitaruError", "LookupError"),
    "KitaruValueError": ("KitaruError",),
    "KitaruRuntimeError": ("KitaruError", "RuntimeError"),
    "KitaruBackendError": ("KitaruRuntimeError",),
    "KitaruLogRetrievalError": ("KitaruBackendError",),
    "KitaruExecutionError": ("KitaruRuntimeError",),
    "KitaruUserCodeError": ("KitaruExecutionError",),
    "KitaruCancelledError": ("KitaruExecutionError",),
    "KitaruDivergenceError": ("KitaruExecutionError",),
    "KitaruFeatureNotAvailableError": ("KitaruError", "NotImplementedError"),
}


def test_the_tree_of_errors_is_the_published_one() -> None:
    found = {
        name: tuple(base.__name__ for base in one.__bases__)
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, Exception)
    }
    assert found == TREE


@checkpoint
def charge(amount: int) -> int:
    raise ConnectionError(f"cannot charge {amount}")


@flow
def order(amount: int) -> int:
    return charge(amount)


def test_a_failed_execution_names_itself_its_checkpoint_its_cause_and_the_next_command() -> None:
    handle = order.run(3)
    with pytest.raises(errors.KitaruUserCodeError) as caught:
        handle.wait()
    error, message = caught.value, str(caught.value)
    assert error.exec_id == handle.exec_id
    assert error.status is ExecutionStatus.FAILED
    assert error.failure_origin is FailureOrigin.USER_CODE
    assert error.failure is not None
    assert (error.failure.exception_type, error.failure.message) == (
        "ConnectionError",
        "cannot charge 3",
    )
    assert type(error.__cause__) is ConnectionError
    for said in (handle.exec_id, "order", "charge", "cannot charge 3"):
        assert said in message
    assert f"kitaru executions retry {handle.exec_id}" in message


def test_every_error_keeps_its_attributes_when_it_is_copied_or_pickled() -> None:
    failure = FailureInfo("no", "ValueError", "", FailureOrigin.USER_CODE)
    made: list[errors.KitaruError] = [
        errors.KitaruTimeoutError(
            "late", exec_id="e", timeout_seconds=1.0, elapsed_seconds=2.0,
            last_status=ExecutionStatus.RUNNING,
        ),
        errors.KitaruValueError("odd", path="$.a", checkpoint="c"),
        *(
            getattr(errors, name)(
                "failed", exec_id="e", status=ExecutionStatus.FAILED,
                failure_origin=FailureOrigin.USER_CODE, failure=failure, checkpoint="c",
            )
            for name, bases in TREE.items()
            if name == "KitaruExecutionError" or bases == ("KitaruExecutionError",)
        ),
        *(
            getattr(errors, name)("plain")
            for name in ("KitaruUsageError", "KitaruBackendError", "KitaruFeatureNotAvailableError")
        ),
    ]  # fmt: skip
    for error in made:
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert vars(again) == vars(error)
