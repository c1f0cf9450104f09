"""The log of every signature: append-only, hash-chained, on the disk before the signature is given out.

Lines of JSON in segments `<first sequence number>.jsonl`. Each record holds the hash of the one before; `hash` is the
SHA-256 of the record's canonical JSON without it. The log is also the signer's only memory: a segment begins with a
checkpoint, the state of the rules as all records before left it, so that a start reads one segment and not years.

A chain cannot show that its end was cut off. `head` holds the last record's number and hash in a file of its own: a
log that ends before it was truncated. It is written after the log and not synced: after a power cut it may lag, never
lead.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie_department.signer.errors import LogBroken
from vigie_department.signer.files import sync_folder

log = logging.getLogger("vigie.signer")

GENESIS: Final = "0" * 64
SEGMENT_RECORDS: Final = 20_000
MAX_LINE: Final = 32 << 20
CHECKPOINT: Final = "checkpoint"
_HEAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Record:
    """One line. at: Unix seconds; op: what was done; who: the operator as told; peer: the user by the kernel's word;
    digest: SHA-256 of what was signed, hex, or ""; facts: what the rules have to remember."""

    seq: int
    at: float
    op: str
    who: str
    peer: str
    digest: str
    facts: Mapping[str, Any]
    prev: str
    hash: str

    def line(self) -> bytes:
        """As it is in the file, without the end of the line."""
        return canonical({**self._body(), "hash": self.hash})

    def _body(self) -> dict[str, Any]:
        return {
            "seq": self.seq, "at": self.at, "op": self.op, "who": self.who, "peer": self.peer, "digest": self.digest,
            "facts": dict(self.facts), "prev": self.prev,
        }  # fmt: skip

    def right(self) -> bool:
        """Whether the hash is the record's."""
        return self.hash == hashlib.sha256(canonical(self._body())).hexdigest()

    @classmethod
    def make(cls, seq: int, at: float, op: str, who: str, peer: str, digest: str, facts: Any, prev: str) -> Record:
        """A record with its hash."""
        bare = cls(seq, at, op, who, peer, digest, facts, prev, "")
        return cls(seq, at, op, who, peer, digest, facts, prev, hashlib.sha256(canonical(bare._body())).hexdigest())


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, ASCII: the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


class ChainedLog:
    """The log in a folder. One writer.

    replay: called once, at opening, with each record of the last segment (a checkpoint first, when there is one);
    checkpoint: gives the facts of a checkpoint, asked for when a segment is full.
    """

    def __init__(
        self,
        folder: Path,
        replay: Callable[[Record], None],
        checkpoint: Callable[[], Mapping[str, Any]],
        *,
        segment_records: int = SEGMENT_RECORDS,
    ) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._limit = segment_records
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        segments = _segments(folder)
        if not segments and (folder / "head").exists():
            raise LogBroken(f"{folder}: the log is gone although `head` says that there was one; put it back")
        self._path = segments[-1] if segments else folder / _name(1)
        self.seq, self.hash, self._count = 0, GENESIS, 0
        if segments:
            self._open_segments(segments, replay)
        _check_head(folder, self.seq, self.hash, self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        self._head = os.open(folder / "head", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        sync_folder(folder)

    def _open_segments(self, segments: list[Path], replay: Callable[[Record], None]) -> None:
        head = _read_head(self._folder)
        _drop_torn_line(self._path, 0 if head is None else head[0])
        if not self._path.stat().st_size and len(segments) > 1:  # the power went while the segment was begun
            self._path.unlink()
            segments.pop()
            self._path = segments[-1]
        before = GENESIS
        if len(segments) > 1:
            last = next(iter(deque(_lines(segments[-2]), 1)), None)
            if last is None:
                raise LogBroken(f"{segments[-2]}: empty, in the middle of the log; put it back from a backup")
            before = last.hash
        first = int(self._path.stem)
        for record in chain(self._path, first, before):
            self.seq, self.hash = record.seq, record.hash
            self._count += 1
            replay(record)

    def append(self, at: float, op: str, who: str, peer: str, digest: str, facts: Mapping[str, Any]) -> Record:
        """The new record, on the disk. OSError when the disk refuses: nothing may be signed then, nor later."""
        if self._count >= self._limit:
            self._roll(at)
        return self._write(Record.make(self.seq + 1, at, op, who, peer, digest, facts, self.hash))

    def _write(self, record: Record) -> Record:
        data = record.line() + b"\n"
        if len(data) > MAX_LINE:
            raise LogBroken(f"a record of {len(data)} bytes is more than the log takes ({MAX_LINE})")
        if os.write(self._file, data) != len(data):
            raise OSError(28, "the disk is full", str(self._path))
        os.fsync(self._file)
        self.seq, self.hash, self._count = record.seq, record.hash, self._count + 1
        os.pwrite(self._head, f"{record.seq} {record.hash}".ljust(_HEAD_BYTES - 1).encode() + b"\n", 0)
        return record

    def _roll(self, at: float) -> None:
        path = self._folder / _name(self.seq + 1)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        os.close(self._file)
        self._file, self._path, self._count = file, path, 0
        self._write(Record.make(self.seq + 1, at, CHECKPOINT, "", "", "", dict(self._checkpoint()), self.hash))
        sync_folder(self._folder)

    def close(self) -> None:
        """Ends writing."""
        os.close(self._file)
        os.close(self._head)

    def after(self, seq: int, limit: int) -> list[Record]:
        """At most `limit` records numbered above `seq`, oldest first, without checkpoints."""
        found: list[Record] = []
        segments = _segments(self._folder)
        for i, path in enumerate(segments):
            if i + 1 < len(segments) and int(segments[i + 1].stem) <= seq + 1:
                continue
            for record in _lines(path):
                if record.seq > seq and record.op != CHECKPOINT:
                    found.append(record)
                    if len(found) == limit:
                        return found
        return found


def verify(folder: Path) -> int:
    """Number of records of a whole and unbroken log. Raises LogBroken, naming the file and line."""
    expected, before, path = 1, GENESIS, folder
    for path in _segments(folder):
        if int(path.stem) != expected:
            raise LogBroken(f"{path}: begins at {int(path.stem)} where {expected} is expected: a segment is missing")
        for record in chain(path, expected, before):
            expected, before = record.seq + 1, record.hash
    _check_head(folder, expected - 1, before, path)
    return expected - 1


def chain(path: Path, first: int, before: str) -> Iterator[Record]:
    """The records of one segment, each checked against the one before. Raises LogBroken."""
    for number, record in enumerate(_lines(path), 1):
        if record.seq != first + number - 1:
            raise LogBroken(f"{path}:{number}: record {record.seq} where {first + number - 1} is expected")
        if record.prev != before or not record.right():
            raise LogBroken(
                f"{path}:{number}: the chain is broken at record {record.seq}: this line or one before was changed. "
                "Keep the files as they are, find out who could write there, then restore the log from a backup"
            )
        before = record.hash
        yield record


def _lines(path: Path) -> Iterator[Record]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("it ends in the middle of a line")
                fields = json.loads(line)
                yield Record(**fields)
            except (ValueError, TypeError, RecursionError) as e:
                raise LogBroken(f"{path}:{number}: not a record of the log ({e})") from e


def _drop_torn_line(path: Path, head: int) -> None:
    """Removes an unfinished last line: its signature was never given out, as the line is synced before."""
    data_end = path.stat().st_size
    with path.open("rb+") as file:
        start = max(0, data_end - MAX_LINE)
        file.seek(start)
        tail = file.read()
        end = tail.rfind(b"\n") + 1
        if end == len(tail):
            return
        whole = tail[:end].splitlines()
        try:
            last = int(json.loads(whole[-1])["seq"]) if whole else int(path.stem) - 1
        except (ValueError, KeyError, TypeError) as e:
            raise LogBroken(f"{path}: the line before the last is not a record of the log") from e
        if head > last:
            raise LogBroken(
                f"{path}: its last line is cut although it was finished once; restore the log from a backup"
            )
        log.warning("%s: unfinished last line removed; nothing had been signed for it", path)
        file.truncate(start + end)
        file.flush()
        os.fsync(file.fileno())


def _read_head(folder: Path) -> tuple[int, str] | None:
    try:
        text = (folder / "head").read_bytes()[:_HEAD_BYTES]
    except FileNotFoundError:
        return None
    parts = text.decode("ascii", "replace").split()
    if not parts:  # the power went between its making and its first record
        return None
    if len(parts) != 2 or not parts[0].isdigit():
        raise LogBroken(f"{folder / 'head'}: unreadable; compare it with the log's last record")
    return int(parts[0]), parts[1]


def _check_head(folder: Path, seq: int, last: str, path: Path) -> None:
    head = _read_head(folder)
    if head is None:
        return
    if head[0] > seq or (head[0] == seq and head[1] != last):
        raise LogBroken(
            f"{path}: the log ends at record {seq}, but record {head[0]} was written once: its end was cut off. "
            "Restore the log from a backup"
        )


def _segments(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("*.jsonl") if path.stem.isdigit()]
    return sorted(found, key=lambda path: int(path.stem))


def _name(first: int) -> str:
    return f"{first:010d}.jsonl"
