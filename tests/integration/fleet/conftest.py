"""The whole chain: a department of real processes per file; boxes whose services are the real ones, per test."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.department import Department, open_department
from tests.integration.enrol.boxes import Box, Factory
from tests.integration.fleet.box_side import BoxSide, running
from tests.integration.fleet.filter_side import FilterSide

SERVICES = ("authority", "signer", "broker", "watch", "ingest", "web")
SECTIONS: dict[str, dict[str, object]] = {"intervals": {"retry": 0.1, "retry_max": 0.5, "confirm": 0.05}}
"""a box's drain is bounded by how often its rows are confirmed"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.bpf)


@dataclass
class Town:
    """The department and those who join it."""

    department: Department
    factory: Factory
    object_file: Path

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """From the department's database, as another process sees it."""
        path = self.department.config.paths.data / "console.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)) as database:
            return database.execute(query, values).fetchall()

    def alerts(self, box: str) -> tuple[int, int]:
        """Rows of alerts of that box, and how many different alerts they are about."""
        (found,) = self.rows("SELECT count(*), count(DISTINCT alert_id) FROM console_alert WHERE box_id = ?", box)
        return int(found[0]), int(found[1])

    def member(self, enrolled: Box) -> BoxSide:
        """All that it keeps is under its state folder, as on the board's data partition."""
        paths = enrolled.config.paths
        return BoxSide(self.department, enrolled, FilterSide(paths.state / "filter", paths, self.object_file))


@pytest.fixture(scope="module")
def department() -> Iterator[Department]:
    with open_department(SERVICES, sections=SECTIONS) as found:
        yield found


@pytest.fixture(scope="module")
def town(department: Department, tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Town:
    object_file = repo_root / "firmware" / "bpf" / "build" / "filter.bpf.o"
    return Town(department, Factory(department, tmp_path_factory.mktemp("b")), object_file)


@pytest.fixture
def new_box(town: Town) -> Iterator[Callable[[], BoxSide]]:
    """Makes boxes that are registered, with a running filter; nothing else of them runs yet."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(running(town.member(town.factory.box())))


@pytest.fixture
def box(new_box: Callable[[], BoxSide]) -> BoxSide:
    """A member of the fleet whose link is connected."""
    made = new_box()
    made.enrol()
    made.start("link")
    made.until_code("connected")
    return made
