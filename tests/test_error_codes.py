"""Every error that the source raises has a code of the registry, and says what to do next."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kitaru import errors
from kitaru._core.payload import seal
from kitaru._core.values import encode_failure, failure_info
from kitaru._store.sqlite.errors import _REMEDIES
from kitaru.codes import CODE_OF_ORIGIN, CODES, Kind, kind_of
from kitaru.errors import FailureOrigin, KitaruError, KitaruUsageError

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "kitaru"
REGISTRY = "src/kitaru/codes.py"

CLASSES = {
    name
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, KitaruError)
} | {"ModuleFailed"}
MAKERS = CLASSES | {"problem"}
"""What makes an error of ours when it is called."""

COMPUTED = {"code", "info.code", "error.code"}
"""Expressions that may stand for a code: each is taken from a table or from another error."""

NEXT_STEP = re.compile(
    r"\b(add|ask|await|call|change|check|choose|collect|convert|copy|decorate|define|drop|end|"
    r"flatten|follow|install|free|give|go|leave|log|look|make|mend|move|name|pass|put|read|rename|report|"
    r"resume|restore|retry|return|run|say|see|show|split|start|stop|store|take|try|upgrade|use|"
    r"unpickle|wait|wrap|write|did you mean|there are)\b",
    re.I,
)
"""Words with which a next step begins."""

STEPS = {
    "hint",
    "remedy",
    "next_step",
    "goes_on",
    "instead",
    "_remedy",
    "message",
    "says",
    "text",
    "error",
    "_not_found",
}
"""Names of variables that hold a next step, or a message that has one already."""


@dataclass(frozen=True)
class Site:
    """A place that makes an error."""

    path: str
    line: int
    maker: str
    code: str | None
    """The code as it is written there, or the expression that stands for it."""
    is_literal: bool
    text: str
    """The fixed parts of the message."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.maker}({self.text[:60]!r} …)"


def sites() -> Iterator[Site]:
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name == "errors.py" and path.parent == SOURCE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and _name(node.func) in MAKERS:
                yield _site(path.relative_to(ROOT).as_posix(), node)


def _name(func: ast.expr) -> str:
    if isinstance(func, ast.Name):
        return func.id
    return func.attr if isinstance(func, ast.Attribute) else ""


def _names(node: ast.AST) -> set[str]:
    return {_name(part) for part in ast.walk(node) if isinstance(part, (ast.Name, ast.Attribute))}


def _site(path: str, node: ast.Call) -> Site:
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    value = given.get("code")
    is_literal = isinstance(value, ast.Constant)
    code = None if value is None else ast.unparse(value).strip("'")
    strings = [
        part.value
        for argument in node.args
        for part in ast.walk(argument)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    ]
    strings += [
        "say what to do"
        for argument in node.args
        for part in ast.walk(argument)
        if isinstance(part, (ast.FormattedValue, ast.Call)) and STEPS & _names(part)
    ]
    return Site(path, node.lineno, _name(node.func), code, is_literal, " ".join(strings))


def test_every_error_that_is_raised_has_a_code_of_the_registry() -> None:
    problems = []
    for site in sites():
        if site.code is None:
            problems.append(f'{site}: add code="…", one of {REGISTRY} or a new one there')
        elif site.is_literal and site.code not in CODES:
            problems.append(
                f"{site}: code {site.code!r} is not in {REGISTRY}: add\n"
                f'    "{site.code}": "One sentence that says what it means.",\n'
                f"  to the language of failure it belongs to, and write docs/errors/{site.code}.md"
            )
        elif not site.is_literal and site.code not in COMPUTED:
            problems.append(
                f"{site}: code={site.code} is computed: write the code out, or take it from a "
                "table in a variable named `code`"
            )
    assert not problems, "\n" + "\n".join(problems)


def test_codes_of_tables_are_in_the_registry() -> None:
    assert {code for _, code, _ in _REMEDIES} <= set(CODES)
    assert set(CODE_OF_ORIGIN) == set(FailureOrigin)
    assert set(CODE_OF_ORIGIN.values()) <= set(CODES)


def test_every_code_of_the_registry_is_used() -> None:
    text = "\n".join(
        path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py") if path.name != "codes.py"
    )
    used = set(re.findall(r'"([a-z]+(?:-[a-z]+)+)"', text)) | set(CODE_OF_ORIGIN.values())
    unused = [
        f"{code!r}: nothing raises it; take it out of {REGISTRY}" for code in CODES.keys() - used
    ]
    assert not unused, "\n" + "\n".join(unused)


def test_a_code_is_two_to_five_words_and_its_meaning_one_sentence() -> None:
    for code, (kind, meaning) in CODES.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+){1,4}", code), code
        assert isinstance(kind, Kind)
        assert re.fullmatch(r"([A-Z]|kitaru|map|pyproject).*\.", meaning), (code, meaning)
        assert len(meaning) <= 80, (code, meaning)


def test_no_message_lacks_its_next_step() -> None:
    lacking = [
        f"{site}: say what to do next"
        for site in sites()
        if site.text.strip() and not NEXT_STEP.search(site.text)
    ]
    assert not lacking, "\n" + "\n".join(lacking)


@pytest.mark.parametrize("kind", sorted(CLASSES - {"ModuleFailed"}))
def test_a_code_survives_copy_and_pickle(kind: str) -> None:
    error = getattr(errors, kind)("what happened", code="disk-full")
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert (str(again), again.code) == ("what happened", "disk-full")
        assert again.__notes__ == ["kitaru explain disk-full"]


def test_an_error_that_somebody_else_raises_has_no_code() -> None:
    error = KitaruUsageError("mine")
    assert error.code is None
    assert not hasattr(error, "__notes__")


def test_an_unknown_code_is_taken_for_the_machines() -> None:
    assert kind_of("of-a-later-release") is kind_of(None) is Kind.MACHINE


def test_a_recorded_failure_keeps_the_code_of_its_error_and_no_other() -> None:
    def recorded(error: BaseException) -> str | None:
        payload = encode_failure(error, origin=FailureOrigin.USER_CODE)
        return failure_info(payload).code

    assert recorded(KitaruUsageError("wrong", code="option-invalid")) == "option-invalid"
    assert recorded(KitaruUsageError("mine")) == "user-code-raised"
    assert recorded(ValueError("mine")) == "user-code-raised"

    edited = encode_failure(KitaruUsageError("wrong", code="option-invalid"),
                            origin=FailureOrigin.BACKEND)  # fmt: skip
    data = edited.data.replace(b'"option-invalid"', b'"\\u001b[31m hostile"')
    assert failure_info(seal(edited.codec, data)).code == "recording-stopped"
