"""Does anything get out unfiltered while the box starts? A steady stream on its LAN cable, counted on its WAN cable.

Three frames every millisecond: to a listed IPv4 address, to a listed IPv6 address, to a clean one. The clean ones tell
when the line opens; of the listed ones none may ever come out.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from lab import plan, wire
from lab.topology import LAN_PORT, WAN_PORT, Topology

PERIOD_S = 0.001
TOXIC, CLEAN = b"VIGIE-LAB-TOXIC", b"VIGIE-LAB-CLEAN"


def udp6(destination: str, source: str, source6: str, destination6: str, payload: bytes) -> bytes:
    ends = socket.inet_pton(socket.AF_INET6, source6) + socket.inet_pton(socket.AF_INET6, destination6)
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", 4001, 4001, length, 0) + payload
    total = wire.checksum(ends + struct.pack("!II", length, 17) + udp) or 0xFFFF
    udp = udp[:6] + struct.pack("!H", total) + udp[8:]
    return wire.ethernet(destination, source, 0x86DD, struct.pack("!IHBB", 0x60000000, length, 17, 64) + ends + udp)


@dataclass
class Leak:
    """Context manager; afterwards `unfiltered_ms` and `opened_at` (monotonic s; 0: the line never opened)."""

    lab: Topology
    leaked: list[float] = field(default_factory=list)
    opened_at: float = 0.0
    clean: int = 0

    def __post_init__(self) -> None:
        lab, router, mac = self.lab, plan.MACS["router"], plan.MACS["pc"]
        own4, own6 = plan.host4("pc"), plan.host6("pc")
        self._frames = [
            wire.udp4(router, mac, own4, lab.indicators.toxic4, 4001, 4001, TOXIC),
            udp6(router, mac, own6, lab.indicators.toxic6, TOXIC),
            wire.udp4(router, mac, own4, plan.TOWN.v4, 4001, 4001, CLEAN),
        ]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._watch)]

    def __enter__(self) -> Leak:
        self._lan = wire.Tap(self.lab.lan, self.lab.ends[LAN_PORT][1])
        self._wan = wire.Tap(self.lab.router, self.lab.ends[WAN_PORT][1])
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        time.sleep(0.1)
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._lan.__exit__(kind, error, trace)
        self._wan.__exit__(kind, error, trace)

    def _send(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._lan.send(*self._frames)

    def _watch(self) -> None:
        while not self._stop.is_set():
            frame = self._wan.receive(0.05)
            if frame is None:
                continue
            if TOXIC in frame.data:
                self.leaked.append(frame.when)
            elif CLEAN in frame.data:
                self.opened_at = self.opened_at or frame.when
                self.clean += 1

    @property
    def unfiltered_ms(self) -> float:
        """From the first listed frame that came out to the last, one period more; 0 when none did."""
        return (self.leaked[-1] - self.leaked[0] + PERIOD_S) * 1000 if self.leaked else 0.0
