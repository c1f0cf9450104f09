"""Units of the box: known to systemd, closed, and consistent with the users, folders and settings beside them."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.image.conftest import PACKAGE, PROGRAMS, UNITS, Unit, units, users

SERVICES = units()
DAEMONS = [unit for unit in SERVICES if unit.one("Type") == "notify"]
LONG_LIVED = {
    "vigie-filter",
    "vigie-enrol",
    "vigie-link",
    "vigie-update",
    "vigie-page",
    "vigie-address",
    "vigie-guardian",
}
THRESHOLD = 25  # tenths of systemd's exposure level


def named(found: list[Unit]) -> list[str]:
    return [unit.name for unit in found]


def enabled() -> list[tuple[str, str, str]]:
    """(target, unit, file) of what starts."""
    rows = []
    for line in (PACKAGE / "enabled").read_text().splitlines():
        if line and not line.startswith("#"):
            target, unit, *more = line.split()
            rows.append((target, unit, more[0] if more else unit))
    return rows


@pytest.mark.parametrize("unit", SERVICES, ids=named(SERVICES))
def test_every_service_is_closed(unit: Unit) -> None:
    """systemd's own judgement, without a running systemd: 2.5 at most, the filter with its capabilities included."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", "--no-pager", str(unit.path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    level = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert done.returncode == 0, f"{unit.name}: {level[1]}\n{done.stdout}"


def test_systemd_knows_every_setting(target: Path, tmp_path: Path) -> None:
    """`systemd-analyze verify` over the whole target, with programs that the image has from elsewhere made up."""
    root = tmp_path / "root"
    shutil.copytree(target, root, symlinks=True)
    for name in (*PROGRAMS, "usr/lib/vigie/vigie-early"):
        program = root / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    shutil.rmtree(root / "etc" / "systemd" / "system")  # masks: their units are the system's, which this target has not
    names = sorted(path.name for path in (root / UNITS).iterdir() if path.is_file())
    instances = [re.sub("@", "@filter" if "restart" in name else "@selftest", name) for name in names]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", f"--root={root}", *instances],
        capture_output=True, text=True, check=False, timeout=60, env=os.environ | {"SYSTEMD_LOG_LEVEL": "info"},
    )  # fmt: skip
    # Of units of systemd itself, which this folder does not hold, it says "not found": the box has them.
    ours = [
        line
        for line in done.stderr.splitlines()
        if re.search(r"vigie-|var-log", line) and not re.search(r"Unit \S+ (not found|failed to load)", line)
    ]
    assert ours == [], "\n".join(ours)


@pytest.mark.parametrize("unit", SERVICES, ids=named(SERVICES))
def test_what_a_service_runs_is_in_the_image(unit: Unit, target: Path) -> None:
    lines = [value for key in ("ExecStartPre", "ExecStart", "ExecStop", "ExecStopPost") for value in unit.all(key)]
    assert unit.all("ExecStart"), f"{unit.name} runs nothing"
    for line in lines:
        program = line.lstrip("+-!@:").split()[0]
        assert program.startswith("/"), f"{unit.name}: {program} is looked for in PATH"
        relative = program.lstrip("/")
        built = (*PROGRAMS, "usr/lib/vigie/vigie-early")  # by the package's own build, see test_recipes
        assert relative in built or os.access(target / relative, os.X_OK), f"{unit.name}: {program} is not in the image"
        for word in line.split()[1:]:
            if word.startswith(("/usr/lib/vigie/guardian/", "/etc/vigie/")):
                assert (target / word.lstrip("/")).exists(), f"{unit.name}: {word} is not in the image"


def test_every_daemon_is_watched_and_comes_back() -> None:
    assert {unit.path.stem for unit in DAEMONS} >= LONG_LIVED
    for unit in DAEMONS:
        if unit.path.stem in LONG_LIVED:
            assert unit.one("Restart") == "always", unit.name
            assert int(unit.one("WatchdogSec")) > 0, unit.name
            assert unit.one("StartLimitIntervalSec") == "0", f"{unit.name} gives up some day"


def test_each_daemon_has_a_user_of_its_own() -> None:
    found = {unit.path.stem: unit.one("User") for unit in SERVICES if unit.path.stem in LONG_LIVED}
    assert found == {name: name for name in LONG_LIVED}


def test_users_of_units_are_in_the_table() -> None:
    names, groups = {user.name for user in users()}, {user.group for user in users()}
    for unit in SERVICES:
        assert unit.one("User", "root") in names | {"root"}, unit.name
        assert unit.one("Group", "root") in groups | {"root"}, unit.name
        more = set(unit.words("SupplementaryGroups"))
        assert more <= groups, unit.name
        assert not more or unit.one("User", "root") == "root", f"{unit.name}: memberships are written in users.table"


def test_ids_are_fixed_and_unique() -> None:
    """Files on /data outlive an update: a number that moves gives them to another service."""
    table = users()
    people = [user for user in table if user.name != "-"]
    gids = [user.gid for user in table]
    assert len({user.uid for user in people}) == len(people) and len(set(gids)) == len(gids)
    assert all(700 <= user.uid < 800 for user in people) and all(700 <= gid < 800 for gid in gids)
    assert all((user.password, user.home, user.shell) == ("*", "-", "-") for user in people), "nobody logs in"
    known = {user.group for user in table} | {"systemd-journal"}
    assert all(set(user.groups) <= known for user in people)
    host = {entry.pw_name for entry in pwd.getpwall()} | {entry.gr_name for entry in grp.getgrall()}
    assert not host & {user.name for user in people}, "this machine runs a box?"


def test_capabilities_are_few_and_only_where_they_are_needed() -> None:
    held = {unit.name: set(unit.words("AmbientCapabilities")) for unit in SERVICES if unit.words("AmbientCapabilities")}
    assert held == {
        "vigie-address.service": {"CAP_NET_ADMIN"},
        "vigie-enrol.service": {"CAP_SYS_TIME"},
        "vigie-filter.service": {"CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_NET_RAW"},
        "vigie-guardian.service": {"CAP_NET_RAW"},
        "vigie-page.service": {"CAP_NET_BIND_SERVICE"},
    }
    for unit in SERVICES:
        assert unit.all("CapabilityBoundingSet"), f"{unit.name} keeps every capability"
        assert set(unit.words("AmbientCapabilities")) <= set(unit.words("CapabilityBoundingSet")), unit.name


def test_nobody_but_enrolment_and_the_factory_sees_the_identity() -> None:
    for unit in SERVICES:
        sees = any(path.lstrip("-") == "/identity" for path in unit.words("ReadWritePaths"))
        hidden = any(path.lstrip("-") == "/identity" for path in unit.words("InaccessiblePaths"))
        may = unit.path.stem in ("vigie-enrol", "vigie-factory", "vigie-data")
        assert sees == may, unit.name
        if unit.one("User", "root") != "root" and not may:
            assert hidden, f"{unit.name} could read /identity"


def test_only_the_filter_sees_its_journal() -> None:
    for name in LONG_LIVED - {"vigie-filter", "vigie-guardian"}:
        unit = Unit(PACKAGE / f"{name}.service")
        assert "/data/vigie/filter" in {path.lstrip("-") for path in unit.words("InaccessiblePaths")}, name


def test_the_department_is_needed_by_those_who_speak_to_it_and_by_nobody_else() -> None:
    waiting = {
        unit.path.stem for unit in SERVICES if any("trust/roots.pem" in v for v in unit.all("ConditionPathExists"))
    }
    assert waiting == {"vigie-enrol", "vigie-link", "vigie-update"}


def test_the_line_comes_before_everything_and_waits_for_no_disk() -> None:
    early = Unit(PACKAGE / "vigie-early.service")
    assert early.one("DefaultDependencies") == "no"
    assert {"sysinit.target", "network-pre.target", "systemd-networkd.service"} <= set(early.words("Before"))
    assert not early.all("Requires") and not early.all("BindsTo") and not early.all("RequiresMountsFor")
    for unit in SERVICES:
        if "/usr/bin/vigie " in unit.one("ExecStart"):  # Python: after sysinit.target by default
            assert unit.one("DefaultDependencies") != "no", unit.name
        assert "vigie-early.service" not in unit.words("Requires") + unit.words("BindsTo"), unit.name


def test_a_broken_disk_stops_nothing() -> None:
    for line in (PACKAGE.parents[1] / "overlays/common/etc/fstab").read_text().splitlines():
        if line.startswith("PARTUUID="):
            assert {"nofail", "x-systemd.device-timeout=20s", "x-systemd.requires=vigie-disk.service"} <= set(
                line.split()[3].split(",")
            ), line
    for unit in SERVICES:
        needed = unit.words("Requires") + unit.words("BindsTo")
        assert not {"data.mount", "identity.mount", "vigie-data.service"} & set(needed), unit.name
        for path in unit.words("ReadWritePaths"):
            if unit.one("DefaultDependencies") == "no" and path.lstrip("-").startswith(("/data", "/identity")):
                assert path.startswith("-"), f"{unit.name} does not start without {path}"


def test_the_watchdog_is_the_guardians_alone() -> None:
    manager = (PACKAGE.parents[1] / "overlays/common/etc/systemd/system.conf.d/vigie.conf").read_text()
    assert "RuntimeWatchdogSec=off" in manager and "RebootWatchdogSec=off" in manager
    owners = {unit.path.stem for unit in SERVICES if any("watchdog" in value for value in unit.all("DeviceAllow"))}
    assert owners == {"vigie-guardian", "vigie-factory"}


def test_what_starts_exists_and_nothing_is_switched_on_behind_the_list(target: Path) -> None:
    for wants, unit, file in enabled():
        link = target / UNITS / f"{wants}.wants" / unit
        assert link.is_symlink(), f"{unit} is not linked"
        if not file.startswith("systemd-"):
            assert link.exists(), f"{unit}: {file} is not in package/vigie"
    started = {unit for _target, unit, _file in enabled()} | {file for _target, _unit, file in enabled()}
    for kind in ("service", "path", "mount"):
        for unit in units(kind):
            assert not unit.all("WantedBy"), f"{unit.name}: the list is package/vigie/enabled"
            by_another = unit.name in ("vigie-request@.service", "vigie-restart@.service")
            assert unit.name in started or by_another, f"{unit.name} never starts"


def test_every_service_that_the_department_may_restart_has_its_path_unit() -> None:
    from vigie.contract.words import Service

    linked = {unit for _target, unit, _file in enabled()}
    for service in Service:
        assert f"vigie-restart@{service.value}.path" in linked
        assert (PACKAGE / f"vigie-{service.value}.service").exists()
    assert re.search(
        r"^\t" + " | ".join(sorted(s.value for s in Service)), (PACKAGE / "vigie-request").read_text(), re.M
    )


@pytest.mark.parametrize("name", ["selftest", "reset-config", "pin-window", "protect", "plain"])
def test_every_request_of_the_guardian_is_heard(name: str) -> None:
    assert f"vigie-request@{name}.path" in {unit for _target, unit, _file in enabled()}
    assert re.search(rf"^{name}\)", (PACKAGE / "vigie-request").read_text(), re.M)
