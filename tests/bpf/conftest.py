"""One loaded data path per test file: its own namespace, one CPU."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.progrun import Kernel, kernel
from tests.support.strategies import T0


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[Kernel]:
    """A data path that the tests of a file share; each starts it afresh with `reset`."""
    with kernel(T0) as instance:
        yield instance
