"""The distribution file: what is written is read back; what is wrong is refused with its own error."""

from __future__ import annotations

import os
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from tests.unit.base_image.strategies import inputs
from tests.unit.base_image.test_compile_model import Inputs, compiled
from vigie.errors import BaseError
from vigie.filter.base.basefile import BaseFile, load_base, pack_base, unpack_base, write_base
from vigie.filter.base.baseformat import (
    MAX_FILE,
    CorruptBaseFile,
    NewBaseFile,
    NotABaseFile,
    OldBaseFile,
    OversizeBaseFile,
    TruncatedBaseFile,
)
from vigie.filter.base.image import build_image
from vigie.filter.base.model import Base
from vigie.filter.base.names import name_keys


def same(a: Base, b: Base) -> None:
    """Assert that two bases hold the same."""
    for name in ("serial", "created", "name_key", "name_seed", "feeds", "classes", "source_sets", "texts"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.ports4.tolist() == b.ports4.tolist()
    for table in ("v4", "v6", "ports6", "names"):
        for field in fields(getattr(a, table)):
            x, y = (getattr(getattr(base, table), field.name) for base in (a, b))
            assert x.dtype == y.dtype, (table, field.name)
            assert x.tolist() == y.tolist(), (table, field.name)


@pytest.mark.slow
@settings(deadline=None, max_examples=80)
@given(inputs())
def test_round_trip(feeds: Inputs) -> None:
    base = compiled(feeds)
    data = pack_base(base)
    same(unpack_base(data), base)
    light = unpack_base(data, sources=False, texts=False)
    assert light.texts is None
    assert bytes(build_image(light)) == bytes(build_image(base))
    assert pack_base(base) == data


def empty() -> Base:
    return Base(1, 2, *name_keys(), texts=[])


def test_an_empty_base_round_trips() -> None:
    same(unpack_base(pack_base(empty())), empty())


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "base.vgb"
    path.write_bytes(b"old")
    assert write_base(empty(), path) == path.stat().st_size
    same(load_base(path), empty())
    assert [entry.name for entry in tmp_path.iterdir()] == ["base.vgb"]
    with pytest.raises(BaseError, match="missing"):
        load_base(tmp_path / "missing")
    with pytest.raises(BaseError, match="cannot be written"):
        write_base(empty(), tmp_path / "no-folder" / "base.vgb")
    with pytest.raises(BaseError, match="cannot be read"):
        load_base(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "base.vgb"
    path.write_bytes(b"old")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BaseError, match="No space left"):
        write_base(empty(), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["base.vgb"]


def with_format(version: int) -> bytes:
    data = bytearray(pack_base(empty()))
    struct.pack_into("<H", data, 8, version)
    return bytes(data)


GOOD = pack_base(empty())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", TruncatedBaseFile),
        (b"GIF89a" + bytes(100), NotABaseFile),
        (GOOD[:5], TruncatedBaseFile),
        (GOOD[:100], TruncatedBaseFile),
        (GOOD[:-1], TruncatedBaseFile),
        (GOOD + b"x", CorruptBaseFile),
        (GOOD[:-1] + bytes((GOOD[-1] ^ 1,)), CorruptBaseFile),
        (GOOD[:30] + b"#" + GOOD[31:], CorruptBaseFile),
        (with_format(0), OldBaseFile),
        (with_format(2), NewBaseFile),
        (GOOD[:12] + struct.pack("<I", 1 << 30) + GOOD[16:], OversizeBaseFile),
    ],
)
def test_bad_files_are_refused_by_kind(data: bytes, error: type[BaseError]) -> None:
    with pytest.raises(error, match="base"):
        unpack_base(data)


def forged(**changes: object) -> bytes:
    """A file whose head is altered but whose digest is right: what a careless or hostile publisher could make."""
    import hashlib
    import json

    size = struct.unpack_from("<I", GOOD, 12)[0]
    header = json.loads(GOOD[16 : 16 + size])
    for key, value in changes.items():
        where = header
        *path, last = key.split("__")
        for part in path:
            where = where[part]
        where[last.replace("_DOT_", ".")] = value
    raw = json.dumps(header).encode()
    head = GOOD[:12] + struct.pack("<I", len(raw)) + raw
    return head + hashlib.sha256(head).digest() + GOOD[16 + size + 32 :]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (forged(serial=-1), CorruptBaseFile),
        (forged(serial="x"), CorruptBaseFile),
        (forged(name_key="2"), CorruptBaseFile),
        (forged(classes=[]), CorruptBaseFile),
        (forged(classes=["00000000ff"]), CorruptBaseFile),
        (forged(feeds=[{}]), CorruptBaseFile),
        (forged(feeds=7), CorruptBaseFile),
        (forged(sections=[]), CorruptBaseFile),
        (forged(sections__names_DOT_hash={"offset": 0, "size": 1, "count": 1 << 40, "width": 8, "sha256": ""}),
         OversizeBaseFile),
        (forged(sections__v4_DOT_size={"offset": 9, "size": 9, "count": 4_000_000, "width": 4, "sha256": "0"}),
         CorruptBaseFile),
    ],
)  # fmt: skip
def test_forged_heads_are_refused(data: bytes, error: type[BaseError]) -> None:
    with pytest.raises(error):
        unpack_base(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b.v4.start.__setitem__(1, 0),
        lambda b: b.v4.last.__setitem__(0, 0xFFFFFFFF),
        lambda b: b.v4.cls.__setitem__(0, 9),
        lambda b: b.v4.cls.__setitem__(0, 0),
        lambda b: b.v4.source.__setitem__(0, 9),
        lambda b: b.names.hash.__setitem__(1, 0),
        lambda b: b.source_sets.__setitem__(0, (5,)),
        lambda b: b.texts.append("one.too.many"),
        lambda b: setattr(b, "ports4", np.array([1 << 50], np.uint64)),
    ],
)
def test_content_that_contradicts_itself_is_refused(spoil: object) -> None:
    from vigie.contract.codes import Action, Category, Direction
    from vigie.filter.base.columns import Feed
    from vigie.filter.base.model import ClassEntry, FeedCount, Intervals4, Names

    base = Base(
        1, 2, *name_keys(), (FeedCount(Feed("f", Category.C2, Direction.OUT, Action.BLOCK, "", True)),),
        [ClassEntry(), ClassEntry(action=Action.BLOCK)], [(0,)],
        Intervals4(np.array([5, 9], np.uint32), np.array([6, 9], np.uint32), np.ones(2, np.uint8),
                   np.zeros(2, np.uint16)),
        names=Names(np.array([1, 2], np.uint64), np.ones(2, np.uint8), np.zeros(2, np.uint16)), texts=["a", "b"],
    )  # fmt: skip
    same(unpack_base(pack_base(base)), base)
    spoil(base)  # type: ignore[operator]
    with pytest.raises(CorruptBaseFile):
        unpack_base(pack_base(base))


def test_a_file_larger_than_allowed_is_not_even_read() -> None:
    def read(_at: int, _size: int) -> bytes:
        raise AssertionError("read")

    with pytest.raises(OversizeBaseFile):
        BaseFile(read, MAX_FILE + 1)
