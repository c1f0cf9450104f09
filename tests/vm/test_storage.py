"""Disks that were spoilt, power that went: the line opens, filtered."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab import plan
from tests.vm.conftest import other_disk
from vm import expectations, inside, layout
from vm.layout import number
from vm.office import VmOffice

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]
MIB = 1 << 20
WAIT_S = 600.0
"""how long anything here may take before it counts as hung"""


def environment(counter: int, left_b: int) -> bytes:
    """A copy as fw_setenv writes it: CRC-32 of the data, a counter, the data."""
    size = int(layout.constants()["UBOOT_ENV_KIB"]) * 1024 - 5
    data = f"BOOT_A_LEFT=3\0BOOT_B_LEFT={left_b}\0BOOT_ORDER=A B\0\0".encode().ljust(size, b"\0")
    return zlib.crc32(data).to_bytes(4, "little") + bytes([counter]) + data


def put_environments(disk: Path, copies: Sequence[bytes]) -> None:
    """Both copies, in the order of their places."""
    offsets = [int(text) * 1024 for text in layout.constants()["UBOOT_ENV_OFFSETS_KIB"].split()]
    with disk.open("r+b") as file:
        for offset, copy in zip(offsets, copies, strict=True):
            file.seek(offset)
            file.write(copy)


def opens_filtered(office: VmOffice, suffix: str, *, program: bool = False) -> None:
    """It starts; listed frames never come through; what is clean does. program: until the filter's program works."""
    figures = expectations.start(office, suffix, program=program)
    assert figures["leaked"] == 0, figures
    office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS, within=30)
    office["pc"].must_refuse_fast(office.lab.indicators.toxic4, plan.HTTPS, within=3.0)


def test_a_damaged_data_partition_does_not_stop_the_filter(office: VmOffice) -> None:
    """Superblock, its first copies and the journal overwritten: the base of the image is in force."""
    with other_disk(office, fresh=False) as machine:
        place = layout.partitions(machine.disk)[number("DATA_PART")]
        for offset in range(0, place.size, 128 * MIB):
            layout.write(machine.disk, place, b"\xa5" * MIB, offset)
        opens_filtered(office, "_damaged", program=True)
        assert inside.filtering(office)
        assert machine.shell("touch /data/written").code == 0, "the services have somewhere to write"
        machine.wait("systemctl is-active var-log-journal.mount systemd-journal-flush.service", WAIT_S)


def test_a_tampered_slot_is_refused_and_the_other_one_starts(office: VmOffice) -> None:
    """One bit of slot A: the kernel panics rather than use it, three attempts are counted, B starts."""
    with other_disk(office, fresh=False) as machine:
        place = layout.partitions(machine.disk)[number("ROOT_PART_A")]
        (byte,) = layout.read(machine.disk, place, 1, 1024)  # the magic number of erofs
        layout.write(machine.disk, place, bytes([byte ^ 1]), 1024)
        put_environments(machine.disk, [environment(1, left_b=3)] * 2)  # the last start may not have been marked good
        opens_filtered(office, "_slot_b")
        assert "rauc.slot=B" in machine.shell("cat /proc/cmdline").require().out
        tries = re.findall(r"VIGIE: slot (\w), attempts left A (\d+)", machine.console)
        assert [slot for slot, _ in tries] == ["A", "A", "A", "B"], tries
        assert machine.console.count("is corrupted") >= 3, machine.tail(60)


def test_power_cut_while_the_data_partition_grows(office: VmOffice) -> None:
    """Cut at the moment at which the table changes on a fresh disk: the next start ends the work."""
    with other_disk(office, fresh=True) as machine:
        flashed = layout.partitions(machine.disk)[number("DATA_PART")]
        machine.power_on()
        deadline = time.monotonic() + WAIT_S
        while layout.partitions(machine.disk)[number("DATA_PART")].size == flashed.size:
            assert time.monotonic() < deadline and machine.running, machine.tail()
            time.sleep(0.05)
        machine.power_cut()
        opens_filtered(office, "_grown")
        machine.wait("systemctl is-active vigie-data.service", WAIT_S)
        size = int(machine.shell("df -k /data | tail -1 | awk '{print $2}'").require().out)
        assert size > flashed.size // 1024, "larger than as flashed"
        assert machine.shell("dumpe2fs -h /dev/disk/by-partuuid/76696769-08").require().out.count("not clean") == 0


@pytest.mark.parametrize(
    ("counters", "torn", "left_b"),
    [((8, 7), 0, 1), ((7, 8), 1, 2), ((8, 7), None, 2), ((7, 8), None, 1), ((255, 0), None, 1)],
    ids=["first-torn", "second-torn", "first-newer", "second-newer", "counter-wrapped"],
)
def test_an_environment_torn_by_a_power_cut(
    office: VmOffice, counters: tuple[int, int], torn: int | None, left_b: int
) -> None:
    """Of the copy that was being written the second half is rubbish: the other one counts. Else the newer one does."""
    with other_disk(office, fresh=False) as machine:
        copies = [environment(counter, left_b=2 - index) for index, counter in enumerate(counters)]
        if torn is not None:
            half = len(copies[torn]) // 2
            copies[torn] = copies[torn][:half] + b"\xa5" * half
        put_environments(machine.disk, copies)
        machine.power_on()
        machine.wait_console(f"VIGIE: slot A, attempts left A 2 B {left_b}", WAIT_S)
