"""Captured frames made fit for a test run: whole again, and no larger than the kernel takes.

Captures hold frames that no wire carried (merged by offload, up to 64 KiB) and beginnings of frames (snap length). The
first are cut into the segments they stood for, the second are completed with zero bytes, so that lengths hold.
"""

from __future__ import annotations

from typing import Final

from vigie.filter.decode.frames import TCP, parse
from vigie.filter.hold_frames import segments
from vigie.filter.libbpf import MAX_TEST_FRAME

_SEGMENT: Final = 1448
_ETHERNET: Final = 14


def fit(data: bytes, wire_len: int) -> tuple[list[bytes], str]:
    """(frames to inject, what was done: "", "completed", "segmented" or "shortened")."""
    done = ""
    if wire_len > len(data):
        data = data.ljust(min(wire_len, 0xFFFF + _ETHERNET), b"\0")
        done = "completed"
    if len(data) <= MAX_TEST_FRAME:
        return [data], done
    frame = parse(data)
    if frame.proto == TCP and frame.l4 and not frame.is_fragment and frame.payload_start - frame.l3 < 200:
        return [piece.data for piece in segments(data, _SEGMENT, None)], "segmented"
    return [_shortened(data, frame.l3, frame.family)], "shortened"


def _shortened(data: bytes, l3: int, family: int) -> bytes:
    """The beginning of a frame, with the IP length that goes with it: the decision needs the headers only."""
    out = bytearray(data[:MAX_TEST_FRAME])
    if family == 4:
        out[l3 + 2 : l3 + 4] = (len(out) - l3).to_bytes(2, "big")
    elif family == 6:
        out[l3 + 4 : l3 + 6] = (len(out) - l3 - 40).to_bytes(2, "big")
    return bytes(out)
