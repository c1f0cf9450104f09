"""A real broker on the loopback, a box's link in this process, an ingest that follows the contract."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.link.box_side import BoxSide, Keys
from tests.integration.link.department_side import DepartmentSide
from tests.support.servers import Servers, open_servers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/link/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@dataclass
class Fleet:
    """One box and its department."""

    servers: Servers
    box: BoxSide
    department: DepartmentSide


@pytest.fixture
def servers() -> Iterator[Servers]:
    """mosquitto, running."""
    with open_servers() as made:
        made.start_broker()
        yield made


@pytest.fixture
def idle(servers: Servers, tmp_path: Path) -> Iterator[Fleet]:
    """A department that listens, and a box whose link is not started."""
    box = BoxSide(tmp_path / "box", servers, servers.certificates.box(), Keys.make())
    with box, DepartmentSide(servers, servers.certificates.department()) as department:
        yield Fleet(servers, box, department)


@pytest.fixture
def fleet(idle: Fleet) -> Fleet:
    """With the link running and connected."""
    idle.box.start()
    idle.department.wait(lambda: bool(idle.department.states), "the first state")
    return idle
