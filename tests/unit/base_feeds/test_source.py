"""Bounded reading of what wraps a feed."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from tests.unit.base_feeds.support import feed, v4
from vigie.errors import FeedError
from vigie.filter.base.feeds import FeedRefused, read_feed
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.source import Text, read, unfold


def archive(path: Path, files: dict[str, bytes]) -> Path:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    path.write_bytes(lzma.compress(raw.getvalue()))
    return path


def test_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    for name, pack in (("bomb.gz", gzip.compress), ("bomb.xz", lzma.compress)):
        path = tmp_path / name
        path.write_bytes(pack(b"\n" * 5_000_000))
        with pytest.raises(FeedError, match="more than 1000000 bytes"):
            unfold(path, 1_000_000)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_cut_short(tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "cut"
    path.write_bytes(pack(bytes(range(256)) * 400)[:-20])
    with pytest.raises(FeedError, match="cut short"):
        unfold(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(FeedError, match="cannot be read"):
            unfold(path)


def test_archive_is_one_feed_and_lines_are_found_again(tmp_path: Path) -> None:
    path = archive(tmp_path / "trails.tar.xz", {"b/two.txt": b"192.0.2.2\n1..2.3", "a/one.txt": b"192.0.2.1\n"})
    entries, report = read_feed(feed(), path, Options(max_bad=1.0))
    assert v4(entries) == ["192.0.2.1", "192.0.2.2"]
    assert report.where(report.tally.bad_notes[0].line) == f"{path}!b/two.txt:2"
    only, _ = read_feed(feed(), path, Options(under="a"))
    assert v4(only) == ["192.0.2.1"]


def test_archive_without_the_folder(tmp_path: Path) -> None:
    path = archive(tmp_path / "trails.tar.xz", {"a/one.txt": b"192.0.2.1\n"})
    with pytest.raises(FeedError, match="without a file under c"):
        read(path, under="c")
    plain = tmp_path / "plain"
    plain.write_bytes(b"192.0.2.1\n")
    with pytest.raises(FeedError, match="for archives"):
        read(plain, under="c")


def test_damaged_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.xz", {"a": b"192.0.2.1\n" * 100})
    raw = lzma.decompress(path.read_bytes())
    path.write_bytes(raw[:700])
    with pytest.raises(FeedError):
        read(path)


def test_links_and_paths_of_an_archive_touch_nothing(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        link = tarfile.TarInfo("link.txt")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        tar.addfile(link)
        member = tarfile.TarInfo("../../escape.txt")
        member.size = 10
        tar.addfile(member, io.BytesIO(b"192.0.2.1\n"))
    path = tmp_path / "x.tar"
    path.write_bytes(raw.getvalue())
    assert read(path).data == b"192.0.2.1\n"


def test_text_where() -> None:
    assert Text(b"").where(7) == ("", 7)
    text = Text(b"", ((1, "a"), (4, "b")))
    assert [text.where(line) for line in (1, 3, 4, 9)] == [("a", 1), ("a", 3), ("b", 1), ("b", 6)]


def test_refused_report_is_none_when_nothing_was_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\x00\x01")
    with pytest.raises(FeedRefused) as caught:
        read_feed(feed(), path)
    assert caught.value.report is None
