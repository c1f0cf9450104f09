"""Ports in real use: what the commune already publishes is learnt, shown, and can be revoked.

While the learning period lasts, unsolicited inbound traffic passes. A flow that the internet opened and that a device
really answered (beyond the handshake: a port scanner must not open doors) makes its (device, protocol, port) an
exception to the inbound default. What was revoked is not learnt again. Pure; the state is a value kept as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vigie.contract.codes import Verdict
from vigie.errors import SourceError, UsageError
from vigie.filter.abi import FL_ANSWERED, FL_INIT_SHIFT, FL_LOCAL, FL_TCP_SHIFT, mac_bytes, mac_text
from vigie.i18n import _

FORMAT = 1
ENTRIES_MAX = 1024
FRESH_S = 120
TCP, UDP = 6, 17
TCP_RST = 0x04
# From the internet: SYN, ACK and data; from the device: SYN+ACK and data.
NEEDED_PACKETS_IN = 3
NEEDED_PACKETS_OUT = 2
_SCAN_ROWS = 1 << 15


class LearningFileError(SourceError):
    """The file of learnt ports cannot be used."""


@dataclass(frozen=True, slots=True)
class Use:
    """A published port seen in use."""

    mac: bytes
    proto: int
    port: int

    @property
    def text(self) -> str:
        """`02:00:00:00:00:01 443/tcp`."""
        return f"{mac_text(self.mac)} {self.port}/{'tcp' if self.proto == TCP else 'udp'}"


@dataclass(frozen=True, slots=True)
class Learned:
    """When a use was first and last seen (Unix time), in how many looks; revoked ones stay so."""

    first: float
    last: float
    seen: int = 1
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Learning:
    """State of learning. `elapsed_s`: time with known roles, so that a box in a cupboard does not learn by waiting."""

    uses: Mapping[Use, Learned]
    elapsed_s: float = 0.0

    def left_s(self, period_s: float) -> float:
        """What remains of the learning period."""
        return max(0.0, period_s - self.elapsed_s)

    def advanced(self, seconds: float) -> Learning:
        """Time went by with known roles."""
        return replace(self, elapsed_s=self.elapsed_s + max(0.0, seconds))

    def seen(self, uses: Iterable[Use], now: float, learning: bool) -> Learning:
        """Notes uses; new ones only while `learning`. The same object when nothing new is to be kept."""
        changed: dict[Use, Learned] = {}
        for use in uses:
            old = self.uses.get(use)
            if old is not None:
                changed[use] = replace(old, last=now, seen=old.seen + 1)
            elif learning and len(self.uses) + len(changed) < ENTRIES_MAX:
                changed[use] = Learned(now, now)
        return replace(self, uses={**self.uses, **changed}) if changed else self

    def revoked(self, use: Use) -> Learning:
        """Closes a port; UsageError when it was never learnt."""
        if use not in self.uses:
            raise UsageError(_("{use} n'est pas un port appris").format(use=use.text))
        return replace(self, uses={**self.uses, use: replace(self.uses[use], revoked=True)})

    def allowed(self) -> list[Use]:
        """Rows of `inbound_allow`."""
        return [use for use, learned in self.uses.items() if not learned.revoked]


EMPTY = Learning({})


def uses_in(flows: npt.NDArray[np.void], wan_port: int, now_s: int) -> set[Use]:
    """Published ports in use among flow entries (dtype abi.FLOW), by flows of the last two minutes.

    Counts a flow when the internet side opened it, the device answered beyond the handshake and did not reset it, the
    entry is not local and passes.
    """
    found: set[Use] = set()
    for start in range(0, len(flows), _SCAN_ROWS):
        part = flows[start : start + _SCAN_ROWS]
        flags = part["flags"]
        opened = ((flags >> FL_INIT_SHIFT) & 3) == wan_port + 1
        wanted = opened & (flags & FL_ANSWERED != 0) & (flags & FL_LOCAL == 0) & (part["tag"] != 0)
        for row in part[wanted]:  # a copy: the data path may rewrite the entry meanwhile
            use = _use(row, wan_port, now_s)
            if use is not None:
                found.add(use)
    return found


def _use(row: np.void, wan_port: int, now_s: int) -> Use | None:
    lan = 1 - wan_port
    key = row["key"]
    proto = int(key["proto"])
    if proto not in (TCP, UDP) or now_s - int(row["last_s"]) > FRESH_S:
        return None
    if int(row["meta"]) >> 24 & 0xFF not in (Verdict.PASS, Verdict.OBSERVE):
        return None
    if int(row["packets"][wan_port]) < NEEDED_PACKETS_IN or int(row["packets"][lan]) < NEEDED_PACKETS_OUT:
        return None
    if proto == TCP and int(row["flags"]) >> (FL_TCP_SHIFT + 8 * lan) & TCP_RST:
        return None
    mac, port = (row["mac_a"], key["pa"]) if lan == 0 else (row["mac_b"], key["pb"])
    return Use(bytes(mac), proto, int(port))


def dump(learning: Learning) -> bytes:
    """JSON text of the state."""
    uses = [
        {"mac": mac_text(use.mac), "proto": use.proto, "port": use.port} | asdict(learned)
        for use, learned in learning.uses.items()
    ]
    return json.dumps({"format": FORMAT, "elapsed_s": learning.elapsed_s, "uses": uses}, indent=1).encode()


def parse(data: bytes, where: Path) -> Learning:
    """The state of a JSON text. Raises LearningFileError."""
    try:
        document: Any = json.loads(data)
        if document["format"] != FORMAT:
            raise LearningFileError(where, None, f"format {document['format']}, this version reads {FORMAT}")
        uses = {}
        for raw in document["uses"][:ENTRIES_MAX]:
            use = Use(mac_bytes(str(raw["mac"])), int(raw["proto"]), int(raw["port"]))
            if use.proto not in (TCP, UDP) or not 0 < use.port < 65536:
                raise ValueError(f"{use.text} is not a port")
            uses[use] = Learned(float(raw["first"]), float(raw["last"]), int(raw["seen"]), bool(raw["revoked"]))
        return Learning(uses, max(0.0, float(document["elapsed_s"])))
    except (ValueError, KeyError, TypeError, RecursionError, UsageError) as e:
        raise LearningFileError(where, None, f"not a list of learnt ports ({type(e).__name__}: {e})") from e
