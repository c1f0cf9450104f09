"""A delta as a file (`.vgd`): how to get from one base file to another, byte for byte.

Layout: magic, format, size of the content; SHA-256 of the prefix and of what follows; one zstd frame to the end. The
frame holds the size of the header, the header (JSON: both bases, the new base's own header, which feeds go on) and the
columns of :data:`SECTIONS` as byte planes. Rows that go are named by their key, rows that come are whole; numbers of
classes and of source sets are those of the new base. A delta says which content it starts from, and which it leads to.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vigie.errors import BaseError

from .baseformat import CorruptBaseFile, NewBaseFile, NotABaseFile, OversizeBaseFile, TruncatedBaseFile, base_of
from .columns import I64, U8, U16, U32, U64
from .model import CLASS_BYTES, Base, ClassEntry
from .names import MAX_NAME, hash_names, pack_text
from .planes import Column, compress, decompress, from_planes, planes_needed, sum_deltas, to_deltas, to_planes
from .splice import distinct

MAGIC: Final = b"\x89VGD\r\n\x1a\n"
FORMAT: Final = 1
#: Content of a delta, so the memory that reading one takes; what is larger is better fetched as a base.
MAX_CONTENT: Final = 64 << 20
MAX_FILE: Final = 32 << 20
MAX_CLASSES: Final = 255
PREFIX: Final = struct.Struct("<8sHHI")
DIGEST: Final = 32
_SIZE: Final = struct.Struct("<I")

#: Element type, and whether the column is sorted and stored as differences.
SECTIONS: Final[dict[str, tuple[type[np.unsignedinteger[Any]], bool]]] = {
    "v4.gone.start": (np.uint32, True),
    "v4.gone.size": (np.uint32, False),
    "v4.gone.class": (np.uint8, False),
    "v4.new.start": (np.uint32, True),
    "v4.new.size": (np.uint32, False),
    "v4.new.class": (np.uint8, False),
    "v4.new.source": (np.uint16, False),
    "ports4.gone": (np.uint64, True),
    "ports4.new": (np.uint64, True),
    "v6.gone.start_hi": (np.uint64, True),
    "v6.gone.start_lo": (np.uint64, False),
    "v6.gone.size_hi": (np.uint64, False),
    "v6.gone.size_lo": (np.uint64, False),
    "v6.gone.class": (np.uint8, False),
    "v6.new.start_hi": (np.uint64, True),
    "v6.new.start_lo": (np.uint64, False),
    "v6.new.size_hi": (np.uint64, False),
    "v6.new.size_lo": (np.uint64, False),
    "v6.new.class": (np.uint8, False),
    "v6.new.source": (np.uint16, False),
    "ports6.hi": (np.uint64, True),
    "ports6.lo": (np.uint64, False),
    "ports6.port": (np.uint16, False),
    "names.gone.hash": (np.uint64, True),
    "names.gone.class": (np.uint8, False),
    "names.gone.line": (np.uint32, True),
    "names.changed.hash": (np.uint64, True),
    "names.changed.before": (np.uint8, False),
    "names.changed.class": (np.uint8, False),
    "names.changed.source": (np.uint16, False),
    "names.new.line": (np.uint32, True),
    "names.new.class": (np.uint8, False),
    "names.new.source": (np.uint16, False),
    "names.new.text": (np.uint8, False),
    "sets.from": (np.uint16, False),
    "sets.sizes": (np.uint16, False),
    "sets.members": (np.uint16, False),
}
#: Columns that belong together, so have one length.
TABLES: Final = (
    "v4.gone.", "v4.new.", "v6.gone.", "v6.new.", "ports6.", "names.gone.", "names.changed.", "names.new.",
)  # fmt: skip


class DeltaError(BaseError):
    """A delta does not fit the base in force: load the whole base instead."""


@dataclass(slots=True)
class FileDelta:
    """What leads from one base file to the next.

    header: the new base's, without its sections. feeds[j]: old index plus one of the new base's feed j, 0 for a new
    one. gone_classes follow the new base's classes in the numbers of `v4.gone.class` and its like. counts: elements of
    the old base's v4, v6 and names.
    """

    from_serial: int
    from_content: str
    to_content: str
    header: dict[str, Any]
    feeds: list[int]
    gone_classes: list[ClassEntry]
    counts: dict[str, int]
    columns: dict[str, Column]

    @property
    def base(self) -> Base:
        """The new base as its header says it, with empty tables."""
        return base_of(self.header)

    @property
    def to_serial(self) -> int:
        """Version that the delta leads to."""
        return int(self.header["serial"])

    def new_hashes(self) -> U64:
        """Hashes of the names that come, in the order of their lines."""
        base = self.base
        return hash_names(pack_text(self.columns["names.new.text"].tobytes()), base.name_key, base.name_seed) \
            if len(self.columns["names.new.line"]) else np.zeros(0, np.uint64)  # fmt: skip

    def sizes(self) -> dict[str, int]:
        """Elements of the new base's v4, v6 and names."""
        return {
            kind: self.counts[kind] - len(self.columns[f"{kind}.gone.class"]) + len(self.columns[f"{kind}.new.class"])
            for kind in ("v4", "v6", "names")
        }


def pack_delta(delta: FileDelta) -> bytes:
    """The file of a delta. Raises OversizeBaseFile when a whole base is the better choice."""
    places: dict[str, list[int]] = {}
    parts: list[bytes] = []
    for name, (_, sorted_) in SECTIONS.items():
        column = delta.columns[name]
        stored = to_deltas(column) if sorted_ else column
        width = planes_needed(stored)
        places[name] = [len(column), width]
        parts.append(to_planes(stored))
    header = {
        "from": {"serial": delta.from_serial, "content": delta.from_content, **delta.counts},
        "to": {"serial": delta.to_serial, "content": delta.to_content},
        "header": delta.header,
        "feeds": delta.feeds,
        "gone_classes": [cls.pack()[:5].hex() for cls in delta.gone_classes],
        "sections": places,
    }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    content = b"".join((_SIZE.pack(len(text)), text, *parts))
    if len(content) > MAX_CONTENT:
        raise OversizeBaseFile(f"a delta of {len(content)} bytes, at most {MAX_CONTENT}: publish the whole base")
    frame = compress(content)
    prefix = PREFIX.pack(MAGIC, FORMAT, 0, len(content))
    return b"".join((prefix, hashlib.sha256(prefix + frame).digest(), frame))


def load_delta(path: Path) -> FileDelta:
    """The delta in a file. Raises BaseFileError, or BaseError when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise BaseError(f"{path}: cannot be read: {error.strerror}") from error
    return unpack_delta(data, str(path))


def unpack_delta(data: bytes, label: str = "delta") -> FileDelta:
    """The delta of a file in memory, everything in it checked but what it starts from. Raises BaseFileError."""
    if len(data) > MAX_FILE:
        raise OversizeBaseFile(f"{label}: more than {MAX_FILE} bytes: fetch the whole base")
    if not data.startswith(MAGIC[: max(len(data), 1)]):
        raise NotABaseFile(f"{label}: not a delta (make one with `vigie base delta`)")
    if len(data) < PREFIX.size + DIGEST:
        raise TruncatedBaseFile(f"{label}: {len(data)} bytes, ends within its head")
    _, version, _, size = PREFIX.unpack_from(data)
    if version != FORMAT:
        raise NewBaseFile(f"{label}: format {version}, this program reads {FORMAT}: fetch the whole base")
    if size > MAX_CONTENT:
        raise OversizeBaseFile(f"{label}: content of {size} bytes, at most {MAX_CONTENT} are accepted")
    frame = memoryview(data)[PREFIX.size + DIGEST :]
    digest = hashlib.sha256(data[: PREFIX.size])
    digest.update(frame)
    if digest.digest() != data[PREFIX.size : PREFIX.size + DIGEST]:
        raise CorruptBaseFile(f"{label}: its digest is wrong: fetch it again")
    try:
        delta = _read(decompress(frame, size))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, struct.error) as error:
        raise CorruptBaseFile(f"{label}: {error!r}") from error
    return delta


def _read(content: bytes) -> FileDelta:
    (size,) = _SIZE.unpack_from(content)
    at = _SIZE.size + size
    said = json.loads(content[_SIZE.size : at])
    columns: dict[str, Column] = {}
    for name, (dtype, sorted_) in SECTIONS.items():
        count, width = (int(number) for number in said["sections"][name])
        if count < 0 or not 0 <= width <= np.dtype(dtype).itemsize or at + count * width > len(content):
            raise ValueError(f"section {name} of {count} elements and {width} bytes each")
        if count > len(content):
            raise ValueError(f"section {name} declares {count} elements")
        column = from_planes(content[at : at + count * width], count, dtype)
        columns[name] = sum_deltas(column) if sorted_ and count else column
        at += count * width
    if at != len(content):
        raise ValueError(f"{len(content) - at} bytes after the end")
    gone = [ClassEntry.unpack(bytes.fromhex(text).ljust(CLASS_BYTES, b"\0")) for text in said["gone_classes"]]
    origin = said["from"]
    counts = {kind: int(origin[kind]) for kind in ("v4", "v6", "names")}
    delta = FileDelta(
        int(origin["serial"]), str(origin["content"]), str(said["to"]["content"]), dict(said["header"]),
        [int(feed) for feed in said["feeds"]], gone, counts, columns,
    )  # fmt: skip
    if int(said["to"]["serial"]) != delta.to_serial or "sections" in delta.header:
        raise ValueError("the header contradicts itself")
    _check(delta)
    return delta


def _check(delta: FileDelta) -> None:
    """Order, disjointness, numbers that exist: what patching relies on. Raises ValueError."""
    base, columns = delta.base, delta.columns
    for table in TABLES:
        lengths = {len(column) for name, column in columns.items() if name.startswith(table) and name[-5:] != ".text"}
        if len(lengths) != 1:
            raise ValueError(f"columns of {table}* have different lengths")
    for kind in ("gone", "new"):
        if not disjoint4(columns[f"v4.{kind}.start"], last4(delta, kind)):
            raise ValueError(f"v4.{kind} is out of order or overlaps itself")
        if not disjoint6(start6(delta, kind), last6(delta, kind)):
            raise ValueError(f"v6.{kind} is out of order or overlaps itself")
    for name in ("ports4.gone", "ports4.new", "names.gone.line", "names.new.line"):
        if not increasing(columns[name]):
            raise ValueError(f"{name} is out of order")
    hashes = [columns["names.gone.hash"], columns["names.changed.hash"], _checked_texts(delta)]
    if not increasing(hashes[0]) or not increasing(hashes[1]):
        raise ValueError("names out of order")
    if len(distinct(np.concatenate(hashes))) != sum(map(len, hashes)):
        raise ValueError("a name is listed twice")
    known, all_known = len(base.classes), len(base.classes) + len(delta.gone_classes)
    if all_known > MAX_CLASSES:
        raise ValueError(f"{all_known} classes")
    for name, limit in {
        "v4.gone.class": all_known, "v6.gone.class": all_known, "names.gone.class": all_known,
        "names.changed.before": all_known, "v4.new.class": known, "v6.new.class": known, "names.new.class": known,
        "names.changed.class": known,
    }.items():  # fmt: skip
        column = columns[name]
        if len(column) and not 0 < int(column.min()) <= int(column.max()) < limit:
            raise ValueError(f"{name}: a class that is not in the table")
    sets = len(columns["sets.from"])
    for name in ("v4.new.source", "v6.new.source", "names.new.source", "names.changed.source"):
        if len(columns[name]) and int(columns[name].max()) >= sets:
            raise ValueError(f"{name}: a source set that is not in the table")
    if int(columns["sets.sizes"].sum(dtype=np.int64)) != len(columns["sets.members"]):
        raise ValueError("source sets contradict themselves")
    if int(np.count_nonzero(columns["sets.from"] == 0)) != len(columns["sets.sizes"]):
        raise ValueError("source sets are missing")
    if len(columns["sets.members"]) and int(columns["sets.members"].max()) >= len(base.feeds):
        raise ValueError("a source set names a feed that is not there")
    if len(delta.feeds) != len(base.feeds) or min(delta.feeds, default=0) < 0:
        raise ValueError("feeds do not match the header")
    if any(size < 0 for size in delta.sizes().values()):
        raise ValueError("more goes than there is")


def _checked_texts(delta: FileDelta) -> U64:
    """Hashes of the names that come, after a look at their spelling: bytes that no name has must not get into files."""
    text = delta.columns["names.new.text"]
    count = len(delta.columns["names.new.line"])
    if not count:
        if len(text):
            raise ValueError("names without lines")
        return np.zeros(0, np.uint64)
    allowed = np.zeros(256, bool)
    allowed[np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789-_.\n", np.uint8)] = True
    if not allowed[text].all():
        raise ValueError("a name with characters that names do not have")
    packed = pack_text(text.tobytes())
    sizes = packed.end - packed.start
    if len(packed) != count or int(sizes.min()) == 0 or int(sizes.max()) > MAX_NAME:
        raise ValueError(f"{len(packed)} names for {count} lines, or one that is empty or too long")
    return delta.new_hashes()


def last4(delta: FileDelta, kind: str) -> U32:
    """Last address of each IPv4 row; `kind` is gone or new."""
    last: U32 = delta.columns[f"v4.{kind}.start"] + delta.columns[f"v4.{kind}.size"]
    return last


def start6(delta: FileDelta, kind: str) -> tuple[U64, U64]:
    """(high, low) of the first address of each IPv6 row."""
    return delta.columns[f"v6.{kind}.start_hi"], delta.columns[f"v6.{kind}.start_lo"]


def last6(delta: FileDelta, kind: str) -> tuple[U64, U64]:
    """(high, low) of the last address of each IPv6 row."""
    hi, lo = start6(delta, kind)
    low = lo + delta.columns[f"v6.{kind}.size_lo"]
    return hi + delta.columns[f"v6.{kind}.size_hi"] + (low < lo), low


def increasing(column: Column) -> bool:
    """Strictly."""
    return bool((column[1:] > column[:-1]).all())


def disjoint4(start: U32, last: U32) -> bool:
    """Rows in order, none overlapping the next."""
    return bool((last >= start).all()) and bool((start[1:] > last[:-1]).all())


def disjoint6(start: tuple[U64, U64], last: tuple[U64, U64]) -> bool:
    """As :func:`disjoint4`; bounds are (high, low)."""
    (hi, lo), (last_hi, last_lo) = start, last
    whole = (last_hi > hi) | ((last_hi == hi) & (last_lo >= lo))
    ahead = (hi[1:] > last_hi[:-1]) | ((hi[1:] == last_hi[:-1]) & (lo[1:] > last_lo[:-1]))
    return bool(whole.all()) and bool(ahead.all())


def class_map(old: list[ClassEntry], new: Mapping[ClassEntry, int]) -> U8:
    """New number of each old class, 0 where the new base has none like it."""
    return np.array([new.get(cls, 0) for cls in old], np.uint8)


def set_map(old: list[tuple[int, ...]], new: list[tuple[int, ...]], feeds: list[int]) -> I64:
    """New number of each old source set, -1 where there is none: its feeds that go on, those that ended left out."""
    index: dict[tuple[int, ...], int] = {}
    for number, members in enumerate(new):
        index.setdefault(members, number)
    return np.array([index.get(members, -1) for members in translated(old, feeds)], np.int64)


def translated(sets: list[tuple[int, ...]], feeds: list[int]) -> list[tuple[int, ...]]:
    """Old source sets in the numbers of the new base's feeds, without those that ended."""
    onto = {old - 1: new for new, old in enumerate(feeds) if old}
    return [tuple(onto[feed] for feed in members if feed in onto) for members in sets]


def source_column(numbers: I64) -> U16:
    """Source set numbers as they are stored. They must be known to exist."""
    return numbers.astype(np.uint16)
