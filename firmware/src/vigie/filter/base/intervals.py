"""Many feeds' ranges flattened into sorted disjoint intervals, each with its class and its set of sources.

A sweep over the boundaries of all feeds at once: within a feed the ranges are first made disjoint, so each boundary
flips one bit of "which feeds cover this place"; an exclusive-or accumulated along the axis gives the set everywhere.
Distinct sets are few, so precedence is worked out once per set and spread by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from .additions import ClassTable
from .classes import Layer, resolve
from .columns import I64, U8, U16, U64, Bools, Entries, Feed
from .model import MAX_BASE_CLASSES, MAX_SOURCE_SETS, NOT_LISTED, ClassEntry, Intervals4, Intervals6, Ports6
from .splice import Points128, rank128

#: A port-scoped range is spelled out address by address; a larger one is left out (and reported).
MAX_SCOPED_RANGE: Final = 256


@dataclass(slots=True)
class Numbers:
    """Class and source-set numbers handed out while the parts of a base are compiled."""

    layers: tuple[Layer, ...]
    table: ClassTable = field(default_factory=lambda: ClassTable([NOT_LISTED], MAX_BASE_CLASSES))
    sources: list[tuple[int, ...]] = field(default_factory=list)
    _sources: dict[tuple[int, ...], int] = field(default_factory=dict)

    def of(self, covering: Sequence[int]) -> tuple[int, int]:
        """(class number, source set number) of a place covered by these layers."""
        layers = [self.layers[i] for i in covering]
        cls = self.table.number(resolve(layers))
        feeds = tuple(sorted({layer.feed_index for layer in layers}))
        number = self._source(feeds)
        if number is None:
            # The table of sets is full: keep one source that decided, which exists from the beginning.
            number = self._source((max(layers, key=lambda layer: layer.level).feed_index,)) or 0
        return cls, number

    def _source(self, feeds: tuple[int, ...]) -> int | None:
        number = self._sources.get(feeds)
        if number is None and len(self.sources) < MAX_SOURCE_SETS:
            number = self._sources[feeds] = len(self.sources)
            self.sources.append(feeds)
        return number


def numbers_for(feeds: Sequence[Feed]) -> Numbers:
    """Numbers for these feeds; layer 2i is feed i whole, 2i+1 its port-scoped part."""
    numbers = Numbers(tuple(Layer(i, feed, scoped) for i, feed in enumerate(feeds) for scoped in (False, True)))
    for i in range(len(feeds)):
        numbers._source((i,))
    return numbers


def sweep(ranges: Sequence[tuple[I64, I64]]) -> tuple[I64, I64, list[tuple[int, ...]], I64]:
    """Flatten layers of ranges on an axis of integers below 2^40.

    ranges[i] = (first, end) of layer i, end exclusive, in any order, overlapping or not. Returns (first, end) of the
    disjoint segments that some layer covers, the distinct sets of covering layers, and each segment's set number.
    """
    used = [layer for layer, (first, _) in enumerate(ranges) if len(first)]
    if not used:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, [], nothing
    bits = max(len(used) - 1, 1).bit_length()
    events: list[I64] = []
    for i, layer in enumerate(used):
        a, b = union(*ranges[layer])
        events += [a << bits | i, b << bits | i]
    packed = np.concatenate(events)
    packed.sort()
    at = packed >> bits
    layer_of = packed & ((1 << bits) - 1)
    last = np.ones(len(at), bool)
    last[:-1] = at[1:] != at[:-1]
    bounds = at[last]
    words = []
    for word in range(0, len(used), 64):
        flip = np.zeros(1 << bits, np.uint64)
        here = np.arange(word, min(word + 64, len(used)))
        flip[here] = np.uint64(1) << (here - word).astype(np.uint64)
        words.append(np.bitwise_xor.accumulate(flip[layer_of])[last][:-1])
    covered = np.zeros(len(bounds) - 1, bool)
    for mask in words:
        covered |= mask != 0
    number, sets = distinct_rows([mask[covered] for mask in words])
    return bounds[:-1][covered], bounds[1:][covered], [tuple(used[i] for i in members) for members in sets], number


def union(first: I64, end: I64) -> tuple[I64, I64]:
    """Disjoint sorted ranges covering the same places; ranges that touch are joined."""
    order = np.argsort(first, kind="stable")
    first, end = first[order], end[order]
    reach = np.maximum.accumulate(end)
    new = np.ones(len(first), bool)
    new[1:] = first[1:] > reach[:-1]
    begin = np.flatnonzero(new)
    return first[begin], reach[np.append(begin[1:] - 1, len(first) - 1)]


def distinct_rows(words: list[U64]) -> tuple[I64, list[tuple[int, ...]]]:
    """Number of each row among the distinct rows, and the bit positions set in each distinct row."""
    number = np.zeros(len(words[0]), np.int64)
    keys: list[tuple[int, ...]] = [()]
    for w, mask in enumerate(words):
        # Distinct values are few: finding them and then looking each row up is faster than np.unique's inverse.
        values = np.unique(mask)
        members = [tuple(64 * w + b for b in range(64) if value >> b & 1) for value in values.tolist()]
        found = np.searchsorted(values, mask)
        if w == 0:
            keys, number = members, found
            continue
        joint = number * len(values) + found
        pairs = np.unique(joint)
        number = np.searchsorted(pairs, joint)
        keys = [keys[p // len(values)] + members[p % len(values)] for p in pairs.tolist()]
    return number, keys


def _numbered(
    numbers: Numbers, first: I64, end: I64, sets: list[tuple[int, ...]], number: I64
) -> tuple[I64, I64, U8, U16]:
    """Segments with class and sources: those without effect left out, equal neighbours joined."""
    pairs = [numbers.of(covering) for covering in sets]
    cls = np.array([c for c, _ in pairs], np.uint8)[number] if pairs else np.zeros(0, np.uint8)
    source = np.array([s for _, s in pairs], np.uint16)[number] if pairs else np.zeros(0, np.uint16)
    keep = cls != 0
    first, end, cls, source = first[keep], end[keep], cls[keep], source[keep]
    new = np.ones(len(first), bool)
    new[1:] = (first[1:] != end[:-1]) | (cls[1:] != cls[:-1]) | (source[1:] != source[:-1])
    begin = np.flatnonzero(new)
    if not len(begin):
        return first, end, cls, source
    return first[begin], end[np.append(begin[1:] - 1, len(first) - 1)], cls[begin], source[begin]


@dataclass(slots=True)
class Flat4:
    intervals: Intervals4
    ports: U64
    #: Port-scoped ranges too large to be spelled out, per feed.
    too_wide: list[int]


@dataclass(slots=True)
class Flat6:
    intervals: Intervals6
    ports: Ports6
    too_wide: list[int]


def flatten4(entries: Sequence[Entries], numbers: Numbers) -> Flat4:
    """IPv4 part of all feeds; entries[i] belongs to feed i of `numbers`."""
    ranges: list[tuple[I64, I64]] = []
    addresses, ports, layers, too_wide = [], [], [], []
    for i, feed in enumerate(entries):
        first, last = feed.v4_first.astype(np.int64), feed.v4_last.astype(np.int64)
        whole = feed.v4_port == 0
        narrow = ~whole & (last - first < MAX_SCOPED_RANGE)
        too_wide.append(int(np.count_nonzero(~whole & ~narrow)))
        ranges.append((first[whole], last[whole] + 1))
        ranges.append((first[narrow], last[narrow] + 1))
        size = last[narrow] - first[narrow] + 1
        addresses.append(_spelled(first[narrow], size))
        ports.append(np.repeat(feed.v4_port[narrow], size))
        layers.append(np.full(len(addresses[-1]), 2 * i + 1))
    a, b, cls, source = _numbered(numbers, *sweep(ranges))
    flat = Intervals4(a.astype(np.uint32), (b - 1).astype(np.uint32), cls, source)
    address = np.concatenate(addresses) if addresses else np.zeros(0, np.int64)
    port = np.concatenate(ports) if ports else np.zeros(0, np.uint16)
    kept = _port_decides(numbers, address, np.concatenate(layers) if layers else address, a, b, cls)
    keys = (address[kept].astype(np.uint64) << np.uint64(16)) | port[kept].astype(np.uint64)
    return Flat4(flat, np.unique(keys), too_wide)


def flatten6(entries: Sequence[Entries], numbers: Numbers) -> Flat6:
    """IPv6 part of all feeds. Port-scoped ranges other than single addresses are left out."""
    firsts, lasts, parts, too_wide = [], [], [], []
    port_parts: list[U16] = []
    for feed in entries:
        whole = feed.v6_port == 0
        single = ~whole & (feed.v6_first == feed.v6_last).all(axis=1)
        too_wide.append(int(np.count_nonzero(~whole & ~single)))
        for chosen in (whole, single):
            firsts.append(feed.v6_first[chosen])
            lasts.append(feed.v6_last[chosen])
            parts.append(int(np.count_nonzero(chosen)))
        port_parts.append(feed.v6_port[single])
    empty = np.zeros((0, 2), np.uint64)
    first, last = np.concatenate([*firsts, empty]), np.concatenate([*lasts, empty])
    (begin, end), points = rank128((first[:, 0], first[:, 1]), after=((last[:, 0], last[:, 1]),))
    cuts = np.cumsum(parts)[:-1]
    layer_begin, layer_end = np.split(begin, cuts), np.split(end, cuts)
    a, b, cls, source = _numbered(numbers, *sweep(list(zip(layer_begin, layer_end, strict=True))))
    flat = Intervals6(*points.at(a), *points.before(b), cls, source)
    scoped = [layer_begin[i] for i in range(1, len(parts), 2)]
    layers = [np.full(len(ranks), 2 * i + 1) for i, ranks in enumerate(scoped)]
    rank = np.concatenate([*scoped, np.zeros(0, np.int64)])
    port = np.concatenate([*port_parts, np.zeros(0, np.uint16)])
    kept = _port_decides(numbers, rank, np.concatenate([*layers, np.zeros(0, np.int64)]), a, b, cls)
    return Flat6(flat, _ports6(points, rank[kept], port[kept]), too_wide)


def _spelled(first: I64, size: I64) -> I64:
    """Every address of each range, one after the other."""
    offset = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(first, size) + offset


def _port_decides(numbers: Numbers, at: I64, layer: I64, first: I64, end: I64, cls: U8) -> Bools:
    """Which port entries count: those whose layer is of the level that won at their address."""
    if not len(at):
        return np.zeros(0, bool)
    classes: list[ClassEntry] = numbers.table.classes
    won = np.array([int(c.action) if c.ports_only else -1 for c in classes])
    wants = np.array([int(layer.feed.action) for layer in numbers.layers])
    place = np.searchsorted(first, at, side="right") - 1
    inside = (place >= 0) & (at < end[np.maximum(place, 0)]) if len(first) else np.zeros(len(at), bool)
    decided: Bools = inside & (won[cls[place]] == wants[layer]) if len(first) else inside
    return decided


def _ports6(points: Points128, rank: I64, port: U16) -> Ports6:
    order = np.lexsort((port, rank))
    rank, port = rank[order], port[order]
    new = np.ones(len(rank), bool)
    new[1:] = (rank[1:] != rank[:-1]) | (port[1:] != port[:-1])
    hi, lo = points.at(rank[new])
    return Ports6(hi, lo, port[new])
