"""A fresh project for every test of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from .programs import Project


@pytest.fixture(params=["sqlite", "postgres"])
def anywhere(tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    """A project on either database: for what a fleet must do on both."""
    over = {"sqlite": lambda: None, "postgres": lambda: request.getfixturevalue("postgres_url")}
    return Project(tmp_path / "project", over[request.param]())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")
