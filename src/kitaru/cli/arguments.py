"""A flow's arguments from the words of a command line, read as its annotations say.

Knows how a person writes a value; whether it fits the flow is decided where
every run decides it.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Sequence
from typing import Any

from kitaru._core.hints import hints_of
from kitaru._core.names import shortened
from kitaru._core.replaying import find_calls
from kitaru._engine.loaded import loaded_spec
from kitaru.errors import KitaruUsageError
from kitaru.flows import Flow
from kitaru.model import CheckpointCall

Arguments = tuple[list[Any], dict[str, Any]]

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_MISSING: Any = object()


def read_arguments(flow: Flow[Any, Any], as_json: str | None, words: Sequence[str]) -> Arguments:
    """(positional, by name) from ``--args`` and from the words after ``--``.

    Raises ``KitaruUsageError`` that names the parameter.
    """
    signature = inspect.signature(flow.func)
    hints = _hints(flow)
    positional, named = _from_json(as_json, hints)
    for name, text in _pairs(words, signature, flow.spec.name):
        if name in named:
            raise KitaruUsageError(
                f"argument {name!r} is given twice: take one of them out",
                code="flow-arguments-invalid",
            )
        named[name] = parse_word(text, hints.get(name, _MISSING), name)
    return _placed(signature, positional, named)


def read_inputs(flow: Flow[Any, Any], as_json: str | None) -> dict[str, Any]:
    """The inputs that a replay changes, by name, from ``--args``."""
    positional, named = _from_json(as_json, _hints(flow))
    if positional:
        raise KitaruUsageError(
            "--args is a JSON list: a replay changes inputs by name, write an object, for example "
            '--args \'{"topic": "rivers"}\'',
            code="flow-arguments-invalid",
        )
    return named


def read_overrides(as_json: str | None, calls: Sequence[CheckpointCall]) -> dict[str, Any] | None:
    """Outcomes by key, each as what its checkpoint returns, from ``--overrides``."""
    if as_json is None:
        return None
    try:
        found = json.loads(as_json, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise KitaruUsageError(
            f"--overrides is not JSON ({error}): write for example --overrides "
            '\'{"checkpoint.draft": "another text"}\'',
            code="override-invalid",
        ) from None
    if not isinstance(found, dict):
        raise KitaruUsageError(
            f"--overrides is the JSON of a {type(found).__name__}: pass an object, for example "
            '\'{"checkpoint.draft": "another text"}\'',
            code="override-invalid",
        )
    return {key: _outcome(key, value, calls) for key, value in found.items()}


def _outcome(key: str, value: Any, calls: Sequence[CheckpointCall]) -> Any:
    meant = find_calls(calls, key.partition(".")[2]) if key.startswith("checkpoint.") else []
    spec = loaded_spec(meant[0].checkpoint_id) if len(meant) == 1 else None
    return value if spec is None else _fitted(value, hints_of(spec.fn).get("return", _MISSING))


def _hints(flow: Flow[Any, Any]) -> dict[str, Any]:
    return hints_of(flow.func) or {}


def _from_json(text: str | None, hints: dict[str, Any]) -> Arguments:
    if text is None:
        return [], {}
    try:
        found = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise KitaruUsageError(
            f'--args is not JSON ({error}): write for example --args \'{{"name": "World"}}\'',
            code="flow-arguments-invalid",
        ) from None
    if isinstance(found, dict):
        return [], {
            name: _fitted(value, hints.get(name, _MISSING)) for name, value in found.items()
        }
    if isinstance(found, list):
        return found, {}
    raise KitaruUsageError(
        f"--args is the JSON of a {type(found).__name__}: pass an object (arguments by name) "
        "or a list (by position)",
        code="flow-arguments-invalid",
    )


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {shortened(twice)} stands there twice")
    return made


def _pairs(
    words: Sequence[str], signature: inspect.Signature, flow: str
) -> list[tuple[str, str | None]]:
    """``--name value``, ``--name=value`` and bare ``--flag`` -> (parameter, text or None)."""
    found: list[tuple[str, str | None]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            raise KitaruUsageError(
                f"{shortened(word)} is no argument by name: after -- write --NAME VALUE "
                f"(for example --{_first(signature)} VALUE); options of `kitaru run` "
                "itself go before it",
                code="flow-arguments-invalid",
            )
        name, equals, text = word[2:].partition("=")
        name = _parameter(name, signature, flow)
        if equals:
            found.append((name, text))
        elif rest and not rest[0].startswith("--"):
            found.append((name, rest.pop(0)))
        else:
            found.append((name, None))
    return found


def _first(signature: inspect.Signature) -> str:
    return next(iter(signature.parameters), "name").replace("_", "-")


def _parameter(name: str, signature: inspect.Signature, flow: str) -> str:
    known = [p for p in signature.parameters.values() if p.kind is not p.VAR_POSITIONAL]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in known)
    names = [p.name for p in known if p.kind is not p.VAR_KEYWORD]
    for spelt in (name, name.replace("-", "_")):
        if spelt in names:
            return spelt
    if takes_any and name.isidentifier() and name not in ("cache", "retries"):
        return name
    near = difflib.get_close_matches(name.replace("-", "_"), names, n=1)
    hint = f"did you mean --{near[0]}?" if near else f"it takes {', '.join(names) or 'none'}"
    raise KitaruUsageError(
        f"flow {flow!r} has no argument {shortened(name)}: {hint}", code="flow-arguments-invalid"
    )


def parse_word(text: str | None, hint: Any, name: str) -> Any:
    """One value from the text of a command line, as the annotation says; without one: JSON or text.

    >>> parse_word("3", int, "n"), parse_word("3", str, "s"), parse_word("[1]", list, "xs")
    (3, '3', [1])
    """
    if text is None:
        if hint is bool or hint is _MISSING:
            return True
        raise KitaruUsageError(
            f"argument --{name} has no value: write --{name} VALUE",
            code="flow-arguments-invalid",
        )
    if hint is str:
        return text
    if hint is bool:
        return _boolean(text, name)
    if hint is int or hint is float:
        try:
            return hint(text)
        except ValueError:
            kind = "a whole number" if hint is int else "a number"
            raise KitaruUsageError(
                f"argument --{name} is {shortened(text)}: the flow asks for {kind}, write one",
                code="flow-arguments-invalid",
            ) from None
    value = _json_or_text(text)
    if hint is _MISSING:
        return value
    fitted = _fitted(value, hint)
    # A text that looks like JSON may be meant as text: `str | None` and its like.
    return fitted if fitted is not value or value is text else _fitted_text(text, value, hint)


def _boolean(text: str, name: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise KitaruUsageError(
        f"argument --{name} is {shortened(text)}: write true or false, or --{name} alone",
        code="flow-arguments-invalid",
    )


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _fitted(value: Any, hint: Any) -> Any:
    """JSON data as what the annotation asks for (a date, a dataclass …), where that can be made."""
    found = _validated(value, hint) if hint is not _MISSING else value
    return value if found is _MISSING else found


def _fitted_text(text: str, value: Any, hint: Any) -> Any:
    if _validated(value, hint) is not _MISSING:
        return value
    found = _validated(text, hint)
    return value if found is _MISSING else found


def _validated(value: Any, hint: Any) -> Any:
    """``value`` read strictly as JSON of ``hint``; ``_MISSING`` if it does not fit."""
    if type(value) is hint or hint is Any:
        return value
    # Some 150 ms, so only for annotations that plain JSON types do not answer.
    import pydantic

    try:
        made = pydantic.TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except (pydantic.ValidationError, pydantic.errors.PydanticUserError, TypeError, ValueError):
        return _MISSING
    return value if type(made) is type(value) and made == value else made


def _placed(
    signature: inspect.Signature, positional: list[Any], named: dict[str, Any]
) -> Arguments:
    """By name, but for parameters that take no name."""
    for parameter in signature.parameters.values():
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            break
        if parameter.name in named:
            positional = [*positional, named.pop(parameter.name)]
    return positional, named
