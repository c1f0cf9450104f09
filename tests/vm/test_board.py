"""What `make vm-check` asks, and what a running board says of itself."""

from __future__ import annotations

import json
import re

import pytest

from vm.expectations import EXPECTATIONS, Expectation
from vm.machine import Machine
from vm.office import VmOffice
from vm.tools import ROOT

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]

# systemd's own figure for a sandbox, 0 to 10.
SANDBOXED = 2.5


@pytest.mark.parametrize("expectation", EXPECTATIONS, ids=lambda expectation: expectation.name)
def test_expectation(office: VmOffice, expectation: Expectation) -> None:
    print(expectation.run(office))


def test_sandboxes_as_systemd_sees_them(board: Machine) -> None:
    """Every service of ours with a process of its own, judged by the systemd that runs it."""
    shown = json.loads(board.shell("systemd-analyze security --no-pager --json=short").require().out)
    found = {row["unit"].removesuffix(".service"): float(row["exposure"]) for row in shown}
    ours = {path.stem for path in (ROOT / "package/vigie").glob("vigie-*.service") if not path.stem.endswith("@")}
    running = {name: value for name, value in found.items() if name in ours}
    assert {"vigie-filter", "vigie-enrol", "vigie-link", "vigie-update", "vigie-page"} <= set(running), sorted(found)
    over = {name: value for name, value in running.items() if value > SANDBOXED}
    assert over == {}, running


def test_memory(board: Machine) -> None:
    """On the smallest CM4 (1 GiB) more than a third is free with everything running; nobody swaps or was killed."""
    text = board.shell("cat /proc/meminfo").require().out
    figures = {name: int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    assert figures["SwapTotal"] == 0
    assert figures["MemAvailable"] > figures["MemTotal"] // 3, text
    assert "oom-kill" not in board.shell("dmesg").require().out


def test_rauc_knows_the_slots(board: Machine) -> None:
    """Booted from A, both slots there, attempts given back by the marking of a good slot."""
    board.wait("systemctl is-active vigie-boot-good.service", 600)
    status = json.loads(board.shell("rauc status --output-format=json").require().out)
    assert status["compatible"] == "vigie-vm" and status["booted"] == "A" and status["boot_primary"] == "boot.0"
    slots = {name: slot for row in status["slots"] for name, slot in row.items()}
    assert set(slots) == {"boot.0", "boot.1", "rootfs.0", "rootfs.1"}
    assert slots["boot.0"]["boot_status"] == "good" and slots["boot.0"]["state"] != "inactive"
    environment = dict(
        line.split("=", 1) for line in board.shell("fw_printenv").require().out.split("\n") if "=" in line
    )
    assert environment["BOOT_ORDER"] == "A B" and environment["BOOT_A_LEFT"] == "3", environment


def test_nobody_may_write_or_log_in(board: Machine) -> None:
    """No set-user-id program, no password, no getty, nothing writable on the root; /data and /tmp start no program."""
    assert board.shell("find / -xdev -perm /6000 -type f").require().out == ""
    assert {line.split(":")[1] for line in board.shell("cat /etc/shadow").require().out.splitlines()} == {"!*"}
    assert "getty" not in board.shell("ps").out
    mounts = {line.split()[1]: line.split()[3].split(",") for line in board.shell("cat /proc/mounts").out.splitlines()}
    for place in ("/data", "/identity", "/tmp"):  # noqa: S108 - a mount point, nothing is written
        assert {"nosuid", "nodev", "noexec"} <= set(mounts[place]), mounts[place]
    assert "ro" in mounts["/"]


def test_data_was_grown_to_the_end_of_the_disk(board: Machine) -> None:
    size = int(board.shell("df -k /data | tail -1 | awk '{print $2}'").require().out)
    assert size > 2 << 20, f"{size} KiB of a 4 GiB disk"
    assert json.loads(board.shell("cat /run/vigie/storage.json").require().out)["volatile"] is False


def test_the_journal_outlives_a_start(board: Machine) -> None:
    board.shell("mountpoint /var/log/journal").require()
    boots = board.shell("journalctl --list-boots --no-pager").require().out
    assert len([line for line in boots.splitlines() if re.match(r"\s*-?\d+ ", line)]) >= 2, boots
