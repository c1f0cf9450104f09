"""A whole department of real processes."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/console/" in str(item.path):
            item.add_marker(pytest.mark.integration)
