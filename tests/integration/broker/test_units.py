"""The systemd units are whole and confined, as systemd itself judges."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

EXPOSURE_MAX = 2.1


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A root file system with the units and the programs that they name."""
    root = tmp_path_factory.mktemp("image")
    folder = root / "usr/lib/systemd/system"
    shutil.copytree(repo_root / "department/packaging/systemd", folder)
    for name in ("sysinit", "basic", "multi-user", "timers", "shutdown", "network", "network-online"):
        (folder / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    for unit in folder.glob("vigie-*.service"):
        for line in re.findall(r"^Exec\w+=(.*)$", unit.read_text(), re.MULTILINE):
            program = root / shlex.split(line)[0].lstrip("/")
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
    return root


def units(image: Path, kind: str) -> list[str]:
    return sorted(path.name for path in (image / "usr/lib/systemd/system").glob(f"vigie-*.{kind}"))


def analyze(image: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", f"--root={image}", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_systemd_has_nothing_to_say_about_the_units(image: Path) -> None:
    names = [*units(image, "service"), *units(image, "timer"), *units(image, "target")]
    assert len(names) > 12
    done = analyze(image, "verify", "--man=no", *names)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_service_is_confined(image: Path) -> None:
    for unit in units(image, "service"):
        done = analyze(image, "security", "--offline=true", unit)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        assert found, done.stdout + done.stderr
        assert float(found[1]) <= EXPOSURE_MAX, f"{unit}\n{done.stdout}"


@pytest.mark.parametrize(
    ("unit", "check"),
    [
        # binds port 443 without root
        ("vigie-web", "CapabilityBoundingSet=~CAP_NET_(BIND_SERVICE|BROADCAST|RAW)"),
        # the database is written by a group
        ("vigie-console", "UMask="),
        ("vigie-ingest", "UMask="),
        # reads every folder
        ("vigie-backup", "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)"),
        ("vigie-backup", "CapabilityBoundingSet=~CAP_(CHOWN|FSETID|SETFCAP)"),
    ],
)
def test_what_a_service_needs_is_not_taken_away_by_the_sandbox(image: Path, unit: str, check: str) -> None:
    """A prefix drop-in is read after the unit: what a unit opens has to stand in a drop-in of its own."""
    done = analyze(image, "security", "--offline=true", "--no-pager", f"{unit}.service")
    (line,) = [line for line in done.stdout.splitlines() if check in line]
    assert line.startswith("✗"), line


def test_no_unit_sets_itself_what_the_sandbox_sets_too(image: Path) -> None:
    """It would be undone. Lists only grow, so they may stand in both; an allow list that shrinks may not."""
    folder = image / "usr/lib/systemd/system"
    (sandbox,) = folder.glob("vigie-.service.d/*.conf")
    lists = {"RestrictAddressFamilies", "ReadWritePaths", "InaccessiblePaths"}
    names = set(re.findall(r"^(\w+)=", sandbox.read_text(), re.MULTILINE)) - lists
    for unit in folder.glob("vigie-*.service"):
        assert not names & set(re.findall(r"^(\w+)=", unit.read_text(), re.MULTILINE)), unit.name
    for more in folder.glob("vigie-*.service.d/*.conf"):
        assert more.name > sandbox.name or more == sandbox
    authority = (folder / "vigie-authority.service.d/50-opens.conf").read_text()
    assert "SystemCallFilter=@chown" in authority  # its socket and lists go to other groups


def test_every_service_has_a_user_of_its_own_that_the_package_makes(repo_root: Path) -> None:
    packaging = repo_root / "department/packaging"
    known = set(re.findall(r"^u (\S+)", (packaging / "sysusers.d/vigie-department.conf").read_text(), re.MULTILINE))
    used = {}
    for unit in (packaging / "systemd").glob("*.service"):
        (used[unit.stem],) = re.findall(r"^User=(\S+)$", unit.read_text(), re.MULTILINE)
    assert set(used.values()) == known | {"root"}
    assert [unit for unit, user in used.items() if user == "root"] == ["vigie-backup"]


def test_timers_and_their_services_go_by_pairs(image: Path) -> None:
    target = (image / "usr/lib/systemd/system/vigie-department.target").read_text()
    for timer in units(image, "timer"):
        assert timer in target
        assert timer.replace(".timer", ".service") in units(image, "service")
    oneshot = "Type=oneshot"
    for service in units(image, "service"):
        text = (image / "usr/lib/systemd/system" / service).read_text()
        assert (oneshot in text) == (service.replace(".service", ".timer") in units(image, "timer"))
        assert oneshot in text or service in target
