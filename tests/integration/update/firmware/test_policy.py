"""Who may speak to RAUC: units and the bus policy that the image carries for it."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rauc import Plan, bus_daemon, rauc_service

pytestmark = pytest.mark.integration
RAUC = Path(__file__).parents[4] / "ota" / "rauc"
UPDATER, STRANGER = "nobody", "daemon"
"""Users of this machine in the places of vigie-update and of any other service."""
THEIRS = "<policy context='default'><allow send_destination='de.pengutronix.rauc'/></policy>"
"""The policy that RAUC brings."""


@pytest.fixture
def bus() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="vigie-bus-"))
    folder.chmod(0o755)
    (folder / "usr").mkdir()
    (folder / "etc").mkdir()
    (folder / "usr" / "rauc.conf").write_text(f"<busconfig>{THEIRS}</busconfig>")
    ours = (RAUC / "vigie-rauc.conf").read_text().replace('user="vigie-update"', f'user="{UPDATER}"')
    (folder / "etc" / "vigie-rauc.conf").write_text(ours)
    config = folder / "bus.conf"
    config.write_text(
        "<busconfig><type>system</type>"
        f"<listen>unix:path={folder}/bus.sock</listen><auth>EXTERNAL</auth>"
        "<policy context='default'><allow user='*'/><deny own='*'/><deny send_type='method_call'/>"
        "<allow send_type='signal'/><allow send_requested_reply='true' send_type='method_return'/>"
        "<allow send_requested_reply='true' send_type='error'/><allow receive_type='method_call'/>"
        "<allow receive_type='method_return'/><allow receive_type='error'/><allow receive_type='signal'/>"
        "<allow send_destination='org.freedesktop.DBus' send_interface='org.freedesktop.DBus'/></policy>"
        "<policy user='root'><allow own='*'/></policy>"
        f"<includedir>{folder}/usr</includedir><includedir>{folder}/etc</includedir></busconfig>"
    )
    try:
        with bus_daemon(config) as address:
            yield address
    finally:
        shutil.rmtree(folder)


def said(bus: str, user: str, member: str, *arguments: str) -> str:
    done = subprocess.run(
        ["dbus-send", f"--bus={bus}", "--print-reply", "--dest=de.pengutronix.rauc", "/", member, *arguments],
        capture_output=True, text=True, check=False, timeout=30, user=user,
    )  # fmt: skip
    return done.stdout + done.stderr


INSTALLER = "de.pengutronix.rauc.Installer"


def test_root_and_the_updater_may_install_and_nobody_else(bus: str) -> None:
    plan = Plan()
    with rauc_service(bus, plan):
        for member in ("InstallBundle", "InspectBundle", "GetSlotStatus", "Mark", "Install"):
            assert "AccessDenied" in said(bus, STRANGER, f"{INSTALLER}.{member}"), member
        assert plan.asked == []
        assert "marked slot" in said(bus, UPDATER, f"{INSTALLER}.Mark", "string:good", "string:booted")
        assert "marked slot" in said(bus, "root", f"{INSTALLER}.Mark", "string:bad", "string:other")
        assert "AccessDenied" in said(bus, UPDATER, f"{INSTALLER}.Install", "string:/tmp/x.raucb")
        for user in (UPDATER, STRANGER):  # reading how it stands is free
            asked = ("string:" + INSTALLER, "string:Operation")
            assert "idle" in said(bus, user, "org.freedesktop.DBus.Properties.Get", *asked)
    assert [what for what, *_ in plan.asked] == ["mark", "mark"]


@pytest.mark.parametrize("name", ["vigie-firmware.service", "vigie-reboot@.service"])
def test_units_are_closed(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name.replace("@", "@trial")
    unit.write_text((RAUC / name).read_text())
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert re.search(r"Overall exposure level", done.stdout), done.stderr
    assert done.returncode == 0, done.stdout


def test_the_updater_cannot_touch_a_slot() -> None:
    text = (RAUC / "vigie-firmware.service").read_text()
    assert "User=vigie-update" in text and "PrivateDevices=yes" in text and "CapabilityBoundingSet=\n" in text
    assert "/data/rauc" not in text
