"""Dotted IPv4 tokens, a whole buffer at once.

A feed of a million addresses is a buffer of 14 MB. One automaton per line is advanced over all lines together, byte
column by byte column, with numpy: tenths of a second where a Python loop takes seconds. Accepted: `a.b.c.d`,
`a.b.c.d/n`, `a.b.c.d:port`, in strict decimal (no leading zero, no empty octet, as `ipaddress` wants). Whatever is not
exactly that is left to the caller, who gives it to :mod:`.tokens` for another reading or the reason of its refusal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vigie.filter.base.columns import U8, U16, U32, Bools

Index = npt.NDArray[np.int64]

WIDEST: Final = len("255.255.255.255:65535")
_CHUNK: Final = 1 << 15  # lines at a time: the working vectors stay in the cache
_ZERO: Final = np.uint8(ord("0"))
_DOT, _SLASH, _COLON = ord("."), ord("/"), ord(":")
_PREFIX, _PORT = 4, 5  # fields 0..3 are octets


@dataclass(frozen=True, slots=True)
class Parsed:
    """One row per token. `ok`: the other columns hold; bounds in host order; port 0 = every port.

    `host_bits`: the token was a CIDR with bits set beyond the prefix; first..last is then the network around it.
    """

    ok: Bools
    first: U32
    last: U32
    port: U16
    host_bits: Bools


def parse(buffer: U8, starts: Index, lengths: Index) -> Parsed:
    """Read the tokens `buffer[starts[i] : starts[i] + lengths[i]]`."""
    n = len(starts)
    out = Parsed(
        np.zeros(n, np.bool_),
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint32),
        np.zeros(n, np.uint16),
        np.zeros(n, np.bool_),
    )
    fits = np.flatnonzero((lengths >= 7) & (lengths <= WIDEST))  # 7: "0.0.0.0"
    ends = buffer[starts[fits]], buffer[starts[fits] + lengths[fits] - 1]
    fits = fits[(ends[0] - _ZERO < 10) & (ends[1] - _ZERO < 10)]  # leaves names out at once
    if len(fits) == 0:
        return out
    padded = np.concatenate([buffer, np.zeros(WIDEST, np.uint8)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, WIDEST)
    for at in range(0, len(fits), _CHUNK):
        rows = fits[at : at + _CHUNK]
        _chunk(windows[starts[rows]], lengths[rows], rows, out)
    return out


def _chunk(text: npt.NDArray[np.uint8], lengths: Index, rows: Index, out: Parsed) -> None:
    """text: (rows, WIDEST) bytes, of which the first `lengths` count."""
    n = len(rows)
    value = np.zeros(n, np.uint32)  # of the number being read
    digits = np.zeros(n, np.uint8)
    field = np.zeros(n, np.uint8)
    address = np.zeros(n, np.uint32)
    bad = np.zeros(n, np.bool_)
    for column in range(int(lengths.max())):
        inside = column < lengths
        byte = text[:, column]
        digit = byte - _ZERO  # wraps: anything that is not a digit is above 9
        is_digit = inside & (digit < 10)
        value = np.where(is_digit, value * np.uint32(10) + digit, value)
        digits += is_digit
        bad |= is_digit & (((digits > 1) & (value < 10)) | (digits > 5))
        dot, slash, colon = (inside & (byte == c) for c in (_DOT, _SLASH, _COLON))
        ends = dot | slash | colon
        bad |= inside & ~is_digit & ~ends
        bad |= ends & ((digits == 0) | (value > 255) | (dot & (field > 2)) | ((slash | colon) & (field != 3)))
        address = np.where(ends, (address << np.uint32(8)) | (value & np.uint32(255)), address)
        field = np.where(dot, field + np.uint8(1), field)
        field[slash] = _PREFIX
        field[colon] = _PORT
        value[ends] = 0
        digits[ends] = 0
    is_prefix, is_port = field == _PREFIX, field == _PORT
    plain = field == 3
    address = np.where(plain, (address << np.uint32(8)) | (value & np.uint32(255)), address)
    bad |= (digits == 0) | (field < 3)
    bad |= (plain & (value > 255)) | (is_prefix & (value > 32)) | (is_port & ((value == 0) | (value > 65535)))
    hosts = np.where(is_prefix, 32 - np.minimum(value, 32), 0).astype(np.uint64)
    span = ((np.uint64(1) << hosts) - np.uint64(1)).astype(np.uint32)
    out.ok[rows] = ~bad
    out.first[rows] = address & ~span
    out.last[rows] = address | span
    out.port[rows] = np.where(is_port, value, 0).astype(np.uint16)
    out.host_bits[rows] = ~bad & ((address & span) != 0)
