"""One department (authority behind nginx) for this folder; boxes of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.department import Department, open_department
from tests.integration.enrol.boxes import Box, Factory, Scissors


@pytest.fixture(scope="module")
def department() -> Iterator[Department]:
    with open_department(("authority", "web")) as found:
        yield found


@pytest.fixture(scope="module")
def factory(department: Department, tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return Factory(department, tmp_path_factory.mktemp("boxes"))


@pytest.fixture
def box(factory: Factory) -> Box:
    return factory.box()


@pytest.fixture
def scissors(department: Department) -> Iterator[Scissors]:
    relay = Scissors(department.ports[0])
    yield relay
    relay.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
