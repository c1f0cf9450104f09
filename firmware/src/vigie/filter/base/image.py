"""The base as the kernel reads it: sorted arrays behind bucket indexes, in the pages of layout.h.

An image is planned first, so that its size is known, then written straight into memory that the caller owns: the
mapped array of an idle slot, or a file for the early loader. Nothing of it is held twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vigie.errors import ImageError

from . import additions as box
from .additions import Additions, ClassTable, Patch
from .columns import U8, U32, U64
from .imageformat import (
    DIGEST_OFFSET,
    KIND_BASE,
    MAX_PAGES,
    PAGE_BYTES,
    PORT6_K1,
    PORT6_K2,
    SECTIONS,
    Header,
    Section,
    image_digest,
)
from .model import Base, ClassEntry, Ports6
from .splice import (
    Combine,
    Patched4,
    Patched6,
    PatchedNames,
    Splice,
    joined4,
    joined6,
    patch4,
    patch6,
    patch_names,
)

Array = npt.NDArray[np.unsignedinteger[Any]]
Writer = Callable[[Array], None]

#: Mean bucket of 4: 1 byte of index per element and two cache lines per look-up.
_BUCKET_BITS: Final = 2
_MAX_BITS: Final = 22
#: IPv6 addresses crowd in few of the top bits (2000::/3, a few hundred /16): more, smaller buckets.
_EXTRA_BITS6: Final = 3
_INDEX_RUN: Final = 1 << 15
#: One class of the 256 stays free: deltas need a number that means "no class".
CLASS_LIMIT: Final = 255


@dataclass(slots=True)
class ImagePlan:
    """An image to be written: `nbytes` long, by `write(out)`. Sections are (count, writer into the mapped elements)."""

    kind: int
    classes: list[ClassEntry]
    name_key: int
    name_seed: int
    serial: int
    shift4: int = 31
    shift6: int = 63
    shift_name: int = 63
    sections: dict[str, tuple[int, Writer]] = field(default_factory=dict)
    indexes: dict[str, tuple[str, int]] = field(default_factory=dict)
    #: Indexes that are known in a faster way than from their section.
    known_indexes: dict[str, Writer] = field(default_factory=dict)

    def add(self, name: str, count: int, writer: Writer) -> None:
        """Announce a section; an empty one takes no page."""
        if count:
            self.sections[name] = (count, writer)

    def array(self, name: str, values: Array) -> None:
        """A section that is an array as it is."""

        def copy(out: Array) -> None:
            out[:] = values

        self.add(name, len(values), copy)

    def index(self, name: str, keys: str, bits: int) -> int:
        """An index section over the section `keys`, which is there already, if it is not empty. Returns the shift."""
        shift = np.dtype(SECTIONS[keys]).itemsize * 8 - bits
        if keys in self.sections:
            self.indexes[name] = (keys, (1 << bits) + 1)
        return shift

    def header(self) -> Header:
        """Header without the digest. Raises ImageError when the image is larger than any slot."""
        page = 2
        places = {}
        counts = {name: count for name, (count, _) in self.sections.items()}
        counts |= {name: count for name, (_, count) in self.indexes.items()}
        for name in SECTIONS:
            if name in counts:
                count = counts[name]
                places[name] = Section(page, count)
                page += -(-count * np.dtype(SECTIONS[name]).itemsize // PAGE_BYTES)
        if page > MAX_PAGES:
            raise ImageError(f"image of {page} pages, at most {MAX_PAGES} fit: the base is too large for a box")
        return Header(
            page,
            self.kind,
            self.name_key,
            self.name_seed,
            self.shift4,
            self.shift6,
            self.shift_name,
            places,
            self.serial,
            bytes(32),
        )

    @property
    def nbytes(self) -> int:
        return self.header().pages * PAGE_BYTES

    def write(self, out: memoryview | bytearray, *, digest: bool = False) -> None:
        """Write the image at the beginning of `out` (writable, at least `nbytes`; what it held does not matter).

        The digest is for an image that goes to a file: SHA-256 of 20 MB takes longer than all the rest.
        """
        header = self.header()
        size = header.pages * PAGE_BYTES
        view = memoryview(out).cast("B")
        if len(view) < size:
            raise ImageError(f"image of {size} bytes, room for {len(view)}")
        page0 = header.pack()
        view[:PAGE_BYTES] = page0 + bytes(PAGE_BYTES - len(page0))
        table = b"".join(cls.pack() for cls in self.classes)
        view[PAGE_BYTES : 2 * PAGE_BYTES] = table + bytes(PAGE_BYTES - len(table))
        shifts = {"index4": self.shift4, "index6": self.shift6, "index_name": self.shift_name}
        for name, (_, writer) in self.sections.items():
            writer(_elements(view, header, name))
        for name, (keys, _) in self.indexes.items():
            if name in self.known_indexes:
                self.known_indexes[name](_elements(view, header, name))
            else:
                write_index(_elements(view, header, keys), shifts[name], _elements(view, header, name))
        if digest:
            view[DIGEST_OFFSET : DIGEST_OFFSET + 32] = image_digest(view, header.pages)


def _elements(view: memoryview, header: Header, name: str) -> Any:
    """Writable elements of a section; what is left of its last page is cleared."""
    section = header.sections[name]
    begin = section.page * PAGE_BYTES
    end = begin + section.count * np.dtype(SECTIONS[name]).itemsize
    view[end : end + -end % PAGE_BYTES] = bytes(-end % PAGE_BYTES)
    return np.frombuffer(view[begin:end], SECTIONS[name])


def bucket_bits(count: int, extra: int = 0) -> int:
    """Bits of the bucket number for `count` elements; at least 1, for a shift by the whole width is undefined in C."""
    return min(max(max(count, 1).bit_length() - _BUCKET_BITS + extra, 1), _MAX_BITS)


def write_index(keys: Array, shift: int, out: U32) -> None:
    """out[b] = how many keys have a bucket below b; keys are sorted, `out` has one element more than buckets.

    In runs that fit the cache: sorted keys of a run fall into neighbouring buckets.
    """
    out[:] = 0
    for at in range(0, len(keys), _INDEX_RUN):
        bucket = (keys[at : at + _INDEX_RUN] >> keys.dtype.type(shift)).astype(np.intp)
        first = int(bucket[0])
        bucket -= first
        counts = np.bincount(bucket).astype(np.uint32)
        out[first + 1 : first + 1 + len(counts)] += counts
    np.cumsum(out, out=out)


@dataclass(frozen=True, slots=True)
class Columns:
    """What the kernel needs of a base, or has of an image: bounds, classes and hashes, IPv6 as (high, low)."""

    start4: U32
    last4: U32
    class4: U8
    start6: tuple[U64, U64]
    last6: tuple[U64, U64]
    class6: U8
    hash: U64
    name_class: U8


def base_columns(base: Base) -> Columns:
    """Columns of a base; neighbours that differ only in their sources are one interval to the kernel."""
    return Columns(*joined4(base.v4), *joined6(base.v6), base.names.hash, base.names.cls)


def plan_image(base: Base, additions: Additions | None = None) -> ImagePlan:
    """Plan the image of a base with what the box adds. The base must not change until it is written.

    Raises ImageError when it is too large, ValueError for a malformed network in `additions`.
    """
    additions = additions or Additions()
    table = ClassTable(base.classes, CLASS_LIMIT)
    plan = ImagePlan(KIND_BASE, table.classes, base.name_key, base.name_seed, base.serial)
    old = base_columns(base)
    ranges4, ranges6 = box.ranges4(additions), box.ranges6(additions)
    names = box.names(additions, base.name_key, base.name_seed, old.hash, old.name_class, base.classes)

    def added(patch: Patch) -> Combine:
        return lambda before, which: table.combine(patch, before, which)

    plan_columns(
        plan, old,
        patch4(old.start4, old.last4, old.class4, ranges4.start, ranges4.last, added(ranges4.patch)),
        patch6(old.start6, old.last6, old.class6, ranges6.start, ranges6.last, added(ranges6.patch)),
        patch_names(old.hash, old.name_class, names.hash, added(names.patch)),
    )  # fmt: skip
    plan.array("ports4", base.ports4)
    plan.array("ports6", port6_keys(base.ports6))
    return plan


def plan_columns(plan: ImagePlan, old: Columns, v4: Patched4, v6: Patched6, names: PatchedNames) -> None:
    """Sections and indexes of a base image: the old columns with the patches spliced in."""
    _spliced(plan, v4.splice, {
        "start4": (old.start4, v4.start), "last4": (old.last4, v4.last), "class4": (old.class4, v4.cls),
    })  # fmt: skip
    plan.shift4 = plan.index("index4", "start4", bucket_bits(v4.splice.count))
    _spliced(plan, v6.splice, {
        "start6_hi": (old.start6[0], v6.start_hi), "start6_lo": (old.start6[1], v6.start_lo),
        "last6_hi": (old.last6[0], v6.last_hi), "last6_lo": (old.last6[1], v6.last_lo), "class6": (old.class6, v6.cls),
    })  # fmt: skip
    plan.shift6 = plan.index("index6", "start6_hi", bucket_bits(v6.splice.count, _EXTRA_BITS6))
    _spliced(plan, names.splice, {
        "hash_name": (old.hash, names.hash), "class_name": (old.name_class, names.cls),
    })  # fmt: skip
    plan.shift_name = plan.index("index_name", "hash_name", bucket_bits(names.splice.count))


def _spliced(plan: ImagePlan, splice: Splice, columns: dict[str, tuple[Array, Array]]) -> None:
    for name, (old, new) in columns.items():

        def write(out: Array, old: Array = old, new: Array = new) -> None:
            splice.copy(old, new, out)

        plan.add(name, splice.count, write)


def port6_keys(ports: Ports6) -> U64:
    """Section ports6: the keys of layout.h, sorted."""
    mixed = (ports.hi * np.uint64(PORT6_K1)) ^ (ports.lo * np.uint64(PORT6_K2))
    return np.sort((mixed & np.uint64(0xFFFF_FFFF_FFFF_0000)) | ports.port.astype(np.uint64))


def build_image(
    base: Base, additions: Additions | None = None, *, out: memoryview | None = None, digest: bool = True
) -> memoryview:
    """The image of a base, in `out` or in new memory; the part that it fills is returned. Errors as plan_image."""
    plan = plan_image(base, additions)
    size = plan.nbytes
    target = memoryview(bytearray(size)) if out is None else out
    plan.write(target, digest=digest)
    return target[:size]
