"""The base as a file: what the department publishes and a box keeps.

Layout: magic, format, size of the header; header (JSON: serial, feeds, classes, and for each section its place,
count, size and SHA-256); SHA-256 of all that; the sections, each one zstd frame, one after the other to the end of the
file. So the digest of the head vouches for the whole file, and a box that fills its kernel arrays reads and verifies
only the sections that it needs, not the names and sources kept for people.

Every count and size is bounded before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vigie.errors import BaseError

from .baseformat import (
    DIGEST,
    FORMAT,
    MAGIC,
    MAX_COUNT,
    MAX_FILE,
    MAX_HEADER,
    MAX_TEXT,
    PREFIX,
    SECTIONS,
    CorruptBaseFile,
    NewBaseFile,
    NotABaseFile,
    OldBaseFile,
    OversizeBaseFile,
    Place,
    TruncatedBaseFile,
    base_of,
    content_id,
    header_of,
)
from .model import MAX_SOURCE_SETS, Base, Intervals4, Intervals6, Names, Ports6
from .planes import Column, compress, decompress, from_planes, planes_needed, sum_deltas, to_deltas, to_planes

#: read(offset, size) -> bytes, shorter at the end of the file
Read = Callable[[int, int], bytes]


def columns_of(base: Base) -> dict[str, Column]:
    """The sections of a base, by name, not yet as differences. Needs its sources and texts."""
    v4, v6, ports6, names = base.v4, base.v6, base.ports6, base.names
    size_lo = v6.last_lo - v6.start_lo
    return {
        "v4.start": v4.start,
        "v4.size": v4.last - v4.start,
        "v4.class": v4.cls,
        "v4.source": v4.source,
        "ports4": base.ports4,
        "v6.start_hi": v6.start_hi,
        "v6.start_lo": v6.start_lo,
        "v6.size_hi": v6.last_hi - v6.start_hi - (v6.last_lo < v6.start_lo),
        "v6.size_lo": size_lo,
        "v6.class": v6.cls,
        "v6.source": v6.source,
        "ports6.hi": ports6.hi,
        "ports6.lo": ports6.lo,
        "ports6.port": ports6.port,
        "names.hash": names.hash,
        "names.class": names.cls,
        "names.source": names.source,
        "sets.sizes": np.array([len(members) for members in base.source_sets], np.uint16),
        "sets.members": np.array([feed for members in base.source_sets for feed in members], np.uint16),
        "names.text": np.frombuffer("\n".join(base.texts or ()).encode("ascii"), np.uint8),
    }


@dataclass(frozen=True, slots=True)
class Part:
    """A section ready to be stored, and what its place will say."""

    data: bytes
    count: int
    width: int
    content: str


def pack_column(name: str, column: Column, like: BaseFile | None = None) -> Part:
    """A section compressed; taken from the file `like` when that holds the same. Raises OversizeBaseFile."""
    count = len(column)
    if count > (MAX_TEXT if name == "names.text" else MAX_COUNT):
        raise OversizeBaseFile(f"{count} elements in {name}: more than a box will take")
    if name == "names.text":
        raw, width = column.tobytes(), 1
    else:
        stored = to_deltas(column) if SECTIONS[name][1] else column
        raw, width = to_planes(stored), planes_needed(stored)
    content = hashlib.sha256(raw).hexdigest()
    same = like.stored(name, count, width, content) if like is not None else None
    return Part(compress(raw) if same is None else same, count, width, content)


def pack_base(base: Base) -> bytes:
    """The file of a base. Needs its sources and texts. Raises OversizeBaseFile when it exceeds a bound."""
    columns = columns_of(base)
    return pack_parts(header_of(base), {name: pack_column(name, columns[name]) for name in SECTIONS})


def pack_parts(header: Mapping[str, object], parts: Mapping[str, Part]) -> bytes:
    """The file of a header (without `sections`) and all sections. Raises OversizeBaseFile when it exceeds a bound."""
    places: dict[str, dict[str, object]] = {}
    offset = 0
    for name in SECTIONS:
        part = parts[name]
        places[name] = {
            "offset": offset,
            "size": len(part.data),
            "count": part.count,
            "width": part.width,
            "sha256": hashlib.sha256(part.data).hexdigest(),
            "content": part.content,
        }
        offset += len(part.data)
    text = json.dumps({**header, "sections": places}, separators=(",", ":"), ensure_ascii=True).encode()
    head = PREFIX.pack(MAGIC, FORMAT, 0, len(text)) + text
    if len(text) > MAX_HEADER or len(head) + DIGEST + offset > MAX_FILE:
        raise OversizeBaseFile(f"base of {offset} bytes with a header of {len(text)}: more than a box will take")
    return b"".join((head, hashlib.sha256(head).digest(), *(parts[name].data for name in SECTIONS)))


def write_base(base: Base, path: Path) -> int:
    """Write the file in one step: a reader sees the old one or the new one, even after a power cut. Its size."""
    data = pack_base(base)
    write_atomically(path, data)
    return len(data)


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Replace a file. Raises BaseError when the folder cannot be written; the old file is then untouched."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BaseError(f"{path}: cannot be written: {error.strerror}") from error


class BaseFile:
    """A base file opened for reading: the head is verified at once, each section when it is read.

    Raises a BaseFileError that says what is wrong.
    """

    def __init__(self, read: Read, size: int, label: str = "base") -> None:
        self._read = read
        self._label = label
        if size > MAX_FILE:
            raise OversizeBaseFile(f"{label}: {size} bytes, at most {MAX_FILE} are accepted")
        prefix = read(0, PREFIX.size)
        if not prefix.startswith(MAGIC[: len(prefix)]):
            raise NotABaseFile(f"{label}: not a base file (compile feeds with `vigie base compile`)")
        if len(prefix) < PREFIX.size:
            raise TruncatedBaseFile(f"{label}: {size} bytes, ends within its head")
        _, version, _, header_size = PREFIX.unpack(prefix)
        if version < FORMAT:
            raise OldBaseFile(f"{label}: format {version}, this program reads {FORMAT}: compile it again")
        if version > FORMAT:
            raise NewBaseFile(f"{label}: format {version}, this program reads {FORMAT}: update the box first")
        if header_size > MAX_HEADER:
            raise OversizeBaseFile(f"{label}: header of {header_size} bytes, at most {MAX_HEADER} are accepted")
        self._data = PREFIX.size + header_size + DIGEST
        if size < self._data:
            raise TruncatedBaseFile(f"{label}: {size} bytes, ends within its head")
        header = read(PREFIX.size, header_size)
        self.digest = read(PREFIX.size + header_size, DIGEST)
        if hashlib.sha256(prefix + header).digest() != self.digest:
            raise CorruptBaseFile(f"{label}: digest of the head is wrong: fetch or compile it again")
        try:
            self.meta: dict[str, Any] = json.loads(header)
            self._places = self._sections(self.meta["sections"], size)
            base_of(self.meta)  # for its errors, here rather than at the first read
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise CorruptBaseFile(f"{label}: header: {error!r}") from error

    def _sections(self, listed: Mapping[str, Mapping[str, Any]], size: int) -> dict[str, Place]:
        places: dict[str, Place] = {}
        end = 0
        for name, (dtype, _) in SECTIONS.items():
            entry = listed[name]
            place = Place(
                int(entry["offset"]), int(entry["size"]), int(entry["count"]), int(entry["width"]),
                str(entry["sha256"]), str(entry.get("content", "")),
            )  # fmt: skip
            limit = MAX_TEXT if name == "names.text" else MAX_COUNT
            if not 0 <= place.count <= limit:
                raise OversizeBaseFile(f"{self._label}: {name} declares {place.count} elements, at most {limit}")
            if place.offset != end or place.size < 0 or not 0 <= place.width <= np.dtype(dtype).itemsize:
                raise ValueError(f"section {name} is out of place")
            places[name] = place
            end += place.size
        if self._data + end > size:
            raise TruncatedBaseFile(f"{self._label}: {size} bytes where {self._data + end} are expected")
        if self._data + end != size:
            raise CorruptBaseFile(f"{self._label}: {size - self._data - end} bytes after the end")
        return places

    def compressed_size(self, prefix: str) -> int:
        """Bytes in the file of the sections whose name begins so."""
        return sum(place.size for name, place in self._places.items() if name.startswith(prefix))

    def count(self, name: str) -> int:
        """Elements that a section declares."""
        return self._places[name].count

    def stored(self, name: str, count: int, width: int, content: str) -> bytes | None:
        """A section as it is stored, verified, when it holds this content; None otherwise."""
        place = self._places[name]
        if (place.count, place.width, place.content) != (count, width, content):
            return None
        part = self._read(self._data + place.offset, place.size)
        return part if hashlib.sha256(part).hexdigest() == place.digest else None

    def parts(self) -> dict[str, Part]:
        """Every section as it is stored, verified, to be written under another header."""
        out = {}
        for name, place in self._places.items():
            raw = self._raw(name)
            part = self._read(self._data + place.offset, place.size)
            out[name] = Part(part, place.count, place.width, hashlib.sha256(raw).hexdigest())
        return out

    def content(self) -> str:
        """The content id; files that do not carry the digests it is made of are read whole for it."""
        known = {
            name: (place.count, place.width, place.content or hashlib.sha256(self._raw(name)).hexdigest())
            for name, place in self._places.items()
        }
        return content_id(self.meta, known)

    def _raw(self, name: str) -> bytes:
        place = self._places[name]
        part = self._read(self._data + place.offset, place.size)
        if hashlib.sha256(part).hexdigest() != place.digest:
            raise CorruptBaseFile(f"{self._label}: digest of {name} is wrong: fetch or compile it again")
        try:
            return decompress(part, place.count * place.width)
        except ValueError as error:
            raise CorruptBaseFile(f"{self._label}: {name}: {error}") from error

    def column(self, name: str) -> Any:
        """The elements of a section, bytes of the names for `names.text`. Raises CorruptBaseFile."""
        if name == "names.text":
            return np.frombuffer(self._raw(name), np.uint8)
        dtype, sorted_ = SECTIONS[name]
        column = from_planes(self._raw(name), self._places[name].count, dtype)
        return sum_deltas(column) if sorted_ and len(column) else column

    def read(self, *, sources: bool = True, texts: bool = True) -> Base:
        """The base; without `sources` and `texts` only what the kernel needs (class numbers, bounds, hashes)."""
        base = base_of(self.meta)
        v4_start = self.column("v4.start")
        v4_size = self.column("v4.size")
        self._same(v4_start, v4_size)
        base.v4 = Intervals4(v4_start, v4_start + v4_size, self.column("v4.class"))
        del v4_size
        base.ports4 = self.column("ports4")
        hi, lo = self.column("v6.start_hi"), self.column("v6.start_lo")
        size_hi, size_lo = self.column("v6.size_hi"), self.column("v6.size_lo")
        self._same(hi, lo, size_hi, size_lo)
        last_lo = lo + size_lo
        base.v6 = Intervals6(hi, lo, hi + size_hi + (last_lo < lo), last_lo, self.column("v6.class"))
        base.ports6 = Ports6(self.column("ports6.hi"), self.column("ports6.lo"), self.column("ports6.port"))
        base.names = Names(self.column("names.hash"), self.column("names.class"))
        if sources:
            base.v4.source, base.v6.source = self.column("v4.source"), self.column("v6.source")
            base.names.source = self.column("names.source")
            base.source_sets = self._source_sets(len(base.feeds))
        if texts:
            base.texts = self._texts(len(base.names))
        self._check(base, sources=sources)
        return base

    def verify(self) -> None:
        """Read and check everything, also what the kernel does not need."""
        self.read()

    def head(self) -> Base:
        """The base as the header says it, with empty tables."""
        return base_of(self.meta)

    def source_sets(self) -> list[tuple[int, ...]]:
        """Source sets by number. Raises CorruptBaseFile."""
        return self._source_sets(len(self.head().feeds))

    def _source_sets(self, feeds: int) -> list[tuple[int, ...]]:
        sizes, members = self.column("sets.sizes"), self.column("sets.members")
        if len(sizes) > MAX_SOURCE_SETS or int(sizes.sum(dtype=np.int64)) != len(members):
            raise CorruptBaseFile(f"{self._label}: source sets contradict themselves")
        if len(members) and int(members.max()) >= feeds:
            raise CorruptBaseFile(f"{self._label}: a source set names a feed that is not there")
        ends = np.cumsum(sizes, dtype=np.int64).tolist()
        flat = members.tolist()
        return [tuple(flat[end - size : end]) for end, size in zip(ends, sizes.tolist(), strict=True)]

    def _texts(self, count: int) -> list[str]:
        raw = self._raw("names.text")
        try:
            texts = raw.decode("ascii").split("\n") if raw else []
        except UnicodeDecodeError as error:
            raise CorruptBaseFile(f"{self._label}: names: {error}") from error
        if len(texts) != count:
            raise CorruptBaseFile(f"{self._label}: {len(texts)} names for {count} hashes")
        return texts

    def _same(self, *columns: Column) -> None:
        if len({len(column) for column in columns}) != 1:
            raise CorruptBaseFile(f"{self._label}: columns of one table have different lengths")

    def _check(self, base: Base, *, sources: bool) -> None:
        """What look-ups rely on: order, disjointness, numbers that exist."""
        v4, v6, names, p6 = base.v4, base.v6, base.names, base.ports6
        self._same(v4.start, v4.cls, *((v4.source,) if sources else ()))
        self._same(v6.start_hi, v6.cls, *((v6.source,) if sources else ()))
        self._same(names.hash, names.cls, *((names.source,) if sources else ()))
        self._same(p6.hi, p6.lo, p6.port)
        ahead = (v6.start_hi[1:] > v6.last_hi[:-1]) | (
            (v6.start_hi[1:] == v6.last_hi[:-1]) & (v6.start_lo[1:] > v6.last_lo[:-1])
        )
        whole = (v6.last_hi > v6.start_hi) | ((v6.last_hi == v6.start_hi) & (v6.last_lo >= v6.start_lo))
        sound = (
            bool((v4.last >= v4.start).all())
            and bool((v4.start[1:] > v4.last[:-1]).all())
            and bool(ahead.all())
            and bool(whole.all())
            and bool((names.hash[1:] > names.hash[:-1]).all())
            and bool((base.ports4[1:] > base.ports4[:-1]).all())
            and (not len(base.ports4) or int(base.ports4[-1]) < 1 << 48)
        )
        if not sound:
            raise CorruptBaseFile(f"{self._label}: a table is out of order or overlaps itself")
        for cls in (v4.cls, v6.cls, names.cls):
            if len(cls) and not 0 < int(cls.min()) <= int(cls.max()) < len(base.classes):
                raise CorruptBaseFile(f"{self._label}: a class that is not in the table")
        if sources:
            for source in (v4.source, v6.source, names.source):
                if len(source) and int(source.max()) >= len(base.source_sets):
                    raise CorruptBaseFile(f"{self._label}: a source set that is not in the table")


def in_memory(data: bytes, label: str = "base") -> BaseFile:
    """A base file that is in memory, its head verified. Raises BaseFileError."""
    return BaseFile(lambda at, size: data[at : at + size], len(data), label)


def unpack_base(data: bytes, label: str = "base", *, sources: bool = True, texts: bool = True) -> Base:
    """The base of a file that is in memory. Raises BaseFileError."""
    return in_memory(data, label).read(sources=sources, texts=texts)


@contextmanager
def open_base(path: Path) -> Iterator[BaseFile]:
    """A base file opened, its head verified. Raises BaseFileError, or BaseError when it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            fd = file.fileno()
            yield BaseFile(lambda at, n: os.pread(fd, n, at), os.fstat(fd).st_size, str(path))
    except OSError as error:
        raise BaseError(f"{path}: cannot be read: {error.strerror}") from error


def load_base(path: Path, *, sources: bool = True, texts: bool = True) -> Base:
    """The base of a file; errors name it. Raises BaseFileError, or BaseError when it cannot be read."""
    with open_base(path) as file:
        return file.read(sources=sources, texts=texts)
