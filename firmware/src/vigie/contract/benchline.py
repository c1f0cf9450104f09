r"""The line between a flashing station and a board: text frames that survive a console.

A serial console carries the kernel's log, a boot loader's words, an echo and half lines beside what is meant. So a
frame is one line of printable ASCII, found wherever it begins in a line, and believed only when its length and its
CRC-32 fit:

    @VG1> 17 42 1a2b3c4d {"q":"hello", ...}\n       from the station, number 17, 42 bytes of JSON
    @VG1< 17 58 99aa0011 {"r":17, ...}\n            from the board

The CRC covers everything between `@VG1` and the JSON, its own field apart, and the JSON. The mark says who speaks: a
side that hears its own frames again (echo) leaves them. What does not fit is dropped and counted; both sides ask again.
A CRC protects against accidents only. Nothing that is said here is secret, and what must be believed is signed.
"""

from __future__ import annotations

import json
import re
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from vigie.contract.errors import MessageError, TooLargeError
from vigie.contract.strictjson import loads

FRAME_MAX: Final = 8192
"""Bytes of a frame with its end; 0.7 s at 115200 baud."""
_BODY_MAX: Final = FRAME_MAX - 64
_NUMBER_MAX: Final = 2**31
_HEAD: Final = re.compile(rb"@VG1([<>]) (\d{1,10}) (\d{1,4}) ([0-9a-f]{8}) ")
_MARK: Final = b"@VG1"
_NOISE_MAX: Final = 400


class Side(StrEnum):
    """Who wrote a frame."""

    STATION = ">"
    BOARD = "<"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that arrived whole."""

    side: Side
    number: int
    body: dict[str, Any]


def encode(side: Side, number: int, body: dict[str, Any]) -> bytes:
    """A frame as bytes, alone on its line whatever was written before. TooLargeError when it does not fit."""
    text = json.dumps(body, ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > _BODY_MAX:
        raise TooLargeError("", f"a frame of {len(text)} bytes, at most {_BODY_MAX}")
    number %= _NUMBER_MAX
    lead = f"{side.value} {number} {len(text)} ".encode()
    return b"\n" + _MARK + lead + f"{zlib.crc32(lead + text):08x} ".encode() + text + b"\n"


class Decoder:
    """Finds frames in what a line delivers, in pieces of any size.

    Keeps at most one frame's length of bytes. `noise()` gives the lines between frames (a boot's log), each cut at 400
    characters. dropped: pieces that began like a frame and did not hold.
    """

    def __init__(self, own: Side) -> None:
        self._own = own
        self._buffer = b""
        self._noise: list[str] = []
        self.dropped = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The other side's frames that end in `data`."""
        frames: list[Frame] = []
        self._buffer += data
        while True:
            line, end, rest = self._buffer.partition(b"\n")
            if not end:
                break
            self._buffer = rest
            frames += self._line(line)
        if len(self._buffer) > FRAME_MAX:
            self._remember(self._buffer[:-FRAME_MAX])
            self._buffer = self._buffer[-FRAME_MAX:]
        return frames

    def noise(self) -> list[str]:
        """Lines that were no frames since the last call, at most 500, oldest first."""
        found, self._noise = self._noise, []
        return found

    def _line(self, line: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at = 0
        while (start := line.find(_MARK, at)) >= 0:
            found = _frame(line, start)
            if found is None:
                self.dropped += 1
                at = start + len(_MARK)
                continue
            frame, after = found
            self._remember(line[:start] if not frames else b"")
            if frame.side is not self._own:
                frames.append(frame)
            line, at = line[after:], 0
        self._remember(line)
        return frames

    def _remember(self, line: bytes) -> None:
        text = "".join(c if c.isprintable() else " " for c in line[:_NOISE_MAX].decode("utf-8", "replace")).strip()
        if text and len(self._noise) < 500:
            self._noise.append(text)


def _frame(line: bytes, start: int) -> tuple[Frame, int] | None:
    """The frame that begins at `start`, and where it ends; None when it does not hold."""
    head = _HEAD.match(line, start)
    if head is None:
        return None
    length = int(head[3])
    body = line[head.end() : head.end() + length]
    lead = b"%s %s %s " % (head[1], head[2], head[3])
    if length > _BODY_MAX or len(body) != length or zlib.crc32(lead + body) != int(head[4], 16):
        return None
    try:
        return Frame(Side(head[1].decode()), int(head[2]), loads(body, _BODY_MAX, "frame")), head.end() + length
    except MessageError:
        return None
