"""Numbers shared with the data path: the Python side of `firmware/bpf/verdicts.h`.

Same names without the C prefix (`R_TOXIC_ADDRESS` is `Reason.TOXIC_ADDRESS`, `C_HELD` is `Reason.HELD`), same numbers.
Append-only: a number, once released, is never reused nor given another meaning. `tests/unit/contract` compares
the two sides, both ways.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Verdict(IntEnum):
    """What is done with a frame."""

    PASS = 0
    REFUSE = 1
    NXDOMAIN = 2
    DROP = 3
    OBSERVE = 4
    HOLD = 5

    @property
    def blocks(self) -> bool:
        """True when the frame does not reach its destination."""
        return self in (Verdict.REFUSE, Verdict.NXDOMAIN, Verdict.DROP)


class Reason(IntEnum):
    """Why. 0-31 pass, 32-63 block (or observe), 64-95 anomalies, 96-127 counters of the machinery."""

    NONE = 0
    DEFAULT = 1
    LOCAL = 2
    NOT_IP = 3
    MULTICAST = 4
    OWN = 5
    ESTABLISHED = 6
    EXCEPTION = 7
    NEVER_BLOCK = 8
    LEARNING = 9
    INBOUND_ALLOWED = 10
    ICMP_ERROR = 11

    ISOLATION = 32
    QUARANTINE = 33
    EXCEPTION_BLOCK = 34
    TOXIC_ADDRESS = 35
    TOXIC_DNS = 36
    TOXIC_SNI = 37
    DEVICE_CLASS = 38
    DYNAMIC = 39
    INBOUND = 40
    SPOOF = 41
    NOT_FOR_BOX = 42
    LOOP = 43

    SHORT_FRAME = 64
    SHORT_IP = 65
    BAD_IP_VERSION = 66
    BAD_IP_LENGTH = 67
    SHORT_L4 = 68
    BAD_TCP = 69
    EXT_HEADERS = 70
    VLAN_DEPTH = 71
    FRAGMENT = 72
    BAD_DNS = 73
    BAD_TLS = 74
    BAD_SOURCE = 75

    FLOW_NEW = 97
    FLOW_EVICTED = 98
    REFUSAL_LIMITED = 99
    REFUSAL_FAILED = 100
    HELD = 101
    HOLD_EXPIRED = 102
    HOLD_FULL = 103
    EVENT_LIMITED = 104
    EVENT_FULL = 105
    MAC_MOVED = 106
    NO_BASE = 107
    NO_CONTROL = 108
    RESOLVED = 109

    @property
    def is_block(self) -> bool:
        """True for a reason to block or to observe."""
        return 32 <= self < 64

    @property
    def is_anomaly(self) -> bool:
        """True for something odd in a packet, counted beside the verdict."""
        return 64 <= self < 96

    @property
    def is_counter(self) -> bool:
        """True for a counter of the machinery, which is never a packet's own reason."""
        return 96 <= self < REASON_COUNT


REASON_COUNT: Final = 128
"""Size of the `counters` map (verdicts.h: REASON_COUNT)."""


class EventKind(IntEnum):
    """What a record of the ring buffers tells."""

    BLOCKED = 1
    OBSERVED = 2
    FLOW = 3
    DNS = 4
    NAME = 5
    DHCP = 6
    DISCOVERY = 7
    NEIGHBOUR = 8
    ROUTER = 9
    INBOUND = 10
    PROBE = 11
    MAC_MOVED = 12
    HELD = 13


EVENT_KINDS: Final = 16
"""Size of `control.event_rate` (verdicts.h: EVENT_KINDS)."""


class Direction(IntEnum):
    """Which flows an indicator judges, by who opened them."""

    BOTH = 0
    OUT = 1
    IN = 2


class Action(IntEnum):
    """What an indicator, an exception or a class policy asks for."""

    NONE = 0
    BLOCK = 1
    OBSERVE = 2
    ALLOW = 3


class Category(IntEnum):
    """What an indicator is held to be."""

    NONE = 0
    MALWARE = 1
    C2 = 2
    PHISHING = 3
    SCANNER = 4
    BRUTEFORCE = 5
    SPAM = 6
    BOTNET = 7
    RANSOMWARE = 8
    STALKERWARE = 9
    CRYPTOMINING = 10
    ANONYMISER = 11
    SUSPICIOUS = 12
    HIJACKED = 13
    SCAM = 14
    DOH = 15
    TEST = 16


class DeviceClass(IntEnum):
    """What a machine of the LAN is."""

    NONE = 0
    COMPUTER = 1
    CAMERA = 2
    PRINTER = 3
    PHONE = 4
    TV = 5
    NETWORK = 6
    STORAGE = 7
    ALARM = 8
    IOT = 9
    MOBILE = 10


class InboundMode(IntEnum):
    """What happens to unsolicited inbound traffic."""

    OFF = 0
    LEARN = 1
    REFUSE = 2


class Initiator(IntEnum):
    """Which port the machine that opened a flow is behind."""

    UNKNOWN = 0
    PORT0 = 1
    PORT1 = 2
