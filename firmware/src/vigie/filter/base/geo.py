"""Country and AS of addresses as a kernel image: one table of boundaries, each with what holds up to the next.

Sources are CSV files, plain or xz: `start,end,CC` (country) and `start,end,ASN,"organisation"`, as published by
sapics/ip-location-db. Country and AS are merged by the union of their boundaries.
"""

from __future__ import annotations

import csv
import io
import lzma
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vigie.errors import BaseError

from .columns import I64, U64
from .image import ImagePlan, bucket_bits
from .imageformat import KIND_GEO
from .model import ClassEntry
from .splice import paint, rank128

MAX_TEXT: Final = 256 << 20
MAX_ROWS: Final = 2_000_000
_TOP: Final = 0xFFFFFFFFFFFFFFFF
_EXTRA_BITS6: Final = 3


@dataclass(frozen=True, slots=True)
class GeoRanges:
    """n ranges of one family and one kind: bounds as (high, low) 64 bits (high 0 for IPv4), inclusive, and the part
    of the value: the AS number, or the country << 32."""

    first: tuple[U64, U64]
    last: tuple[U64, U64]
    value: U64


def read_ranges(path: Path, *, ipv6: bool, country: bool) -> GeoRanges:
    """One CSV file. Raises BaseError naming the line that is wrong, or when the file is too large or unreadable."""
    family, size = (socket.AF_INET6, 16) if ipv6 else (socket.AF_INET, 4)
    bounds = bytearray()
    values: list[int] = []
    line = 0
    try:
        for line, row in enumerate(_rows(path), 1):
            if line > MAX_ROWS:
                raise ValueError(f"more than {MAX_ROWS} rows")
            bounds += socket.inet_pton(family, row[0]).rjust(16, b"\0")
            bounds += socket.inet_pton(family, row[1]).rjust(16, b"\0")
            values.append(country_value(row[2]) if country else int(row[2]))
    except (ValueError, IndexError, OSError, EOFError, lzma.LZMAError, csv.Error) as error:
        raise BaseError(f"{path}:{max(line, 1)}: not `start,end,{'CC' if country else 'ASN'}`: {error}") from error
    words = np.frombuffer(bytes(bounds), ">u8").astype(np.uint64).reshape(-1, 4)
    value = np.array(values, np.uint64)
    ordered = (words[:, 2] > words[:, 0]) | ((words[:, 2] == words[:, 0]) & (words[:, 3] >= words[:, 1]))
    if not ordered.all():
        raise BaseError(f"{path}:{int(np.argmin(ordered)) + 1}: a range of {size}-byte addresses ends before it starts")
    return GeoRanges((words[:, 0], words[:, 1]), (words[:, 2], words[:, 3]), value)


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open("rb") as raw, lzma.open(raw) if path.suffix == ".xz" else raw as stream:
        text = stream.read(MAX_TEXT + 1)
    if len(text) > MAX_TEXT:
        raise ValueError(f"more than {MAX_TEXT} bytes")
    yield from csv.reader(io.StringIO(text.decode("utf-8")))


def country_value(code: str) -> int:
    """Country part of a value: two ASCII letters, the first one higher. Raises ValueError."""
    if len(code) != 2 or not code.isascii() or not code.isalpha():
        raise ValueError(f"country code {code!r}")
    letters = code.upper().encode("ascii")
    return (letters[0] << 8 | letters[1]) << 32


def merge_geo(tables: list[GeoRanges]) -> tuple[tuple[U64, U64], U64]:
    """(boundaries, values): values[i] holds from boundaries[i] up to the next one, 0 where nothing is known.

    Tables of one family; the values of those that cover a place are or-ed. In a table that overlaps itself the range
    that starts last wins.
    """
    zero = (np.zeros(1, np.uint64), np.zeros(1, np.uint64))
    ranks, points = rank128(zero, *(t.first for t in tables), after=tuple(t.last for t in tables))
    size = len(points)
    value = np.zeros(size, np.uint64)
    for table, first, end in zip(tables, ranks[1 : 1 + len(tables)], ranks[1 + len(tables) :], strict=True):
        order = np.argsort(first, kind="stable")
        first, end = first[order], end[order]
        end[:-1] = np.minimum(end[:-1], first[1:])
        which = paint(first, end, size)
        value |= np.where(which >= 0, table.value[order][which], np.uint64(0)) if len(order) else np.uint64(0)
    keep: I64 = np.flatnonzero(np.append(True, value[1:] != value[:-1]) & (points.carry == 0))
    return points.at(keep), value[keep]


def plan_geo(v4: list[GeoRanges], v6: list[GeoRanges], serial: int) -> ImagePlan:
    """Plan the geo image (kind 1) of these tables; see :class:`.image.ImagePlan` for writing it."""
    plan = ImagePlan(KIND_GEO, [ClassEntry()], 1, 0, serial)
    (_, start4), value4 = merge_geo(v4)
    within = start4 < 1 << 32
    start4, value4 = start4[within].astype(np.uint32), value4[within]
    plan.array("start4", start4)
    plan.array("value4", value4)
    plan.shift4 = plan.index("index4", "start4", bucket_bits(len(start4)))
    (hi, lo), value6 = merge_geo(v6)
    plan.array("start6_hi", hi)
    plan.array("start6_lo", lo)
    plan.array("value6", value6)
    plan.shift6 = plan.index("index6", "start6_hi", bucket_bits(len(hi), _EXTRA_BITS6))
    return plan


def load_geo(folder: Path, serial: int) -> ImagePlan:
    """The geo image of a folder that holds `country/` and `asn/` (see the module's text). Raises BaseError."""

    def table(pattern: str, *, ipv6: bool, country: bool) -> GeoRanges:
        found = sorted(folder.glob(pattern))
        if not found:
            raise BaseError(f"{folder}: no file {pattern}: country and AS ranges are needed")
        return read_ranges(found[0], ipv6=ipv6, country=country)

    return plan_geo(
        [table("country/*ipv4.csv*", ipv6=False, country=True), table("asn/*ipv4.csv*", ipv6=False, country=False)],
        [table("country/*ipv6.csv*", ipv6=True, country=True), table("asn/*ipv6.csv*", ipv6=True, country=False)],
        serial,
    )
