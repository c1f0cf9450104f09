"""How the guardian is started: what its place among the units must be for the rest to hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.micropython import GUARDIAN, ROOT

PACKAGE = ROOT / "package" / "vigie"
UNITS = ("vigie-guardian", "vigie-guardian-judge")


def settings(unit: str) -> dict[str, list[str]]:
    """key -> values, in the order of the file."""
    found: dict[str, list[str]] = {}
    for line in (PACKAGE / f"{unit}.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def words(unit: str, key: str) -> set[str]:
    return {word for value in settings(unit).get(key, []) for word in value.split()}


@pytest.mark.parametrize("unit", UNITS)
def test_it_runs_micropython_and_nothing_else(unit: str) -> None:
    commands = [value for key, values in settings(unit).items() if key.startswith("Exec") for value in values]
    assert commands
    for command in commands:
        program, *rest = command.lstrip("+-").split()
        assert program == "/usr/bin/micropython"
        assert rest[2] == "/usr/lib/vigie/guardian/main.py"
        assert rest[3] in ("run", "judge", "orderly", "prepare")


@pytest.mark.parametrize("unit", UNITS)
def test_it_runs_in_every_case_but_the_factorys(unit: str) -> None:
    """A box.json, or no identity partition at all: triggering conditions, one is enough."""
    assert settings(unit)["ConditionPathExists"] == ["|/identity/box.json"]
    assert "|!/identity" in settings(unit)["ConditionPathIsMountPoint"]


def test_the_judge_speaks_before_the_data_path_is_loaded() -> None:
    assert {"vigie-early.service", "vigie-plain.service", "sysinit.target"} <= words("vigie-guardian-judge", "Before")
    assert "data.mount" in words("vigie-guardian-judge", "After")
    for other in PACKAGE.glob("*.service"):
        text = other.read_text()
        assert not re.search(r"^(Requires|BindsTo|Requisite)=.*vigie-guardian", text, re.MULTILINE), other.name


def test_the_guardian_stops_after_every_ordinary_service() -> None:
    assert words("vigie-guardian", "DefaultDependencies") == {"no"}
    assert "basic.target" in words("vigie-guardian", "Before")
    for other in PACKAGE.glob("*.service"):
        after = [line for line in other.read_text().splitlines() if line.startswith("After=")]
        assert not any("vigie-guardian.service" in line for line in after), other.name


def test_both_are_enabled() -> None:
    lines = [line.split()[:2] for line in (PACKAGE / "enabled").read_text().splitlines() if line.strip()]
    assert ["basic.target", "vigie-guardian.service"] in lines
    assert ["sysinit.target", "vigie-guardian-judge.service"] in lines


def test_nobody_else_owns_the_watchdog() -> None:
    configured = (ROOT / "overlays/common/etc/systemd/system.conf.d/vigie.conf").read_text().splitlines()
    assert {"RuntimeWatchdogSec=off", "RebootWatchdogSec=off"} <= set(configured)
    opened = [path.name for path in PACKAGE.glob("*.service") if "watchdog" in path.read_text()]
    assert set(opened) <= {"vigie-guardian.service", "vigie-factory.service"}
    rules = (PACKAGE / "90-vigie-guardian.rules").read_text()
    assert 'KERNEL=="watchdog[0-9]*", GROUP="vigie-guardian", MODE="0660"' in rules


def test_no_module_of_it_is_cpythons_or_the_boxs() -> None:
    own = {path.stem for path in GUARDIAN.glob("*.py")}
    known = own | {"ffi", "gc", "json", "os", "select", "socket", "struct", "sys", "time", "uctypes"}
    for path in GUARDIAN.glob("*.py"):
        for name in re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE):
            assert name in known, f"{path.name}: {name}"


def test_what_is_installed_is_all_that_is_needed() -> None:
    """install.sh copies *.py, legend.json and the board's file."""
    kinds = {path.suffix for path in GUARDIAN.iterdir() if path.is_file()}
    assert kinds == {".py", ".json", ".toml"}
    assert [path.name for path in Path(GUARDIAN).glob("*.json")] == ["legend.json"]
