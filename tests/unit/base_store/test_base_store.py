"""From a base file to an image, in another process; and which feeds list an indicator."""

from __future__ import annotations

import hashlib
import os
import stat
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.unit.base_delta.bases import opened, simple, written
from vigie.contract.codes import Action, Category, Direction
from vigie.errors import BaseError
from vigie.filter import base_store
from vigie.filter.base.basefile import load_base, pack_base, write_base
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.compile import Input, compile_entries
from vigie.filter.base.deltaformat import pack_delta
from vigie.filter.base.filedelta import make_file_delta
from vigie.filter.base.imageformat import DIGEST_OFFSET
from vigie.filter.base.lookup import Lookup
from vigie.filter.base_sources import main, sources


def feed(name: str, category: Category) -> Feed:
    return Feed(name, category, Direction.BOTH, Action.BLOCK, f"https://feeds.example/{name}", True)


@pytest.fixture(scope="module")
def base_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    v4 = np.array([0xC6336401, 0xCB007105], np.uint32)  # 198.51.100.1, 203.0.113.5
    v6 = np.array([[0x20010DB800000000, 5]], np.uint64)
    first = Entries(
        v4_first=v4,
        v4_last=v4 + np.array([3, 0], np.uint32),
        v4_port=np.zeros(2, np.uint16),
        v4_line=np.arange(2, dtype=np.uint32),
        v6_first=v6,
        v6_last=v6 + np.array([[0, 2]], np.uint64),
        v6_port=np.zeros(1, np.uint16),
        v6_line=np.zeros(1, np.uint32),
        names=["toxic.example"],
        name_line=np.zeros(1, np.uint32),
    )
    second = Entries(names=["toxic.example", "bad.toxic.example"], name_line=np.arange(2, dtype=np.uint32))
    inputs = [Input(feed("one", Category.C2), first), Input(feed("two", Category.PHISHING), second)]
    base, _report = compile_entries(inputs, serial=77, created=1)
    path = tmp_path_factory.mktemp("base") / "base.vgb"
    write_base(base, path)
    return path


@pytest.mark.slow
def test_prepared_image_is_whole_and_holds_the_base_and_the_lists(base_file: Path, tmp_path: Path) -> None:
    prepared = base_store.prepare(base_file)
    try:
        assert (prepared.info.serial, prepared.info.v4, prepared.info.v6, prepared.info.feeds) == (
            77,
            2,
            1,
            ("one", "two"),
        )
        memory = bytearray(prepared.image.nbytes)
        prepared.image.write(memoryview(memory))
        assert hashlib.sha256(memory[4096:]).digest() == memory[DIGEST_OFFSET : DIGEST_OFFSET + 32]
        lookup = Lookup(memory)
        assert lookup.classes[lookup.address("198.51.100.2")].action is Action.BLOCK
        assert lookup.classes[lookup.address("192.0.2.66")].category is Category.TEST
        saved = tmp_path / "new" / "base.img"
        prepared.image.save(saved)
        assert saved.read_bytes() == memory and [p.name for p in saved.parent.iterdir()] == ["base.img"]
    finally:
        prepared.close()


def test_without_a_file_the_built_in_indicators_hold() -> None:
    prepared = base_store.prepare(None)
    memory = bytearray(prepared.image.nbytes)
    prepared.image.write(memoryview(memory))
    prepared.close()
    assert prepared.info.serial == 0 and prepared.info.feeds == ()
    assert Lookup(memory).address("192.0.2.66")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["absent", "truncated", "garbage"])
def test_a_file_that_cannot_be_used_is_named(base_file: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "bad.vgb"
    if damage == "truncated":
        path.write_bytes(base_file.read_bytes()[:-10])
    elif damage == "garbage":
        path.write_bytes(b"\x00" * 5000)
    with pytest.raises(BaseError, match=r"bad\.vgb|base"):
        base_store.prepare(path)


def test_an_image_that_cannot_be_written_is_an_error(base_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    prepared = base_store.prepare(base_file)
    try:
        with pytest.raises(BaseError, match=r"base\.img"):
            prepared.image.save(tmp_path / "file" / "base.img")
    finally:
        prepared.close()


@pytest.mark.parametrize(
    ("asked", "feeds"),
    [
        ("198.51.100.1", ["one"]),
        ("198.51.100.4", ["one"]),
        ("198.51.100.5", []),
        ("198.51.100.0", []),
        ("203.0.113.5", ["one"]),
        ("2001:db8::5", ["one"]),
        ("2001:db8::7", ["one"]),
        ("2001:db8::8", []),
        ("2001:db8::4", []),
        ("toxic.example", ["one", "two"]),
        ("x.toxic.example", ["one", "two"]),
        ("x.bad.toxic.example", ["two"]),
        ("example", []),
    ],
)
def test_sources(base_file: Path, asked: str, feeds: list[str]) -> None:
    assert sorted(row[0] for row in sources(load_base(base_file, texts=False), asked)) == feeds


def test_sources_of_another_base_are_not_told(base_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["", str(base_file), "78", "toxic.example"]) == 0
    assert capsys.readouterr().out == "[]\n"
    assert main(["", str(base_file), "77", "toxic.example"]) == 0
    assert "feeds.example" in capsys.readouterr().out


def test_a_staged_file_is_a_copy_of_ours_and_takes_its_place_at_once(base_file: Path, tmp_path: Path) -> None:
    staged, target = tmp_path / "kept" / "base.vgb.staged", tmp_path / "kept" / "base.vgb"
    assert base_store.stage(base_file, staged) == hashlib.sha256(base_file.read_bytes()).hexdigest()
    base_store.keep_staged(staged, target)
    assert target.read_bytes() == base_file.read_bytes()
    with pytest.raises(BaseError, match="absent"):
        base_store.stage(tmp_path / "absent", staged)
    with pytest.raises(BaseError, match=r"base\.vgb"):
        base_store.keep_staged(staged, target)
    assert [p.name for p in target.parent.iterdir()] == ["base.vgb"]


def test_only_bases_are_copied_and_nobody_else_reads_the_copy(base_file: Path, tmp_path: Path) -> None:
    staged = tmp_path / "base.vgb.staged"
    secret = tmp_path / "secret"
    secret.write_text("root:$6$...")
    for path in (secret, tmp_path, Path("/dev/zero")):
        with pytest.raises(BaseError, match="not a"):
            base_store.stage(path, staged)
        assert not staged.exists()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BaseError, match="not a file"):
        base_store.stage(tmp_path / "pipe", staged)
    base_store.stage(base_file, staged)
    assert stat.S_IMODE(staged.stat().st_mode) == 0o600
    base_store.keep_staged(staged, tmp_path / "base.vgb")
    assert stat.S_IMODE((tmp_path / "base.vgb").stat().st_mode) == 0o644


def test_a_file_larger_than_any_base_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_store, "MAX_FILE", 1000)
    (tmp_path / "huge").write_bytes(b"\x89VGB\r\n\x1a\n" + bytes(1001))
    with pytest.raises(BaseError, match="no base"):
        base_store.stage(tmp_path / "huge", tmp_path / "staged")
    assert not (tmp_path / "staged").exists()


def test_the_image_in_force_is_saved_with_its_digest(base_file: Path, tmp_path: Path) -> None:
    prepared = base_store.prepare(base_file)
    memory = bytearray(prepared.image.nbytes)
    prepared.image.write(memoryview(memory))
    prepared.close()
    whole = bytes(memory)
    memory[DIGEST_OFFSET : DIGEST_OFFSET + 32] = bytes(32)  # as the kernel's own image, which nobody hashed
    base_store.save_image(memoryview(memory), tmp_path / "new" / "base.img")
    assert (tmp_path / "new" / "base.img").read_bytes() == whole
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BaseError, match=r"base\.img"):
        base_store.save_image(memoryview(memory), tmp_path / "file" / "base.img")


def test_a_file_on_disk_follows_its_deltas(tmp_path: Path) -> None:
    bases = [simple(n, [f"45.1.1.{i}" for i in range(0, 2 * n, 2)], [f"n{n}.example"]) for n in (1, 2, 3)]
    path = written(tmp_path / "1.vgb", bases[0])
    deltas = [pack_delta(make_file_delta(opened(a), opened(b))) for a, b in pairwise(bases)]
    out = tmp_path / "out.vgb"
    assert base_store.patch_on_disk(path, deltas, out) == opened(bases[2]).content()
    assert out.read_bytes() == pack_base(bases[2])
    with pytest.raises(BaseError, match="another one"):
        base_store.patch_on_disk(path, deltas[1:], tmp_path / "not.vgb")
    assert not (tmp_path / "not.vgb").exists()
