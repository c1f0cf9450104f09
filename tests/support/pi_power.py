"""Storage that loses its power: what may be on the disk afterwards, for every step that reaches it.

Files of /data lose what was not synced: contents (none, half or all of them) and names, each for itself. Requests to a
device that were not flushed arrive or do not, each for itself. A request that is under way when the power goes may
leave the sector old, new, mixed, erased, rubbish or unreadable, and take its page of 4 KiB with it.
"""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.pi_disk import PAGE, SECTOR, SELECT, Disk

SUBSETS = 6
"""random ones, of requests that were not flushed, besides all and none"""
Effect = Callable[[], None]


class PowerCutError(Exception):
    """The power went."""


@dataclass(frozen=True, slots=True)
class Cut:
    """At the step with that number (from 0), in one of the ways it can end."""

    step: int
    way: int


@dataclass
class Files:
    """/data: what is on the disk, what the kernel shows, and what separates them."""

    disk: dict[Path, bytes] = field(default_factory=dict)
    shown: dict[Path, bytes] = field(default_factory=dict)
    unsynced: set[Path] = field(default_factory=set)
    renames: list[tuple[Path, Path]] = field(default_factory=list)

    def lose(self, renamed: Sequence[bool], share: float) -> None:
        """The power goes: of the renames that were not synced some hold, of contents that share."""
        for path in self.unsynced:
            name = next((old for old, new in self.renames if new == path), path)
            self.disk[name] = self.shown[path][: int(len(self.shown[path]) * share)]
        for (path, to), holds in zip(self.renames, renamed, strict=True):
            if holds:
                self.disk[to] = self.disk.pop(path)
        self.shown, self.unsynced, self.renames = dict(self.disk), set(), []


@dataclass
class Power:
    """cuts: still to come. ways: of each step that was made, in how many ways it could have ended in a cut."""

    disk: Disk
    cuts: list[Cut] = field(default_factory=list)
    files: Files = field(default_factory=Files)
    unflushed: list[tuple[int, bytes]] = field(default_factory=list)
    ways: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    # -- the seam of the product: vigie.update.boot.storage.Storage ---------------------------------------------------

    def read(self, path: Path) -> bytes | None:
        return self.files.shown.get(path)

    def write(self, path: Path, data: bytes) -> None:
        self.files.shown[path] = data
        self.files.unsynced.add(path)
        self.files.disk.setdefault(path, b"")
        self.step(f"write {path.name}")

    def sync(self, path: Path) -> None:
        self.step(f"fsync {path.name}")
        self.files.disk[path] = self.files.shown[path]
        self.files.unsynced.discard(path)

    def rename(self, path: Path, to: Path) -> None:
        self.files.shown[to] = self.files.shown.pop(path)
        self.files.renames.append((path, to))
        if path in self.files.unsynced:
            self.files.unsynced.discard(path)
            self.files.unsynced.add(to)
        self.step(f"rename {to.name}")

    def sync_folder(self, path: Path) -> None:
        self.step(f"fsync {path.name}/")
        for old, new in self.files.renames:
            self.files.disk[new] = self.files.disk.pop(old)
        self.files.renames = []

    def read_sectors(self, device: Path, offset: int, length: int) -> bytes:
        del device
        if self.disk.unreadable(SELECT[0] + offset, length):
            raise OSError(errno.EIO, "Input/output error")
        return self.disk.read(SELECT[0] + offset, length)

    def write_sectors(self, device: Path, offset: int, data: bytes) -> None:
        del device
        place = SELECT[0] + offset
        self.step(f"write sector {place // SECTOR}", list(torn(self.disk, place, data)))
        self.disk.write(place, data)

    # -- what others write --------------------------------------------------------------------------------------------

    def write_slot(self, place: int, data: bytes) -> None:
        """RAUC, through the page cache."""
        self.unflushed.append((place, data))
        self.step("write slot")

    def flush_slot(self) -> None:
        self.step("fsync slot")
        self._arrive(self.unflushed)
        self.unflushed = []

    # -- cuts ---------------------------------------------------------------------------------------------------------

    def step(self, name: str, requests: Sequence[Effect] = ()) -> None:
        """One more step; it ends in PowerCutError when a cut was asked for here."""
        number = len(self.ways)
        ways = list(itertools.product(requests or [_nothing], self._devices(number), self._files()))
        self.ways.append(len(ways))
        self.names.append(name)
        if self.cuts and self.cuts[0].step == number:
            cut = self.cuts.pop(0)
            for effect in ways[cut.way]:
                effect()
            self.unflushed = []
            raise PowerCutError(name)

    def _files(self) -> list[Effect]:
        shares = (0.0, 0.5, 1.0) if self.files.unsynced else (0.0,)
        kept = itertools.product((False, True), repeat=len(self.files.renames))
        return [partial(self.files.lose, renamed, share) for renamed, share in itertools.product(kept, shares)]

    def _devices(self, number: int) -> list[Effect]:
        pending = self.unflushed
        if not pending:
            return [_nothing]
        chance = random.Random(number)
        chosen: list[list[tuple[int, bytes]]] = [[], pending]
        chosen += [[one for one in pending if chance.random() < 0.5] for _ in range(SUBSETS)]
        place, data = pending[-1]
        half = len(data) // 2 // SECTOR * SECTOR
        chosen.append([*pending[:-1], (place, data[:half])])
        return [partial(self._arrive, some) for some in chosen]

    def _arrive(self, requests: Sequence[tuple[int, bytes]]) -> None:
        for place, data in requests:
            self.disk.write(place, data)


def _nothing() -> None:
    """Nothing under way."""


def torn(disk: Disk, place: int, data: bytes) -> Iterator[Effect]:
    """Ways in which a request of whole sectors may end: old and new among them."""
    count = len(data) // SECTOR
    for whole in {0, 1, count // 2, count - 1, count}:
        yield partial(disk.write, place, data[: whole * SECTOR])
    before = disk.read(place, len(data))
    at = next((number for number in range(0, len(data), SECTOR) if data[number] != before[number]), 0)
    chance = random.Random(place)
    for sector in {0, at, len(data) - SECTOR}:
        new, old = data[sector : sector + SECTOR], before[sector : sector + SECTOR]
        for cut in (1, 31, 32, 33, 48, 63, 64, 256, 511):
            yield partial(disk.write, place + sector, new[:cut] + old[cut:])
            yield partial(disk.write, place + sector, old[:cut] + new[cut:])
        for rubbish in (bytes(SECTOR), b"\xff" * SECTOR, chance.randbytes(SECTOR)):
            yield partial(disk.write, place + sector, rubbish)
        yield partial(disk.bad.add, (place + sector) // SECTOR)
        page = (place + sector) // PAGE * PAGE
        for rubbish in (bytes(PAGE), b"\xff" * PAGE, chance.randbytes(PAGE)):
            yield partial(disk.write, page, rubbish)
        yield partial(disk.bad.update, range(page // SECTOR, (page + PAGE) // SECTOR))
