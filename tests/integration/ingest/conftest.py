"""Broker, ingest and database as real processes; each test runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ingest import BoxClient, Databases, Department, open_department


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/ingest/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Tables, made once."""
    with Databases(tmp_path_factory.mktemp("databases")) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def department(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Department]:
    """Broker running; the ingest not yet."""
    with open_department(databases, request.param) as made:
        made.servers.start_broker()
        yield made


@pytest.fixture
def box(department: Department) -> Iterator[BoxClient]:
    """A box with a certificate, connected."""
    with BoxClient(department, department.servers.certificates.box()) as made:
        yield made
