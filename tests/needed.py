"""Programs of the system without which a test cannot run: skipped loudly, and red in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest
from tools.postgres_server import NoServerError, find_programs


def _missing(what: str) -> None:
    reason = f"{what} is not installed: `.ci/run` does it (apt-get install {what})"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def not_tested(reason: str) -> NoReturn:
    """What this machine cannot do, whoever installs what: said loudly, in CI too."""
    pytest.skip(f"NOT TESTED on this machine: {reason}")


def program(name: str, package: str | None = None) -> str:
    """The path of a program."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        _missing(package or name)
        raise AssertionError
    return found


def system_postgres() -> None:
    """A PostgreSQL of the system's packages: the wheels' know no TLS."""
    try:
        find_programs("system")
    except NoServerError:
        _missing("postgresql")
