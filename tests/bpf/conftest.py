"""One loaded data path per test file: its own namespace, one CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.policies import Policy
from tests.support.progrun import Kernel, kernel
from tests.support.strategies import T0
from tests.support.town import HOME, Town


@pytest.fixture(scope="module")
def shared_kernel() -> Iterator[Kernel]:
    """A data path that the tests of a file share; each starts it afresh with `reset`."""
    with kernel(T0) as instance:
        yield instance


@pytest.fixture
def town(shared_kernel: Kernel) -> Callable[..., Town]:
    """Makes a town hall: `town()`, `town(policy)`, `town(field=value)` for HOME with other fields."""

    def make(policy: Policy = HOME, *, modelled: bool = True, **fields: Any) -> Town:
        return Town(shared_kernel, replace(policy, **fields), modelled=modelled)

    return make
