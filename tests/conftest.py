"""What every test may use: where real data is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples on every machine and in every run: a failure is one of the change that is looked at. To look
# for new ones: `pytest --hypothesis-profile=search`. No time limits in either: they would judge the machine.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fixed")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """Root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def sample_dir() -> Path:
    """The small samples shipped with the tests."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path | None:
    """Folder of real feeds and captures, or None on a machine that has none: tests then use `sample_dir`.

    `VIGIE_DATA` names it; `../shared/data` beside the repository is tried otherwise. A variable that names
    nothing is a mistake, not an absence, so it fails.
    """
    named = os.environ.get("VIGIE_DATA")
    if named is not None:
        path = Path(named)
        assert path.is_dir(), f"VIGIE_DATA={named}: no such folder"
        return path
    beside = ROOT.parent / "shared" / "data"
    return beside if beside.is_dir() else None
