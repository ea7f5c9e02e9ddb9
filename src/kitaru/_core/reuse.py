"""Why a call ran although others were recorded, or was reused: reasons, and their words.

A reason is a short JSON text, recorded with the outcome. It is made here from what
the store knows, and put into words for people here and nowhere else. Nothing in
this file decides whether a call is reused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from kitaru._core.drift import differing_arguments, parse_arguments

MAX_LISTED = 5
MAX_NAME = 120


class Code(Protocol):
    """A recorded version of a checkpoint's code; ``parts`` is JSON, name -> digest."""

    @property
    def digest(self) -> bytes: ...
    @property
    def parts(self) -> str: ...


class Expired(NamedTuple):
    """An outcome that would have been reused, were it younger."""

    age_seconds: float
    ttl_seconds: float


@lru_cache(maxsize=1024)
def ran_without_asking(switched_by: str) -> str:
    """Reuse is switched off; ``switched_by`` says where: ``@checkpoint(cache=False)``."""
    return _reason("off", by=switched_by[:MAX_NAME])


@lru_cache(maxsize=1024)
def refreshed(switched_by: str) -> str:
    """Everything was to run anew: ``cache="refresh"``, said by ``switched_by``."""
    return _reason("refresh", by=switched_by[:MAX_NAME])


@lru_cache(maxsize=1024)
def later_attempt(attempt: int) -> str:
    """An attempt after the first is never filled by reuse."""
    return _reason("attempt", attempt=attempt)


def never_reused() -> str:
    """``effect="once"``: an outcome of its own, always."""
    return _reason("once")


def in_transaction() -> str:
    """``transaction=True``: its rows are its own, and so is its outcome."""
    return _reason("transaction")


def decided(decision: str, by: str) -> str:
    """A person said what is to become of the call."""
    return _reason("decided", decision=decision, by=by)


def verified(*, done: bool) -> str:
    """``verify=`` found out whether the effect had taken place."""
    return _reason("verified", done=done)


def opaque(things: Sequence[tuple[str, str]]) -> str:
    """Some inputs count by their type only: ``(path, type name)`` of each."""
    return _reason("opaque", of=[[_short(p), _short(t)] for p, t in things[:MAX_LISTED]])


@lru_cache(maxsize=1024)
def reused(exec_id: str) -> str:
    """The outcome is a copy of one in another execution."""
    return _reason("reused", source=exec_id)


@lru_cache(maxsize=1024)
def unreadable(exec_id: str) -> str:
    """There is an outcome, but of a class that is not loaded here or has changed."""
    return _reason("unreadable", source=exec_id)


@lru_cache(maxsize=1024)
def input_changed(names: tuple[str, ...]) -> str:
    """Arguments with values that were never recorded before."""
    more = {"more": len(names) - MAX_LISTED} if len(names) > MAX_LISTED else {}
    return _reason("input", changed=[_short(name) for name in names[:MAX_LISTED]], **more)


@lru_cache(maxsize=1024)
def carried(exec_id: str, differing: tuple[str, ...] | None = None) -> str:
    """A replay keeps the outcome of its source; ``differing``: by place, with these arguments."""
    if differing is None:
        return _reason("carried", source=exec_id)
    more = {"more": len(differing) - MAX_LISTED} if len(differing) > MAX_LISTED else {}
    changed = [_short(name) for name in differing[:MAX_LISTED]]
    return _reason("carried", source=exec_id, by="place", changed=changed, **more)


@lru_cache(maxsize=1024)
def overridden(key: str) -> str:
    """Whoever made the replay gave the outcome, under this key."""
    return _reason("override", key=_short(key))


@lru_cache(maxsize=1024)
def ran_anew(because: str, exec_id: str, of: str = "") -> str:
    """A call of a replay that runs: ``because`` is one of :data:`_ANEW`, ``of`` the call meant."""
    return _reason("anew", because=because, source=exec_id, of=_short(of))


@lru_cache(maxsize=1024)
def changed_since(exec_id: str, names: tuple[str, ...]) -> str:
    """A call of a replay whose arguments are not those of the call that stood at its place."""
    more = {"more": len(names) - MAX_LISTED} if len(names) > MAX_LISTED else {}
    changed = [_short(name) for name in names[:MAX_LISTED]]
    return _reason("changed", source=exec_id, changed=changed, **more)


def miss_reason(
    *,
    code: bytes,
    parts: str,
    arguments: str,
    n: int = 0,
    codes: Sequence[Code] = (),
    under: Code | None = None,
    samples: Sequence[str] = (),
    expired: Expired | None = None,
) -> str:
    """Why a call that asked for reuse found nothing.

    ``code`` and ``parts`` are today's fingerprint, ``codes`` the recorded versions,
    newest first; ``under`` is another version, under which this very call was recorded.
    ``arguments`` is the call's JSON of digests and ``samples`` that of some recorded
    calls. The nearest sample is compared: the one with most equal arguments, of equals
    the first.
    """
    if expired is not None:
        age, ttl = expired
        return _reason("expired", age_seconds=round(age, 3), ttl_seconds=round(ttl, 3))
    if not codes:
        return _reason("never")
    if all(each.digest != code for each in codes):
        return _reason("code", **_changes(codes[0].parts, parts))
    if under is not None:
        return _reason("code", **_changes(under.parts, parts))
    if not samples:
        return _reason("unseen")
    nearest = min(samples, key=lambda sample: len(differing_arguments(sample, arguments)))
    changed = differing_arguments(nearest, arguments)
    if changed:
        return _reason("input", **_changes(nearest, arguments))
    return _reason("sample", n=n) if n else _reason("order")


def explain(reason: str) -> str:
    """The reason in words.

    >>> explain(reused("0198c0de"))
    'reused from 0198c0de'
    """
    if not reason:
        return ""
    try:
        found = json.loads(reason)
        say = _WORDS[found["why"]]
        return say(found)
    except (ValueError, KeyError, TypeError, IndexError):
        # From another version of Kitaru: shown as it stands.
        return reason


def _reason(why: str, **details: object) -> str:
    return json.dumps({"why": why, **details}, ensure_ascii=False, separators=(",", ":"))


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def _changes(before: str, now: str) -> dict[str, object]:
    """What differs between two JSON objects of name -> digest, by name, and how many there are."""
    old, new = parse_arguments(before), parse_arguments(now)
    lists = {
        "changed": [name for name in new if name in old and old[name] != new[name]],
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
    }
    found: dict[str, object] = {
        kind: [_short(name) for name in names[:MAX_LISTED]]
        for kind, names in lists.items()
        if names
    }
    more = sum(max(0, len(names) - MAX_LISTED) for names in lists.values())
    return found | ({"more": more} if more else {})


def _say_changes(found: Mapping[str, Any], added: str, removed: str) -> str:
    changed = ", ".join(found.get("changed", ()))
    listed = [
        changed,
        found.get("added") and f"{added} {', '.join(found['added'])}",
        found.get("removed") and f"{removed} {', '.join(found['removed'])}",
        found.get("more") and f"and {found['more']} more",
    ]
    return "; ".join(str(part) for part in listed if part)


def _say_code(found: Mapping[str, Any]) -> str:
    changes = _say_changes(found, "now uses", "no longer uses")
    return f"code changed: {changes}" if changes else "code changed"


def _say_input(found: Mapping[str, Any]) -> str:
    return f"input changed: {_say_changes(found, 'new', 'gone')}"


def _say_expired(found: Mapping[str, Any]) -> str:
    age, ttl = duration(found["age_seconds"]), duration(found["ttl_seconds"])
    return f"expired: recorded {age} ago, cache_ttl {ttl}"


def _say_carried(found: Mapping[str, Any]) -> str:
    text = f"carried from {found['source']}"
    if found.get("by") != "place":
        return text
    changes = _say_changes(found, "new", "gone")
    return f"{text} by its place: {changes or 'nothing'} differs"


def _say_anew(found: Mapping[str, Any]) -> str:
    return _ANEW[found["because"]].format(source=found["source"], of=found["of"])


_ANEW = {
    "from": "the replay of {source} runs anew from here",
    "after": "it had not completed in {source} when {of} started",
    "holds": "{of} is called in it, and may not be hidden by its outcome in {source}",
    "open": "it has no outcome in {source}",
    "new": "it is no call of {source}",
}
"""Why a call of a replay runs."""


def _say_opaque(found: Mapping[str, Any]) -> str:
    return "opaque: " + ", ".join(f"{path} ({name})" for path, name in found["of"])


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit.

    >>> duration(3 * 3600 + 20)
    '3 h'
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{_trim(seconds / length)} {unit}"
    return f"{_trim(seconds)} s"


def _trim(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "never": lambda _: "never recorded",
    "unreadable": lambda found: (
        f"what {found['source']} recorded is of a class that is not loaded here or has changed"
    ),
    "unseen": lambda _: "never recorded with these inputs",
    "code": _say_code,
    "input": _say_input,
    "expired": _say_expired,
    "opaque": _say_opaque,
    "off": lambda found: f"switched off by {found['by']}",
    "refresh": lambda found: f"everything runs anew: {found['by']}",
    "carried": _say_carried,
    "override": lambda found: f"its outcome was given: {found['key']}",
    "anew": _say_anew,
    "changed": lambda found: (
        f"input changed since {found['source']}: {_say_changes(found, 'new', 'gone')}"
    ),
    "reused": lambda found: f"reused from {found['source']}",
    "attempt": lambda found: f"attempt {found['attempt']} is never reused",
    "sample": lambda found: (
        f"first time this sample is taken: number {found['n'] + 1} of equal calls"
    ),
    "once": lambda _: 'effect="once" is never reused',
    "transaction": lambda _: "transaction=True is never reused",
    "decided": lambda found: f"{found['by']} decided to {found['decision']} it",
    "verified": lambda found: (
        "verify= found that its effect had taken place"
        if found["done"]
        else "verify= found that its effect had not taken place"
    ),
    "order": lambda _: (
        "the inputs are equal, but the order of keys or a file behind a path is not, or no "
        "outcome is left that another call does not use"
    ),
}
