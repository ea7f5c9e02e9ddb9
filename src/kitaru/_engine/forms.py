"""A JSON Schema as questions that a person answers line by line.

Pure: a form is a generator that says and asks, and is sent lines; who shows
them, and where lines come from, is another's affair. A bad answer is explained
and asked again; nothing leaves a form that does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from kitaru._core.json_schema import Problem, find_problems
from kitaru._core.names import shortened

MAX_ITEMS = 1_000
_MAX_DEPTH = 20
_LEAVE_OUT: Any = object()
"""The answer to what may be left out: its default is the class's affair."""

_REQUIRED: Any = object()
"""Instead of a default: something has to be answered."""

_YES = ("y", "yes", "true", "on", "1")
_NO = ("n", "no", "false", "off", "0")


class Say(NamedTuple):
    """Lines to be shown."""

    text: str
    is_problem: bool = False


class Ask(NamedTuple):
    """A line to be read; answered with its text."""

    prompt: str


T = TypeVar("T")
Form = Generator[Say | Ask, str, T]
Check = Callable[[Any], Sequence[Problem]]


def fill(schema: Mapping[str, Any] | None, check: Check) -> Form[Any]:
    """Ask for an answer until ``check`` has nothing against it -> the answer, as JSON data.

    Without a schema: whether to go on; None then. :class:`Declined` if not.
    """
    if schema is None:
        if (yield from _yes_or_no("go on?", None)) is False:
            raise Declined
        return None
    form = _Form(schema)
    answer = yield from form.ask(schema, "", "")
    while problems := check(answer):
        for problem in problems:
            yield Say(str(problem), is_problem=True)
        answer = yield from form.ask_again(schema, answer, problems)
    return answer


class Declined(Exception):
    """A gate was answered with no: whoever asks decides what becomes of that."""


class _Form:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._definitions = root.get("$defs", {})

    def ask(
        self, schema: Any, name: str, path: str, default: Any = _REQUIRED, depth: int = 0
    ) -> Form[Any]:
        """One value, by whatever way its schema says."""
        schema = self._resolved(schema)
        default = schema.get("default", default)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return (yield from self._choose(schema, path, default))
        kind = schema.get("type")
        if kind == "boolean":
            return (yield from _yes_or_no(_label(schema, path), _as_bool(default)))
        if kind == "object" and schema.get("properties") and depth < _MAX_DEPTH:
            return (yield from self._object(schema, path, depth))
        if kind == "array" and "prefixItems" not in schema and depth < _MAX_DEPTH:
            return (yield from self._array(schema, path, default, depth))
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return (yield from self._one_of(schema, schema[key], name, path, default, depth))
        return (yield from self._line(schema, path, default))

    def ask_again(self, schema: Any, answer: Any, problems: Iterable[Problem]) -> Form[Any]:
        """The fields that are wrong; all of it where no field is named."""
        schema = self._resolved(schema)
        fields = schema.get("properties", {})
        wrong = [problem.path[0] if problem.path else None for problem in problems]
        if not isinstance(answer, dict) or not all(name in fields for name in wrong):
            return (yield from self.ask(schema, "", ""))
        for name in dict.fromkeys(map(str, wrong)):
            yield from self._field(schema, name, "", answer, 0)
        return answer

    # --- structures -------------------------------------------------------------------------

    def _object(self, schema: Mapping[str, Any], path: str, depth: int) -> Form[Any]:
        answer: dict[str, Any] = {}
        if path and schema.get("description"):
            yield Say(f"{path}: {_first_line(schema['description'])}")
        for name in schema["properties"]:
            yield from self._field(schema, str(name), path, answer, depth)
        return answer

    def _field(
        self, schema: Mapping[str, Any], name: str, path: str, answer: dict[str, Any], depth: int
    ) -> Form[None]:
        field = self._resolved(schema["properties"][name])
        inside = f"{path}.{name}" if path else name
        required = name in schema.get("required", ())
        if not required and "default" not in field:
            field = {**field, "default": None} if _takes_null(field) else field
        if not required and _is_large(field):
            given = yield from _yes_or_no(f"{inside}: give it?", False)
            if not given:
                answer.pop(name, None)
                return
        default = _REQUIRED if required else _LEAVE_OUT
        value = yield from self.ask(field, name, inside, default, depth=depth + 1)
        if value is _LEAVE_OUT:
            answer.pop(name, None)
        else:
            answer[name] = value

    def _array(self, schema: Mapping[str, Any], path: str, default: Any, depth: int) -> Form[Any]:
        items = self._resolved(schema.get("items") or {})
        if _is_large(items):
            return (yield from self._items(schema, items, path, depth))
        yield Say(f"{_label(schema, path) or 'items'}, one a line; an empty line ends")
        while True:
            answer: list[Any] = []
            while len(answer) < MAX_ITEMS:
                item = yield from self._line(items, f"{path}[{len(answer)}]", _REQUIRED, True)
                if item is _LEAVE_OUT:
                    break
                answer.append(item)
            if not answer and default is not _REQUIRED:
                return _LEAVE_OUT
            if (yield from self._fits(answer, schema)):
                return answer

    def _items(
        self, schema: Mapping[str, Any], items: Mapping[str, Any], path: str, depth: int
    ) -> Form[Any]:
        """A list of what takes more than a line each."""
        while True:
            answer: list[Any] = []
            least = schema.get("minItems", 0)
            while len(answer) < MAX_ITEMS:
                inside = f"{path}[{len(answer)}]"
                if len(answer) >= least and not (
                    yield from _yes_or_no(f"{inside}: add it?", False)
                ):
                    break
                answer.append((yield from self.ask(items, "", inside, depth=depth + 1)))
            if (yield from self._fits(answer, schema)):
                return answer

    def _one_of(
        self, schema: Any, choices: Any, name: str, path: str, default: Any, depth: int
    ) -> Form[Any]:
        choices = [self._resolved(each) for each in choices]
        others = [each for each in choices if each.get("type") != "null"]
        if len(others) == 1 and len(choices) == 2:
            only = {**others[0], **{k: schema[k] for k in ("description", "title") if k in schema}}
            if _is_large(only):
                if not (yield from _yes_or_no(f"{path or 'it'}: give it?", False)):
                    return None
                return (yield from self.ask(only, name, path, depth=depth))
            default = None if default is _REQUIRED else default
            return (yield from self.ask(only, name, path, default, depth=depth))
        if not all(map(_is_large, others)) or depth >= _MAX_DEPTH:
            return (yield from self._line(schema, path, default))
        names = [str(each.get("title", number)) for number, each in enumerate(choices, 1)]
        chosen = yield from self._choose({"enum": names}, path, _REQUIRED)
        return (yield from self.ask(choices[names.index(chosen)], name, path, depth=depth + 1))

    # --- single lines -----------------------------------------------------------------------

    def _choose(self, schema: Mapping[str, Any], path: str, default: Any) -> Form[Any]:
        values = list(schema["enum"])
        shown = [each if isinstance(each, str) else json.dumps(each) for each in values]
        label = _label(schema, path)
        listed = "\n".join(f"  {number}. {text}" for number, text in enumerate(shown, 1))
        yield Say(f"{label}\n{listed}" if label else listed)
        while True:
            prompt = _prompt(path, default, ())
            text = (yield Ask(prompt or "which? ")).strip()
            if not text and default is not _REQUIRED:
                return default
            if text in shown:
                return values[shown.index(text)]
            folded = [each.casefold() for each in shown]
            if folded.count(text.casefold()) == 1:
                return values[folded.index(text.casefold())]
            if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= len(values):
                return values[int(text) - 1]
            yield Say(f"{shortened(text)} is none of them: give a number or the words", True)

    def _line(
        self, schema: Mapping[str, Any], path: str, default: Any, item: bool = False
    ) -> Form[Any]:
        hint = _hint(schema)
        while True:
            text = yield Ask(_prompt(path if item else _label(schema, path), default, hint))
            if not text.strip() and (item or default is not _REQUIRED):
                return _LEAVE_OUT if item else default
            value = read(text, schema, self._fit_quietly)
            if (yield from self._fits(value, schema)):
                return value

    def _fit_quietly(self, value: Any, schema: Mapping[str, Any]) -> bool:
        return not find_problems(value, {**schema, "$defs": self._definitions})

    def _fits(self, value: Any, schema: Mapping[str, Any]) -> Form[bool]:
        problems = find_problems(value, {**schema, "$defs": self._definitions})
        for problem in problems:
            yield Say(str(problem), is_problem=True)
        return not problems

    def _resolved(self, schema: Any) -> Mapping[str, Any]:
        """What a reference stands for, with what is said beside it."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, Mapping):
                return {}
            name = schema.get("$ref")
            if not isinstance(name, str):
                break
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            schema = {**self._definitions.get(name.removeprefix("#/$defs/"), {}), **beside}
        return dict(schema)


def read(
    text: str, schema: Mapping[str, Any] | None, fits: Callable[[Any, Mapping[str, Any]], bool]
) -> Any:
    """What a person means by a text: JSON where that fits, else the text itself.

    >>> def fits(value, schema): return not find_problems(value, schema)
    >>> read("3", {"type": "integer"}, fits), read("3", {"type": "string"}, fits)
    (3, '3')
    """
    if schema is not None and schema.get("type") == "string":
        return _text_of(text, schema, fits)
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        return text.strip()
    if schema is None or isinstance(value, str) or fits(value, schema):
        return value
    # `5` may be meant as a text: `str | None`, or one of several words.
    return text if fits(text, schema) else value


def _text_of(
    text: str, schema: Mapping[str, Any], fits: Callable[[Any, Mapping[str, Any]], bool]
) -> str:
    stripped = text.strip()
    return text if stripped == text or fits(text, schema) else stripped


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands there twice")
    return made


def _yes_or_no(label: str, default: bool | None) -> Form[bool]:
    choices = {True: "Y/n", False: "y/N", None: "y/n"}[default]
    while True:
        text = (yield Ask(f"{label} ({choices}) ".lstrip())).strip().casefold()
        if text in _YES:
            return True
        if text in _NO:
            return False
        if not text and default is not None:
            return default
        yield Say("answer y or n", is_problem=True)


# --- words -------------------------------------------------------------------------------


def _label(schema: Mapping[str, Any], path: str) -> str:
    said = schema.get("description")
    about = _first_line(said) if path and isinstance(said, str) else ""
    return f"{path} ({about})" if about else path


def _first_line(text: object) -> str:
    return str(text).strip().partition("\n")[0][:200]


def _prompt(label: str, default: Any, hint: Iterable[str]) -> str:
    said = ", ".join(hint)
    text = f"{label}, {said}" if label and said else label or said
    if default is None:
        return f"{text} [none]: ".lstrip()
    if default is _LEAVE_OUT:
        return f"{text} [leave out]: ".lstrip()
    if default is not _REQUIRED:
        shown = default if isinstance(default, str) and default else json.dumps(default)
        return f"{text} [{shown[:60]}]: ".lstrip()
    return f"{text}: " if text else "> "


def _hint(schema: Mapping[str, Any]) -> list[str]:
    """What a line has to be, in a few words."""
    kind, form = schema.get("type"), schema.get("format")
    if kind == "string":
        return [_FORMATS[form]] if form in _FORMATS else _bounds(schema, "minLength", "maxLength",
                                                                 " characters")  # fmt: skip
    if kind in ("integer", "number"):
        word = "a whole number" if kind == "integer" else "a number"
        return [word, *_bounds(schema, "minimum", "maximum", "")]
    return [] if kind in ("boolean", "null") else ["as JSON"]


_FORMATS = {
    "date-time": "a day and time like 2026-03-01T12:00:00Z",
    "date": "a day like 2026-03-01",
    "time": "a time like 12:00",
    "duration": "a length of time like PT30M",
    "uuid": "a UUID",
}


def _bounds(schema: Mapping[str, Any], least: str, most: str, of: str) -> list[str]:
    low, high = schema.get(least), schema.get(most)
    if low is not None and high is not None:
        return [f"{low} to {high}{of}"]
    if low is not None:
        return [f"{low}{of} or more"]
    return [] if high is None else [f"at most {high}{of}"]


def _as_bool(default: Any) -> bool | None:
    return default if isinstance(default, bool) else None


def _is_large(schema: Mapping[str, Any]) -> bool:
    """Whether it takes more than a line."""
    return schema.get("type") == "object" and bool(schema.get("properties"))


def _takes_null(schema: Mapping[str, Any]) -> bool:
    return any(
        isinstance(each, Mapping) and each.get("type") == "null" for each in schema.get("anyOf", ())
    )


def described(schema: Mapping[str, Any] | None) -> str:
    """What is asked for, in one line for people.

    >>> described({"type": "boolean"}), described(None)
    ('yes or no', 'whether to go on')
    >>> described({"enum": ["approve", "reject"]})
    'approve | reject'
    """
    if schema is None:
        return "whether to go on"
    return _described(schema, schema.get("$defs", {}), 0)[:200]


def _described(schema: Any, definitions: Mapping[str, Any], depth: int) -> str:
    if not isinstance(schema, Mapping) or depth > 4:
        return "anything"
    name = schema.get("$ref")
    if isinstance(name, str):
        found = definitions.get(name.removeprefix("#/$defs/"))
        return _described(found, definitions, depth + 1)

    def below(each: Any) -> str:
        return _described(each, definitions, depth + 1)

    if "const" in schema:
        return str(schema["const"])
    if schema.get("enum"):
        return " | ".join(
            each if isinstance(each, str) else json.dumps(each) for each in schema["enum"]
        )
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return " | ".join(dict.fromkeys(map(below, schema[key])))
    kind = schema.get("type")
    if kind == "object" and schema.get("properties"):
        required = schema.get("required", ())
        fields = (
            f"{name}{'' if name in required else '?'}: {below(each)}"
            for name, each in schema["properties"].items()
        )
        return "{" + ", ".join(fields) + "}"
    if kind == "array":
        return f"a list of {below(schema['items'])}" if schema.get("items") else "a list"
    return _KINDS.get(kind, "anything") if isinstance(kind, str) else "anything"


_KINDS = {
    "boolean": "yes or no",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "null": "nothing",
    "object": "an object",
}
