"""Bytes of a feed, whatever wraps them: plain, gzip, xz, or a tar of many files. Reads are bounded.

A feed comes from the network: a few kilobytes of xz may unfold to gigabytes. Nothing is unfolded beyond the limit.
"""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Final

from vigie.errors import FeedError

MAX_BYTES: Final = 256 << 20
"""Most bytes of one feed once unfolded: some 15 million lines."""
MAX_MEMBERS: Final = 20_000
_GZIP, _XZ, _TAR = b"\x1f\x8b", b"\xfd7zXZ\x00", b"ustar"


@dataclass(frozen=True, slots=True)
class Text:
    """The whole content. `parts`: (first line, name) of each member of an archive, empty for a single file."""

    data: bytes
    parts: tuple[tuple[int, str], ...] = ()

    def where(self, line: int) -> tuple[str, int]:
        """Member ("" for a single file) and line in it, of a line of the whole."""
        if not self.parts:
            return "", line
        first, member = self.parts[bisect_right(self.parts, line, key=lambda part: part[0]) - 1]
        return member, line - first + 1


def _read(path: Path, stream: IO[bytes] | gzip.GzipFile | lzma.LZMAFile, limit: int) -> bytes:
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise FeedError(path, None, f"more than {limit} bytes once unfolded: refused")
    return data


def unfold(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Content of a plain, gzip or xz file, told apart by its first bytes, not by its name. FeedError."""
    try:
        with path.open("rb") as raw:
            start = raw.read(6)
            raw.seek(0)
            if start.startswith(_GZIP):
                with gzip.open(raw) as stream:
                    return _read(path, stream, limit)
            if start == _XZ:
                with lzma.open(raw) as stream:
                    return _read(path, stream, limit)
            return _read(path, raw, limit)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FeedError(path, None, f"compressed file is damaged or cut short: {error}") from error
    except OSError as error:
        raise FeedError(path, None, f"cannot be read: {error.strerror or error}") from error


def members(path: Path, data: bytes, limit: int = MAX_BYTES) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the regular files of a tar archive, by name. Nothing is written to disk. FeedError."""
    try:
        with tarfile.open(fileobj=BytesIO(data), mode="r:") as archive:
            files = []
            for member in archive:
                if member.isfile():
                    files.append(member)
                if len(files) > MAX_MEMBERS:
                    raise FeedError(path, None, f"archive of more than {MAX_MEMBERS} files: refused")
            for member in sorted(files, key=lambda m: m.name):
                stream = archive.extractfile(member)
                if stream is not None:
                    yield str(PurePosixPath(member.name)), _read(path, stream, limit)
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise FeedError(path, None, f"archive is damaged: {error}") from error


def is_archive(data: bytes) -> bool:
    """True for a tar archive (POSIX and GNU magic)."""
    return data[257:262] == _TAR


def read(path: Path, *, limit: int = MAX_BYTES, under: str = "") -> Text:
    """The feed's text. Of an archive: its members under the folder `under`, one after the other."""
    data = unfold(path, limit)
    if not is_archive(data):
        if under:
            raise FeedError(path, None, f"`under: {under}` is for archives, and this is none")
        return Text(data)
    chunks: list[bytes] = []
    parts: list[tuple[int, str]] = []
    line = 1
    for member, content in members(path, data, limit):
        if under and under.strip("/") not in ("/" + member).replace("/./", "/"):
            continue
        if not content.endswith(b"\n"):
            content += b"\n"
        parts.append((line, member))
        chunks.append(content)
        line += content.count(b"\n")
    if not parts:
        raise FeedError(path, None, f"archive without a file{' under ' + under if under else ''}")
    return Text(b"".join(chunks), tuple(parts))
