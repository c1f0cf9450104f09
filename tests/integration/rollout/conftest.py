"""A department with its signer as a process, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ingest import Databases


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/rollout/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Empty tables, made once."""
    with Databases(tmp_path_factory.mktemp("databases")) as made:
        yield made
