"""Frames out of one port and in at the other, over the loop cable."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from fcntl import ioctl
from typing import Final

from vigie.contract.bench import Code
from vigie.factory.errors import FactoryError

ETHERTYPE: Final = 0x88B5
"""Local experimental (IEEE 802): nothing else on the cable uses it."""
_ETH_P_ALL: Final = 3
_PACKET_OUTGOING: Final = 4
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914
_UP: Final = 1
_SIZES: Final = (64, 128, 590, 1024, 1514)
_PATIENCE_S: Final = 2.0
_HEAD: Final = struct.Struct("!HI16s")


def exchange(sender: str, receiver: str, count: int) -> int:
    """How many of `count` frames from `sender` arrived at `receiver` unchanged, each counted once. FactoryError.

    A receiving socket of ETH_P_ALL sees a frame before the bridge, the filter or a blocked bridge port do.
    """
    run = os.urandom(16)
    frames = [_frame(n, run) for n in range(count)]
    missing = {frame[14:]: None for frame in frames}
    try:
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as take,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as give,
        ):
            take.bind((receiver, _ETH_P_ALL))
            give.bind((sender, 0))
            for frame in frames:
                _send(give, frame)
                _collect(take, missing, 0.0)
            end = time.monotonic() + _PATIENCE_S
            while missing and (left := end - time.monotonic()) > 0:
                _collect(take, missing, left)
    except OSError as e:
        raise FactoryError(Code.MACHINE, f"{sender} -> {receiver}: {e.strerror}") from e
    return count - len(missing)


def set_up(name: str, up: bool) -> None:
    """Brings an interface up or takes it down. FactoryError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            ask = struct.pack("16sH14x", name.encode(), 0)
            flags = struct.unpack("16sH14x", ioctl(sock, _GET_FLAGS, ask))[1]
            flags = flags | _UP if up else flags & ~_UP
            ioctl(sock, _SET_FLAGS, struct.pack("16sH14x", name.encode(), flags))
    except OSError as e:
        raise FactoryError(Code.MACHINE, f"{name}: cannot be set {'up' if up else 'down'} ({e.strerror})") from e


def _frame(number: int, run: bytes) -> bytes:
    size = _SIZES[number % len(_SIZES)]
    head = b"\xff" * 6 + b"\x02\x76\x67" + os.urandom(3)
    payload = _HEAD.pack(0x7667, number, run)
    return head + struct.pack("!H", ETHERTYPE) + payload + os.urandom(size - 14 - len(payload))


def _send(give: socket.socket, frame: bytes) -> None:
    """A frame that the driver drops (ENOBUFS) is a frame that does not arrive."""
    try:
        give.send(frame)
    except OSError as e:
        if e.errno != errno.ENOBUFS:
            raise


def _collect(take: socket.socket, missing: dict[bytes, None], wait: float) -> None:
    while select.select([take], [], [], wait)[0]:
        frame, place = take.recvfrom(2048)
        if place[2] != _PACKET_OUTGOING and frame[12:14] == struct.pack("!H", ETHERTYPE):
            missing.pop(frame[14:], None)
        wait = 0.0
        if not missing:
            return
