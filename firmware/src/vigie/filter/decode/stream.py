"""Bytes that arrive in pieces, out of order, twice or overlapping: a bounded prefix of a stream."""

from __future__ import annotations

from typing import Final

STREAM_BYTES: Final = 16_384
STREAM_SEGMENTS: Final = 32


class Stream:
    """The first `max_bytes` of a stream, from pieces at any offset.

    Where pieces overlap, the bytes that came first stay (as Linux receivers do for data already queued) and `conflict`
    tells that the later ones differed. `add` returns False when a bound would be exceeded; the piece is then not kept.
    """

    __slots__ = ("_max_bytes", "_max_segments", "_pieces", "conflict")

    def __init__(self, max_bytes: int = STREAM_BYTES, max_segments: int = STREAM_SEGMENTS) -> None:
        self._max_bytes = max_bytes
        self._max_segments = max_segments
        self._pieces: list[tuple[int, bytearray]] = []  # disjoint, not touching, in order
        self.conflict = False

    def add(self, offset: int, data: bytes) -> bool:
        """Keep `data` at `offset` (0 or more)."""
        end = offset + len(data)
        if not data:
            return True
        if offset < 0 or end > self._max_bytes:
            return False
        before = [piece for piece in self._pieces if piece[0] + len(piece[1]) < offset]
        after = [piece for piece in self._pieces if piece[0] > end]
        touching = self._pieces[len(before) : len(self._pieces) - len(after)]
        if len(before) + len(after) + 1 > self._max_segments:
            return False
        start = min(offset, touching[0][0]) if touching else offset
        stop = max(end, touching[-1][0] + len(touching[-1][1])) if touching else end
        merged = bytearray(stop - start)
        merged[offset - start : end - start] = data
        for at, piece in touching:
            low, high = max(at, offset), min(at + len(piece), end)
            if low < high and piece[low - at : high - at] != data[low - offset : high - offset]:
                self.conflict = True
            merged[at - start : at - start + len(piece)] = piece
        self._pieces = [*before, (start, merged), *after]
        return True

    def prefix(self) -> bytes:
        """What is known without a gap from offset 0."""
        return bytes(self._pieces[0][1]) if self._pieces and self._pieces[0][0] == 0 else b""

    def shift(self, distance: int) -> bool:
        """Move every piece `distance` bytes up. False, and nothing moved, when that goes beyond the bound."""
        if self._pieces and self._pieces[-1][0] + len(self._pieces[-1][1]) + distance > self._max_bytes:
            return False
        self._pieces = [(at + distance, piece) for at, piece in self._pieces]
        return True

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(len(piece) for _, piece in self._pieces)
