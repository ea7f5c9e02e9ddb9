"""A fresh project for every test of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from .programs import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")
