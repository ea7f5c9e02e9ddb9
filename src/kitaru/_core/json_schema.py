"""Whether JSON data fits a recorded JSON Schema: for those who do not have the class.

The schema becomes a validator of pydantic's core, so the rules and the words are
pydantic's. What pydantic does not write itself is let through: the class decides
where it is. Strict: a text is no number, 1 is no bool.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from kitaru._core.names import shortened

MAX_PROBLEMS = 20
_MAX_DEPTH = 100

_LENGTHS = {"minLength": "min_length", "maxLength": "max_length"}
_BOUNDS = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "multipleOf": "multiple_of",
}
_ITEMS = {"minItems": "min_length", "maxItems": "max_length"}
_PROPERTIES = {"minProperties": "min_length", "maxProperties": "max_length"}
_FORMATS = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
    "uuid": "uuid",
}


class Problem(NamedTuple):
    """What is wrong at one place of an answer; ``path`` is empty for the whole of it."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        """As a person reads it.

        >>> print(Problem(("items", 0, "n"), "Input should be a valid integer"))
        items[0].n: Input should be a valid integer
        """
        return f"{shown_path(self.path)}: {self.message}" if self.path else self.message


def shown_path(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def find_problems(data: Any, schema: Mapping[str, Any]) -> list[Problem]:
    """What keeps plain JSON data from fitting the schema; [] if it fits.

    >>> find_problems({"n": 1}, {"type": "object", "properties": {"n": {"type": "integer"}}})
    []
    >>> print(*find_problems("yes", {"type": "boolean"}))
    Input should be a valid boolean (it is 'yes')
    """
    from pydantic_core import SchemaError, SchemaValidator, ValidationError

    try:
        text = json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        return [Problem((), f"it is no JSON ({error})")]
    try:
        validator = SchemaValidator(_Builder(schema).whole())
    except (SchemaError, RecursionError, TypeError, ValueError, AttributeError, KeyError):
        return []  # somebody else's schema, or an edited row: the class decides
    try:
        validator.validate_json(text, strict=True)
    except ValidationError as error:
        return problems_of(error)
    return []


def problems_of(error: Any) -> list[Problem]:
    """A ``ValidationError`` of pydantic as problems, the first ones of many."""
    found: list[Problem] = []
    for each in error.errors(include_url=False, include_context=False)[:MAX_PROBLEMS]:
        # pydantic names the alternatives of a union in the path; nobody wrote those.
        path = tuple(part for part in each["loc"] if not _is_alternative(part))
        found.append(Problem(path, each["msg"] + _given(each)))
    return list(dict.fromkeys(found))


def _is_alternative(part: str | int) -> bool:
    return isinstance(part, str) and (part in _ALTERNATIVES or "[" in part or "(" in part)


_ALTERNATIVES = frozenset(
    ("bool", "int", "float", "str", "none", "constrained-str", "constrained-int", "date",
     "constrained-float", "datetime", "time", "timedelta", "uuid", "decimal", "bytes")
)  # fmt: skip


def _given(each: Mapping[str, Any]) -> str:
    given = each.get("input")
    if each["type"] == "missing" or type(given) not in (str, int, float, bool, type(None)):
        return ""
    return f" (it is {shortened(given)})"


class _Builder:
    """From JSON Schema to the schema of pydantic's core. Unknown means anything goes."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._used: dict[str, Any] = {}
        """References that were met -> what they stand for."""

    def whole(self) -> Any:
        made = self.one(self._root, 0)
        if not self._used:
            return made
        for name in self._used:
            self._insist_on_end(name, frozenset())
        return {"type": "definitions", "schema": made, "definitions": list(self._used.values())}

    def _insist_on_end(self, name: str, above: frozenset[str]) -> None:
        """Refuse what refers to itself with nothing in between: the core would never return."""
        if name in above:
            raise ValueError("the schema refers to itself")
        for each in _directly(self._used[name]):
            self._insist_on_end(each, above | {name})

    def one(self, schema: Any, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        if not isinstance(schema, Mapping):
            return _any()
        if "$ref" in schema:
            return self._reference(schema["$ref"], depth)
        if "const" in schema:
            return _one_of([schema["const"]])
        if "enum" in schema:
            return _one_of(list(schema["enum"]))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return {
                    "type": "union",
                    "choices": [self.one(each, depth + 1) for each in schema[key]],
                }
        make = getattr(self, f"_{schema.get('type')}", None)
        return _any() if make is None else make(schema, depth)

    def _reference(self, name: str, depth: int) -> dict[str, Any]:
        key = name.removeprefix("#/$defs/")
        found = self._root.get("$defs", {}).get(key)
        if found is None:
            return _any()
        if key not in self._used:
            self._used[key] = None  # it may refer to itself
            self._used[key] = {**self.one(found, depth + 1), "ref": key}
        return {"type": "definition-ref", "schema_ref": key}

    def _null(self, schema: Any, depth: int) -> dict[str, Any]:
        return {"type": "none"}

    def _boolean(self, schema: Any, depth: int) -> dict[str, Any]:
        return {"type": "bool", "strict": True}

    def _integer(self, schema: Any, depth: int) -> dict[str, Any]:
        return {"type": "int", "strict": True, **_renamed(schema, _BOUNDS)}

    def _number(self, schema: Any, depth: int) -> dict[str, Any]:
        return {"type": "float", "strict": True, **_renamed(schema, _BOUNDS)}

    def _string(self, schema: Any, depth: int) -> dict[str, Any]:
        kind = _FORMATS.get(schema.get("format", ""))
        if kind is not None:
            return {"type": kind}
        made = {"type": "str", "strict": True, **_renamed(schema, _LENGTHS)}
        if _compiles(schema.get("pattern")):
            made["pattern"] = schema["pattern"]
        return made

    def _array(self, schema: Any, depth: int) -> dict[str, Any]:
        if "prefixItems" in schema:
            places = [self.one(each, depth + 1) for each in schema["prefixItems"]]
            return {"type": "tuple", "items_schema": places}
        kind = "set" if schema.get("uniqueItems") is True else "list"
        items = self.one(schema.get("items"), depth + 1)
        if kind == "set" and items["type"] not in ("str", "int", "float", "function-plain", "uuid"):
            kind = "list"  # of what may be no member of a set
        return {"type": kind, "items_schema": items, **_renamed(schema, _ITEMS)}

    def _object(self, schema: Any, depth: int) -> dict[str, Any]:
        more = schema.get("additionalProperties", True)
        properties = schema.get("properties")
        if properties is None:
            values = self.one(more, depth + 1) if isinstance(more, Mapping) else _any()
            return {"type": "dict", "values_schema": values, **_renamed(schema, _PROPERTIES)}
        required = schema.get("required", ())
        fields = {
            str(name): {
                "type": "typed-dict-field",
                "schema": self.one(each, depth + 1),
                "required": name in required,
            }
            for name, each in properties.items()
        }
        made: dict[str, Any] = {"type": "typed-dict", "fields": fields}
        if isinstance(more, Mapping):
            made |= {"extra_behavior": "allow", "extras_schema": self.one(more, depth + 1)}
        elif more is False:
            made["extra_behavior"] = "forbid"
        return made


def _directly(made: Mapping[str, Any]) -> Iterator[str]:
    """What a schema of the core refers to for the very same data."""
    if made["type"] == "definition-ref":
        yield made["schema_ref"]
    for each in made.get("choices", ()):
        yield from _directly(each)


def _any() -> dict[str, Any]:
    return {"type": "any"}


def _one_of(values: list[Any]) -> dict[str, Any]:
    plain = all(type(each) in (str, int, bool, type(None)) for each in values)
    if not values or not plain:
        return _any()
    expected = " or ".join(filter(None, (", ".join(map(repr, values[:-1])), repr(values[-1]))))

    def check(given: Any) -> Any:
        # The core's own literals take true for 1.
        if any(type(given) is type(each) and given == each for each in values):
            return given
        from pydantic_core import PydanticCustomError

        raise PydanticCustomError(
            "literal_error", "Input should be {expected}", {"expected": expected}
        )

    return {"type": "function-plain", "function": {"type": "no-info", "function": check}}


def _renamed(schema: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: schema[theirs] for theirs, ours in names.items() if theirs in schema}


def _compiles(pattern: object) -> bool:
    """Whether the core's engine of regular expressions knows all of this one."""
    from pydantic_core import SchemaError, SchemaValidator

    if not isinstance(pattern, str):
        return False
    try:
        SchemaValidator({"type": "str", "pattern": pattern})
    except SchemaError:
        return False
    return True
