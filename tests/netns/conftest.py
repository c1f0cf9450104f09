"""The lab, shared by a module's tests; with offload on and off: a veth with offload hides wrong checksums."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.netns.town import Town, open_town


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here makes namespaces, as root."""
    for item in items:
        if "tests/netns/" in str(item.path):
            item.add_marker(pytest.mark.netns)


@pytest.fixture(scope="module", params=[True, False], ids=["offload", "no-offload"])
def town(request: pytest.FixtureRequest) -> Iterator[Town]:
    """With servers; once with offload, once without."""
    with open_town(offload=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def quick_town() -> Iterator[Town]:
    """Without servers, with offload: for raw frames."""
    with open_town(offload=True, services=False) as made:
        yield made
