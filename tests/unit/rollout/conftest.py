"""A department in SQLite, shared by the process; what a test writes is rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import department
from vigie_department.config import Config

_CONFIG = department.shared()


@pytest.fixture(scope="session")
def config() -> Config:
    """The department, with its tables."""
    return _CONFIG


@pytest.fixture
def db() -> Iterator[None]:
    """A clean database."""
    with department.rolled_back():
        yield
