"""Keyed 64-bit hashes of names, one at a time and a million at a time.

The hash is the one of layout.h: bytes of the lower-case name taken from the last to the first, the dot between
labels being a zero byte, so that one walk gives the hash of every suffix at its boundary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .columns import I64, U8, U32, U64

MASK64 = (1 << 64) - 1
NAME_FINAL = 0x9E3779B97F4A7C15
MAX_NAME = 253
_CHUNK = 1 << 15


def _splitmix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK64
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & MASK64
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & MASK64
    return value ^ value >> 31


def name_keys(attempt: int = 0) -> tuple[int, int]:
    """(odd multiplier, seed) of the hash. A fixed sequence, so that compiling the same feeds gives the same file;
    `attempt` grows only when two listed names collide under the keys before."""
    return _splitmix(2 * attempt + 1) | 1, _splitmix(2 * attempt + 2)


def suffix_hashes(name: str, key: int, seed: int) -> Iterator[tuple[str, int]]:
    """(suffix, hash) for each suffix of a name at a label boundary, shortest first."""
    data = name.lower().rstrip(".").encode("ascii", "replace")
    h = seed
    for at in range(len(data) - 1, -1, -1):
        byte = data[at]
        h = ((h ^ (0 if byte == 0x2E else byte)) * key) & MASK64
        if at == 0 or data[at - 1] == 0x2E:
            final = h ^ h >> 32
            yield data[at:].decode("ascii"), (final * NAME_FINAL) & MASK64


def name_hash(name: str, key: int, seed: int) -> int:
    """Hash of the whole name."""
    *_, (_, whole) = ((("", 0)), *suffix_hashes(name, key, seed))
    return whole


@dataclass(frozen=True, slots=True)
class PackedNames:
    """n names as one block of bytes: name i is blob[start[i]:end[i]], the dots already zero bytes."""

    blob: U8
    start: I64
    end: I64

    def __len__(self) -> int:
        return len(self.start)


def pack(names: Sequence[str]) -> PackedNames:
    """Names (ASCII, no newline) as one block. Raises UnicodeEncodeError for a name that is not ASCII."""
    if not names:
        return PackedNames(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return pack_text("\n".join(names).encode("ascii"))


def pack_text(text: bytes) -> PackedNames:
    """As :func:`pack`, from names already joined by newlines."""
    blob = np.frombuffer(text, np.uint8).copy()
    newlines = np.flatnonzero(blob == 0x0A)
    start = np.concatenate((np.zeros(1, np.int64), newlines + 1))
    end = np.append(newlines, len(blob))
    blob[blob == 0x2E] = 0
    return PackedNames(blob, start, end)


def _finish(h: U64) -> U64:
    return (h ^ (h >> np.uint64(32))) * np.uint64(NAME_FINAL)


def hash_names(names: PackedNames, key: int, seed: int) -> U64:
    """Hash of each name, in order."""
    out = np.empty(len(names), np.uint64)
    for first, order, h, _, _ in _walk(names, key, seed):
        out[first + order] = _finish(h)
    return out


def hash_suffixes(names: PackedNames, key: int, seed: int) -> tuple[U32, U64]:
    """Hashes of every *proper* suffix of every name: (index of the name, hash), longest suffix last for each name."""
    rows: list[U32] = []
    hashes: list[U64] = []
    for _, _, _, chunk_rows, chunk_hashes in _walk(names, key, seed, suffixes=True):
        rows.extend(chunk_rows)
        hashes.extend(chunk_hashes)
    if not rows:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint64)
    return np.concatenate(rows), np.concatenate(hashes)


def _walk(
    names: PackedNames, key: int, seed: int, *, suffixes: bool = False
) -> Iterator[tuple[int, I64, U64, list[U32], list[U64]]]:
    """Chunks of (first index, order, state after the whole name, suffix rows, suffix hashes).

    In a chunk the names go from the longest to the shortest, so that the names still walking are always a prefix;
    a chunk's bytes stay in the cache.
    """
    multiplier = np.uint64(key)
    blob = names.blob
    for first in range(0, len(names), _CHUNK):
        start, end = names.start[first : first + _CHUNK], names.end[first : first + _CHUNK]
        lengths = end - start
        order = np.argsort(-lengths.astype(np.int16), kind="stable")  # 16 bits: radix sort
        ends = end[order]
        # live[p]: how many names are longer than p bytes
        longest = int(lengths.max()) if len(lengths) else 0
        live = len(lengths) - np.searchsorted(np.sort(lengths), np.arange(longest), side="right")
        h = np.full(len(order), seed, np.uint64)
        rows: list[U32] = []
        hashes: list[U64] = []
        for back in range(longest):
            n = int(live[back])
            byte = blob[ends[:n] - (1 + back)]
            if suffixes:
                dots = np.flatnonzero(byte == 0)
                if len(dots):
                    rows.append((order[dots] + first).astype(np.uint32))
                    hashes.append(_finish(h[dots]))
            state = h[:n]
            np.bitwise_xor(state, byte, out=state)
            np.multiply(state, multiplier, out=state)
        yield first, order, h, rows, hashes
