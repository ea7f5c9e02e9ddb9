"""Records that somebody forged, with digests that fit: a typed error or a plain value.

Never code that runs, a module that is imported, or a program that hangs.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import end_app
from tests.engine.looking import calls, execution, retry
from tests.test_values import quick
from tests.test_values_kinds import (
    Access,
    Checked,
    CodeRan,
    Defined,
    Frozen,
    FrozenHash,
    Level,
    Plain,
    Row,
    alarms,
)

import kitaru
from kitaru._core.payload import seal
from kitaru._core.values import decode, decode_failure, encode, failure_info
from kitaru._core.values.text import TAG
from kitaru.errors import KitaruError, KitaruExecutionError, KitaruValueError

KINDS = ["dataclass", "attrs", "namedtuple", "pydantic", "enum", "exception"]

NAMES = [
    "os:system",
    "builtins:eval",
    "builtins:exec",
    "builtins:__import__",
    "builtins:type",
    "builtins:object",
    "builtins:dict",
    "builtins:super",
    "subprocess:Popen",
    "sys:modules",
    "sys:exit",
    "enum:Enum",
    "enum:Flag",
    "pydantic.main:BaseModel",
    "typing:NamedTuple",
    "pathlib:PosixPath",
    "threading:Thread",
    "kitaru:flow",
    "kitaru.app:current",
    "kitaru.secret:Secret",
    "this.module.is.not.there:Thing",
    "antigravity:fly",
    "os:environ.__class__",
    "os:path.os.system",
    "os",
    "",
    ":",
    "::",
    ":system",
    "os:",
    "os:.",
    "os:" + "a." * 5000 + "b",
    "os:<locals>",
    "os:a[int]",
    "../../etc/passwd:x",
    "os\0:system",
    "builtins:int.__subclasses__",
    "builtins:BaseException.__new__",
]


def forged(tree: Any) -> Any:
    return seal("json", json.dumps(tree).encode())


@pytest.fixture(autouse=True)
def _nothing_is_run_or_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def ran(*arguments: Any, **named: Any) -> None:
        raise CodeRan

    monkeypatch.setattr(os, "system", ran)
    loaded = set(sys.modules)
    yield
    assert {name for name in set(sys.modules) - loaded if "antigravity" in name} == set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:30])
def test_a_forged_class_name_is_a_typed_error(kind: str, name: str) -> None:
    loaded = set(sys.modules)
    tree = {TAG: kind, "of": name, "shape": "00000000", "v": {"a": 1}, "name": "a", "args": ["id"]}
    with pytest.raises(KitaruValueError), alarms():
        decode(forged(["x", tree]), what="a test")
    assert set(sys.modules) == loaded


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:30])
def test_a_forged_class_name_in_a_failure_is_a_stand_in(name: str) -> None:
    exception = {TAG: "exception", "of": name, "args": ["m"], "bases": ["ValueError", name]}
    exception["message"] = "m"
    failure = {TAG: "failure", "origin": "user_code", "message": "m", "type": name}
    payload = forged({**failure, "traceback": "", "exception": exception})
    error = decode_failure(payload).exception
    assert isinstance(error, Exception)
    assert str(error) == "m"
    assert failure_info(payload).message == "m"


@pytest.mark.parametrize(
    "change",
    [
        {"v": None},
        {"v": []},
        {"v": {"a": 1, "__class__": 2}},
        {"x": 1},
        {"x": {"__class__": 1, "__dict__": {}, "__weakref__": 1}},
        {"x": {TAG: "dict", "v": [[1, 2]]}},
        {"of": 5},
        {"of": None},
        {"shape": {}},
        {"extra": {"a": 1}, "private": 5},
        {"private": {"__pydantic_fields_set__": 1}},
        {"set": 5},
        {"set": [[]]},
        {"set": ["no such field"]},
        {TAG: "exception"},
        {TAG: "enum"},
        {TAG: "namedtuple", "v": {}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "value", [Frozen(1), FrozenHash(1), Row(1), Checked(theA=1)], ids=lambda v: type(v).__name__
)
def test_a_record_of_a_wrong_shape_is_a_typed_error_or_an_object_of_the_class(
    value: Any, change: dict[str, Any]
) -> None:
    tree = json.loads(encode(value, what="a test").data) | change
    try:
        back = decode(forged(tree), what="a test")
    except KitaruValueError:
        return
    assert type(back) is type(value)


HUGE = "9" * 100_000
COLLIDING = [(2**61 - 1) * n for n in range(100_000)]


@pytest.mark.parametrize(
    "tree",
    [
        {TAG: "int", "v": HUGE},
        {TAG: "decimal", "v": "1E+9999999999999999999999"},
        {TAG: "fraction", "v": ["0x" + "f" * 1_000_000, "0x" + "e" * 999_999]},
        {TAG: "fraction", "v": ["0x1", "0x0"]},
        {TAG: "timedelta", "v": [10**30, 0, 0]},
        {TAG: "range", "v": [0, 10, 0]},
        {TAG: "date", "v": HUGE},
        {TAG: "deque", "v": [], "maxlen": -1},
        {TAG: "deque", "v": [], "maxlen": 10**30},
        {TAG: "uuid", "v": HUGE},
        {TAG: "ipv4-network", "v": f"1.2.3.4/{HUGE}"},
        {TAG: "timezone", "v": [10**30, 0]},
        {TAG: "zoneinfo", "v": ["../../../../etc/passwd"]},
        {TAG: "zoneinfo", "v": ["antigravity"]},
        {TAG: "complex", "v": [HUGE, 1]},
        {TAG: "array", "v": ["q", 8, "little", "A" * 1_000_001]},
        {TAG: "pattern", "v": ["(" * 900, 32]},
        {TAG: "set", "v": COLLIDING},
        {TAG: "frozenset", "v": [{TAG: "tuple", "v": [n, 1]} for n in COLLIDING[:50_000]]},
        {TAG: "dict", "v": [[n, 1] for n in COLLIDING]},
        {TAG: "counter", "v": [[n, 1] for n in COLLIDING]},
        {TAG: "enum", "of": f"{__name__}:Level", "name": HUGE, "v": 1},
        {TAG: "large-bytes", "v": [0, 10**12]},
        {
            TAG: "exception",
            "of": "builtins:OSError",
            "args": [],
            "state": {"errno": [{}]},
            "cause": 1,
        },
        {TAG: "exception", "of": "builtins:ValueError", "args": 5},
        {TAG: "exception", "of": "builtins:ValueError", "args": [], "state": [1]},
        {TAG: "exception", "of": "builtins:ValueError", "args": [], "group": [1]},
        {TAG: {TAG: "tuple", "v": []}},
        {TAG: None},
        {TAG: "~opaque", "v": ["os.system"]},
        {TAG: "preview", "bytes": 1, "digest": "", "head": ""},
        {TAG: "failure"},
        {TAG: "codec", "of": "os.system", "v": ""},
        {TAG: "numpy.ndarray", "v": ""},
        {TAG: "x" * 1_000_000},
    ],
    ids=lambda tree: str(tree)[:50],
)
def test_huge_and_absurd_records_are_typed_errors_within_seconds(tree: Any) -> None:
    payload = forged({"a": [tree]})
    started = time.process_time()
    with pytest.raises(KitaruValueError) as caught:
        decode(payload, what="a test")
    # Not a measure of speed: the square of these sizes would be minutes.
    assert time.process_time() - started < 20
    assert len(str(caught.value)) < 4000


def test_flags_with_bits_that_nobody_defined_are_themselves_or_a_typed_error() -> None:
    for bits in (2**4000, -1, 10**300):
        tree = {TAG: "enum", "of": "tests.test_values_kinds:Access", "name": "", "v": bits}
        try:
            assert type(decode(forged(tree), what="a test")) is Access
        except KitaruValueError:
            continue


@pytest.mark.parametrize("depth", [501, 5_000, 200_000])
@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("[", "]"),
        ('{"a":', "}"),
        ('{"$kitaru":"tuple","v":[', "]}"),
        ('{"$kitaru":"set","v":[', "]}"),
    ],
)
def test_deep_nesting_is_a_typed_error(opened: str, closed: str, depth: int) -> None:
    inner = "1" if closed.endswith("}") and opened.startswith('{"a') else ""
    data = (opened * depth + inner + closed * depth).encode()
    with pytest.raises(KitaruValueError):
        decode(seal("json", data), what="a test")


def test_keys_that_stand_twice_hide_nothing_that_runs() -> None:
    data = b'{"$kitaru":"tuple","v":[1],"$kitaru":"dataclass","of":"os:system","v":{}}'
    with pytest.raises(KitaruValueError):
        decode(seal("json", data), what="a test")
    for tree in ({TAG: "dict", "v": [[1, 2], [1.0, 3]]}, {TAG: "set", "v": [1, True]}):
        with pytest.raises(KitaruValueError, match="twice"):
            decode(forged(tree), what="a test")


def test_an_unknown_codec_is_not_guessed() -> None:
    for codec in ("pickle", "JSON", "", "attachments", "json\0"):
        with pytest.raises(KitaruValueError):
            decode(seal(codec, b"cos\nsystem\n(S'true'\ntR."), what="a test")


OBJECTS = [
    Plain(1, 2, [3]),
    Frozen({"a": (1, 2)}, {3}),
    Defined([1], 2),
    FrozenHash((1,)),
    Row(1, {"b": 2}),
    Level.LOW,
    Access(5),
    ValueError("a", [1]),
]
POISON = st.sampled_from(
    [
        None,
        -1,
        "",
        [],
        {},
        10**30,
        {TAG: "dataclass", "of": "os:system", "shape": "", "v": {}},
        {TAG: "set", "v": [[]]},
        {TAG: "exception", "of": "builtins:SystemExit", "args": [3]},
        {TAG: "secret", "v": ["env", "HOME"]},
        "builtins:eval",
    ]
)


def places(tree: Any, skip: tuple[str, ...] = ("shape",)) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a tree, but for what says that the class is unchanged."""
    if isinstance(tree, (dict, list)):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            if key not in skip:
                yield tree, key
                yield from places(tree[key], skip)


@settings(quick, max_examples=300)
@given(st.sampled_from(OBJECTS), st.data())
def test_a_poisoned_object_is_a_typed_error_or_a_value_and_runs_nothing(
    value: Any, data: st.DataObject
) -> None:
    tree = json.loads(encode([value], what="a test").data)
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(list(places(tree))))
        fields = isinstance(holder, dict) and TAG not in holder
        if fields or isinstance(holder, list) or key in (TAG, "of", "name", "args", "state", "v"):
            poison = copy.deepcopy(data.draw(POISON))
            if key == "v" and poison == {}:
                continue  # an object without fields is one whose class has changed
            holder[key] = poison
    with alarms():
        try:
            decode(forged(tree), what="a test")
        except KitaruValueError:
            return


# --- in a store ---------------------------------------------------------------------------

ran: list[str] = []


@dataclasses.dataclass
class Order:
    id: int = 1
    lines: list[int] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        ran.append("__post_init__")


@kitaru.checkpoint
def fetch() -> Any:
    ran.append("fetch")
    return {"order": [Order(1, [2])]}


@kitaru.checkpoint
def pay(cents: int) -> int:
    ran.append("pay")
    if "declined" not in ran:
        ran.append("declined")
        raise ValueError("declined")
    return cents


@kitaru.flow
def shop() -> int:
    order = fetch()["order"][0]
    return pay(order.lines[0] if type(order) is Order else 0)


ATTACKS = {
    "an unknown tag": lambda data: data.replace(b'"dataclass"', b'"dataclas_"'),
    "a function for a class": lambda data: data.replace(f"{__name__}:Order".encode(), b"os:system"),
    "an unknown class": lambda data: data.replace(b":Order", b":Ordeal"),
    "half of it": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "other bytes": lambda data: b"\x80\x04cos\nsystem\n",
    "no fields": lambda data: data.replace(b'"v":{"id":1', b'"v":[],"w":{"id":1'),
    "too deep": lambda data: b"[" * 600 + data + b"]" * 600,
    "a huge number": lambda data: data.replace(b'"id":1', b'"id":' + b"9" * 6000),
}


def tamper(store: Path, change: Any, *, mend_digest: bool) -> None:
    """Edit the first outcome, as somebody would with a database shell."""
    end_app()
    database = apsw.Connection(str(store / "kitaru.db"))
    [(id, data, checksum)] = database.execute(
        "select id, data, checksum from calls order by id limit 1"
    ).fetchall()
    edited = change(bytes(data))
    assert edited != data
    if mend_digest:
        checksum = seal("json", edited).digest
    database.execute("update calls set data = ?, checksum = ? where id = ?", (edited, checksum, id))
    database.close()


@pytest.mark.parametrize("mend_digest", [True, False], ids=["digest mended", "digest left"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_edited_store_gives_typed_errors_runs_nothing_and_loses_nothing(
    attack: str, mend_digest: bool, own_store: Path
) -> None:
    ran[:] = []
    handle = shop.run()
    with pytest.raises(KitaruExecutionError, match="declined"):
        handle.wait()
    tamper(own_store, ATTACKS[attack], mend_digest=mend_digest)
    ran[:] = []
    [call, _] = kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints
    with pytest.raises(KitaruError):
        call.result()
    with pytest.raises(KitaruExecutionError) as caught:
        retry(shop, handle.exec_id).wait()
    assert "declined" not in str(caught.value)
    assert ran == []
    assert execution(handle.exec_id).status.value == "failed"
    assert calls(handle.exec_id)[0].state.value == "completed"
