"""Whatever is done to a base file, reading it gives a BaseFileError or the same content, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.basefile import pack_base, unpack_base
from vigie.filter.base.baseformat import MAX_COUNT, BaseFileError
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.compile import Input, compile_entries
from vigie.filter.base.model import Base


def sample() -> Base:
    rng = np.random.default_rng(5)
    first = rng.integers(0, 2**32 - 300, 400, dtype=np.uint32)
    v6 = rng.integers(0, 2**63, (40, 2), dtype=np.uint64)
    feeds = []
    for i in range(3):
        entries = Entries(
            v4_first=first[i * 100 : i * 100 + 200], v4_last=first[i * 100 : i * 100 + 200] + np.uint32(i * 50),
            v4_port=(np.arange(200) % 7 == 0).astype(np.uint16) * 80, v4_line=np.zeros(200, np.uint32),
            v6_first=v6, v6_last=v6, v6_port=np.full(40, 80 * (i == 1), np.uint16), v6_line=np.zeros(40, np.uint32),
            names=[f"h{n}.example{n % 9}.fr" for n in range(i * 30, i * 30 + 60)],
            name_line=np.zeros(60, np.uint32),
        )  # fmt: skip
        feed = Feed(f"feed-{i}", Category.C2, Direction(i), Action.BLOCK, "somewhere", True, "CC0")
        feeds.append(Input(feed, entries))
    return compile_entries(feeds, serial=4, created=5)[0]


GOOD = pack_base(sample())
SAME = pack_base(unpack_base(GOOD))
HEAD = struct.unpack_from("<I", GOOD, 12)[0]


def check(data: bytes) -> None:
    try:
        base = unpack_base(data)
    except BaseFileError:
        return
    assert pack_base(base) == SAME


@settings(deadline=None, max_examples=250)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_bytes_changed(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    check(bytes(data))


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=40))
def test_parts_cut_and_put(a: int, b: int, piece: bytes) -> None:
    check(GOOD[: min(a, b)] + piece + GOOD[max(a, b) :])


def resealed(header: bytes, sections: bytes) -> bytes:
    head = GOOD[:12] + struct.pack("<I", len(header)) + header
    return head + hashlib.sha256(head).digest() + sections


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Path of every value of a JSON document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


HEADER = json.loads(GOOD[16 : 16 + HEAD])
PLACES = places(HEADER)


@settings(deadline=None, max_examples=250)
@given(st.lists(st.tuples(st.sampled_from(PLACES), json_values), min_size=1, max_size=3))
def test_header_forged_with_a_right_digest(changes: list[tuple[tuple[object, ...], object]]) -> None:
    header = json.loads(GOOD[16 : 16 + HEAD])
    for path, value in changes:
        where = header
        try:
            for key in path[:-1]:
                where = where[key]
            where[path[-1]] = value
        except (KeyError, TypeError, IndexError):
            continue  # an earlier change took this place away
    data = resealed(json.dumps(header).encode(), GOOD[16 + HEAD + 32 :])
    try:
        base = unpack_base(data)
    except BaseFileError:
        return
    # The digest is right: another content may be legitimate, but it must be coherent enough to be written again.
    assert unpack_base(pack_base(base)).serial == base.serial


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(HEADER["sections"])), st.binary(max_size=60), st.integers(0, 8), st.integers(0, 10**7))
def test_section_forged_with_right_digests(name: str, part: bytes, width: int, count: int) -> None:
    header = json.loads(GOOD[16 : 16 + HEAD])
    sections, offset, out = GOOD[16 + HEAD + 32 :], 0, b""
    for key, place in header["sections"].items():
        old = sections[place["offset"] : place["offset"] + place["size"]]
        if key == name:
            old = part
            place |= {"width": width, "count": count}
        place |= {"offset": offset, "size": len(old), "sha256": hashlib.sha256(old).hexdigest()}
        offset += len(old)
        out += old
    try:
        unpack_base(resealed(json.dumps(header).encode(), out))
    except BaseFileError:
        return


@pytest.mark.parametrize("width", [0, 1, 8])
def test_a_bomb_is_refused_in_bounded_memory(width: int) -> None:
    """A few kilobytes of zeros that unfold to more than declared, or to the largest count that may be declared."""
    from vigie.filter.base.planes import compress

    header = json.loads(GOOD[16 : 16 + HEAD])
    bomb = compress(bytes(300 << 20))
    count = MAX_COUNT if width else 10
    header["sections"]["names.hash"] |= {"count": count, "width": width}
    sections, offset, out = GOOD[16 + HEAD + 32 :], 0, b""
    for key, place in header["sections"].items():
        old = bomb if key == "names.hash" else sections[place["offset"] : place["offset"] + place["size"]]
        place |= {"offset": offset, "size": len(old), "sha256": hashlib.sha256(old).hexdigest()}
        offset += len(old)
        out += old
    data = resealed(json.dumps(header).encode(), out)
    tracemalloc.start()
    try:
        with pytest.raises(BaseFileError):
            unpack_base(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 160 << 20, f"{peak} bytes at the peak"
