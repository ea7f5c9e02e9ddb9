"""A secret is recorded by its name, read where it is needed, and shown nowhere."""

from __future__ import annotations

import array
import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.looking import calls, execution
from tests.test_values import VALUES, quick

import kitaru
from kitaru import masking
from kitaru._core.payload import seal
from kitaru._core.values import decode, decode_failure, encode, encode_failure
from kitaru._core.values.pickled import encode_pickled
from kitaru._core.values.secrets import masked, masked_tree
from kitaru.errors import (
    FailureOrigin,
    KitaruNotFoundError,
    KitaruUsageError,
    KitaruUserCodeError,
    KitaruValueError,
)
from kitaru.secret import Secret

ran: list[str] = []
VALUE = 'sk-Ünsafe "quoted" \\ 0123456789'

HELD = st.sampled_from([VALUE, f"a{VALUE}", f"{VALUE}{VALUE}", repr(VALUE), json.dumps(VALUE)])


@pytest.fixture(autouse=True)
def nothing_resolved() -> Iterator[None]:
    before = list(masking.NEEDLES)
    masking.NEEDLES.clear()
    yield
    masking.NEEDLES[:] = before


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> Secret:
    monkeypatch.setenv("TEST_API_KEY", VALUE)
    return Secret(env="TEST_API_KEY")


def raised(*args: Any, **state: Any) -> ValueError:
    error = ValueError(*args)
    error.__dict__.update(state)
    try:
        raise error
    except ValueError:
        return error


# --- the reference --------------------------------------------------------------------


def test_a_secret_is_read_from_the_environment_each_time_anew(
    key: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert key.get() == VALUE
    monkeypatch.setenv("TEST_API_KEY", "rotated value")
    assert key.get() == "rotated value"


def test_a_secret_is_read_from_a_file_without_the_newline_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n\n")
    assert Secret(file=tmp_path / "key").get() == "from a file\n"
    assert Secret(file=str(tmp_path / "key")) == Secret(file=tmp_path / "key")


def test_neither_repr_nor_str_nor_pickle_nor_copy_knows_the_value(key: Secret) -> None:
    key.get()
    for shown in (repr(key), str(key), f"{key}", repr(pickle.dumps(key)), repr({"k": key})):
        assert "TEST_API_KEY" in shown
        assert "0123456789" not in shown
    assert pickle.loads(pickle.dumps(key)) == copy.deepcopy(key) == copy.copy(key) == key
    assert len({key, copy.copy(key)}) == 1
    assert not hasattr(key, "__dict__")


def test_a_secret_does_not_change(key: Secret) -> None:
    with pytest.raises(AttributeError, match="does not change"):
        key._where = "OTHER"
    with pytest.raises(AttributeError, match="does not change"):
        del key._where


@pytest.mark.parametrize(
    "make",
    [
        lambda: Secret(VALUE),  # type: ignore[arg-type]
        lambda: Secret(VALUE, env="A"),  # type: ignore[arg-type]
        lambda: Secret(),
        lambda: Secret(env="A", file="b"),
        lambda: Secret(env=VALUE),
        lambda: Secret(env=""),
        lambda: Secret(env="A" * 201),
        lambda: Secret(env="Ä"),
        lambda: Secret(env=1),  # type: ignore[arg-type]
        lambda: Secret(file=""),
        lambda: Secret(file=f"{VALUE}\n"),
        lambda: Secret(file="x" * 5000),
        lambda: Secret(file=b"x"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_reference_is_refused_without_being_shown(make: Any) -> None:
    with pytest.raises(KitaruUsageError) as caught:
        make()
    assert "0123456789" not in str(caught.value)


def test_a_secret_that_is_not_there_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_API_KEY", raising=False)
    with pytest.raises(KitaruNotFoundError, match=r"not set.*export TEST_API_KEY"):
        Secret(env="TEST_API_KEY").get()
    monkeypatch.setenv("TEST_API_KEY", "")
    with pytest.raises(KitaruNotFoundError, match="is empty"):
        Secret(env="TEST_API_KEY").get()
    with pytest.raises(KitaruNotFoundError, match="No such file"):
        Secret(file=tmp_path / "missing").get()
    with pytest.raises(KitaruNotFoundError, match="directory"):
        Secret(file=tmp_path).get()
    (tmp_path / "binary").write_bytes(b"\xff\xfe secret bytes")
    with pytest.raises(KitaruUsageError, match="UTF-8") as caught:
        Secret(file=tmp_path / "binary").get()
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    (tmp_path / "huge").write_bytes(b"x" * 70_000)
    with pytest.raises(KitaruUsageError, match="larger"):
        Secret(file=tmp_path / "huge").get()


# --- as a value -----------------------------------------------------------------------


def test_a_secret_is_stored_by_its_reference_and_comes_back(key: Secret) -> None:
    key.get()
    value = {"key": key, "all": [Secret(file="/run/secrets/é")]}
    payload = encode(value, what="a test")
    assert b"0123456789" not in payload.data
    assert decode(payload, what="a test") == value


class Config(pydantic.BaseModel):
    key: Secret
    region: str = "eu"


def test_a_model_may_have_a_secret_for_a_field_but_not_its_value(key: Secret) -> None:
    key.get()
    config = Config(key=key)
    payload = encode(config, what="a test")
    assert b"0123456789" not in payload.data
    assert decode(payload, what="a test") == config
    with pytest.raises(pydantic.ValidationError):
        Config(key="a text")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "stored",
    ['["eval","x"]', '["env","a b"]', '["env"]', '["env",["X"]]', '"env"', "{}", '["file",""]'],
)
def test_a_made_up_reference_is_a_typed_error(stored: str) -> None:
    data = f'{{"$kitaru":"secret","v":{stored}}}'.encode()
    with pytest.raises(KitaruValueError, match="malformed"):
        decode(seal("json", data), what="a test")


def test_a_pydantic_secret_is_refused_with_a_hint_to_the_reference() -> None:
    for secret in (pydantic.SecretStr(VALUE), pydantic.SecretBytes(b"0123456789")):
        with pytest.raises(KitaruValueError, match=r"kitaru\.Secret") as caught:
            encode({"login": [secret]}, what="a test")
        assert caught.value.path == "$.login[0]"
        assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (VALUE, "$"),
        (f"Bearer {VALUE}!", "$"),
        ({"headers": {"auth": VALUE}}, "$.headers.auth"),
        ([0, (1, VALUE)], "$[1][1]"),
        ({"a": VALUE.encode()}, "$.a"),
        ({"a": bytearray(b"x" + VALUE.encode())}, "$.a"),
        ([b"y" * 40_000, b"x" * 40_000 + VALUE.encode()], "$[1]"),
        ({VALUE: 1}, "$['<key>']"),
        ({1: {VALUE}}, "$[1][0]"),
        ({(1, VALUE): 2}, "$['<key>'][1]"),
        (ValueError(VALUE), "$[0]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_holds_a_resolved_secret_is_refused_with_its_path(
    value: Any, path: str, key: Secret
) -> None:
    encode(value, what="a test")  # nobody knows yet that it is one
    key.get()
    with pytest.raises(KitaruValueError, match="TEST_API_KEY") as caught:
        encode(value, what="checkpoint 'login'")
    assert caught.value.path == path
    assert "0123456789" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        np.array([VALUE]),
        np.array([VALUE] * 3000).astype(">U40"),
        np.array([(1, VALUE)], [("a", "i1"), ("b", "U40")]),
        np.array([VALUE.encode()]),
        np.bytes_(VALUE.encode()),
        pa.array([VALUE]),
        pa.table({"a": [VALUE]}),
        pl.Series([VALUE]),
        pl.DataFrame({"a": [VALUE]}, schema={"a": pl.Categorical}),
        PIL.Image.frombytes("L", (len(VALUE.encode()), 1), VALUE.encode()),
        array.array("b", VALUE.encode()),
        VALUE + "\ud800\udc00",
    ],
    ids=lambda value: type(value).__name__,
)
def test_data_that_is_stored_in_another_form_is_searched_too(value: Any) -> None:
    masking.remember(VALUE, "TEST_API_KEY")
    with pytest.raises(KitaruValueError, match="TEST_API_KEY") as caught:
        encode({"rows": [value]}, what="a test")
    assert caught.value.path == "$.rows[0]"


def test_an_array_that_is_masked_gives_way_to_the_name() -> None:
    data = encode(np.array([VALUE.encode()]), what="a test").data
    masking.remember(VALUE, "TEST_API_KEY")
    assert masked(data) == b'"<secret TEST_API_KEY>"'


def test_the_preview_of_a_registered_codec_is_searched_too(key: Secret) -> None:
    kitaru.register_codec(
        Sealed,
        name="test.sealed",
        encode=lambda _: b"sealed",
        decode=lambda _: Sealed(),
        preview=lambda _: VALUE,
    )
    shown = encode(Sealed(), what="a test").data
    key.get()
    with pytest.raises(KitaruValueError, match="TEST_API_KEY"):
        encode(Sealed(), what="a test")
    assert b"0123456789" not in masked(shown)


class Sealed:
    """What keeps its secret in bytes that nobody can read."""


def test_a_short_secret_is_not_looked_for_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_SHORT_PIN", "1234")
    for _ in range(2):
        Secret(env="TEST_SHORT_PIN").get()
    assert encode("1234", what="a test").data == b'"1234"'
    assert capsys.readouterr().err.count("not masked") == 1


@quick
@given(VALUES)
def test_values_without_the_secret_are_stored_as_ever(value: Any) -> None:
    before = encode(value, what="a test")
    masking.remember(VALUE, "TEST_API_KEY")
    assert encode(value, what="a test") == before
    masking.NEEDLES.clear()


@quick
@given(st.recursive(HELD, lambda inner: st.lists(inner) | st.dictionaries(HELD, inner)))
def test_masked_json_is_json_and_holds_nothing_of_the_secret(value: Any) -> None:
    data = encode(value, what="a test").data
    masking.remember(VALUE, "TEST_API_KEY")
    clean = masked(data)
    masking.NEEDLES.clear()
    json.loads(clean)
    assert b"0123456789" not in clean


# --- failures -------------------------------------------------------------------------


def test_a_recorded_exception_holds_the_name_in_place_of_the_value(key: Secret) -> None:
    value = key.get()
    error = raised(f"bad key {value}", {"sent": [value, value.encode()]}, key=value)
    error.add_note(f"sent {value}")
    error.__cause__ = raised(repr(value))
    group = ExceptionGroup("both", [error, raised(json.dumps(value))])
    payload = encode_failure(group, origin=FailureOrigin.USER_CODE)
    assert b"0123456789" not in payload.data
    failure = decode_failure(payload)
    first = failure.exception.exceptions[0]  # type: ignore[attr-defined]
    assert first.args[0] == "bad key <secret TEST_API_KEY>"
    assert first.args[1] == {"sent": ["<secret TEST_API_KEY>", b"<secret TEST_API_KEY>"]}
    assert first.key == "<secret TEST_API_KEY>"


@pytest.mark.parametrize("before", [*range(970, 1010, 3), *range(4010, 4060, 7), 8180])
def test_no_half_of_a_secret_is_left_where_a_text_is_cut(before: int, key: Secret) -> None:
    value = key.get()
    long = "x" * before + value + "y" * 20_000

    class Shown:
        def __repr__(self) -> str:
            return long

    for argument in (long, Shown(), long.encode()):
        data = encode_failure(raised(argument), origin=FailureOrigin.USER_CODE).data
        assert b"sk-" not in data
        assert b"0123456789" not in data


def test_a_secret_in_the_url_of_an_error_is_masked(key: Secret) -> None:
    from urllib.parse import quote

    url = f"https://example.org/?key={quote(key.get(), safe='')}"
    data = encode_failure(raised(url), origin=FailureOrigin.USER_CODE).data
    assert b"?key=<secret TEST_API_KEY>" in data


# --- a whole execution ----------------------------------------------------------------


@kitaru.checkpoint
def log_in(key: Secret, user: str) -> str:
    assert key.get() == VALUE
    kitaru.log(request={"auth": [f"Bearer {key.get()}"]}, user=user)
    return f"{user} is in"


@kitaru.checkpoint
def send(key: str, padding: str) -> int:
    return len(key) + len(padding)


@kitaru.checkpoint
def leak(key: Secret) -> dict[str, str]:
    return {"token": key.get()}


@kitaru.checkpoint
def refuse(key: Secret) -> None:
    raise PermissionError(f"{key.get()} was refused")


@kitaru.flow
def session(key: Secret) -> str:
    said = log_in(key, "ann")
    kitaru.log(key=key.get())
    send(key.get(), "x" * 4060)
    send(key.get(), "")
    try:
        refuse(key)
    except PermissionError as error:
        said += f", then {error}"
    return said


@kitaru.flow
def leaking(key: Secret) -> Any:
    return leak(key)


def everything_in(store: Path) -> bytes:
    return b"".join(file.read_bytes() for file in store.rglob("*") if file.is_file())


def test_an_execution_uses_a_secret_and_its_store_never_sees_it(
    key: Secret,
    own_store: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="kitaru")
    handle = session.run(key)
    assert handle.wait() == "ann is in, then <secret TEST_API_KEY> was refused"
    rows = calls(handle.exec_id)
    assert json.loads(rows[0].metadata) == {
        "request": {"auth": ["Bearer <secret TEST_API_KEY>"]},
        "user": "ann",
    }
    assert rows[0].inputs == (
        '{"key":{"$kitaru":"secret","v":["env","TEST_API_KEY"]},"user":"ann"}'
    )
    assert json.loads(rows[2].inputs)["key"] == "<secret TEST_API_KEY>"
    assert json.loads(execution(handle.exec_id).metadata) == {"key": "<secret TEST_API_KEY>"}
    stored = everything_in(own_store)
    for form in (VALUE.encode(), json.dumps(VALUE)[1:-1].encode(), b"0123456789", b"nsafe"):
        assert form not in stored
    captured = capfd.readouterr()
    assert "0123456789" not in captured.out + captured.err + caplog.text
    assert "<secret TEST_API_KEY> was refused" in caplog.text


@kitaru.flow
def failing(key: Secret) -> None:
    raise ConnectionError(f"{key.get()} was not accepted", {"auth": key.get()})


def test_a_flow_that_fails_with_the_secret_in_its_message_leaves_no_trace_of_it(
    key: Secret, own_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="kitaru")
    handle = failing.run(key)
    with pytest.raises(KitaruUserCodeError, match="<secret TEST_API_KEY>") as caught:
        handle.wait()
    assert "0123456789" not in str(caught.value)
    record = kitaru.KitaruClient().executions.get(handle.exec_id)
    assert "<secret TEST_API_KEY> was not accepted" in record.failure.message  # type: ignore[union-attr]
    assert b"0123456789" not in everything_in(own_store)
    assert "0123456789" not in caplog.text


def test_a_result_that_is_the_secret_is_a_failure_that_names_the_path(
    key: Secret, own_store: Path
) -> None:
    handle = leaking.run(key)
    with pytest.raises(KitaruUserCodeError, match=r"leak.*at \$\.token: the value of the secret"):
        handle.wait()
    assert b"0123456789" not in everything_in(own_store)


def test_an_input_that_is_a_resolved_secret_is_refused_before_an_execution_exists(
    key: Secret, own_store: Path
) -> None:
    @kitaru.flow
    def careless(key: str) -> None: ...

    with pytest.raises(KitaruValueError, match=r"flow careless: at \$\.key") as caught:
        careless.run(key.get())
    assert "0123456789" not in str(caught.value)


def test_a_rotated_secret_is_the_same_input_and_its_outcome_is_reused(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran.clear()

    @kitaru.checkpoint
    def measure(key: Secret) -> int:
        ran.append(key.get())
        return 1

    @kitaru.flow
    def measuring(key: Secret) -> int:
        return measure(key)

    for value in ("first value", "second value"):
        monkeypatch.setenv("TEST_API_KEY", value)
        measuring.run(Secret(env="TEST_API_KEY")).wait()
    assert ran == ["first value"]
    monkeypatch.setenv("TEST_OTHER_KEY", "third value")
    measuring.run(Secret(env="TEST_OTHER_KEY")).wait()
    assert ran == ["first value", "third value"]


def test_a_notice_masks_a_secret(key: Secret, capsys: pytest.CaptureFixture[str]) -> None:
    from kitaru.notices import notice

    notice(f"tried {key.get()}")
    assert capsys.readouterr().err == "kitaru: tried <secret TEST_API_KEY>\n"


def test_nothing_of_it_is_loaded_until_a_secret_is_made() -> None:
    code = "import sys, kitaru, kitaru.flows; print('kitaru.secret' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class SaysTheKey:
    """Cannot be pickled, and says why with a secret where a long message is cut."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise ValueError("x" * 195 + VALUE)


def test_a_message_is_masked_before_it_is_cut(key: Secret) -> None:
    key.get()
    with pytest.raises(KitaruValueError) as caught:
        encode_pickled(SaysTheKey(), what="demo")
    assert VALUE[:5] not in str(caught.value)


@pytest.mark.parametrize("tag", [None, 1, ["x"], {"v": "x"}])
def test_metadata_that_looks_like_our_tags_is_masked_as_it_is(key: Secret, tag: Any) -> None:
    value = key.get()
    tree = {"$kitaru": tag, "v": [value], value: 1}
    found = masked_tree(tree)
    assert value not in json.dumps(found)
    assert found["$kitaru"] == tag
