"""What a wait asks for: from a type to the JSON Schema that is recorded, and from an answer to a
value of the type.

An answer is recorded as the JSON that was given, whoever gave it. The flow makes
a value of its type of it, anew in every life. So no process needs the class to
answer, and the class has the last word. Plain types never load pydantic.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from kitaru._core.fitting import misfit
from kitaru._core.json_schema import Problem, find_problems, problems_of
from kitaru._core.names import shortened
from kitaru._core.payload import Payload
from kitaru._core.values import decode, encode, message_of
from kitaru.errors import KitaruUsageError, KitaruWaitValidationError

MAX_SCHEMA_BYTES = 256 * 1024

_PLAIN: Mapping[Any, Mapping[str, Any]] = {
    bool: {"type": "boolean"},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    list: {"items": {}, "type": "array"},
    dict: {"additionalProperties": True, "type": "object"},
    type(None): {"type": "null"},
}
"""As pydantic would write them, without asking it."""

_JSON_NAMES = {str: "string", int: "integer", bool: "boolean", float: "number", type(None): "null"}


# --- from a type to a schema -------------------------------------------------------------


def schema_of(asked: Any) -> str | None:
    """The JSON Schema of what a wait asks for, as recorded; None for a gate (``schema=None``).

    Raises ``KitaruUsageError`` for what is no type, has no JSON Schema, or asks
    for a secret: an answer is recorded as it was given.

    >>> schema_of(bool), schema_of(None)
    ('{"type":"boolean"}', None)
    """
    if asked is None:
        return None
    plain = _plain_schema(asked)
    schema = _pydantic_schema(asked) if plain is None else plain
    text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_SCHEMA_BYTES:
        raise _not_a_schema(asked, f"its JSON Schema has {len(text):,} characters")
    if _asks_for_secret(schema):
        raise KitaruUsageError(
            f"wait(schema={_name(asked)}) asks for a secret, and answers are recorded as they are "
            "given: ask for the name of a variable or a file, and read it with kitaru.Secret",
            code="secret-in-value",
        )
    return text


def _plain_schema(asked: Any) -> dict[str, Any] | None:
    """The schema of a type that can be told without pydantic."""
    if asked is Any:
        return {}
    try:
        if asked in _PLAIN:
            return dict(_PLAIN[asked])
    except Exception:
        return None  # no hash of its own, or one that raises
    if typing.get_origin(asked) is not typing.Literal:
        return None
    values = typing.get_args(asked)
    kinds = {type(value) for value in values}
    if not kinds <= _JSON_NAMES.keys():
        return None  # members of an Enum
    made: dict[str, Any] = {"enum": [*values]}
    if len(values) == 1:
        made = {"const": next(iter(values))}
    if len(kinds) == 1:
        made["type"] = _JSON_NAMES[kinds.pop()]
    return made


def _pydantic_schema(asked: Any) -> dict[str, Any]:
    if isinstance(asked, (str, bytes, int, float, Mapping, list, tuple, set, frozenset)):
        raise _not_a_schema(asked, "it is no type")
    try:
        return dict(adapter_of(asked).json_schema())
    except KitaruUsageError:
        raise
    except Exception as error:
        # pydantic asks the user's own classes, which may raise anything.
        raise _not_a_schema(asked, str(error).partition("\n")[0]) from error


def _not_a_schema(asked: Any, why: str) -> KitaruUsageError:
    return KitaruUsageError(
        f"wait(schema={_name(asked)}) cannot be asked for ({why[:200]}): pass a type that JSON can "
        "say: bool, str, int, a Literal, an Enum, a dataclass, a pydantic model, or a list or dict "
        "of such",
        code="wait-schema-invalid",
    )


def _name(asked: Any) -> str:
    if isinstance(asked, type):
        return asked.__qualname__[:60]
    if typing.get_origin(asked) is None:
        return shortened(asked)
    return str(asked).replace("typing.", "")[:60]


def _asks_for_secret(schema: Any, depth: int = 0) -> bool:
    if isinstance(schema, list):
        return any(_asks_for_secret(each, depth + 1) for each in schema)
    if not isinstance(schema, dict) or depth > 100:
        return False
    if schema.get("writeOnly") is True and schema.get("format") == "password":
        return True
    return any(_asks_for_secret(each, depth + 1) for each in schema.values())


@functools.lru_cache(maxsize=256)
def _adapter(asked: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(_for_pydantic(asked))


def _for_pydantic(asked: Any) -> Any:
    """The type as pydantic takes it: before Python 3.12 it wants another ``TypedDict``."""
    if sys.version_info >= (3, 12):
        return asked
    if typing.is_typeddict(asked) and type(asked).__module__ == "typing":
        import typing_extensions

        fields = {
            name: _for_pydantic(hint)
            for name, hint in typing.get_type_hints(asked, include_extras=True).items()
        }
        for name in asked.__optional_keys__:
            if typing.get_origin(fields[name]) not in (typing.Required, typing.NotRequired):
                fields[name] = typing_extensions.NotRequired[fields[name]]
        made: Any = typing_extensions.TypedDict
        return made(asked.__name__, fields)
    parts = typing.get_args(asked)
    if not parts or typing.get_origin(asked) in (typing.Literal, typing.Annotated):
        return asked
    again = tuple(map(_for_pydantic, parts))
    if all(one is other for one, other in zip(parts, again, strict=True)):
        return asked
    if isinstance(asked, types.UnionType):
        return typing.Union[again]  # noqa: UP007
    return (
        asked.copy_with(again) if hasattr(asked, "copy_with") else typing.get_origin(asked)[again]
    )


def adapter_of(asked: Any) -> Any:
    """pydantic's adapter of a type, made once: it costs milliseconds."""
    try:
        return _adapter(asked)
    except TypeError:
        return _adapter.__wrapped__(asked)  # unhashable


# --- types that this process has asked for ----------------------------------------------------

_asked: dict[tuple[str, str], tuple[Any, ...]] = {}


def remember(flow_id: str, schema: str, asked: Any) -> None:
    """An answer that is given in this process can be held against the class itself."""
    known = _asked.get((flow_id, schema), ())
    if not any(each is asked or each == asked for each in known):
        _asked[flow_id, schema] = (*known, asked)


def known_type(flow_id: str, schema: str) -> Any:
    """The type behind a recorded schema, if this process has asked for it; None: unknown.

    Two classes of one flow may have equal schemas; then neither is the one.
    """
    known = _asked.get((flow_id, schema), ())
    return known[0] if len(known) == 1 else None


# --- from an answer to what is recorded ---------------------------------------------------------


def answer_of(value: Any, *, wait: str) -> Any:
    """What was given as plain JSON data: models, dataclasses, enums and dates as JSON says them."""
    if _is_json(value):
        return value
    from pydantic_core import to_jsonable_python

    try:
        # First as any value is recorded: pydantic would read an iterator to its end, if it has one.
        encode(value, what=f"the answer to {wait!r}")
        return to_jsonable_python(
            value, by_alias=True, inf_nan_mode="constants", fallback=_without_json
        )
    except Exception as error:
        said = message_of(error)[:200]
        raise unfit(wait, [Problem((), f"it has no JSON ({said})")]) from error


def _without_json(value: Any) -> Any:
    # Without asking the object for its repr, as pydantic would.
    raise TypeError(f"{shortened(value)}")


def _is_json(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    # One by one with `is`: `in` would ask a metaclass's __eq__.
    if kind is str or kind is int or kind is float or kind is bool or value is None:
        return True
    if depth > 100:
        return False
    if kind is list:
        return all(_is_json(each, depth + 1) for each in value)
    if kind is dict:
        return all(type(k) is str and _is_json(v, depth + 1) for k, v in value.items())
    return False


def find_misfits(data: Any, schema: str | None, asked: Any = None) -> list[Problem]:
    """What keeps an answer from fitting; by the type itself where it is known (not None).

    A gate takes null, or true, which says the same: go on.
    """
    if schema is None:
        if data is None or data is True:
            return []
        return [Problem((), "this wait only asks whether to go on: answer null, or abort it")]
    if asked is not None:
        return _converted(data, asked)[1]
    try:
        found = json.loads(schema)
    except (ValueError, RecursionError):
        return []  # an edited row: the flow decides
    return find_problems(data, found)


def sealed_answer(data: Any, *, schema: str | None, wait: str) -> Payload:
    """What is recorded of an answer that fits."""
    return encode(None if schema is None else data, what=f"the answer to {wait!r}")


def unfit(
    wait: str, problems: Iterable[Problem], *, said_by: str = ""
) -> KitaruWaitValidationError:
    """The error for an answer that does not fit: every field that is wrong, and what now."""
    problems = list(problems)
    listed = "".join(f"\n  {problem}" for problem in problems)
    if len(problems) == 1:
        listed = f" {problems[0]}"
    by = f" ({said_by})" if said_by else ""
    return KitaruWaitValidationError(
        f"the answer to wait {wait!r} does not fit{by}:{listed}\nNothing changed, the wait is "
        "still open: answer again",
        code="wait-answer-invalid",
    )


# --- from what is recorded to a value -----------------------------------------------


def receive(payload: Payload, asked: Any, *, wait: str) -> Any:
    """The value that a flow gets: of the type that it asked for, or None at a gate.

    Raises ``KitaruWaitValidationError`` if the class refuses what the schema let through.
    """
    if asked is None:
        return None
    data = decode(payload, what=f"the answer to {wait!r}")
    value, problems = _converted(data, asked)
    if problems:
        raise unfit(wait, problems, said_by=_name(asked))
    return value


def _converted(data: Any, asked: Any) -> tuple[Any, list[Problem]]:
    """(the value, problems) of JSON data as a type, strictly."""
    if _plain_schema(asked) is not None:
        return _converted_plainly(data, asked)
    import pydantic

    try:
        text = json.dumps(data)
        return adapter_of(asked).validate_json(text, strict=True), []
    except pydantic.ValidationError as error:
        return None, problems_of(error)
    except Exception as error:
        # Validators are the user's code: whatever they raise, the answer does not fit.
        said = f"{type(error).__name__}: {error}"[:200]
        return None, [Problem((), f"{_name(asked)} refused it with {said}")]


def _converted_plainly(data: Any, asked: Any) -> tuple[Any, list[Problem]]:
    if asked is Any:
        return data, []
    if asked is float and type(data) is int:
        try:
            data = float(data)
        except OverflowError:
            data = math.inf
    found = misfit(data, asked, "it")
    return data, [] if found is None else [Problem((), found)]


def default_of(value: Any, asked: Any, *, wait: str) -> Payload:
    """What a wait comes to when it expires, held against the type when the wait is opened."""
    data = answer_of(value, wait=wait)
    problems = find_misfits(data, None if asked is None else "", asked)
    if problems:
        raise KitaruUsageError(
            f"wait({wait!r}): on_expire does not fit its schema: "
            f"{'; '.join(map(str, problems))}: pass a value that could be answered",
            code="wait-answer-invalid",
        )
    return encode(None if asked is None else data, what=f"on_expire of {wait!r}")
