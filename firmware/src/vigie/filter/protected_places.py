"""What the base in force protects: names, and any address of a prefix."""

from __future__ import annotations

import numpy as np

from vigie.contract.targets import Network
from vigie.filter.base.columns import U8
from vigie.filter.base.lookup import Lookup


def never_name(lookup: Lookup, name: str) -> bool:
    """Whether a name, or one above it, is never blocked."""
    return any(lookup.classes[number].never for _suffix, number in lookup.suffixes(name))


def never_address(lookup: Lookup, prefix: Network) -> bool:
    """Whether any address of a prefix is never blocked."""
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    never = np.array([entry.never for entry in lookup.classes])
    classes = _classes4(lookup, first, last) if prefix.version == 4 else _classes6(lookup, first, last)
    return bool(never[classes].any())


def _classes4(lookup: Lookup, first: int, last: int) -> U8:
    if not len(lookup.start4):
        return lookup.class4
    low, high = (int(i) for i in lookup.find4(np.array([first, last], np.uint32)))
    if low < 0 or int(lookup.last4[low]) < first:
        low += 1
    return lookup.class4[low : high + 1]


def _classes6(lookup: Lookup, first: int, last: int) -> U8:
    if not len(lookup.start6_hi):
        return lookup.class6
    mask = (1 << 64) - 1
    hi, lo = np.array([first >> 64, last >> 64], np.uint64), np.array([first & mask, last & mask], np.uint64)
    low, high = (int(i) for i in lookup.find6(hi, lo))
    if low < 0 or (int(lookup.last6_hi[low]) << 64 | int(lookup.last6_lo[low])) < first:
        low += 1
    return lookup.class6[low : high + 1]
