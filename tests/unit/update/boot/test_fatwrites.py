"""Writes of a real vfat, recorded below Linux: why partition 1 is not mounted for writing (docs/adr/0022)."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.support import fat_writes
from tests.support.pi_box import SCENARIOS, Box, PiBoard
from tests.support.pi_disk import SECTOR, SELECT
from tests.support.pi_firmware import Firmware
from vigie.update.boot import autoboot
from vm import blklog
from vm.errors import VmError

RECORDING = fat_writes.load()


def whole(firmware: Firmware, way: str) -> list[set[str]]:
    """Verdicts of the states in which every request arrived whole or not at all."""
    return [fat_writes.judge(firmware, disk) for disk, torn in fat_writes.states(RECORDING, way) if not torn]


def test_the_direct_write_is_one_sector_and_is_safe(tmp_path: Path) -> None:
    firmware = Firmware(tmp_path)
    ((write,),) = RECORDING.ways["direct"]
    assert len(write[1]) == SECTOR and write[1].rstrip(b"\0") == autoboot.text("B")
    for disk, torn in fat_writes.states(RECORDING, "direct"):
        verdicts = fat_writes.judge(firmware, disk)
        assert verdicts <= {"fell"} and (torn or not verdicts)


def test_the_product_writes_what_was_recorded(tmp_path: Path) -> None:
    """The sector of the kernel's trace is the one that the box's own code writes in the model."""
    power = Box(PiBoard(tmp_path), SCENARIOS[0], []).finish().power
    ((offset, data),) = RECORDING.ways["direct"][0]
    assert f"write sector {(SELECT[0] + offset) // SECTOR}" in power.names
    assert power.disk.read(SELECT[0] + offset, SECTOR) == data


@pytest.mark.parametrize("way", ["exchange", "replace"])
def test_names_that_change_places_share_a_cluster_for_a_moment(tmp_path: Path, way: str) -> None:
    """A kernel's exchange and rename are whole for its users, not for the disk: fsync by fsync, entry by entry."""
    verdicts = whole(Firmware(tmp_path), way)
    assert {"spoilt"} in verdicts and not any("dead" in one for one in verdicts)


@pytest.mark.parametrize("way", ["exchange", "replace", "inplace"])
def test_a_mount_rewrites_the_first_sector(way: str) -> None:
    offsets = [offset for epoch in RECORDING.ways[way] for offset, _ in epoch]
    assert offsets.count(0) == 2


# -- the reader of QEMU's log ------------------------------------------------------------------------------------------


def log(path: Path, *entries: tuple[int, int, int, bytes], count: int | None = None, sector: int = 512) -> Path:
    """entries: sector, sectors, flags, data."""
    text = struct.pack("<QQQL", 0x6A736677736872, 1, len(entries) if count is None else count, sector).ljust(
        sector, b"\0"
    )
    for number, sectors, flags, data in entries:
        text += struct.pack("<QQQQ", number, sectors, flags, len(data)).ljust(sector, b"\0") + data
    path.write_bytes(text)
    return path


def test_log(tmp_path: Path) -> None:
    path = log(tmp_path / "log", (3, 1, 0, b"a" * 512), (0, 0, 1, b""), (9, 8, 4, b""), (4, 1, 2, b"b" * 512))
    assert list(blklog.entries(path)) == [
        blklog.Entry(3 * 512, b"a" * 512),
        blklog.Entry(0, b"", flush=True),
        blklog.Entry(9 * 512, b"", discarded=8 * 512),
        blklog.Entry(4 * 512, b"b" * 512, fua=True),
    ]


def test_a_log_that_ends_too_early(tmp_path: Path) -> None:
    for path in (
        log(tmp_path / "entry", (3, 1, 0, b"a" * 512), count=2),
        log(tmp_path / "data", (3, 2, 0, b"a" * 512)),
        log(tmp_path / "sector", sector=500),
    ):
        with pytest.raises(VmError):
            list(blklog.entries(path))
    (tmp_path / "none").write_bytes(b"no log")
    with pytest.raises(VmError):
        list(blklog.entries(tmp_path / "none"))
