"""Names held back: frames given to userspace until the server's name is known (F_HOLD)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import packets as p
from tests.support.progrun import TC_ACT_SHOT, Result
from tests.support.town import LAN, Town
from vigie.contract.codes import EventKind, Reason, Verdict
from vigie.filter import abi
from vigie.filter.events import decode
from vigie.filter.flowcache import key_of_event
from vigie.filter.ring import RingReader

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

HELLO = p.client_hello("evil.example", before=3)
FIRST, REST = HELLO[:70], HELLO[70:]
ISN = 1000


class Held:
    """A PC that opens a connection under F_HOLD, with a daemon that is alive."""

    def __init__(self, town: Town, remote: str = p.PLAIN) -> None:
        self.town = town
        self.remote = remote
        self.pc = p.PC6 if p.is6(remote) else p.PC
        data = town.kernel.data
        data.control["features"] |= abi.F_HOLD
        data.control["hold_ms"] = 300
        data.bump()
        self.alive()
        self.ring: RingReader = data.held()
        self.ring.read(1 << 16)
        self.counted = data.counters()

    def alive(self, ago_ms: int = 0) -> None:
        self.town.kernel.data.control["heartbeat_ns"] = time.monotonic_ns() - ago_ms * 10**6

    def opens(self) -> None:
        assert self.town.sends(p.tcp(self.pc, self.remote, 40000, 443, seq=ISN)).verdict == Verdict.PASS
        self.town.receives(p.tcp(self.remote, self.pc, 443, 40000, "SA"))

    def says(self, payload: bytes, offset: int = 0) -> Result:
        self.alive()
        return self.town.sends(p.tcp(self.pc, self.remote, 40000, 443, "PA", payload, seq=ISN + 1 + offset))

    def frames(self) -> list[Any]:
        return [decode(record) for record in self.ring.read(1 << 16)]

    def count(self, reason: Reason) -> int:
        now = self.town.kernel.data.counters()
        return now.get(reason, (0, 0))[0] - self.counted.get(reason, (0, 0))[0]

    def flow(self) -> Any:
        (flow,) = self.town.kernel.data.flows_snapshot()
        return flow


@pytest.fixture
def held(town: Make) -> Callable[..., Held]:
    return lambda remote=p.PLAIN: Held(town(modelled=False), remote)


@pytest.mark.parametrize("remote", [p.PLAIN, p.PLAIN6])
class TestSplitHello:
    def test_goes_up_whole_and_nowhere_else(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        for payload, offset in ((FIRST, 0), (REST, 70)):
            got = h.says(payload, offset)
            assert (got.verdict, got.action) == (Verdict.HOLD, TC_ACT_SHOT)
            (event,) = h.frames()
            assert (event.kind, event.verdict) == (EventKind.HELD, Verdict.HOLD)
            sent = p.ether(p.tcp(h.pc, remote, 40000, 443, "PA", payload, seq=ISN + 1 + offset))
            assert bytes(event.payload) == sent
            assert (event.sport, event.dport, event.frame_len) == (40000, 443, len(sent))
        assert h.count(Reason.HELD) == 2
        assert int(h.flow()["flags"]) & abi.FL_HOLD

    def test_the_server_is_not_held(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        h.says(FIRST)
        answer = h.town.receives(p.tcp(remote, h.pc, 443, 40000, "A"))
        assert answer.verdict == Verdict.PASS
        assert len(h.frames()) == 1

    @pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.REFUSE])
    def test_what_the_daemon_decides_holds(self, held: Callable[..., Held], remote: str, verdict: Verdict) -> None:
        h = held(remote)
        h.opens()
        h.says(FIRST)
        (event,) = h.frames()
        reason = Reason.TOXIC_SNI if verdict == Verdict.REFUSE else Reason.DEFAULT
        assert h.town.kernel.data.cache.decide(key_of_event(event), verdict, reason)
        assert h.says(REST, 70).decided == (verdict, reason)
        assert h.town.receives(p.tcp(remote, h.pc, 443, 40000, "A")).decided == (verdict, reason)
        assert not h.frames()

    def test_segments_out_of_order_and_decoys_are_held(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        assert h.says(REST, 70).verdict == Verdict.HOLD
        h = held(remote)
        h.opens()
        assert h.says(b"GET / HTTP/1.1\r\n", 1000).verdict == Verdict.HOLD
        assert h.says(p.client_hello("evil.example")).verdict == Verdict.HOLD
        assert len(h.frames()) == 2


class TestWhatIsNotHeld:
    def test_a_whole_hello_is_decided_at_once(self, held: Callable[..., Held]) -> None:
        h = held()
        h.opens()
        assert h.says(HELLO).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)
        assert not h.frames()

    def test_other_protocols(self, held: Callable[..., Held]) -> None:
        h = held()
        h.opens()
        assert h.says(b"SSH-2.0-x\r\n").verdict == Verdict.PASS
        assert not int(h.flow()["flags"]) & (abi.FL_HELLO | abi.FL_HOLD)

    def test_nobody_waits_for_a_silent_daemon(self, held: Callable[..., Held]) -> None:
        h = held()
        h.opens()
        h.alive(ago_ms=400)
        got = h.town.sends(p.tcp(h.pc, h.remote, 40000, 443, "PA", FIRST, seq=ISN + 1))
        assert got.verdict == Verdict.PASS
        assert h.count(Reason.HOLD_EXPIRED) == 1
        assert h.says(REST, 70).verdict == Verdict.PASS, "not held again"

    def test_nobody_waits_longer_than_said(self, held: Callable[..., Held]) -> None:
        h = held()
        h.opens()
        assert h.says(FIRST).verdict == Verdict.HOLD
        rows = h.town.kernel.data.flows
        (index,) = rows["tag"].nonzero()[0]
        rows["hold_start_ms"][index] -= 400
        assert h.says(REST, 70).verdict == Verdict.PASS
        assert h.count(Reason.HOLD_EXPIRED) == 1
        assert not int(h.flow()["flags"]) & (abi.FL_HELLO | abi.FL_HOLD)

    def test_a_full_ring_lets_through(self, held: Callable[..., Held]) -> None:
        h = held()
        h.opens()
        frame = p.ether(p.tcp(h.pc, h.remote, 40000, 443, "PA", FIRST, seq=ISN + 1))
        h.alive()
        verdicts = [h.town.kernel.run(LAN, frame).verdict for _ in range(600)]
        full = verdicts.index(Verdict.PASS)
        assert 400 < full < 600
        assert h.count(Reason.HOLD_FULL) == 1
        assert len(h.frames()) == full

    def test_off_means_off(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        assert t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", FIRST)).verdict == Verdict.PASS


def initial(version: int, kind: int, size: int = 1200) -> bytes:
    return (bytes([0xC0 | kind << 4]) + version.to_bytes(4, "big") + bytes(size))[:size]


class TestQuic:
    @pytest.mark.parametrize("remote", [p.PLAIN, p.PLAIN6])
    @pytest.mark.parametrize(("version", "kind"), [(1, 0), (0x6B3343CF, 1)])
    def test_initials_are_held(self, held: Callable[..., Held], remote: str, version: int, kind: int) -> None:
        h = held(remote)
        got = h.town.frame(LAN, p.ether(p.udp(h.pc, remote, 40000, 443, initial(version, kind))))
        assert (got.verdict, got.action) == (Verdict.HOLD, TC_ACT_SHOT)
        (event,) = h.frames()
        assert event.proto == 17

    @pytest.mark.parametrize(
        "payload",
        [
            initial(1, 1),
            initial(1, 2),
            initial(0x6B3343CF, 0),
            initial(2, 0),
            initial(1, 0, 1199),
            b"\x40" + bytes(1300),
        ],
    )
    def test_other_datagrams_are_not(self, held: Callable[..., Held], payload: bytes) -> None:
        h = held()
        assert h.town.frame(LAN, p.ether(p.udp(h.pc, h.remote, 40000, 443, payload))).verdict == Verdict.PASS

    def test_nor_other_ports_nor_inbound(self, held: Callable[..., Held]) -> None:
        h = held()
        assert h.town.sends(p.udp(h.pc, h.remote, 40000, 444, initial(1, 0))).verdict == Verdict.PASS
        assert h.town.sends(p.udp(h.pc, p.NEIGHBOUR, 40000, 443, initial(1, 0))).verdict == Verdict.PASS
        assert not h.frames()
