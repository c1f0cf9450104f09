"""Making a delta between two base files, and putting one onto a file or onto the kernel's image.

Both ways share one rule for what "the same row" is: same place, same class by value, same feeds by name. So a base in
which classes and source sets were numbered anew, or from which a feed was taken, still gives a small delta.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vigie.errors import BaseError

from .additions import ClassTable
from .basefile import BaseFile, Part, pack_column, pack_parts
from .baseformat import SECTIONS, content_id
from .columns import I64, U8, U16, U64, Bools
from .deltaformat import (
    MAX_CLASSES,
    DeltaError,
    FileDelta,
    class_map,
    last4,
    last6,
    set_map,
    source_column,
    start6,
    translated,
)
from .diff import Delta, changes, without
from .image import Columns, port6_keys
from .model import Base
from .names import hash_names, pack
from .planes import Column
from .splice import Splice, distinct, edit_splice, search6

_V6 = ("start_hi", "start_lo", "size_hi", "size_lo")


def make_file_delta(old_file: BaseFile, new_file: BaseFile) -> FileDelta:
    """What leads from one base file to another. Reads both whole, names included.

    Raises DeltaError when the bases hash names under different keys, or hold their names in different orders: the whole
    base has to be published then. BaseFileError for a file that cannot be used.
    """
    old, new = old_file.read(), new_file.read()
    if (old.name_key, old.name_seed) != (new.name_key, new.name_seed):
        raise DeltaError("the two bases hash names under different keys: publish the whole base")
    feeds = _matched_feeds(old, new)
    if len({*old.classes, *new.classes}) > MAX_CLASSES:
        raise DeltaError("too many classes for a delta: publish the whole base")
    # Numbers of classes: those of the new base, then those that only the old one has.
    table = ClassTable(new.classes)
    numbers = np.array([table.number(cls) for cls in old.classes], np.uint8)
    sets = set_map(old.source_sets, new.source_sets, feeds)
    columns: dict[str, Column] = {}

    at = np.searchsorted(new.v4.start, old.v4.start).astype(np.int64)
    same, at = _hits(at, len(new.v4))
    if len(new.v4):
        same &= (new.v4.start[at] == old.v4.start) & (new.v4.last[at] == old.v4.last)
        same &= _same_meaning(numbers[old.v4.cls], sets, old.v4.source, new.v4.cls[at], new.v4.source[at])
    x, y = ~same, _others(at[same], len(new.v4))
    columns |= {
        "v4.gone.start": old.v4.start[x], "v4.gone.size": (old.v4.last - old.v4.start)[x],
        "v4.gone.class": numbers[old.v4.cls][x],
        "v4.new.start": new.v4.start[y], "v4.new.size": (new.v4.last - new.v4.start)[y], "v4.new.class": new.v4.cls[y],
        "v4.new.source": new.v4.source[y],
        "ports4.gone": without(old.ports4, new.ports4), "ports4.new": without(new.ports4, old.ports4),
        "ports6.hi": new.ports6.hi, "ports6.lo": new.ports6.lo, "ports6.port": new.ports6.port,
    }  # fmt: skip

    before, after = old.v6, new.v6
    at = search6(after.start_hi, after.start_lo, before.start_hi, before.start_lo, right=False)
    same, at = _hits(at, len(after))
    if len(after):
        for mine, other in (
            (before.start_hi, after.start_hi), (before.start_lo, after.start_lo), (before.last_hi, after.last_hi),
            (before.last_lo, after.last_lo),
        ):  # fmt: skip
            same &= other[at] == mine
        same &= _same_meaning(numbers[before.cls], sets, before.source, after.cls[at], after.source[at])
    x, y = ~same, _others(at[same], len(after))
    for kind, table6, rows in (("gone", before, x), ("new", after, y)):
        size_lo = table6.last_lo - table6.start_lo
        size_hi = table6.last_hi - table6.start_hi - (table6.last_lo < table6.start_lo)
        for name, column in zip(_V6, (table6.start_hi, table6.start_lo, size_hi, size_lo), strict=True):
            columns[f"v6.{kind}.{name}"] = column[rows]
    columns |= {
        "v6.gone.class": numbers[before.cls][x], "v6.new.class": after.cls[y], "v6.new.source": after.source[y],
    }  # fmt: skip

    columns |= _name_columns(old, new, numbers, sets)
    columns |= _set_columns(old.source_sets, new.source_sets, feeds)
    header = {key: value for key, value in new_file.meta.items() if key != "sections"}
    counts = {"v4": len(old.v4), "v6": len(old.v6), "names": len(old.names)}
    return FileDelta(
        old.serial, old_file.content(), new_file.content(), header, feeds, table.classes[len(new.classes) :], counts,
        columns,
    )  # fmt: skip


def _matched_feeds(old: Base, new: Base) -> list[int]:
    """For each feed of the new base, the index plus one of the old base's feed of that name; 0 when there is none."""
    free: dict[str, list[int]] = {}
    for number, count in enumerate(old.feeds):
        free.setdefault(count.feed.name, []).append(number)
    return [free[f.feed.name].pop(0) + 1 if free.get(f.feed.name) else 0 for f in new.feeds]


def _hits(at: I64, count: int) -> tuple[Bools, I64]:
    """Which places lie within a table of `count` rows, and the places brought within it."""
    return at < count, np.minimum(at, max(count - 1, 0))


def _others(taken: I64, count: int) -> Bools:
    left = np.ones(count, bool)
    left[taken] = False
    return left


def _same_meaning(number: U8, sets: I64, source: U16, new_number: U8, new_source: U16) -> Bools:
    same: Bools = (number == new_number) & (sets[source] == new_source)
    return same


def _name_columns(old: Base, new: Base, numbers: U8, sets: I64) -> dict[str, Column]:
    at = np.searchsorted(new.names.hash, old.names.hash).astype(np.int64)
    listed, at = _hits(at, len(new.names))
    same = listed.copy()
    before = numbers[old.names.cls]
    if len(new.names):
        listed &= new.names.hash[at] == old.names.hash
        same = listed & _same_meaning(before, sets, old.names.source, new.names.cls[at], new.names.source[at])
    changed, y = listed & ~same, _others(at[listed], len(new.names))
    old_texts, new_texts = old.texts or [], new.texts or []
    gone_line = _lines(old_texts, old, old.names.hash[~listed])
    new_line = _lines(new_texts, new, new.names.hash[y])
    coming = [new_texts[i] for i in new_line.tolist()]
    place = np.searchsorted(new.names.hash, hash_names(pack(coming), new.name_key, new.name_seed))
    if len(coming) != int(np.count_nonzero(y)):
        raise DeltaError("names and their hashes do not agree: compile the base again, publish it whole")
    return {
        "names.gone.hash": old.names.hash[~listed], "names.gone.class": before[~listed], "names.gone.line": gone_line,
        "names.changed.hash": old.names.hash[changed], "names.changed.before": before[changed],
        "names.changed.class": new.names.cls[at[changed]], "names.changed.source": new.names.source[at[changed]],
        "names.new.line": new_line, "names.new.class": new.names.cls[place],
        "names.new.source": new.names.source[place],
        "names.new.text": np.frombuffer("\n".join(coming).encode("ascii"), np.uint8),
    }  # fmt: skip


def _lines(texts: list[str], base: Base, hashes: U64) -> Column:
    """Lines of the names that have these hashes (sorted), in the order of the file."""
    if not len(hashes) or not texts:
        return np.zeros(0, np.uint32)
    every = hash_names(pack(texts), base.name_key, base.name_seed)
    at = np.minimum(np.searchsorted(hashes, every), len(hashes) - 1)
    return np.flatnonzero(hashes[at] == every).astype(np.uint32)


def _set_columns(old: list[tuple[int, ...]], new: list[tuple[int, ...]], feeds: list[int]) -> dict[str, Column]:
    index: dict[tuple[int, ...], int] = {}
    for number, members in enumerate(translated(old, feeds)):
        index.setdefault(members, number)
    origin = [index.get(members, -1) + 1 for members in new]
    told = [members for members, number in zip(new, origin, strict=True) if not number]
    return {
        "sets.from": np.array(origin, np.uint16),
        "sets.sizes": np.array([len(members) for members in told], np.uint16),
        "sets.members": np.array([feed for members in told for feed in members], np.uint16),
    }


def kernel_delta(delta: FileDelta) -> Delta:
    """What changes for the data path: a delta from which sources and texts are gone."""
    base, columns = delta.base, delta.columns
    hashes = delta.new_hashes()
    gone = _sorted_names(
        (columns["names.gone.hash"], columns["names.changed.hash"]),
        (columns["names.gone.class"], columns["names.changed.before"]),
    )
    new = _sorted_names(
        (columns["names.changed.hash"], hashes), (columns["names.changed.class"], columns["names.new.class"])
    )
    rows = [
        Columns(
            columns[f"v4.{kind}.start"], last4(delta, kind), columns[f"v4.{kind}.class"], start6(delta, kind),
            last6(delta, kind), columns[f"v6.{kind}.class"], *names,
        )
        for kind, names in (("gone", gone), ("new", new))
    ]  # fmt: skip
    ports6 = base.ports6
    ports6.hi, ports6.lo, ports6.port = columns["ports6.hi"], columns["ports6.lo"], columns["ports6.port"]
    return Delta(
        delta.from_serial, delta.to_serial, base.name_key, base.name_seed, [*base.classes, *delta.gone_classes],
        *changes(*rows), columns["ports4.gone"], columns["ports4.new"], port6_keys(ports6),
    )  # fmt: skip


def _sorted_names(hashes: tuple[U64, U64], classes: tuple[U8, U8]) -> tuple[U64, U8]:
    every = np.concatenate(hashes)
    order = np.argsort(every)
    return every[order], np.concatenate(classes)[order]


def patch_file(file: BaseFile, delta: FileDelta) -> bytes:
    """The new base file, byte for byte the published one (but for another version of the zstd library, which may pack
    the same content differently). One table at a time is unpacked; what stays the same is not compressed again.

    Raises DeltaError when the delta starts from another base or does not lead where it says; BaseFileError for a file
    that cannot be used.
    """
    if int(file.meta["serial"]) != delta.from_serial or file.content() != delta.from_content:
        raise DeltaError(f"delta from base {delta.from_serial}, the file is another one: fetch the whole base")
    old, new = file.head(), delta.base
    numbers = class_map(old.classes, {cls: number for number, cls in enumerate(new.classes)})
    before_sets = file.source_sets()
    sets = _new_sets(before_sets, delta)
    maps = _Maps(numbers, set_map(before_sets, sets, delta.feeds))
    parts: dict[str, Part] = {}

    def put(name: str, column: Any) -> None:
        parts[name] = pack_column(name, column, file)

    put("sets.sizes", np.array([len(members) for members in sets], np.uint16))
    put("sets.members", np.array([feed for members in sets for feed in members], np.uint16))
    del before_sets, sets
    for name in ("ports6.hi", "ports6.lo", "ports6.port"):
        put(name, delta.columns[name])
    ports = file.column("ports4")
    if len(without(delta.columns["ports4.gone"], ports)):
        raise DeltaError("ports of the delta are not in the base: fetch the whole base")
    put("ports4", distinct(np.concatenate((without(ports, delta.columns["ports4.gone"]), delta.columns["ports4.new"]))))
    _patch4(file, delta, maps, put)
    _patch6(file, delta, maps, put)
    _patch_names(file, delta, maps, put)
    reached = content_id(
        delta.header, {name: (parts[name].count, parts[name].width, parts[name].content) for name in parts}
    )
    if reached != delta.to_content:
        raise DeltaError(f"the delta does not lead to base {delta.to_serial} as it says: fetch the whole base")
    return pack_parts(delta.header, {name: parts[name] for name in SECTIONS})


def _new_sets(old: list[tuple[int, ...]], delta: FileDelta) -> list[tuple[int, ...]]:
    known = translated(old, delta.feeds)
    ends = np.cumsum(delta.columns["sets.sizes"], dtype=np.int64).tolist()
    flat = delta.columns["sets.members"].tolist()
    told = iter(tuple(flat[a:b]) for a, b in zip([0, *ends], ends, strict=False))
    try:
        return [known[number - 1] if number else next(told) for number in delta.columns["sets.from"].tolist()]
    except IndexError as error:
        raise DeltaError("source sets of the delta are not in the base: fetch the whole base") from error


class _Maps:
    """Old numbers of classes and source sets as new ones."""

    def __init__(self, numbers: U8, sets: I64) -> None:
        self._numbers, self._sets = numbers, sets

    def classes(self, cls: U8, splice: Splice, new: U8) -> Any:
        return splice.apply(self._kept(cls, self._numbers[cls], 0, splice), new)

    def sources(self, source: U16, splice: Splice, new: U16) -> Any:
        return splice.apply(source_column(self._kept(source, self._sets[source], -1, splice)), new)

    def _kept(self, before: Any, after: Any, none: int, splice: Splice) -> Any:
        lost = after == none
        lost[splice.cut_rows()] = False
        if lost.any():
            raise DeltaError("the delta does not fit the base (its classes or source sets): fetch the whole base")
        return after


def _found(at: I64, hit: Bools) -> I64:
    if not hit.all():
        raise DeltaError("what the delta takes away is not in the base: fetch the whole base")
    return at


def _patch4(file: BaseFile, delta: FileDelta, maps: _Maps, put: Any) -> None:
    columns = delta.columns
    start, size = file.column("v4.start"), file.column("v4.size")
    inside, at = _hits(np.searchsorted(start, columns["v4.gone.start"]).astype(np.int64), len(start))
    hit = inside & (start[at] == columns["v4.gone.start"]) & (size[at] == columns["v4.gone.size"]) \
        if len(start) else inside  # fmt: skip
    splice = edit_splice(len(start), _found(at, hit), np.searchsorted(start, columns["v4.new.start"]).astype(np.int64))
    put("v4.start", splice.apply(start, columns["v4.new.start"]))
    put("v4.size", splice.apply(size, columns["v4.new.size"]))
    put("v4.class", maps.classes(file.column("v4.class"), splice, columns["v4.new.class"]))
    put("v4.source", maps.sources(file.column("v4.source"), splice, columns["v4.new.source"]))


def _patch6(file: BaseFile, delta: FileDelta, maps: _Maps, put: Any) -> None:
    columns = delta.columns
    old = {name: file.column(f"v6.{name}") for name in _V6}
    start = (old["start_hi"], old["start_lo"])
    inside, at = _hits(search6(*start, *start6(delta, "gone"), right=False), len(start[0]))
    hit = inside
    if len(start[0]):
        for name in _V6:
            hit = hit & (old[name][at] == columns[f"v6.gone.{name}"])
    splice = edit_splice(len(start[0]), _found(at, hit), search6(*start, *start6(delta, "new"), right=False))
    for name in _V6:
        put(f"v6.{name}", splice.apply(old[name], columns[f"v6.new.{name}"]))
    put("v6.class", maps.classes(file.column("v6.class"), splice, columns["v6.new.class"]))
    put("v6.source", maps.sources(file.column("v6.source"), splice, columns["v6.new.source"]))


def _patch_names(file: BaseFile, delta: FileDelta, maps: _Maps, put: Any) -> None:
    columns = delta.columns
    hashes = file.column("names.hash")

    def rows(wanted: U64) -> I64:
        inside, at = _hits(np.searchsorted(hashes, wanted).astype(np.int64), len(hashes))
        return _found(at, inside & (hashes[at] == wanted) if len(hashes) else inside)

    # A changed name goes and comes: one splice for all three kinds.
    changed = columns["names.changed.hash"]
    gone = np.sort(np.concatenate((rows(columns["names.gone.hash"]), rows(changed))))
    every = np.concatenate((changed, delta.new_hashes()))
    order = np.argsort(every)
    splice = edit_splice(len(hashes), gone, np.searchsorted(hashes, every[order]).astype(np.int64))

    def coming(name: str) -> Any:
        return np.concatenate((columns[f"names.changed.{name}"], columns[f"names.new.{name}"]))[order]

    put("names.hash", splice.apply(hashes, every[order]))
    put("names.class", maps.classes(file.column("names.class"), splice, coming("class")))
    put("names.source", maps.sources(file.column("names.source"), splice, coming("source")))
    put("names.text", patch_lines(file.column("names.text"), columns["names.gone.line"], columns["names.new.line"],
                                  columns["names.new.text"]))  # fmt: skip


def patch_lines(old: U8, gone: Column, at: Column, new: U8) -> U8:
    """Lines joined by newlines, with the lines `gone` (numbers in the old text) left out and those of `new` put in, so
    that they are the lines `at` of the result. Raises DeltaError for lines that are not there."""
    if not len(gone) and not len(at):
        return old
    ended = np.append(old, np.uint8(0x0A)) if len(old) else old
    ends = np.append(np.zeros(1, np.int64), np.flatnonzero(ended == 0x0A) + 1)
    put = np.append(new, np.uint8(0x0A)) if len(new) else new
    put_ends = np.append(np.zeros(1, np.int64), np.flatnonzero(put == 0x0A) + 1)
    count = len(ends) - 1
    gone_rows = gone.astype(np.int64)
    # Kept lines before each line that comes, then the old line that stands there.
    kept = at.astype(np.int64) - np.arange(len(at))
    before = kept + np.searchsorted(gone_rows - np.arange(len(gone)), kept, side="right")
    if (len(gone) and gone_rows[-1] >= count) or (len(at) and (before > count).any()):
        raise DeltaError("the names of the base are not those that the delta starts from: fetch the whole base")
    lines = edit_splice(count, gone_rows, before)
    result: U8 = Splice(
        len(ended), ends[lines.cut_from], ends[lines.cut_to], put_ends[lines.put]
    ).apply(ended, put)  # fmt: skip
    return result[:-1]


def require_small(delta_bytes: int, base_bytes: int) -> None:
    """Raises BaseError when a delta is not worth publishing beside the base itself."""
    if delta_bytes * 2 > base_bytes:
        raise BaseError(f"the delta has {delta_bytes} bytes, the base {base_bytes}: publish the base alone")
