"""What a key and a scope of durable memory may be. Pure rules: knows no store and no flow."""

from __future__ import annotations

import re
from typing import NamedTuple

from kitaru._core.names import MAX_NAME_LENGTH, check_name, did_you_mean, shortened
from kitaru.errors import KitaruUsageError

SCOPE_TYPES = ("namespace", "flow", "execution")

_KEY = re.compile(rf"[A-Za-z0-9._/-]{{1,{MAX_NAME_LENGTH}}}")


class Scope(NamedTuple):
    """Whose memory: a namespace that programs share, a flow's, or one execution's."""

    type: str
    name: str


def check_key(key: object) -> str:
    """``key`` if it is one, or ``KitaruUsageError``.

    >>> check_key("prices/2026-03.latest")
    'prices/2026-03.latest'
    """
    if type(key) is str and _KEY.fullmatch(key):
        return key
    raise KitaruUsageError(
        f"the memory key {shortened(key)} is none: use 1 to {MAX_NAME_LENGTH} letters (A to Z, a "
        "to z), digits and . _ - /",
        code="name-invalid",
    )


def check_scope_type(scope_type: object) -> str:
    if type(scope_type) is str and scope_type in SCOPE_TYPES:
        return scope_type
    hint = did_you_mean(scope_type, SCOPE_TYPES) if type(scope_type) is str else ""
    raise KitaruUsageError(
        f"scope_type={shortened(scope_type)}: pass one of {', '.join(SCOPE_TYPES)}.{hint}",
        code="option-invalid",
    )


def check_scope(scope: object, scope_type: object) -> Scope:
    """
    >>> check_scope("team", "namespace")
    Scope(type='namespace', name='team')
    """
    return Scope(check_scope_type(scope_type), check_name("memory scope", scope))


def check_version(version: object) -> int | None:
    """``version`` if it is None or a whole number from 1 on, or ``KitaruUsageError``."""
    if version is None or (type(version) is int and 1 <= version < 2**63):
        return version
    raise KitaruUsageError(
        f"version={shortened(version)}: pass a whole number from 1 on, as history() shows them",
        code="option-invalid",
    )
