"""Which entry of the base matched: what may be said outside the commune instead of what was asked.

A name that was asked for may say whose it is (`jean-dupont.tracker.example`); the listed suffix does not. What the
base no longer lists, or lists without an effect, has no answer: then nothing is said.
"""

from __future__ import annotations

import ipaddress
from typing import Final

import numpy as np

from vigie.contract.codes import Action, Reason
from vigie.filter.base.lookup import Lookup, address_bytes
from vigie.filter.base.model import ClassEntry

_ACTS: Final = (Action.BLOCK, Action.OBSERVE)
_MAPPED: Final = bytes(10) + b"\xff\xff"
BY_NAME: Final = frozenset({Reason.TOXIC_DNS, Reason.TOXIC_SNI})


def listed(lookup: Lookup, reason: int, name: str, address: str) -> str | None:
    """The listed name or prefix because of which an attempt was judged, None when the base in force has none."""
    if reason in BY_NAME:
        return listed_name(lookup, name)
    return listed_prefix(lookup, address) if reason == Reason.TOXIC_ADDRESS else None


def listed_name(lookup: Lookup, name: str) -> str | None:
    """The suffix that decides, as the data path chooses it: forced, else the longest one."""
    found = [(suffix, lookup.classes[number]) for suffix, number in lookup.suffixes(name)]
    acts = [(suffix, entry) for suffix, entry in found if entry.action in _ACTS]
    forced = [suffix for suffix, entry in acts if entry.force]
    return forced[-1] if forced else acts[-1][0] if acts else None


def listed_prefix(lookup: Lookup, address: str) -> str | None:
    """The prefix that holds an address, in CIDR form (a single address without its length).

    Listed prefixes that touch are one interval in the image: the answer is the largest aligned block of that interval
    around the address, so it never says more of the address than the list does.
    """
    try:
        raw = address_bytes(address)
    except ValueError:
        return None
    if raw.startswith(_MAPPED):
        return _prefix4(lookup, int.from_bytes(raw[12:]))
    return _prefix6(lookup, int.from_bytes(raw))


def _prefix4(lookup: Lookup, value: int) -> str | None:
    if not len(lookup.start4):
        return None
    at = int(lookup.find4(np.array([value], np.uint32))[0])
    if at < 0 or value > int(lookup.last4[at]) or not _acts(lookup.classes[int(lookup.class4[at])]):
        return None
    return _block(value, int(lookup.start4[at]), int(lookup.last4[at]), 32)


def _prefix6(lookup: Lookup, value: int) -> str | None:
    if not len(lookup.start6_hi):
        return None
    hi, lo = value >> 64, value & (1 << 64) - 1
    at = int(lookup.find6(np.array([hi], np.uint64), np.array([lo], np.uint64))[0])
    if at < 0 or not _acts(lookup.classes[int(lookup.class6[at])]):
        return None
    first = int(lookup.start6_hi[at]) << 64 | int(lookup.start6_lo[at])
    last = int(lookup.last6_hi[at]) << 64 | int(lookup.last6_lo[at])
    return _block(value, first, last, 128) if value <= last else None


def _acts(entry: ClassEntry) -> bool:
    return entry.action in _ACTS


def _block(value: int, first: int, last: int, width: int) -> str:
    """The largest aligned block around `value` inside first..last."""
    bits = 0
    while bits < width:
        low = value >> bits + 1 << bits + 1
        if low < first or low + (1 << bits + 1) - 1 > last:
            break
        bits += 1
    base = value >> bits << bits
    one = ipaddress.IPv4Address(base) if width == 32 else ipaddress.IPv6Address(base)
    return f"{one}/{width - bits}" if bits else str(one)
