"""Loop guard: both cables of the box in one switch.

The data path finds and cuts a loop by itself (firmware/bpf/loop.h): a probe that left by one port and came in by the
other closes port 1, for 2 s after the last such probe; a storm of group frames makes it send probes of its own. Here
is what is left to userspace: probes every 200 ms, which find a loop in which nothing turns yet and keep the port closed
while the loop is there; the bridge port's state (then `control.loop_port`, so that the data path lets through to the
box what no longer turns); the alert; and opening the port some seconds after the last probe seen. Probes are sent and
seen below the bridge, so that they pass a closed port. Which port is closed does not matter, and port 1 is a choice
that needs no roles: with a loop at start they are unknown.

A probe carries a token of the port it leaves by, made from a nonce that lives a minute and never leaves the box: a
probe heard on one side and sent back on that side counts for nothing, one carried to the other side for a minute.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

PROBE_ETHERTYPE = 0x88B5  # IEEE Std 802 local experimental EtherType 1
PROBE_MAGIC = b"VGLP"
BLOCKED_PORT = 1
_BROADCAST = b"\xff" * 6  # the one destination that every switch and ISP box floods
NONCE_S = 60.0
_MIN_FRAME = 60
_FRAME = struct.Struct("!6s6sH4sQB")
_U64 = (1 << 64) - 1


class Change(Enum):
    """What the shell must do."""

    BLOCK = "block"
    REOPEN = "reopen"


@dataclass(slots=True)
class LoopGuard:
    """Pure core. Times in ns, CLOCK_MONOTONIC."""

    reopen_ns: int
    blocked: bool = False
    last_seen_ns: int = 0
    started_ns: int = 0

    def seen(self, when_ns: int) -> Change | None:
        """A probe of ours came back at `when_ns`. A time before `started_ns` is an earlier daemon's."""
        if when_ns <= max(self.started_ns, self.last_seen_ns):
            return None
        self.last_seen_ns = when_ns
        if self.blocked:
            return None
        self.blocked = True
        return Change.BLOCK

    def tick(self, now_ns: int) -> Change | None:
        """Time passes."""
        if not self.blocked or now_ns - self.last_seen_ns < self.reopen_ns:
            return None
        self.blocked = False
        return Change.REOPEN


def siphash(key0: int, key1: int, word: int) -> int:
    """SipHash-2-4 (Aumasson, Bernstein) of one 8-byte little-endian word under a key of two."""
    v0, v1 = key0 ^ 0x736F6D6570736575, key1 ^ 0x646F72616E646F6D
    v2, v3 = key0 ^ 0x6C7967656E657261, key1 ^ 0x7465646279746573

    def turn(value: int, bits: int) -> int:
        return (value << bits | value >> (64 - bits)) & _U64

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = (v0 + v1) & _U64, (v2 + v3) & _U64
            v1, v3 = turn(v1, 13) ^ v0, turn(v3, 16) ^ v2
            v0, v2 = (turn(v0, 32) + v3) & _U64, (v2 + v1) & _U64
            v3, v1 = turn(v3, 21) ^ v0, turn(v1, 17) ^ v2
            v2 = turn(v2, 32)

    for block in (word, 8 << 56):  # the second: nothing left, and the length
        v3 ^= block
        rounds(2)
        v0 ^= block
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


def probe_token(nonce: int, port: int) -> int:
    """What a probe that leaves by `port` carries; the data path works out the same (`probe_token` in loop.h)."""
    return siphash(nonce, nonce, port)


def probe_frame(mac: bytes, nonce: int, port: int) -> bytes:
    """A probe as it leaves `port`: broadcast, from the box's MAC, padded to the Ethernet minimum."""
    frame = _FRAME.pack(_BROADCAST, mac, PROBE_ETHERTYPE, PROBE_MAGIC, probe_token(nonce, port), port)
    return frame.ljust(_MIN_FRAME, b"\0")


class ProbeSender:
    """Sends probes below the bridge, one packet socket per port. Needs CAP_NET_RAW."""

    def __init__(self, interfaces: Sequence[str], mac: bytes, nonce: int) -> None:
        self._frames = [probe_frame(mac, nonce, port) for port in range(len(interfaces))]
        self._sockets: list[socket.socket] = []
        try:
            for name in interfaces:
                # Protocol 0: this socket receives nothing.
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
                self._sockets.append(sock)
                sock.setblocking(False)
                sock.bind((name, 0))
        except OSError:
            self.close()
            raise

    def send(self) -> None:
        """One probe from each port. A port that is down loses its probe: nothing loops through it."""
        for sock, frame in zip(self._sockets, self._frames, strict=True):
            with contextlib.suppress(OSError):
                sock.send(frame)

    def close(self) -> None:
        """Closes the sockets."""
        for sock in self._sockets:
            sock.close()
        self._sockets = []
