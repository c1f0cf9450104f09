"""What a kernel's vfat wrote to change autoboot.txt (tests/data/fatwrites.json), cut everywhere.

The fixture is recorded below a Linux by `python -m vm.fatwrites`. A disk may hold, after a cut, everything up to some
flush, and of the requests behind it any part, one of them torn.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.pi_disk import SECTOR, SELECT, Disk, flashed
from tests.support.pi_firmware import Firmware
from tests.support.pi_power import Effect, torn
from vigie.update.boot import autoboot
from vigie.update.boot.fat import LAST

FIXTURE = Path(__file__).parents[1] / "data" / "fatwrites.json"
Write = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Recording:
    """disk: partition 1 before. ways: name -> what lies between two flushes, in order."""

    kernel: str
    disk: bytes
    ways: dict[str, list[list[Write]]]


def load(path: Path = FIXTURE) -> Recording:
    """The fixture."""
    said = json.loads(path.read_text())
    ways = {}
    for way, steps in said["ways"].items():
        epochs: list[list[Write]] = [[]]
        for step in steps:
            if step is not None:
                epochs[-1].append((step[0], _unpacked(step[1])))
            elif epochs[-1]:
                epochs.append([])
        ways[way] = [epoch for epoch in epochs if epoch]
    return Recording(said["kernel"], _unpacked(said["disk"]).ljust(said["size"], b"\0"), ways)


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def states(recording: Recording, way: str) -> Iterator[tuple[Disk, bool]]:
    """Every disk that a cut may leave, and whether a request was torn."""
    before = flashed("A", recording.disk)
    for epoch in recording.ways[way]:
        for some in itertools.product((False, True), repeat=len(epoch)):
            disk = before.copy()
            for (offset, data), arrives in zip(epoch, some, strict=True):
                if arrives:
                    disk.write(SELECT[0] + offset, data)
            yield disk, False
        for number, (offset, data) in enumerate(epoch):
            for effect in _torn(before, epoch[:number], SELECT[0] + offset, data):
                yield effect, True
        for offset, data in epoch:
            before.write(SELECT[0] + offset, data)
    yield before, False


def _torn(before: Disk, earlier: list[Write], place: int, data: bytes) -> Iterator[Disk]:
    """The writes of the epoch up to this one, which is torn."""

    def fresh() -> tuple[Disk, list[Effect]]:
        disk = before.copy()
        for offset, content in earlier:
            disk.write(SELECT[0] + offset, content)
        return disk, list(torn(disk, place, data))

    for number in range(len(fresh()[1])):
        disk, effects = fresh()
        effects[number]()
        yield disk


def judge(firmware: Firmware, disk: Disk) -> set[str]:
    """`dead`: nothing starts. `fell`: no autoboot.txt, the first slot starts. `spoilt`: FAT and folder disagree."""
    found = set()
    if firmware.start(disk, flag=False) is None:
        found.add("dead")
    if firmware.autoboot(disk) not in (autoboot.text("A"), autoboot.text("B")):
        found.add("fell")
    elif _spoilt(disk.read(*SELECT)):
        found.add("spoilt")
    return found


def count(firmware: Firmware, recording: Recording, way: str) -> dict[str, int]:
    """Numbers of states: all, by verdict, and `spoilt_whole`: spoilt though no request was torn."""
    counts: Counter[str] = Counter()
    for disk, torn_one in states(recording, way):
        verdicts = judge(firmware, disk)
        counts.update(["states", *verdicts, *(["spoilt_whole"] if "spoilt" in verdicts and not torn_one else [])])
    return {name: counts[name] for name in ("states", "dead", "fell", "spoilt", "spoilt_whole")}


def _spoilt(partition: bytes) -> bool:
    """Two names for one cluster, or a name for a cluster that the table calls free: the next write destroys a file."""
    reserved, fats, entries, table = struct.unpack_from("<2xHBH3xH", partition, 12)
    root = (reserved + fats * table) * SECTOR
    starts = []
    for at in range(root, root + entries * 32, 32):
        entry = partition[at : at + 32]
        if entry[0] == 0:
            break
        if entry[0] != 0xE5 and not entry[11] & 0x18:
            starts.append(struct.unpack_from("<H", entry, 26)[0])
    tables = [struct.unpack_from("<4096H", partition, (reserved + number * table) * SECTOR) for number in range(fats)]
    return len(set(starts)) < len(starts) or any(one[start] < LAST for one in tables for start in starts)
