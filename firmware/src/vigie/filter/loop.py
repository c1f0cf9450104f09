"""Loop guard: both cables of the box in one switch.

A probe leaves each port every 200 ms. The data path drops the box's own probes when they come back and says so
(`E_PROBE`, `state.probe_seen_ns`); a probe that came back means that the two ports meet outside. Port 1 is then
blocked at once (`control.loop_port` and the bridge port's state) and reopened some seconds after the last probe seen:
probes are sent and seen below the bridge, so detection goes on while the port is blocked. Which of the two ports is
closed does not matter, and port 1 is a choice that needs no roles: with a loop at start they are unknown.
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
_MIN_FRAME = 60
_FRAME = struct.Struct("!6s6sH4sQB")


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


def probe_frame(mac: bytes, nonce: int, port: int) -> bytes:
    """A probe as it leaves `port`: broadcast, from the box's MAC, padded to the Ethernet minimum."""
    frame = _FRAME.pack(_BROADCAST, mac, PROBE_ETHERTYPE, PROBE_MAGIC, nonce, port)
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
