"""Labelled address ranges made disjoint, to ask quickly which of them an entry touches."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vigie.filter.base.columns import U32, Bools


class Labelled(NamedTuple):
    """Addresses first..last, both included; `label` is an index into the owner's table, the smallest wins."""

    first: int
    last: int
    label: int


@dataclass(slots=True)
class Ranges:
    """Disjoint, sorted ranges of one address family."""

    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    _first: U32 | None = None
    _last: U32 | None = None

    @classmethod
    def of(cls, ranges: Iterable[Labelled]) -> Ranges:
        """Flatten: each address keeps the smallest label that covers it."""
        ordered = sorted(ranges)
        edges = sorted({edge for r in ordered for edge in (r.first, r.last + 1)})
        done = cls()
        active: list[tuple[int, int]] = []  # (label, last)
        at = 0
        for low, high in pairwise(edges):
            while at < len(ordered) and ordered[at].first == low:
                heapq.heappush(active, (ordered[at].label, ordered[at].last))
                at += 1
            while active and active[0][1] < low:
                heapq.heappop(active)
            if not active:
                continue
            label = active[0][0]
            if done.last and done.last[-1] == low - 1 and done.label[-1] == label:
                done.last[-1] = high - 1
            else:
                done.first.append(low)
                done.last.append(high - 1)
                done.label.append(label)
        return done

    def touches(self, first: U32, last: U32) -> Bools:
        """For each IPv4 range of the columns: does it share an address with one of these?"""
        if not self.first:
            return np.zeros(len(first), np.bool_)
        if self._first is None or self._last is None:
            self._first, self._last = np.array(self.first, np.uint32), np.array(self.last, np.uint32)
        at = np.searchsorted(self._last, first)  # the first that does not end before the entry starts
        inside = at < len(self._last)
        result: Bools = inside & (self._first[np.minimum(at, len(self._first) - 1)] <= last)
        return result

    def overlaps(self, first: int, last: int) -> list[Labelled]:
        """The shared parts, in order."""
        parts = []
        at = bisect_left(self.last, first)
        while at < len(self.first) and self.first[at] <= last:
            parts.append(Labelled(max(first, self.first[at]), min(last, self.last[at]), self.label[at]))
            at += 1
        return parts


def without(first: int, last: int, parts: list[Labelled]) -> list[tuple[int, int]]:
    """What is left of first..last once the parts (ordered, inside it) are cut out."""
    left = []
    for part in parts:
        if part.first > first:
            left.append((first, part.first - 1))
        first = part.last + 1
    if first <= last:
        left.append((first, last))
    return left
