"""Names held back: frames given to userspace until the server's name is known (F_HOLD)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support import packets as p
from tests.support.progrun import TC_ACT_SHOT, Result
from tests.support.town import LAN, WAN, Town
from vigie.contract.codes import EventKind, Reason, Verdict
from vigie.filter import abi
from vigie.filter.events import Event, decode
from vigie.filter.flowcache import key_of_event
from vigie.filter.ring import RingReader

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

HELLO = p.client_hello("evil.example", before=3)
FIRST, REST = HELLO[:70], HELLO[70:]
ISN = 1000
AMPLE_MS = 60_000
"""So that no test depends on how busy the machine is."""


class Held:
    """A PC that opens a connection under F_HOLD, with a daemon that is alive."""

    def __init__(self, town: Town, remote: str = p.PLAIN) -> None:
        self.town = town
        self.remote = remote
        self.pc = p.PC6 if p.is6(remote) else p.PC
        data = town.kernel.data
        data.control["features"] |= abi.F_HOLD
        data.control["hold_ms"] = AMPLE_MS
        data.bump()
        self.alive()
        self.ring: RingReader = data.held()
        self.holds = data.holds()
        self.ring.read(1 << 16)
        self.counted = data.counters()

    def alive(self, ago_ms: int = -AMPLE_MS) -> None:
        self.town.kernel.data.control["heartbeat_ns"] = time.monotonic_ns() - ago_ms * 10**6

    def opens(self, isn: int = ISN) -> None:
        assert self.syn(isn).verdict == Verdict.PASS
        assert self.hears("SA", ack=isn + 1).verdict == Verdict.PASS

    def syn(self, isn: int) -> Result:
        return self.town.sends(p.tcp(self.pc, self.remote, 40000, 443, seq=isn))

    def hears(self, flags: str = "A", ack: int = 0) -> Result:
        return self.town.receives(p.tcp(self.remote, self.pc, 443, 40000, flags, ack=ack))

    def resets(self) -> None:
        self.town.sends(p.tcp(self.pc, self.remote, 40000, 443, "RA", seq=ISN))

    def says(self, payload: bytes, offset: int = 0, isn: int = ISN) -> Result:
        self.alive()
        return self.town.sends(p.tcp(self.pc, self.remote, 40000, 443, "PA", payload, seq=isn + 1 + offset))

    def holds_back(self, payload: bytes, offset: int = 0, isn: int = ISN) -> Event:
        """One frame that must go up and nowhere else."""
        got = self.says(payload, offset, isn)
        assert (got.verdict, got.action) == (Verdict.HOLD, TC_ACT_SHOT)
        (event,) = self.frames()
        return event

    def answer(self, event: Event, verdict: Verdict) -> None:
        reason = Reason.TOXIC_SNI if verdict == Verdict.REFUSE else Reason.DEFAULT
        assert self.holds.answer(key_of_event(event), event.name_hash, verdict, reason)

    def frames(self) -> list[Event]:
        return [decode(record) for record in self.ring.read(1 << 16)]

    def count(self, reason: Reason) -> int:
        now = self.town.kernel.data.counters()
        return now.get(reason, (0, 0))[0] - self.counted.get(reason, (0, 0))[0]

    def flow(self) -> Any:
        (flow,) = self.town.kernel.data.flows_snapshot()
        return flow

    @property
    def waits(self) -> int:
        """FL_HELLO and FL_HOLD of the flow."""
        return int(self.flow()["flags"]) & (abi.FL_HELLO | abi.FL_HOLD)

    @property
    def place(self) -> int:
        (index,) = self.town.kernel.data.flows["tag"].nonzero()[0]
        return int(index)


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
            assert event.name_hash == int(h.holds.rows["start_ns"][h.place]) > 0
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
    @pytest.mark.parametrize("server_first", [False, True])
    def test_what_the_daemon_answers_holds(
        self, held: Callable[..., Held], remote: str, verdict: Verdict, server_first: bool
    ) -> None:
        """Whichever end's packet is the first to find it; in a new epoch too."""
        h = held(remote)
        h.opens()
        h.answer(h.holds_back(FIRST), verdict)
        decided = (verdict, Reason.TOXIC_SNI if verdict == Verdict.REFUSE else Reason.DEFAULT)
        if server_first:
            assert h.hears().decided == decided
            assert h.waits, "the client's packets alone change what is awaited of it"
        assert h.says(REST, 70).decided == decided
        assert not h.waits
        assert h.hears().decided == decided
        h.town.kernel.data.bump()
        assert (h.says(b"more", 500).verdict, h.hears().verdict) == (verdict, verdict)
        assert not h.frames()

    def test_the_answer_to_another_hold_counts_for_nothing(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        event = h.holds_back(FIRST)
        for verdict in (Verdict.PASS, Verdict.REFUSE):
            for other in (event.name_hash - 1, event.name_hash + 1, 0):
                h.answer(event._replace(name_hash=other), verdict)
                assert h.holds_back(REST, 70).name_hash == event.name_hash
                assert h.hears().verdict == Verdict.PASS

    def test_segments_out_of_order_and_decoys_are_held(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        assert h.says(REST, 70).verdict == Verdict.HOLD
        h = held(remote)
        h.opens()
        assert h.says(b"GET / HTTP/1.1\r\n", 1000).verdict == Verdict.HOLD
        assert h.says(p.client_hello("evil.example")).verdict == Verdict.HOLD
        assert len(h.frames()) == 2


@pytest.mark.parametrize("remote", [p.PLAIN, p.PLAIN6])
class TestThePortUsedAgain:
    """A client may reset and begin anew while the worker is still at the connection before."""

    @pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.REFUSE])
    @pytest.mark.parametrize("isn", [ISN, ISN + 50, 1 << 31])
    def test_an_answer_that_comes_late_is_not_the_new_connection_s(
        self, held: Callable[..., Held], remote: str, verdict: Verdict, isn: int
    ) -> None:
        """The worker has sent the frames on; before it says so, the client resets and opens anew."""
        h = held(remote)
        h.opens()
        old = h.holds_back(FIRST)
        h.resets()
        h.syn(isn)
        h.answer(old, verdict)
        assert h.waits == abi.FL_HELLO
        assert h.hears("SA", ack=isn + 1).verdict == Verdict.PASS
        new = h.holds_back(FIRST, isn=isn)
        h.answer(old, verdict)
        assert h.holds_back(REST, 70, isn).name_hash == new.name_hash != old.name_hash
        h.answer(new, Verdict.REFUSE)
        assert h.says(b"more", 300, isn).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)

    def test_no_two_holds_are_the_same_even_within_a_tick(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        client, server = (h.pc, remote, 40000, 443), (remote, h.pc, 443, 40000)
        turn = [(LAN, p.ether(p.tcp(*client, seq=ISN)))]
        turn += [(WAN, p.ether(p.tcp(*server, "SA", ack=ISN + 1), p.GATEWAY_MAC, p.PC_MAC))]
        turn += [(LAN, p.ether(p.tcp(*client, "PA", FIRST, seq=ISN + 1)))]
        turn += [(LAN, p.ether(p.tcp(*client, "RA", seq=ISN + 1)))]
        h.alive()
        for _ in range(100):
            verdicts = [h.town.kernel.run(port, frame).verdict for port, frame in turn]
            assert verdicts == [Verdict.PASS, Verdict.PASS, Verdict.HOLD, Verdict.PASS]
        assert len({event.name_hash for event in h.frames()}) == 100

    def test_a_refused_client_that_opens_at_once_is_judged_anew(self, held: Callable[..., Held], remote: str) -> None:
        """It has been told by the worker; its SYN is the first packet that finds the answer."""
        h = held(remote)
        h.opens()
        h.answer(h.holds_back(FIRST), Verdict.REFUSE)
        h.opens(ISN + 5000)
        assert h.holds_back(FIRST, isn=ISN + 5000)

    def test_an_entry_given_to_another_flow_begins_without_a_hold(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        old, place = h.holds_back(FIRST), h.place
        h.town.evict()
        h.syn(ISN)
        assert h.place == place
        assert int(h.holds.rows["start_ns"][place]) == 0
        h.answer(old, Verdict.PASS)
        h.hears("SA", ack=ISN + 1)
        assert h.holds_back(FIRST).name_hash != old.name_hash


@pytest.mark.parametrize("remote", [p.PLAIN, p.PLAIN6])
class TestSynsThatMislead:
    """The server takes no notice of a SYN on an open connection, so nor does the data path."""

    @pytest.mark.parametrize("forged", [(ISN,), (ISN + 70,), (1 << 31,), (5, 1 << 31, 6)], ids=str)
    def test_between_the_pieces_of_a_hello(
        self, held: Callable[..., Held], remote: str, forged: tuple[int, ...]
    ) -> None:
        h = held(remote)
        h.opens()
        event = h.holds_back(FIRST)
        for isn in forged:
            assert h.syn(isn).verdict == Verdict.PASS
        assert h.waits == abi.FL_HELLO | abi.FL_HOLD
        assert h.holds_back(REST, 70).name_hash == event.name_hash
        h.answer(event, Verdict.REFUSE)
        assert h.says(b"more", 300).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)

    def test_before_the_hello(self, held: Callable[..., Held], remote: str) -> None:
        h = held(remote)
        h.opens()
        for isn in (1 << 31, 7):
            h.syn(isn)
        assert h.says(HELLO).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)

    def test_with_a_payload(self, held: Callable[..., Held], remote: str) -> None:
        """It would be taken for the first bytes of the connection."""
        h = held(remote)
        h.opens()
        h.town.sends(p.tcp(h.pc, remote, 40000, 443, "S", b"x" * 50, seq=ISN + 5000))
        assert h.waits == abi.FL_HELLO and not h.frames()
        assert h.says(HELLO).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)

    @pytest.mark.parametrize("others", [(1 << 31,), (1 << 31, ISN + 100_000)], ids=str)
    def test_the_server_says_which_of_several_it_took(
        self, held: Callable[..., Held], remote: str, others: tuple[int, ...]
    ) -> None:
        h = held(remote)
        for isn in (ISN, *others):
            h.syn(isn)
        h.hears("SA", ack=ISN + 1)
        assert h.says(HELLO).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)

    def test_a_connection_that_the_server_has_lost_is_opened_anew(self, held: Callable[..., Held], remote: str) -> None:
        """The SYN is a real one: the server's answer to it tells."""
        h = held(remote)
        h.opens()
        old = h.holds_back(FIRST)
        h.opens(1 << 31)
        assert h.waits == abi.FL_HELLO
        h.answer(old, Verdict.PASS)
        assert h.says(HELLO, isn=1 << 31).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)

    def test_bytes_in_the_first_syn_are_part_of_the_hello(self, held: Callable[..., Held], remote: str) -> None:
        """TCP Fast Open: the server's answer is behind them."""
        h = held(remote)
        h.alive()
        h.town.sends(p.tcp(h.pc, remote, 40000, 443, "S", FIRST, seq=ISN))
        (event,) = h.frames()
        h.hears("SA", ack=ISN + 1 + len(FIRST))
        assert h.holds_back(REST, 70).name_hash == event.name_hash


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
        h.town.kernel.data.control["hold_ms"] = 300
        assert h.says(FIRST).verdict == Verdict.HOLD
        h.holds.rows["start_ns"][h.place] -= np.uint64(400 * 10**6)
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

    @pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.REFUSE])
    def test_the_answer_holds(self, held: Callable[..., Held], verdict: Verdict) -> None:
        h = held()
        frame = p.ether(p.udp(h.pc, h.remote, 40000, 443, initial(1, 0)))
        assert h.town.frame(LAN, frame).verdict == Verdict.HOLD
        (event,) = h.frames()
        h.answer(event._replace(name_hash=event.name_hash + 1), verdict)
        h.alive()
        assert h.town.frame(LAN, frame).verdict == Verdict.HOLD
        h.answer(event, verdict)
        assert h.town.receives(p.udp(h.remote, h.pc, 443, 40000)).verdict == verdict
        assert h.town.frame(LAN, frame).verdict == verdict
        assert not h.waits

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
