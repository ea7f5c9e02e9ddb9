"""Exceptions come back so that `except` decides as it did; recording one never fails."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitaru._core.payload import Payload, seal
from kitaru._core.values import (
    NotStored,
    decode,
    decode_failure,
    encode,
    encode_failure,
    failure_info,
)
from kitaru.errors import (
    FailureOrigin,
    KitaruError,
    KitaruExecutionError,
    KitaruTimeoutError,
    KitaruUserCodeError,
    KitaruValueError,
)
from kitaru.model import FailureInfo
from kitaru.status import ExecutionStatus

made: list[str] = []


class Declined(ValueError):
    def __init__(self, card: str, *, amount: int, client: Any = None) -> None:
        made.append("__init__")
        super().__init__(f"{card} declined")
        self.amount = amount
        self.client = client

    def __new__(cls, *args: Any, **options: Any) -> Declined:
        made.append("__new__")
        return super().__new__(cls, *args)


class Slotted(Exception):
    __slots__ = ("code",)


def record(exc: BaseException, **options: Any) -> Payload:
    return encode_failure(exc, origin=FailureOrigin.USER_CODE, **options)


def there_and_back(exc: BaseException) -> Any:
    back = decode_failure(record(exc)).exception
    assert type(back) is type(exc)
    return back


def raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        if cause is not None:
            raise exc from cause
        raise exc
    except BaseException as caught:
        return caught


def test_an_exception_comes_back_without_its_code_running() -> None:
    payload = record(Declined("4242", amount=3))
    made.clear()
    back: Any = decode_failure(payload).exception
    assert made == []
    assert type(back) is Declined
    assert (back.args, back.amount, back.client) == (("4242 declined",), 3, None)
    assert str(back) == "4242 declined"


def test_what_cannot_be_stored_of_an_exception_is_left_out_by_name() -> None:
    payload = record(Declined("4242", amount=3, client=threading.Lock()))
    back: Any = decode_failure(payload).exception
    assert back.amount == 3
    assert not hasattr(back, "client")
    assert b'"dropped":["client"]' in payload.data


def test_an_argument_that_cannot_be_stored_comes_back_as_its_text() -> None:
    back = there_and_back(ValueError("bad", len))
    assert back.args == ("bad", NotStored("<built-in function len>"))
    assert str(back) == "('bad', <built-in function len>)"
    assert there_and_back(back).args == back.args


def test_errors_of_the_operating_system_keep_their_attributes() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Path("/nowhere/at/all").read_bytes()
    back = there_and_back(caught.value)
    assert (back.errno, back.strerror, back.filename) == (
        2,
        caught.value.strerror,
        "/nowhere/at/all",
    )
    assert str(back) == str(caught.value)
    assert str(there_and_back(OSError(5, "io"))) == "[Errno 5] io"
    assert there_and_back(socket.gaierror(-2, "unknown")).errno == -2


def _unicode_error() -> BaseException:
    try:
        b"a\xffb".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


def _syntax_error() -> BaseException:
    try:
        compile("a b c", "file.py", "exec")
    except SyntaxError as error:
        return error
    raise AssertionError


def _import_error() -> BaseException:
    try:
        import nothing_of_that_name  # type: ignore[import-not-found]  # noqa: F401
    except ImportError as error:
        return error
    raise AssertionError


def _key_error() -> BaseException:
    try:
        {}[("a", 1)]
    except KeyError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "attributes"),
    [
        (_unicode_error(), ["encoding", "object", "start", "end", "reason"]),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), ["object", "start", "end"]),
        (_syntax_error(), ["msg", "filename", "lineno", "offset", "text"]),
        (_import_error(), ["name", "path", "msg"]),
        (_key_error(), []),
        (StopIteration((1, 2)), ["value"]),
        (SystemExit(3), ["code"]),
        (KeyboardInterrupt(), []),
        (AttributeError("no x", name="x", obj=sys), ["name"]),
        (BlockingIOError(11, "again"), ["errno"]),
        (RecursionError("deep"), []),
        (ExceptionGroup("g", [ValueError(1)]), ["message"]),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), ["message"]),
        (Slotted("s"), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_builtin_exceptions_come_back_with_their_message_and_attributes(
    error: BaseException, attributes: list[str]
) -> None:
    back = there_and_back(error)
    assert str(back) == str(error)
    assert repr(back) == repr(error)
    assert [getattr(back, name) for name in attributes] == [
        getattr(error, name) for name in attributes
    ]


def test_slots_of_an_exception_come_back() -> None:
    error = Slotted("s")
    error.code = (1, 2)
    assert there_and_back(error).code == (1, 2)


def test_groups_come_back_with_their_members_and_split() -> None:
    inner = ExceptionGroup("inner", [KeyError("k")])
    back = there_and_back(ExceptionGroup("outer", [ValueError("v"), inner]))
    assert back.subgroup(KeyError).exceptions[0].exceptions[0].args == ("k",)
    assert [type(member) for member in back.exceptions] == [ValueError, ExceptionGroup]


def test_cause_context_and_notes_come_back() -> None:
    error = raised(ValueError("a"), cause=KeyError("b"))
    error.add_note("seen at noon")
    back = there_and_back(error)
    assert type(back.__cause__) is KeyError
    assert back.__suppress_context__
    assert back.__notes__ == ["seen at noon"]
    outer = TypeError("c")
    outer.__context__ = error
    back = there_and_back(outer)
    assert type(back.__context__) is ValueError
    assert not back.__suppress_context__
    outer.__suppress_context__ = True
    assert there_and_back(outer).__context__ is None


def test_errors_of_kitaru_come_back_as_themselves() -> None:
    info = FailureInfo("m", "ValueError", "t", FailureOrigin.USER_CODE)
    failed = KitaruExecutionError(
        "failed", exec_id="e1", status=ExecutionStatus.FAILED, failure=info, checkpoint="pay"
    )
    assert vars(there_and_back(failed)) == vars(failed)
    late = KitaruTimeoutError("late", exec_id="e1", timeout_seconds=1.5)
    back = there_and_back(late)
    assert (str(back), back.timeout_seconds, back.errno) == ("late", 1.5, None)
    assert there_and_back(KitaruValueError("v", path="$.a")).path == "$.a"


def of_another_program(error: BaseException) -> Payload:
    """The record of an exception whose class this process does not know."""
    name = f"{type(error).__module__}:{type(error).__qualname__}".encode()
    data = record(error).data.replace(name, b"shop.errors:" + name.rpartition(b":")[2])
    return seal("json", data)


class Missing(LookupError, ValueError):
    def __str__(self) -> str:
        return "it is not there"


class Broken(OSError):
    pass


class Stop(KeyboardInterrupt):
    pass


class Group(ExceptionGroup[Exception]):
    pass


def test_an_unknown_exception_is_caught_as_the_original_would_have_been() -> None:
    back: Any = decode_failure(of_another_program(Missing("x", 1))).exception
    with pytest.raises(ValueError, match="it is not there"):
        raise back
    assert isinstance(back, LookupError)
    assert isinstance(back, KitaruUserCodeError)
    assert not isinstance(back, KeyError)
    assert (type(back).__module__, type(back).__name__) == ("shop.errors", "Missing")
    assert back.args == ("x", 1)
    assert back.failure_origin is FailureOrigin.USER_CODE
    assert back.exec_id is None
    again = decode_failure(of_another_program(Missing("y"))).exception
    assert type(again) is type(back)


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (Broken(2, "gone", "f"), OSError),
        (Stop(), KeyboardInterrupt),
        (Group("g", [ValueError(1)]), ExceptionGroup),
        (Slotted("s"), Exception),
    ],
    ids=lambda value: getattr(value, "__name__", "error"),
)
def test_stand_ins_keep_builtin_bases_attributes_and_message(
    error: BaseException, base: type[BaseException]
) -> None:
    back: Any = decode_failure(of_another_program(error)).exception
    assert isinstance(back, base)
    assert isinstance(back, KitaruUserCodeError)
    assert str(back) == str(error)
    assert getattr(back, "errno", None) == getattr(error, "errno", None)


def test_stand_ins_copy_and_pickle() -> None:
    back = decode_failure(of_another_program(Missing("x"))).exception
    for twin in (copy.copy(back), pickle.loads(pickle.dumps(back))):
        assert type(twin) is type(back)
        assert (str(twin), twin.args) == (str(back), back.args)


def test_the_record_shows_message_type_traceback_and_origin() -> None:
    error = raised(Declined("4242", amount=1), cause=KeyError("k"))
    info = failure_info(record(error))
    assert (info.message, info.exception_type) == ("4242 declined", f"{__name__}.Declined")
    assert info.origin is FailureOrigin.USER_CODE
    assert "Traceback (most recent call last):" in info.traceback
    assert "raise exc from cause" in info.traceback
    assert info.traceback.index("KeyError: 'k'") < info.traceback.index("direct cause")
    assert info.traceback.endswith("Declined: 4242 declined\n")
    assert decode_failure(record(error)).info == info
    assert failure_info(record(ValueError("v"))).exception_type == "ValueError"


def test_frames_of_a_folder_are_left_out_of_the_traceback() -> None:
    error = raised(ValueError("v"))
    assert __file__ in failure_info(record(error)).traceback
    folder = str(Path(__file__).parent)
    assert failure_info(record(error, drop_frames_of=folder)).traceback == "ValueError: v\n"


def _deep(n: int) -> None:
    if n:
        _deep(n - 1)
    raise ValueError("at the bottom")


def test_a_long_traceback_keeps_its_head_and_tail() -> None:
    try:
        _deep(500)
    except ValueError as error:
        text = failure_info(record(error)).traceback
    assert len(text.encode()) <= 32 * 1024
    assert "frames left out" in text
    assert "test_a_long_traceback_keeps" in text
    assert text.endswith("ValueError: at the bottom\n")


def test_a_message_is_capped_with_head_and_tail() -> None:
    info = failure_info(record(ValueError("é" * 100_000 + "end")))
    assert len(info.message.encode()) <= 8 * 1024
    assert info.message.startswith("ééé")
    assert info.message.endswith("end")


class Hostile(Exception):
    def __str__(self) -> str:
        raise SystemExit("from __str__")

    def __repr__(self) -> str:
        raise KeyboardInterrupt

    def __eq__(self, other: object) -> bool:
        raise ValueError

    def __hash__(self) -> int:
        raise ValueError

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __reduce__(self) -> Any:
        raise ValueError


class BadRepr:
    def __repr__(self) -> str:
        raise ValueError


def _loop() -> BaseException:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__context__ = other, one
    return one


def _chain(length: int) -> BaseException:
    error: BaseException = ValueError(0)
    for number in range(length):
        outer = ValueError(number)
        outer.__cause__ = error
        error = outer
    return error


def _nested_groups(depth: int) -> BaseException:
    error: Exception = ValueError(0)
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


def _recursive_args() -> BaseException:
    error = ValueError()
    error.args = ([error.args], error, [[error]])
    return error


def _odd_state() -> BaseException:
    error = ValueError("v")
    error.__dict__.update({"$kitaru": "dict", "\ud800": 1})
    error.__dict__[5] = 6  # type: ignore[index]
    error.__notes__ = 5  # type: ignore[assignment]
    return error


HOSTILE: list[Callable[[], BaseException]] = [
    lambda: Hostile("x"),
    lambda: ValueError(BadRepr()),
    lambda: ValueError("x" * 10_000_000),
    lambda: ValueError(*range(10_000)),
    lambda: ValueError(list(range(1_000_000))),
    lambda: ValueError("\ud800 \x00 \x1b[31m"),
    lambda: _loop(),
    lambda: _chain(100_000),
    lambda: _nested_groups(200),
    lambda: ExceptionGroup("many", [ValueError(i) for i in range(5000)]),
    lambda: _recursive_args(),
    lambda: _odd_state(),
    lambda: UnicodeDecodeError("utf-8", b"x" * 5_000_000, 0, 1, "r"),
    lambda: OSError(threading.Lock(), object()),
]


@pytest.mark.parametrize("make", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_exception_is_recorded_and_comes_back(
    make: Callable[[], BaseException],
) -> None:
    error = make()
    payload = record(error)
    assert len(payload.data) < 3_000_000
    failure = decode_failure(payload)
    assert issubclass(type(failure.exception), (type(error), KitaruUserCodeError))
    assert failure.info.exception_type.endswith(type(error).__name__)


def test_a_message_that_cannot_be_told_says_so() -> None:
    assert "its __str__ raised SystemExit" in failure_info(record(Hostile())).message


@pytest.mark.parametrize("data", [b"1", b"{}", b'{"$kitaru":"failure"}', b"", b"[[]]"])
def test_what_is_no_record_of_a_failure_is_refused(data: bytes) -> None:
    for read in (decode_failure, failure_info):
        with pytest.raises(KitaruValueError):
            read(seal("json", data))


def test_a_failure_is_no_value_and_a_changed_one_is_noticed() -> None:
    payload = record(ValueError("v"))
    with pytest.raises(KitaruValueError, match="failure"):
        decode(payload, what="a test")
    with pytest.raises(KitaruValueError, match="corrupt"):
        decode_failure(payload._replace(data=payload.data + b" "))


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_a_tampered_failure_gives_a_typed_error_or_an_exception(data: st.DataObject) -> None:
    error = raised(Declined("4242", amount=1), cause=ExceptionGroup("g", [OSError(1, "a", "b")]))
    stored = bytearray(record(error).data)
    start = stored.index(b'"exception"')
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(start, len(stored) - 1))
        stored[at] = data.draw(st.sampled_from(b'[]{}",:0123456789$ astev'))
    try:
        back = decode_failure(seal("json", bytes(stored))).exception
    except KitaruValueError:
        return
    assert isinstance(back, BaseException)


# --- exceptions as values ----------------------------------------------------------


def test_an_exception_that_is_a_value_comes_back() -> None:
    value = {
        "errors": [Declined("4242", amount=2), None],
        "group": ExceptionGroup("g", [OSError(2, "n", "f")]),
    }
    back: Any = decode(encode(value, what="a test"), what="a test")
    assert type(back["errors"][0]) is Declined
    assert back["errors"][0].amount == 2
    assert back["group"].exceptions[0].filename == "f"
    error = KitaruError("k")
    assert decode(encode(error, what="a test"), what="a test").args == ("k",)  # type: ignore[attr-defined]


def test_an_exception_with_a_part_that_cannot_be_stored_is_refused_as_a_value() -> None:
    with pytest.raises(KitaruValueError, match="lock") as caught:
        encode([Declined("4242", amount=2, client=threading.Lock())], what="a test")
    assert caught.value.path == "$[0].client"


def test_a_chain_that_is_too_long_is_refused_as_a_value() -> None:
    with pytest.raises(KitaruValueError, match="deep"):
        encode(_chain(1000), what="a test")


@dataclasses.dataclass
class Outcome:
    error: Exception


def test_an_exception_inside_a_dataclass_comes_back() -> None:
    back: Any = decode(encode(Outcome(KeyError("k")), what="a test"), what="a test")
    assert back.error.args == ("k",)
