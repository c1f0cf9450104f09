"""Bases made from bases: a candidate to be tried, and the same base again under a new version."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vigie.contract.codes import Action
from vigie.errors import BaseError

from .additions import ClassTable
from .basefile import BaseFile, pack_parts
from .columns import I64, U8, U32, U64
from .deltaformat import DeltaError
from .diff import changes
from .limits import base_rows
from .merge import reversed_name
from .model import (
    FLAG_CANDIDATE,
    MAX_BASE_CLASSES,
    MAX_SOURCE_SETS,
    NOT_LISTED,
    Base,
    ClassEntry,
    FeedCount,
    Intervals4,
    Intervals6,
    Names,
    Ports6,
)
from .names import hash_names, hash_suffixes, pack
from .splice import distinct, search6


def renumbered(file: BaseFile, serial: int, created: int) -> bytes:
    """The same base under another version: sections byte for byte, the header but for serial and created."""
    header = {key: value for key, value in file.meta.items() if key != "sections"}
    return pack_parts({**header, "serial": serial, "created": created}, file.parts())


def candidate(released: Base, new: Base, serial: int, created: int) -> Base:
    """The released base as it is, and beside it what the new one would add, only observed.

    What the released base lists keeps its class, also names below its names: a trial must not open what is closed. Both
    need their sources and texts. Raises DeltaError for bases under different name keys, BaseError when there are more
    classes or source sets than a base may have.
    """
    if (released.name_key, released.name_seed) != (new.name_key, new.name_seed):
        raise DeltaError("the two bases hash names under different keys: no candidate can be made of them")
    if len({*released.classes, *map(_observed, new.classes)}) > MAX_BASE_CLASSES:
        raise BaseError(f"more than {MAX_BASE_CLASSES} classes: release the base without a candidate")
    feeds = list(released.feeds)
    known = {count.feed.name: number for number, count in enumerate(feeds)}
    onto_feed = []
    for count in new.feeds:
        if count.feed.name not in known:
            known[count.feed.name] = len(feeds)
            feeds.append(FeedCount(count.feed))
        onto_feed.append(known[count.feed.name])
    table = ClassTable(released.classes, MAX_BASE_CLASSES)
    observed = np.array([table.number(_observed(cls)) for cls in new.classes], np.uint8)
    sets = list(released.source_sets)
    index = {members: number for number, members in enumerate(sets)}
    onto_set = np.zeros(len(new.source_sets), np.int64)
    for i, members in enumerate(new.source_sets):
        wanted = tuple(sorted({onto_feed[feed] for feed in members}))
        if wanted not in index:
            index[wanted] = len(sets)
            sets.append(wanted)
        onto_set[i] = index[wanted]
    if len(sets) > MAX_SOURCE_SETS:
        raise BaseError(f"more than {MAX_SOURCE_SETS} sets of sources: release the base without a candidate")
    out = Base(
        serial, created, released.name_key, released.name_seed, tuple(feeds), table.classes, sets,
        flags=released.flags | FLAG_CANDIDATE,
    )  # fmt: skip
    _ranges(out, released, new, observed, onto_set)
    _names(out, released, new, observed, onto_set)
    return out


def _observed(cls: ClassEntry) -> ClassEntry:
    """What a trial makes of a class. Never-block is not tried: it would let through."""
    return replace(cls, action=Action.OBSERVE) if cls.action in (Action.BLOCK, Action.OBSERVE) else NOT_LISTED


def _ranges(out: Base, released: Base, new: Base, observed: U8, onto: I64) -> None:
    """Both address tables, and ports: the parts of the new rows that the released base does not list at all."""
    every = [base_rows(released), base_rows(new)]
    # Class 1 everywhere: what matters is only whether a place is listed.
    flat = [replace(r, class4=np.ones_like(r.class4), class6=np.ones_like(r.class6)) for r in every]
    start4, last4, _, after4, start6, last6, _, after6, *_ = changes(*flat)
    at = after4 == 1
    start, last, row = _cut4(start4[at], last4[at], new.v4.start)
    cls = observed[new.v4.cls[row]]
    kept = cls != 0
    order = np.argsort(np.concatenate((released.v4.start, start[kept])))
    old = released.v4
    out.v4 = Intervals4(
        np.concatenate((old.start, start[kept]))[order], np.concatenate((old.last, last[kept]))[order],
        np.concatenate((old.cls, cls[kept]))[order],
        np.concatenate((old.source, onto[new.v4.source[row[kept]]].astype(np.uint16)))[order],
    )  # fmt: skip
    port_address = (new.ports4 >> np.uint64(16)).astype(np.uint32)
    place = np.searchsorted(start[kept], port_address, side="right") - 1
    inside = place >= 0
    inside[inside] = port_address[inside] <= last[kept][place[inside]]
    out.ports4 = distinct(np.concatenate((released.ports4, new.ports4[inside])))
    at = after6 == 1
    _ranges6(out, released, new, observed, onto, (start6[0][at], start6[1][at]), (last6[0][at], last6[1][at]))


def _cut4(start: U32, last: U32, rows: U32) -> tuple[U32, U32, I64]:
    """Disjoint ranges cut where a row begins: (first, last, row that covers it)."""
    place = np.searchsorted(start, rows, side="right") - 1
    inside = place >= 0
    inside[inside] = rows[inside] <= last[place[inside]]
    first = np.sort(np.concatenate((start, rows[inside & ~np.isin(rows, start)])))
    of = np.searchsorted(start, first, side="right") - 1
    end = last[of].copy()
    same = of[1:] == of[:-1]
    end[:-1][same] = first[1:][same] - np.uint32(1)
    return first, end, np.searchsorted(rows, first, side="right").astype(np.int64) - 1


def _ranges6(
    out: Base, released: Base, new: Base, observed: U8, onto: I64, start: tuple[U64, U64], last: tuple[U64, U64]
) -> None:
    """IPv6 as :func:`_ranges`; what is added is little, so in plain Python and whole 128-bit numbers."""
    begins = [hi << 64 | lo for hi, lo in zip(new.v6.start_hi.tolist(), new.v6.start_lo.tolist(), strict=True)]
    pieces: list[tuple[int, int, int]] = []
    row = search6(new.v6.start_hi, new.v6.start_lo, *start, right=True) - 1
    for i, at in enumerate(row.tolist()):
        first, end = int(start[0][i]) << 64 | int(start[1][i]), int(last[0][i]) << 64 | int(last[1][i])
        while first <= end:
            stop = min(end, begins[at + 1] - 1 if at + 1 < len(begins) else end)
            if observed[int(new.v6.cls[at])]:
                pieces.append((first, stop, at))
            first, at = stop + 1, at + 1
    low = (1 << 64) - 1

    def pair(values: list[int]) -> tuple[U64, U64]:
        return np.array([v >> 64 for v in values], np.uint64), np.array([v & low for v in values], np.uint64)

    (a_hi, a_lo), (b_hi, b_lo) = pair([p[0] for p in pieces]), pair([p[1] for p in pieces])
    rows = np.array([p[2] for p in pieces], np.int64)
    old = released.v6
    order = np.lexsort((np.concatenate((old.start_lo, a_lo)), np.concatenate((old.start_hi, a_hi))))
    out.v6 = Intervals6(
        np.concatenate((old.start_hi, a_hi))[order], np.concatenate((old.start_lo, a_lo))[order],
        np.concatenate((old.last_hi, b_hi))[order], np.concatenate((old.last_lo, b_lo))[order],
        np.concatenate((old.cls, observed[new.v6.cls[rows]]))[order],
        np.concatenate((old.source, onto[new.v6.source[rows]].astype(np.uint16)))[order],
    )  # fmt: skip
    scoped = {(int(hi), int(lo), int(port)) for p in (released.ports6,) for hi, lo, port in _ports(p)}
    added = {(first >> 64, first & low) for first, stop, _ in pieces if first == stop}
    scoped |= {entry for entry in _ports(new.ports6) if entry[:2] in added}
    every = sorted(scoped)
    out.ports6 = Ports6(
        np.array([e[0] for e in every], np.uint64), np.array([e[1] for e in every], np.uint64),
        np.array([e[2] for e in every], np.uint16),
    )  # fmt: skip


def _ports(ports: Ports6) -> list[tuple[int, int, int]]:
    return list(zip(ports.hi.tolist(), ports.lo.tolist(), ports.port.tolist(), strict=True))


def _names(out: Base, released: Base, new: Base, observed: U8, onto: I64) -> None:
    """Names: those that neither stand in the released base nor below one of its names."""
    old, texts = released.names, new.texts or []
    packed = pack(texts)
    hashes = hash_names(packed, new.name_key, new.name_seed)
    row = np.searchsorted(new.names.hash, hashes)
    rows, suffix = hash_suffixes(packed, new.name_key, new.name_seed)
    below = np.zeros(len(texts), bool)
    below[rows[_among(suffix, old.hash)]] = True
    kept = np.flatnonzero(~below & ~_among(hashes, old.hash) & (observed[new.names.cls[row]] != 0))
    every = np.concatenate((old.hash, hashes[kept]))
    order = np.argsort(every)
    out.names = Names(
        every[order], np.concatenate((old.cls, observed[new.names.cls[row[kept]]]))[order],
        np.concatenate((old.source, onto[new.names.source[row[kept]]].astype(np.uint16)))[order],
    )  # fmt: skip
    out.texts = sorted([*(released.texts or []), *(texts[i] for i in kept.tolist())], key=reversed_name)


def _among(values: U64, table: U64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    if not len(table):
        return np.zeros(len(values), bool)
    return np.asarray(table[np.minimum(np.searchsorted(table, values), len(table) - 1)] == values)
