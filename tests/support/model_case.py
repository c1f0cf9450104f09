"""What the model keeps: of a flow, of one frame on its way through the layers, of the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tests.support.model_frame import TCP, Frame
from tests.support.model_names import Name
from tests.support.policies import FOREVER
from vigie.contract.codes import Reason, Verdict

KNOWN_S = 300
KNOWN_TCP_S = 7200
CLOSED_S = 10

End = tuple[bytes, int]
"""An address and its port."""

FlowKey = tuple[bytes, bytes, int, int, int, int, int]
"""End behind port 0, end behind port 1, their ports, protocol, family, VLAN."""


class Side(Enum):
    """Which way a frame goes."""

    UNKNOWN = "unknown"
    OUT = "out"
    IN = "in"


class Opener(Enum):
    """Which side opened a flow, when roles are known."""

    UNKNOWN = "unknown"
    LAN = "lan"
    INTERNET = "internet"


@dataclass(frozen=True)
class Outcome:
    """What is done with a frame, why, what was odd in it, and which name decided."""

    verdict: Verdict
    reason: Reason
    anomaly: tuple[Reason, ...] = ()
    name: str | None = None


@dataclass
class Flow:
    """One entry of the flow cache."""

    epoch: int
    verdict: Verdict
    reason: Reason
    opener: int | None
    last: int
    until: int = 0
    macs: list[bytes] = field(default_factory=lambda: [b"", b""])
    """Of the end behind port 0, of the end behind port 1."""
    inspect: bool = False
    hello: bool = False
    named: bool = False
    """Refused by its server's name: no epoch forgets it."""
    closed: bool = False
    tcp_flags: list[int] = field(default_factory=lambda: [0, 0])

    def known(self, proto: int, now: int) -> bool:
        age = now - self.last
        if self.closed:
            return age < CLOSED_S
        return age < (KNOWN_TCP_S if proto == TCP else KNOWN_S)


@dataclass
class Case:
    """A frame on its way through the layers."""

    frame: Frame
    port: int
    now: int
    side: Side
    remote: bytes
    remote_port: int | None
    device: bytes
    device_port: int | None
    local: bool
    key: FlowKey
    flow: Flow | None
    opener: int | None
    opener_side: Opener
    spared: Reason | None = None
    spared_by_address: bool = False
    observed: Reason | None = None
    admitted: Reason | None = None
    until: int = 0
    name: Name | None = None

    def observe(self, reason: Reason) -> None:
        if self.observed is None:
            self.observed = reason

    def in_force(self, until: int) -> bool:
        """True while an entry with this expiry exists; the flow is decided again after the earliest one."""
        if until == FOREVER:
            return True
        if until <= self.now:
            return False
        self.until = min(self.until or until, until)
        return True

    @property
    def passes_outward(self) -> bool:
        """True for the frames that may create an entry, and that say which MACs a flow has."""
        return self.side != Side.IN or self.local

    @property
    def service_port(self) -> int | None:
        return self.device_port if self.opener_side == Opener.INTERNET else self.remote_port

    @property
    def known(self) -> bool:
        return self.flow is not None


Blocked = tuple[Verdict, Reason]
