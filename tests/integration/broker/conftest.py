"""Real servers on the loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.servers import Servers, open_servers


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/broker/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Configured, nothing running."""
    with open_servers() as made:
        yield made


@pytest.fixture
def watched(servers: Servers) -> Iterator[Servers]:
    """With mosquitto, and the watch in a thread."""
    servers.start_broker()
    with servers.watching():
        yield servers
