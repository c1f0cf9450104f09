"""The self-test: a frame to the built-in test indicator is really injected into the LAN port and must be refused.

Injection is by XDP live frames (BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES): the kernel hands the frame to the
port's receive path, so that tc ingress, the base in force and the events all take part, as for a machine of the LAN.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from dataclasses import dataclass
from typing import Any

from vigie.contract.codes import Reason, Verdict
from vigie.errors import BpfError
from vigie.filter import abi, wording
from vigie.filter.engine import Engine
from vigie.filter.hold_frames import sum16, transport_checksum
from vigie.filter.journal import Attempt
from vigie.filter.libbpf import xdp_context
from vigie.filter.zones import Alert
from vigie.i18n import _

INDICATOR = "192.0.2.66"  # RFC 5737 documentation range: nobody's address
# Locally administered, not multicast: no machine has it, and nothing is learnt that could be confused with one.
TEST_MAC = bytes.fromhex("025647540001")
SOURCE = "192.0.2.65"
PORT = 443
WAIT_S = 2.0
_SYN = 0x02


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it, with a sentence for people."""

    passed: bool
    sentence: str
    verdict: int | None = None
    reason: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return {"passed": self.passed, "sentence": self.sentence, "verdict": self.verdict, "reason": self.reason}


def syn_frame(dmac: bytes, sport: int) -> bytes:
    """A TCP SYN from the made-up machine to the test indicator, checksums right, 60 bytes."""
    src, dst = (abi.address_bytes(a)[12:] for a in (SOURCE, INDICATOR))
    segment = struct.pack("!HHIIBBHHH", sport, PORT, secrets.randbits(32), 0, 5 << 4, _SYN, 64240, 0, 0)
    checksum = transport_checksum(src, dst, 6, segment)
    segment = segment[:16] + checksum.to_bytes(2, "big") + segment[18:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0x4000, 64, 6, 0, src, dst)
    head = head[:10] + (~sum16(head) & 0xFFFF).to_bytes(2, "big") + head[12:]
    return (dmac + TEST_MAC + b"\x08\x00" + head + segment).ljust(60, b"\0")


async def run(engine: Engine, attempts: asyncio.Queue[Attempt | Alert]) -> Result:
    """Injects and waits for the report. `attempts`: what the daemon records from now on."""
    if engine.base.lookup() is None:
        return Result(False, _("Échec : aucune base n'est chargée, rien ne peut être bloqué."))
    port = engine.zones.lan_port if engine.zones.known else 0
    macs = engine.zones.gateway_macs()
    frame = syn_frame(macs[-1] if macs else b"\xff" * 6, 49152 + secrets.randbelow(16384))
    before = engine.datapath.counters()
    ifindex = int(engine.datapath.control["ifindex"][port])
    try:
        engine.datapath.programs["vigie_pass"].test_run(
            frame, xdp_context(len(frame), ifindex), live_frames=True, want_data=False
        )
    except BpfError as e:
        return Result(False, _("Échec : le paquet d'essai n'a pas pu être injecté ({error}).").format(error=e))
    found = await _wait(attempts)
    if found is None:
        # Reports are rate limited: the counters are not.
        after = engine.datapath.counters()
        reason = Reason.TOXIC_ADDRESS
        if after.get(reason, (0, 0))[0] <= before.get(reason, (0, 0))[0]:
            sentence = _("Échec : le paquet d'essai vers {address} n'a pas été bloqué. Le boîtier ne protège pas.")
            return Result(False, sentence.format(address=INDICATOR))
        sentence = _("Réussi : le paquet d'essai vers {address} a été bloqué (vu aux compteurs).")
        return Result(True, sentence.format(address=INDICATOR), int(Verdict.REFUSE), int(reason))
    if not Verdict(found.verdict).blocks:
        sentence = _("Échec : l'adresse d'essai {address} est seulement observée ({why}) : retirez la règle locale.")
        text = sentence.format(address=INDICATOR, why=wording.reason(found.reason))
        return Result(False, text, found.verdict, found.reason)
    sentence = _("Réussi : le paquet d'essai vers {address} est entré par le port mairie et a été refusé ({why}).")
    text = sentence.format(address=INDICATOR, why=wording.reason(found.reason))
    return Result(True, text, found.verdict, found.reason)


async def _wait(attempts: asyncio.Queue[Attempt | Alert]) -> Attempt | None:
    mac = abi.mac_text(TEST_MAC)
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                attempt = await attempts.get()
                if isinstance(attempt, Attempt) and attempt.device == mac and attempt.address == INDICATOR:
                    return attempt
    except TimeoutError:
        return None
