"""Replace a few places of long sorted columns without sorting them again.

A million intervals and a thousand changes: the changes are worked out on the few intervals that they touch, then
each column is copied in one pass with the touched runs left out and the new rows put in. Used for what a box adds to
the base, and for deltas, which go from the image in force straight into the idle slot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .columns import I64, U8, U32, U64, Bools
from .model import Intervals4, Intervals6

#: New class of a place, from its class before and the index of the patch that covers it (-1: none).
Combine = Callable[[U8, I64], U8]
Column = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True)
class Splice:
    """Rows cut_from[g]:cut_to[g] of the old columns give way to rows put[g]:put[g+1] of the new ones."""

    old_count: int
    cut_from: I64
    cut_to: I64
    put: I64

    @property
    def count(self) -> int:
        """Rows of the result."""
        return self.old_count - int((self.cut_to - self.cut_from).sum()) + int(self.put[-1])

    def copy(self, old: Column, new: Column, out: Column) -> None:
        """Write the result for one column into `out` (count rows)."""
        at, done = 0, 0
        for a, b, p, q in zip(
            self.cut_from.tolist(), self.cut_to.tolist(), self.put[:-1].tolist(), self.put[1:].tolist(), strict=True
        ):
            out[at : at + a - done] = old[done:a]
            at += a - done
            if q > p:
                out[at : at + q - p] = new[p:q]
                at += q - p
            done = b
        out[at : at + self.old_count - done] = old[done:]

    def apply(self, old: Column, new: Column) -> Any:
        """As :meth:`copy`, into a new array."""
        out = np.empty(self.count, old.dtype)
        self.copy(old, new, out)
        return out

    def index(self, old_index: U32, old: Column, new: Column, shift: int, out: U32) -> None:
        """Bucket index of the result, from the one of the old column; the shift is the same."""
        buckets = len(old_index) - 1
        change = np.bincount((new >> new.dtype.type(shift)).astype(np.intp), minlength=buckets)
        change -= np.bincount((old[self.cut_rows()] >> old.dtype.type(shift)).astype(np.intp), minlength=buckets)
        np.cumsum(change, out=change)
        out[0] = 0
        np.add(old_index[1:], change, out=out[1:], casting="unsafe")

    def cut_rows(self) -> I64:
        """Indexes of the old rows that go."""
        runs = [np.arange(a, b) for a, b in zip(self.cut_from.tolist(), self.cut_to.tolist(), strict=True) if b > a]
        return np.concatenate(runs) if runs else np.zeros(0, np.int64)


def edit_splice(count: int, gone: I64, at: I64) -> Splice:
    """The splice of a table of `count` rows that loses the rows `gone` and gets one row before each of the rows `at`
    (`count`: at the end); both sorted."""
    begin, end = np.concatenate((gone, at)), np.concatenate((gone + 1, at))
    order = np.argsort(begin, kind="stable")
    cut_from, cut_to = join_runs(begin[order], end[order])
    return Splice(count, cut_from, cut_to, _put(cut_from, at))


def join_runs(run_from: I64, run_to: I64) -> tuple[I64, I64]:
    """Index runs sorted by their beginning, those that overlap or touch joined."""
    if not len(run_from):
        return run_from, run_to
    reach = np.maximum.accumulate(run_to)
    new = np.ones(len(run_from), bool)
    new[1:] = run_from[1:] > reach[:-1]
    begin = np.flatnonzero(new)
    return run_from[begin], reach[np.append(begin[1:] - 1, len(run_from) - 1)]


def search6(hi: U64, lo: U64, key_hi: U64, key_lo: U64, *, right: bool) -> I64:
    """np.searchsorted for sorted (hi, lo) pairs."""
    low = np.searchsorted(hi, key_hi, side="left").astype(np.int64)
    high = np.searchsorted(hi, key_hi, side="right").astype(np.int64)
    return search_between(lo, key_lo, low, high, right=right)


def search_between(values: U32 | U64, keys: U32 | U64, low: I64, high: I64, *, right: bool) -> I64:
    """np.searchsorted of each key among values[low:high] of its own, which are sorted."""
    while (open_ := low < high).any():
        mid = (low + high) >> 1
        value = values[np.minimum(mid, len(values) - 1)]
        before = ((value <= keys) if right else (value < keys)) & open_
        low = np.where(before, mid + 1, low)
        high = np.where(open_ & ~before, mid, high)
    return low


@dataclass(frozen=True, slots=True)
class Patched4:
    splice: Splice
    start: U32
    last: U32
    cls: U8


@dataclass(frozen=True, slots=True)
class Patched6:
    splice: Splice
    start_hi: U64
    start_lo: U64
    last_hi: U64
    last_lo: U64
    cls: U8


@dataclass(frozen=True, slots=True)
class PatchedNames:
    splice: Splice
    hash: U64
    cls: U8


def patch4(start: U32, last: U32, cls: U8, patch_start: U32, patch_last: U32, combine: Combine) -> Patched4:
    """Overlay sorted disjoint patches on sorted disjoint intervals; class 0 as result means "no longer listed"."""
    run_from = np.searchsorted(last, patch_start, side="left").astype(np.int64)
    run_to = np.searchsorted(start, patch_last, side="right").astype(np.int64)
    cut_from, cut_to = join_runs(run_from, run_to)
    rows = Splice(len(start), cut_from, cut_to, np.zeros(1, np.int64)).cut_rows()
    old_a, old_b = start[rows].astype(np.int64), last[rows].astype(np.int64) + 1
    new_a, new_b = patch_start.astype(np.int64), patch_last.astype(np.int64) + 1
    points = distinct(np.concatenate((old_a, old_b, new_a, new_b)))
    ranks = [np.searchsorted(points, bounds).astype(np.int64) for bounds in (old_a, old_b, new_a, new_b)]
    a, b, new = _small_overlay(ranks[0], ranks[1], cls[rows], ranks[2], ranks[3], len(points), combine)
    first, final = points[a].astype(np.uint32), (points[b] - 1).astype(np.uint32)
    put = _put(cut_from, np.searchsorted(last, first, side="left").astype(np.int64))
    return Patched4(Splice(len(start), cut_from, cut_to, put), first, final, new)


def patch6(
    start: tuple[U64, U64],
    last: tuple[U64, U64],
    cls: U8,
    patch_start: tuple[U64, U64],
    patch_last: tuple[U64, U64],
    combine: Combine,
) -> Patched6:
    """As :func:`patch4`; bounds are (high, low) columns."""
    run_from = search6(*last, *patch_start, right=False)
    run_to = search6(*start, *patch_last, right=True)
    cut_from, cut_to = join_runs(run_from, run_to)
    rows = Splice(len(cls), cut_from, cut_to, np.zeros(1, np.int64)).cut_rows()
    ranks, points = rank128(
        (start[0][rows], start[1][rows]),
        (patch_start[0], patch_start[1]),
        after=((last[0][rows], last[1][rows]), (patch_last[0], patch_last[1])),
    )
    a, b, new = _small_overlay(ranks[0], ranks[2], cls[rows], ranks[1], ranks[3], len(points), combine)
    begin, final = points.at(a), points.before(b)
    put = _put(cut_from, search6(*last, *begin, right=False))
    return Patched6(Splice(len(cls), cut_from, cut_to, put), *begin, *final, new)


def patch_names(hashes: U64, cls: U8, patch: U64, combine: Combine) -> PatchedNames:
    """Overlay sorted distinct name hashes; class 0 as result means "no longer listed"."""
    at = np.searchsorted(hashes, patch, side="left").astype(np.int64)
    padded = np.minimum(at, max(len(hashes) - 1, 0))
    listed: Bools = (hashes[padded] == patch) & (at < len(hashes)) if len(hashes) else np.zeros(len(patch), bool)
    old = np.where(listed, cls[padded], 0).astype(np.uint8) if len(hashes) else np.zeros(len(patch), np.uint8)
    new = combine(old, np.arange(len(patch)))
    cut_from, cut_to = join_runs(at, at + listed)
    keep = new != 0
    put = _put(cut_from, at[keep])
    return PatchedNames(Splice(len(hashes), cut_from, cut_to, put), patch[keep], new[keep])


Whole = TypeVar("Whole", I64, U64)


def distinct(values: Whole) -> Whole:
    """Sorted distinct values. Not np.unique, which pulls 3 MB of numpy.ma into a process that must stay small."""
    values = np.sort(values)
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def _put(cut_from: I64, at: I64) -> I64:
    """Bounds of the new rows of each cut, from where each new row belongs among the old ones."""
    group = np.searchsorted(cut_from, at, side="right") - 1
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(np.bincount(group, minlength=len(cut_from)))))


def _small_overlay(
    old_a: I64, old_b: I64, old_cls: U8, new_a: I64, new_b: I64, points: int, combine: Combine
) -> tuple[I64, I64, U8]:
    """Segments (from, to, class) on a small axis 0..points-1; both inputs disjoint; equal neighbours joined."""
    size = max(points - 1, 0)
    before = spread(old_cls, paint(old_a, old_b, size))
    cls = combine(before, paint(new_a, new_b, size))
    at = np.flatnonzero(cls)
    if not len(at):
        return at, at, cls[at]
    value = cls[at]
    first = np.ones(len(at), bool)
    first[1:] = (at[1:] != at[:-1] + 1) | (value[1:] != value[:-1])
    begin = np.flatnonzero(first)
    return at[begin], at[np.append(begin[1:] - 1, len(at) - 1)] + 1, value[begin]


def spread(values: U8, which: I64) -> U8:
    """values[which], 0 where `which` is -1."""
    if not len(values):
        return np.zeros(len(which), np.uint8)
    out: U8 = np.where(which >= 0, values[which], 0).astype(np.uint8)
    return out


def paint(first: I64, end: I64, size: int) -> I64:
    """Which of the disjoint ranges covers each place, -1 where none does."""
    out = np.full(size + 1, -1, np.int64)
    step = np.zeros(size + 1, np.int64)
    np.add.at(step, first, 1)
    np.add.at(step, end, -1)
    inside = np.cumsum(step) > 0
    order = np.argsort(first, kind="stable")
    which = np.searchsorted(first[order], np.arange(size + 1), side="right") - 1
    out[inside] = order[which[inside]]
    return out[:size]


@dataclass(frozen=True, slots=True)
class Points128:
    """Sorted distinct points of the 128-bit axis. carry 1 is 2^128, one past the last address."""

    carry: U8
    hi: U64
    lo: U64

    def __len__(self) -> int:
        return len(self.hi)

    def at(self, rank: I64) -> tuple[U64, U64]:
        return self.hi[rank], self.lo[rank]

    def before(self, rank: I64) -> tuple[U64, U64]:
        """The address just before each point."""
        hi, lo = self.at(rank)
        return hi - (lo == 0), lo - np.uint64(1)


def rank128(*starts: tuple[U64, U64], after: tuple[tuple[U64, U64], ...]) -> tuple[list[I64], Points128]:
    """Ranks of 128-bit points among themselves: for each of `starts`, then for the address past each of `after`."""
    his, los, carries = [], [], []
    for hi, lo in starts:
        his.append(hi)
        los.append(lo)
        carries.append(np.zeros(len(hi), np.uint8))
    for hi, lo in after:
        low = lo + np.uint64(1)
        high = hi + (low == 0)
        his.append(high)
        los.append(low)
        carries.append(((low == 0) & (high == 0)).astype(np.uint8))
    carry, hi_all, lo_all = np.concatenate(carries), np.concatenate(his), np.concatenate(los)
    order = np.lexsort((lo_all, hi_all, carry))
    carry, hi_all, lo_all = carry[order], hi_all[order], lo_all[order]
    first = np.ones(len(order), bool)
    first[1:] = (hi_all[1:] != hi_all[:-1]) | (lo_all[1:] != lo_all[:-1]) | (carry[1:] != carry[:-1])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(first) - 1
    sizes = np.cumsum([len(h) for h in his])[:-1]
    return list(np.split(ranks, sizes)), Points128(carry[first], hi_all[first], lo_all[first])


def joined4(table: Intervals4) -> tuple[U32, U32, U8]:
    """(start, last, class) with neighbours joined that differ only in their sources: what the kernel needs."""
    start, last, cls = table.start, table.last, table.cls
    apart = np.ones(len(cls), bool)
    apart[1:] = (start[1:] != last[:-1] + np.uint32(1)) | (cls[1:] != cls[:-1])
    if apart.all():
        return start, last, cls
    begin = np.flatnonzero(apart)
    return start[begin], last[np.append(begin[1:] - 1, len(cls) - 1)], cls[begin]


def joined6(table: Intervals6) -> tuple[tuple[U64, U64], tuple[U64, U64], U8]:
    """As :func:`joined4`; bounds are (high, low) columns."""
    cls = table.cls
    next_lo = table.last_lo[:-1] + np.uint64(1)
    next_hi = table.last_hi[:-1] + (next_lo == 0)
    apart = np.ones(len(cls), bool)
    apart[1:] = (table.start_lo[1:] != next_lo) | (table.start_hi[1:] != next_hi) | (cls[1:] != cls[:-1])
    if apart.all():
        return (table.start_hi, table.start_lo), (table.last_hi, table.last_lo), cls
    begin = np.flatnonzero(apart)
    final = np.append(begin[1:] - 1, len(cls) - 1)
    return (table.start_hi[begin], table.start_lo[begin]), (table.last_hi[final], table.last_lo[final]), cls[begin]
