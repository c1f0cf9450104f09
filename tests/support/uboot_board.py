"""The virtual board's boot loader in the model: board/qemu/boot.cmd as written, over the real fw_setenv.

The environment lies in two copies of 64 KiB before the first partition: CRC-32 of the data, a counter, the data.
"""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.support.pi_disk import SECTOR, Disk
from tests.support.pi_power import Power
from vigie.update.boot import Slot
from vigie.update.boot.chain import SLOTS, Chain
from vigie.update.boot.uboot import Uboot

COPY = 64 * 1024
PLACES = (512 * 1024, 576 * 1024)
HEAD = 5


class UbootBoard:
    """work: a folder of its own."""

    def __init__(self, work: Path) -> None:
        self._file = work / "environment"
        self._config = work / "fw_env.config"
        self._config.write_text(f"{self._file} 0x0 {COPY:#x}\n{self._file} {COPY:#x} {COPY:#x}\n")
        self._known: dict[tuple[bytes, tuple[str, ...]], tuple[str, bytes]] = {}

    # -- what the driver asks of a board ----------------------------------------------------------------------------

    def flash(self, disk: Disk, committed: Slot) -> None:
        """As image-parts.sh makes it: both copies alike."""
        order = "A B" if committed == "A" else "B A"
        for place in PLACES:
            disk.write(place, packed({"BOOT_ORDER": order, "BOOT_A_LEFT": "3", "BOOT_B_LEFT": "3"}, 0))

    def start(self, power: Power, flag: bool) -> Slot | None:
        del flag
        slot, place, data = choose(power.disk)
        torn = [partial(power.disk.write, place, data[:part]) for part in range(0, COPY + 1, COPY // 4)]
        power.step("U-Boot writes the environment", torn)
        power.disk.write(place, data)
        return slot

    def ordinary(self, disk: Disk) -> Slot | None:
        return choose(disk)[0]

    def in_order(self, disk: Disk, slot: Slot) -> bool:
        said = newest(disk)[0]
        return said["BOOT_ORDER"].split()[0] == slot and said[f"BOOT_{slot}_LEFT"] == "3"

    def chain(self, power: Power) -> Chain:
        return Uboot(self._config, partial(self._run, power))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _run(self, power: Power, argv: Sequence[str]) -> str:
        """A command of libubootenv over the disk of the model: what it changed is what it writes."""
        before = b"".join(power.disk.read(place, COPY) for place in PLACES)
        said, after = self._done(before, tuple(argv))
        for number, place in enumerate(PLACES):
            data = after[number * COPY : (number + 1) * COPY]
            if data != before[number * COPY : (number + 1) * COPY]:
                parts = (0, SECTOR, 4096, COPY // 2, COPY)
                power.step(" ".join(argv[-2:]), [partial(power.disk.write, place, data[:part]) for part in parts])
                power.disk.write(place, data)
        return said

    def _done(self, before: bytes, argv: tuple[str, ...]) -> tuple[str, bytes]:
        """What the command says and leaves: the same for the same environment, and so asked once."""
        if (before, argv) not in self._known:
            self._file.write_bytes(before)
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            self._known[before, argv] = done.stdout, self._file.read_bytes()
        return self._known[before, argv]


def packed(said: dict[str, str], counter: int) -> bytes:
    """One copy."""
    data = "".join(f"{name}={value}\0" for name, value in said.items()).encode().ljust(COPY - HEAD, b"\0")
    return zlib.crc32(data).to_bytes(4, "little") + bytes([counter]) + data


def newest(disk: Disk) -> tuple[dict[str, str], int, int]:
    """Variables, counter and number of the copy that counts; defaults when none does."""
    copies = [disk.read(place, COPY) for place in PLACES]
    valid = [int.from_bytes(copy[:4], "little") == zlib.crc32(copy[HEAD:]) for copy in copies]
    counters = [copy[4] for copy in copies]
    chosen = 0 if valid[0] else 1
    if all(valid):
        later = counters[1] > counters[0]
        if counters in ([0xFF, 0], [0, 0xFF]):
            later = counters[0] == 0xFF
        chosen = 1 if later else 0
    words = copies[chosen][HEAD:].split(b"\0\0", 1)[0].split(b"\0") if valid[chosen] else []
    said = dict(word.decode().split("=", 1) for word in words if b"=" in word)
    return said, counters[chosen], chosen


def choose(disk: Disk) -> tuple[Slot, int, bytes]:
    """The slot that boot.cmd starts, and where it writes what."""
    said, counter, copy = newest(disk)
    order = (said.get("BOOT_ORDER") or "A B").split()
    left = {slot: int(said.get(f"BOOT_{slot}_LEFT") or 3) for slot in SLOTS}
    if max(left.values()) <= 0:
        left = dict.fromkeys(SLOTS, 3)
    chosen = next((slot for word in order for slot in SLOTS if word == slot and left[slot] > 0), None)
    if chosen is not None:
        left[chosen] -= 1
    said = {"BOOT_ORDER": " ".join(order), **{f"BOOT_{slot}_LEFT": str(left[slot]) for slot in SLOTS}}
    return chosen or "A", PLACES[1 - copy], packed(said, (counter + 1) % 256)
