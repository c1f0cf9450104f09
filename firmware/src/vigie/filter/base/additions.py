"""What the box itself adds to the base it was given: never-block, essential services, canaries and the test.

These do not travel in the base: whoever signs a base, a box keeps its own protections.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from vigie.contract.codes import Action, Category

from .columns import I64, U8, U32, U64
from .model import CLASS_FORCE, CLASS_NEVER, MAX_RANK, NOT_LISTED, ClassEntry
from .names import PackedNames, hash_names, hash_suffixes, pack

TEST_CLASS: Final = ClassEntry(flags=CLASS_FORCE, action=Action.BLOCK, category=Category.TEST)
DOH_CLASS: Final = ClassEntry(flags=CLASS_FORCE, action=Action.BLOCK, category=Category.DOH)
NEVER_CLASS: Final = ClassEntry(flags=CLASS_NEVER)

#: Addresses of the documentation ranges (RFC 5737, RFC 3849) and a name that no DNS serves (RFC 2606).
TEST_ADDRESS4: Final = "192.0.2.66"
TEST_ADDRESS6: Final = "2001:db8::66"
TEST_NAME: Final = "test-toxique.vigie.invalid"
#: Names that tell browsers and systems whether they may send their DNS elsewhere; NXDOMAIN means "use this network's".
DOH_CANARIES: Final = ("use-application-dns.net", "mask.icloud.com", "mask-h2.icloud.com")

_TOP: Final = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Additions:
    """Lists of the box. Networks in any form of `ipaddress`; ranks 1 (kept longest) to 9. Names cover subdomains."""

    never_names: tuple[str, ...] = ()
    never_networks: tuple[str, ...] = ()
    essential_names: Mapping[str, int] = field(default_factory=dict)
    essential_networks: Mapping[str, int] = field(default_factory=dict)
    builtins: bool = True

    def __post_init__(self) -> None:
        for rank in (*self.essential_names.values(), *self.essential_networks.values()):
            if not 1 <= rank <= MAX_RANK:
                raise ValueError(f"essential rank {rank}: must be 1 to {MAX_RANK}")


@dataclass(frozen=True, slots=True)
class Patch:
    """Disjoint sorted places with what is added there. `cls[i]` has the flags, action and category (NOT_LISTED:
    only a rank is added) and `rank[i]` the essential rank, 0 for none."""

    cls: tuple[ClassEntry, ...]
    rank: tuple[int, ...]

    def combined(self, before: ClassEntry, i: int) -> ClassEntry:
        """Class of a place that the base gives the class `before`."""
        added, rank = self.cls[i], self.rank[i] or before.rank
        if added.never or before.never:
            return ClassEntry(flags=CLASS_NEVER, rank=rank)
        if added != NOT_LISTED:
            return ClassEntry(added.flags, added.direction, added.action, added.category, rank)
        return ClassEntry(before.flags, before.direction, before.action, before.category, rank)


@dataclass(frozen=True, slots=True)
class AddedRanges4:
    patch: Patch
    start: U32
    last: U32


@dataclass(frozen=True, slots=True)
class AddedRanges6:
    patch: Patch
    start: tuple[U64, U64]
    last: tuple[U64, U64]


@dataclass(frozen=True, slots=True)
class AddedNames:
    patch: Patch
    hash: U64


def _flatten(entries: Iterable[tuple[int, int, ClassEntry, int]]) -> list[tuple[int, int, ClassEntry, int]]:
    """Disjoint sorted (first, last, class, rank) from entries that may overlap: never wins, the smallest rank wins.

    A few thousand entries at most: plain Python, and addresses of any width.
    """
    entries = sorted(entries, key=lambda e: e[0])
    cuts = sorted({e[0] for e in entries} | {e[1] + 1 for e in entries})
    out: list[tuple[int, int, ClassEntry, int]] = []
    active: list[tuple[int, int, ClassEntry, int]] = []
    at = 0
    for first, end in pairwise(cuts):
        while at < len(entries) and entries[at][0] <= first:
            active.append(entries[at])
            at += 1
        active = [e for e in active if e[1] >= first]
        if not active:
            continue
        cls = max((e[2] for e in active), key=lambda c: (c.never, c != NOT_LISTED))
        rank = min((e[3] for e in active if e[3]), default=0)
        if out and out[-1][1] == first - 1 and out[-1][2:] == (cls, rank):
            out[-1] = (out[-1][0], end - 1, cls, rank)
        else:
            out.append((first, end - 1, cls, rank))
    return out


def _networks(additions: Additions, version: int) -> list[tuple[int, int, ClassEntry, int]]:
    items = [(network, NEVER_CLASS, 0) for network in additions.never_networks]
    items += [(network, NOT_LISTED, rank) for network, rank in additions.essential_networks.items()]
    if additions.builtins:
        items.append((TEST_ADDRESS4 if version == 4 else TEST_ADDRESS6, TEST_CLASS, 0))
    out = []
    for text, cls, rank in items:
        network = ipaddress.ip_network(text, strict=False)
        if network.version == version:
            out.append((int(network.network_address), int(network.broadcast_address), cls, rank))
    return _flatten(out)


def ranges4(additions: Additions) -> AddedRanges4:
    """IPv4 part. Raises ValueError for a malformed network."""
    rows = _networks(additions, 4)
    return AddedRanges4(
        Patch(tuple(r[2] for r in rows), tuple(r[3] for r in rows)),
        np.array([r[0] for r in rows], np.uint32),
        np.array([r[1] for r in rows], np.uint32),
    )


def ranges6(additions: Additions) -> AddedRanges6:
    """IPv6 part. Raises ValueError for a malformed network."""
    rows = _networks(additions, 6)

    def pair(bounds: list[int]) -> tuple[U64, U64]:
        return np.array([b >> 64 for b in bounds], np.uint64), np.array([b & _TOP for b in bounds], np.uint64)

    return AddedRanges6(
        Patch(tuple(r[2] for r in rows), tuple(r[3] for r in rows)),
        pair([r[0] for r in rows]),
        pair([r[1] for r in rows]),
    )


def names(
    additions: Additions, key: int, seed: int, base_hash: U64, base_cls: U8, classes: list[ClassEntry]
) -> AddedNames:
    """Names part. An essential name below a listed one keeps that one's class: the rank must not undo a block."""
    wanted: dict[str, tuple[ClassEntry, int]] = {}
    for name in additions.never_names:
        wanted[canonical(name)] = (NEVER_CLASS, 0)
    if additions.builtins:
        for name, cls in ((TEST_NAME, TEST_CLASS), *((canary, DOH_CLASS) for canary in DOH_CANARIES)):
            wanted.setdefault(name, (cls, 0))
    for raw, rank in additions.essential_names.items():
        name = canonical(raw)
        cls, before = wanted.get(name, (NOT_LISTED, 0))
        wanted[name] = (cls, min(rank, before or rank))
    packed = pack(list(wanted))
    hashes = hash_names(packed, key, seed)
    inherited = _inherited(packed, hashes, key, seed, base_hash, base_cls)
    rows = [
        (h, classes[number] if cls == NOT_LISTED else cls, rank)
        for h, number, (cls, rank) in zip(hashes.tolist(), inherited.tolist(), wanted.values(), strict=True)
    ]
    rows.sort(key=lambda row: row[0])
    return AddedNames(
        Patch(tuple(r[1] for r in rows), tuple(r[2] for r in rows)),
        np.array([r[0] for r in rows], np.uint64),
    )


def canonical(name: str) -> str:
    """A name as it is hashed."""
    return name.strip().strip(".").lower()


def _inherited(names: PackedNames, hashes: U64, key: int, seed: int, base_hash: U64, base_cls: U8) -> U8:
    """Base class number of each name or of its nearest listed parent, 0 when there is none."""
    found = np.zeros(len(names), np.uint8)
    if not len(base_hash):
        return found
    rows, suffixes = hash_suffixes(names, key, seed)
    # From the shortest suffix to the name itself: the nearest is assigned last.
    rows, chain = np.concatenate((rows, np.arange(len(names)))), np.concatenate((suffixes, hashes))
    at = np.minimum(np.searchsorted(base_hash, chain), len(base_hash) - 1)
    listed = base_hash[at] == chain
    found[rows[listed]] = base_cls[at[listed]]
    return found


class ClassTable:
    """The classes of an image: those of the base, then those that the box's additions make."""

    def __init__(self, classes: list[ClassEntry], limit: int = 256) -> None:
        self.classes = list(classes)
        self._limit = limit
        self._index = {cls: i for i, cls in enumerate(self.classes)}

    def number(self, cls: ClassEntry) -> int:
        """Index of a class, added when new. A full table gives up the toxic part rather than the protection."""
        found = self._index.get(cls)
        if found is None and len(self.classes) >= self._limit:
            cls = ClassEntry(flags=cls.flags & CLASS_NEVER, rank=cls.rank)
            return self._index.get(cls, self._index[ClassEntry()])
        if found is None:
            found = len(self.classes)
            self.classes.append(cls)
            self._index[cls] = found
        return found

    def combine(self, patch: Patch, before: U8, which: I64) -> U8:
        """New class number of each place: base class number and index in the patch, -1 where it adds nothing."""
        out = before.copy()
        inside = np.flatnonzero(which >= 0)
        memo: dict[tuple[int, int], int] = {}
        for at, old, i in zip(inside.tolist(), before[inside].tolist(), which[inside].tolist(), strict=True):
            number = memo.get((old, i))
            if number is None:
                number = memo[old, i] = self.number(patch.combined(self.classes[old], i))
            out[at] = number
        return out
