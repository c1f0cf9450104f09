"""The compiled base in memory: disjoint intervals, hashed names, the classes and the sources they refer to.

The same arrays are in the distribution file (:mod:`.basefile`) and, without the sources, in the kernel image
(:mod:`.image`). Interval bounds are inclusive, in host order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from vigie.contract.codes import Action, Category, Direction

from .columns import U8, U16, U32, U64, Feed

CLASS_NEVER = 1 << 0
CLASS_PORTS = 1 << 1
CLASS_FORCE = 1 << 2

#: Base.flags: this base only adds indicators that are observed, to be tried on volunteer boxes.
FLAG_CANDIDATE = 1 << 0

#: A base may define this many classes besides class 0; the rest of the table is for what the box itself adds.
MAX_BASE_CLASSES = 180
MAX_SOURCE_SETS = 65_535
MAX_RANK = 9

_CLASS = struct.Struct("<5B11x")
CLASS_BYTES = _CLASS.size


@dataclass(frozen=True, slots=True, order=True)
class ClassEntry:
    """One row of the class table (`struct class_entry` of layout.h). The default value is class 0, "not listed"."""

    flags: int = 0
    direction: Direction = Direction.BOTH
    action: Action = Action.NONE
    category: Category = Category.NONE
    rank: int = 0

    @property
    def never(self) -> bool:
        return bool(self.flags & CLASS_NEVER)

    @property
    def ports_only(self) -> bool:
        return bool(self.flags & CLASS_PORTS)

    @property
    def force(self) -> bool:
        return bool(self.flags & CLASS_FORCE)

    def pack(self) -> bytes:
        return _CLASS.pack(self.flags, self.direction, self.action, self.category, self.rank)

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> ClassEntry:
        """Inverse of :meth:`pack`. Raises ValueError for a number that no enum knows."""
        flags, direction, action, category, rank = _CLASS.unpack(data)
        if flags > CLASS_NEVER | CLASS_PORTS | CLASS_FORCE or rank > MAX_RANK:
            raise ValueError(f"class with flags {flags:#x} and rank {rank}")
        return cls(flags, Direction(direction), Action(action), Category(category), rank)


NOT_LISTED = ClassEntry()


def zeros8() -> U8:
    return np.zeros(0, np.uint8)


def zeros16() -> U16:
    return np.zeros(0, np.uint16)


def zeros32() -> U32:
    return np.zeros(0, np.uint32)


def zeros64() -> U64:
    return np.zeros(0, np.uint64)


@dataclass(slots=True)
class Intervals4:
    """n sorted disjoint IPv4 intervals. `source` indexes Base.source_sets; empty when it was not loaded."""

    start: U32 = field(default_factory=zeros32)
    last: U32 = field(default_factory=zeros32)
    cls: U8 = field(default_factory=zeros8)
    source: U16 = field(default_factory=zeros16)

    def __len__(self) -> int:
        return len(self.start)


@dataclass(slots=True)
class Intervals6:
    """n sorted disjoint IPv6 intervals, each bound as high and low 64 bits. `source` as in Intervals4."""

    start_hi: U64 = field(default_factory=zeros64)
    start_lo: U64 = field(default_factory=zeros64)
    last_hi: U64 = field(default_factory=zeros64)
    last_lo: U64 = field(default_factory=zeros64)
    cls: U8 = field(default_factory=zeros8)
    source: U16 = field(default_factory=zeros16)

    def __len__(self) -> int:
        return len(self.start_hi)


@dataclass(slots=True)
class Ports6:
    """Port scopes of IPv6 addresses, sorted by (address, port)."""

    hi: U64 = field(default_factory=zeros64)
    lo: U64 = field(default_factory=zeros64)
    port: U16 = field(default_factory=zeros16)

    def __len__(self) -> int:
        return len(self.hi)


@dataclass(slots=True)
class Names:
    """n listed names by hash, sorted. `source` as in Intervals4."""

    hash: U64 = field(default_factory=zeros64)
    cls: U8 = field(default_factory=zeros8)
    source: U16 = field(default_factory=zeros16)

    def __len__(self) -> int:
        return len(self.hash)


@dataclass(frozen=True, slots=True)
class FeedCount:
    """A feed of the base and what it brought: entries taken, lines refused, entries spared by a protection."""

    feed: Feed
    v4: int = 0
    v6: int = 0
    names: int = 0
    bad_lines: int = 0
    protected: int = 0


@dataclass(slots=True)
class Base:
    """A compiled base.

    serial: its version, which only grows. flags: FLAG_*; bits that this program does not know are kept.
    classes[0] is NOT_LISTED. source_sets[i] are indexes into `feeds`. `ports4` is sorted, address<<16 | port.
    `texts` are the listed names themselves in the order of the file; None when they were not loaded.
    """

    serial: int
    created: int
    name_key: int
    name_seed: int
    feeds: tuple[FeedCount, ...] = ()
    classes: list[ClassEntry] = field(default_factory=lambda: [NOT_LISTED])
    source_sets: list[tuple[int, ...]] = field(default_factory=list)
    v4: Intervals4 = field(default_factory=Intervals4)
    ports4: U64 = field(default_factory=zeros64)
    v6: Intervals6 = field(default_factory=Intervals6)
    ports6: Ports6 = field(default_factory=Ports6)
    names: Names = field(default_factory=Names)
    texts: list[str] | None = None
    flags: int = 0

    def source_names(self, source_set: int) -> tuple[str, ...]:
        """Names of the feeds of a source set."""
        return tuple(self.feeds[i].feed.name for i in self.source_sets[source_set])
