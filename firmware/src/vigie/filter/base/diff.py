"""What changed between two bases, and putting that into an image without building it again.

A delta lists places with their new class, 0 where nothing is listed any more. It is a few kilobytes where a base is
megabytes, and goes from the image in force into the idle slot in one pass over the columns.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from . import additions as box
from .additions import Additions, ClassTable, Patch
from .columns import I64, U8, U32, U64, Bools
from .deltaformat import DeltaError
from .image import CLASS_LIMIT, Columns, ImagePlan, base_columns, plan_columns, port6_keys
from .imageformat import KIND_BASE
from .lookup import Lookup
from .model import NOT_LISTED, Base, ClassEntry, zeros8, zeros32, zeros64
from .names import hash_names, hash_suffixes, pack
from .splice import (
    Column,
    Combine,
    Patched4,
    Patched6,
    Splice,
    distinct,
    paint,
    patch4,
    patch6,
    patch_names,
    rank128,
    search6,
    spread,
)


@dataclass(slots=True)
class Delta:
    """From one base to another: disjoint sorted ranges and sorted hashes with the class before and after.

    before, after: numbers in `classes`, 0 = not listed; v6 bounds are (high, low). Port scopes of IPv4 as elements that
    go and that come; those of IPv6 travel whole: they are few, and keyed.
    """

    from_serial: int
    to_serial: int
    name_key: int
    name_seed: int
    classes: list[ClassEntry]
    start4: U32 = field(default_factory=zeros32)
    last4: U32 = field(default_factory=zeros32)
    before4: U8 = field(default_factory=zeros8)
    after4: U8 = field(default_factory=zeros8)
    start6: tuple[U64, U64] = field(default_factory=lambda: (zeros64(), zeros64()))
    last6: tuple[U64, U64] = field(default_factory=lambda: (zeros64(), zeros64()))
    before6: U8 = field(default_factory=zeros8)
    after6: U8 = field(default_factory=zeros8)
    hash: U64 = field(default_factory=zeros64)
    before_name: U8 = field(default_factory=zeros8)
    after_name: U8 = field(default_factory=zeros8)
    gone_ports4: U64 = field(default_factory=zeros64)
    new_ports4: U64 = field(default_factory=zeros64)
    ports6: U64 = field(default_factory=zeros64)

    def __len__(self) -> int:
        return len(self.start4) + len(self.start6[0]) + len(self.hash)

    def counts(self) -> dict[str, dict[str, int]]:
        """Places added, removed and changed, by kind."""
        return {
            kind: {
                "added": int(np.count_nonzero(before == 0)),
                "removed": int(np.count_nonzero(after == 0)),
                "changed": int(np.count_nonzero((before != 0) & (after != 0))),
            }
            for kind, before, after in (
                ("v4", self.before4, self.after4),
                ("v6", self.before6, self.after6),
                ("names", self.before_name, self.after_name),
            )
        }


def make_delta(old: Base, new: Base) -> Delta:
    """What leads from one base to the other. When their name keys differ the texts of `old` are needed (DeltaError
    otherwise)."""
    table = ClassTable(new.classes)
    renumber = np.array([table.number(cls) for cls in old.classes], np.uint8)
    a, b = base_columns(old), base_columns(new)
    hashes, name_class = _rehashed(old, new)
    a = replace(a, class4=renumber[a.class4], class6=renumber[a.class6], hash=hashes, name_class=renumber[name_class])
    return Delta(
        old.serial, new.serial, new.name_key, new.name_seed, table.classes, *changes(a, b),
        without(old.ports4, new.ports4), without(new.ports4, old.ports4), port6_keys(new.ports6),
    )  # fmt: skip


def without(values: U64, others: U64) -> U64:
    """Elements of sorted distinct values that the others, sorted too, do not have."""
    if not len(others):
        return values
    at = np.minimum(np.searchsorted(others, values), len(others) - 1)
    left: U64 = values[others[at] != values]
    return left


Changes = tuple[U32, U32, U8, U8, tuple[U64, U64], tuple[U64, U64], U8, U8, U64, U8, U8]


def changes(old: Columns, new: Columns) -> Changes:
    """Fields start4 to after_name of a Delta; classes of both under the same numbers. Rows that are in neither do not
    matter: those that differ are enough."""
    return (*_changes4(old, new), *_changes6(old, new), *_changed_names(old, new))


def samples(delta: Delta, old: Base, new: Base, most: int) -> dict[str, dict[str, list[str]]]:
    """Up to `most` indicators of each kind and change, as people write them. Names need the texts of both bases."""
    texts: dict[int, str] = {}
    for base in (old, new):
        listed = base.texts or []
        hashes = hash_names(pack(listed), delta.name_key, delta.name_seed)
        for i in np.flatnonzero(np.isin(hashes, delta.hash)).tolist():
            texts[int(hashes[i])] = listed[i]

    def text4(i: int) -> str:
        return range_text(int(delta.start4[i]), int(delta.last4[i]), version=4)

    def text6(i: int) -> str:
        (hi, lo), (last_hi, last_lo) = delta.start6, delta.last6
        return range_text(int(hi[i]) << 64 | int(lo[i]), int(last_hi[i]) << 64 | int(last_lo[i]), version=6)

    def text_name(i: int) -> str:
        return texts.get(int(delta.hash[i]), "?")

    out: dict[str, dict[str, list[str]]] = {}
    for kind, before, after, text in (
        ("v4", delta.before4, delta.after4, text4),
        ("v6", delta.before6, delta.after6, text6),
        ("names", delta.before_name, delta.after_name, text_name),
    ):
        rows = {"added": before == 0, "removed": after == 0, "changed": (before != 0) & (after != 0)}
        out[kind] = {change: [text(i) for i in np.flatnonzero(which)[:most].tolist()] for change, which in rows.items()}
    return out


def range_text(first: int, last: int, *, version: int) -> str:
    """A range as an address, a prefix, or first-last."""
    kind = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    size = last - first + 1
    if size == 1:
        return str(kind(first))
    if size & (size - 1) == 0 and first % size == 0:
        return f"{kind(first)}/{(32 if version == 4 else 128) - size.bit_length() + 1}"
    return f"{kind(first)}-{kind(last)}"


def _rehashed(old: Base, new: Base) -> tuple[U64, U8]:
    if (old.name_key, old.name_seed) == (new.name_key, new.name_seed):
        return old.names.hash, old.names.cls
    if old.texts is None:
        raise DeltaError("the two bases hash names under different keys: the names of the older one are needed")
    packed = pack(old.texts)
    cls = old.names.cls[np.searchsorted(old.names.hash, hash_names(packed, old.name_key, old.name_seed))]
    hashes = hash_names(packed, new.name_key, new.name_seed)
    order = np.argsort(hashes)
    return hashes[order], cls[order]


def _segments(a: tuple[I64, I64, U8], b: tuple[I64, I64, U8], points: int) -> tuple[I64, I64, U8, U8]:
    """(first, end, before, after) where two tables on a small axis differ; equal neighbours joined."""
    size = max(points - 1, 0)
    before, after = spread(a[2], paint(a[0], a[1], size)), spread(b[2], paint(b[0], b[1], size))
    at = np.flatnonzero(before != after)
    first = np.ones(len(at), bool)
    first[1:] = (at[1:] != at[:-1] + 1) | (before[at[1:]] != before[at[:-1]]) | (after[at[1:]] != after[at[:-1]])
    begin = np.flatnonzero(first)
    end = np.append(begin[1:] - 1, len(at) - 1)[: len(begin)]
    return at[begin], at[end] + 1, before[at[begin]], after[at[begin]]


def _unpaired(at: I64, same: Bools, count: int) -> tuple[Bools, Bools]:
    """Rows of the old and of the new table that have no identical row in the other."""
    new_left = np.ones(count, bool)
    new_left[at[same]] = False
    return ~same, new_left


def _changes4(old: Columns, new: Columns) -> tuple[U32, U32, U8, U8]:
    at = np.searchsorted(new.start4, old.start4).astype(np.int64)
    near = np.minimum(at, max(len(new.start4) - 1, 0))
    if len(new.start4):
        same = (
            (at < len(new.start4)) & (new.start4[near] == old.start4) & (new.last4[near] == old.last4)
            & (new.class4[near] == old.class4)
        )  # fmt: skip
    else:
        same = np.zeros(len(at), bool)
    x, y = _unpaired(near, same, len(new.start4))
    bounds = [
        old.start4[x].astype(np.int64), old.last4[x].astype(np.int64) + 1,
        new.start4[y].astype(np.int64), new.last4[y].astype(np.int64) + 1,
    ]  # fmt: skip
    points = distinct(np.concatenate(bounds))
    ranks = [np.searchsorted(points, bound).astype(np.int64) for bound in bounds]
    first, end, before, after = _segments(
        (ranks[0], ranks[1], old.class4[x]), (ranks[2], ranks[3], new.class4[y]), len(points)
    )
    return points[first].astype(np.uint32), (points[end] - 1).astype(np.uint32), before, after


def _changes6(old: Columns, new: Columns) -> tuple[tuple[U64, U64], tuple[U64, U64], U8, U8]:
    at = search6(*new.start6, *old.start6, right=False)
    near = np.minimum(at, max(len(new.class6) - 1, 0))
    same = np.zeros(len(at), bool)
    if len(new.class6):
        same = (at < len(new.class6)) & (new.class6[near] == old.class6)
        for mine, other in zip((*old.start6, *old.last6), (*new.start6, *new.last6), strict=True):
            same &= other[near] == mine
    x, y = _unpaired(near, same, len(new.class6))
    ranks, points = rank128(_at(old.start6, x), _at(new.start6, y), after=(_at(old.last6, x), _at(new.last6, y)))
    first, end, before, after = _segments(
        (ranks[0], ranks[2], old.class6[x]), (ranks[1], ranks[3], new.class6[y]), len(points)
    )
    return points.at(first), points.before(end), before, after


def _at(pair: tuple[U64, U64], rows: Bools) -> tuple[U64, U64]:
    return pair[0][rows], pair[1][rows]


def _changed_names(old: Columns, new: Columns) -> tuple[U64, U8, U8]:
    every = distinct(np.concatenate((old.hash, new.hash)))
    before, after = np.zeros(len(every), np.uint8), np.zeros(len(every), np.uint8)
    before[np.searchsorted(every, old.hash)] = old.name_class
    after[np.searchsorted(every, new.hash)] = new.name_class
    differs = before != after
    return every[differs], before[differs], after[differs]


def patch_image(image: bytes | bytearray | memoryview, delta: Delta, additions: Additions | None = None) -> ImagePlan:
    """Plan the image that `delta` makes of an image, with the additions that the image was built with.

    The plan reads `image` when it is written: keep it in place, and write elsewhere. Raises DeltaError when the delta
    starts from another base, or touches names whose class the additions inherited; ImageError for a malformed image.
    """
    additions = additions or Additions()
    now = Lookup(image)
    header = now.header
    if header.serial != delta.from_serial:
        raise DeltaError(f"delta from base {delta.from_serial}, base {header.serial} is in force: load the whole base")
    if (header.name_key, header.name_seed) != (delta.name_key, delta.name_seed):
        raise DeltaError("delta under another name key than the base in force: load the whole base")
    _check_inherited(delta, additions)
    table = ClassTable(_used(now.classes), CLASS_LIMIT)
    # From here on classes are one more than their number, so that 0 can mean "the delta says nothing here".
    number = np.array([table.number(cls) + 1 for cls in delta.classes], np.uint8)
    combine = _Refine(table)

    ranges4 = box.ranges4(additions)
    fine4 = patch4(
        delta.start4, delta.last4, number[delta.after4], ranges4.start, ranges4.last, combine.over(ranges4.patch)
    )
    start4, last4, class4 = applied4(delta.start4, delta.last4, number[delta.after4], fine4)
    ranges6 = box.ranges6(additions)
    fine6 = patch6(
        delta.start6, delta.last6, number[delta.after6], ranges6.start, ranges6.last, combine.over(ranges6.patch)
    )
    start6, last6, class6 = applied6(delta.start6, delta.last6, number[delta.after6], fine6)
    named = box.names(additions, delta.name_key, delta.name_seed, zeros64(), zeros8(), [NOT_LISTED])
    fine = patch_names(delta.hash, number[delta.after_name], named.hash, combine.over(named.patch))
    hashes = fine.splice.apply(delta.hash, fine.hash)
    name_class = fine.splice.apply(number[delta.after_name], fine.cls)

    if len(table.classes) >= CLASS_LIMIT:
        raise DeltaError("the class table of the image in force is full: load the whole base")
    old = Columns(
        now.start4, now.last4, now.class4, (now.start6_hi, now.start6_lo), (now.last6_hi, now.last6_lo), now.class6,
        now.hash_name, now.class_name,
    )  # fmt: skip
    plan = ImagePlan(KIND_BASE, table.classes, header.name_key, header.name_seed, delta.to_serial)
    v4 = patch4(old.start4, old.last4, old.class4, start4, last4, _replace(class4))
    v6 = patch6(old.start6, old.last6, old.class6, start6, last6, _replace(class6))
    names = patch_names(old.hash, old.name_class, hashes, _replace(name_class))
    plan_columns(plan, old, v4, v6, names)
    _keep_index(plan, "index4", plan.shift4 == header.shift4, now.index4, v4.splice, old.start4, v4.start, plan.shift4)
    _keep_index(
        plan,
        "index_name",
        plan.shift_name == header.shift_name,
        now.index_name,
        names.splice,
        old.hash,
        names.hash,
        plan.shift_name,
    )
    plan.array("ports4", distinct(np.concatenate((without(now.ports4, delta.gone_ports4), delta.new_ports4))))
    plan.array("ports6", delta.ports6)
    return plan


def _keep_index(
    plan: ImagePlan, name: str, same_shift: bool, index: U32, splice: Splice, old: Column, new: Column, shift: int
) -> None:
    """Derive an index from the one in force: a million keys need not be looked at again for a thousand changes."""
    if same_shift and len(index):
        plan.known_indexes[name] = lambda out: splice.index(index, old, new, shift, out)


def _used(classes: Sequence[ClassEntry]) -> list[ClassEntry]:
    """The class table of an image without the free rows at its end (class 0 is all zero too, and stays)."""
    count = max((i for i, cls in enumerate(classes) if cls != NOT_LISTED), default=0) + 1
    return list(classes[:count])


def _replace(values: U8) -> Combine:
    return lambda before, which: np.where(which >= 0, spread(values, which) - np.uint8(1), before).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Refine:
    """What the box adds, over a delta: only inside the delta, on classes that are one more than their number."""

    table: ClassTable

    def over(self, patch: Patch) -> Combine:
        def combine(before: U8, which: I64) -> U8:
            inside = before > 0
            number = self.table.combine(patch, before - inside, np.where(inside, which, -1))
            return np.where(inside, number + np.uint8(1), 0).astype(np.uint8)

        return combine


def applied4(start: U32, last: U32, cls: U8, patched: Patched4) -> tuple[U32, U32, U8]:
    """Columns of a table after a patch."""
    splice = patched.splice
    return splice.apply(start, patched.start), splice.apply(last, patched.last), splice.apply(cls, patched.cls)


def applied6(
    start: tuple[U64, U64], last: tuple[U64, U64], cls: U8, patched: Patched6
) -> tuple[tuple[U64, U64], tuple[U64, U64], U8]:
    """As :func:`applied4`, for IPv6."""
    apply = patched.splice.apply
    return (
        (apply(start[0], patched.start_hi), apply(start[1], patched.start_lo)),
        (apply(last[0], patched.last_hi), apply(last[1], patched.last_lo)),
        apply(cls, patched.cls),
    )


def _check_inherited(delta: Delta, additions: Additions) -> None:
    """An essential name takes the class of its nearest listed parent: when the delta touches one, it is not known
    here what the new class must be."""
    if not len(delta.hash) or not additions.essential_names:
        return
    texts = list(additions.essential_names)
    packed = pack([box.canonical(text) for text in texts])
    rows, suffixes = hash_suffixes(packed, delta.name_key, delta.name_seed)
    chain = np.concatenate((suffixes, hash_names(packed, delta.name_key, delta.name_seed)))
    at = np.minimum(np.searchsorted(delta.hash, chain), len(delta.hash) - 1)
    touched = np.flatnonzero(delta.hash[at] == chain)
    if len(touched):
        name = texts[int(np.concatenate((rows, np.arange(len(texts))))[touched[0]])]
        raise DeltaError(f"the delta touches {name}, an essential name, or a name above it: load the whole base")
