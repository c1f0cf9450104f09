"""The guardian's modules run in MicroPython, in both builds, never in CPython."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.micropython import Interpreter, interpreter


@pytest.fixture(scope="session", params=["unix", "wasm"])
def mp(request: pytest.FixtureRequest) -> Iterator[Interpreter]:
    """A real MicroPython, once the unix port and once WebAssembly at the level of 1.22."""
    found = interpreter(request.param)
    yield found
    found.close()
