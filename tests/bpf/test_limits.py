"""Rate limits: refusals told to each side, events of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import packets as p
from tests.support.progrun import TC_ACT_REDIRECT, TC_ACT_SHOT
from tests.support.town import LAN, WAN, Town
from vigie.contract.codes import EventKind, Reason, Verdict
from vigie.filter import abi

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

OUT = p.ether(p.tcp(p.PC, p.TOXIC, 40000, 443))
IN = p.ether(p.tcp(p.PLAIN, p.PC, 40000, 22), smac=p.GATEWAY_MAC, dmac=p.PC_MAC)


def limited(t: Town, out: int, inward: int) -> None:
    t.kernel.data.control["features"] &= 0xFFFFFFFF ^ abi.F_NO_LIMITS
    t.kernel.data.settings.set_rates(out, inward)


def answered(t: Town, port: int, frame: bytes, count: int) -> int:
    """How many of `count` frames got an answer; every one is refused."""
    results = [t.kernel.run(port, frame) for _ in range(count)]
    assert {r.verdict for r in results} == {Verdict.REFUSE}
    assert {r.action for r in results} <= {TC_ACT_REDIRECT, TC_ACT_SHOT}
    return sum(r.action == TC_ACT_REDIRECT for r in results)


def test_refusals_are_limited_each_side_apart(town: Make) -> None:
    t = town(modelled=False)
    limited(t, 20, 5)
    before = t.kernel.data.counters().get(Reason.REFUSAL_LIMITED, (0, 0))[0]
    # one second's worth at most, and what comes back while the test runs (some milliseconds each)
    inward = answered(t, WAN, IN, 500)
    assert 5 <= inward <= 15
    outward = answered(t, LAN, OUT, 500)
    assert 20 <= outward <= 60, "an inbound flood does not use up what the LAN is told"
    after = t.kernel.data.counters()[Reason.REFUSAL_LIMITED][0]
    assert after - before == 1000 - inward - outward


def test_rate_zero_tells_nobody(town: Make) -> None:
    t = town(modelled=False)
    limited(t, 0, 0)
    assert answered(t, LAN, OUT, 10) == 0
    assert answered(t, WAN, IN, 10) == 0


def test_no_limits_for_replay(town: Make) -> None:
    t = town(modelled=False)
    limited(t, 1, 1)
    t.kernel.data.control["features"] |= abi.F_NO_LIMITS
    assert answered(t, LAN, OUT, 200) == 200


def test_nxdomain_is_not_limited(town: Make) -> None:
    t = town(modelled=False)
    limited(t, 1, 1)
    query = p.ether(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example")))
    assert all(t.kernel.run(LAN, query).action == TC_ACT_REDIRECT for _ in range(100))


class TestEvents:
    def listen(self, t: Town, **rates: int) -> None:
        control = t.kernel.data.control
        control["event_rate"] = 0
        for name, rate in rates.items():
            control["event_rate"][EventKind[name.upper()]] = rate
        t.kernel.events()

    def kinds(self, t: Town) -> Counter[EventKind]:
        return Counter(e.kind for e in t.kernel.events())

    def test_one_kind_does_not_use_up_another(self, town: Make) -> None:
        t = town(modelled=False)
        limited(t, 1000, 1000)
        self.listen(t, blocked=10, flow=50)
        before = t.kernel.data.counters().get(Reason.EVENT_LIMITED, (0, 0))[0]
        for _ in range(300):
            t.kernel.run(LAN, OUT)
        t.kernel.run(LAN, p.ether(p.udp(p.PC, p.PLAIN, 1, 2)))
        kinds = self.kinds(t)
        assert 10 <= kinds[EventKind.BLOCKED] <= 40
        assert kinds[EventKind.FLOW] == 1
        limited_now = t.kernel.data.counters()[Reason.EVENT_LIMITED][0] - before
        assert limited_now == 300 - kinds[EventKind.BLOCKED]

    def test_what_is_told(self, town: Make) -> None:
        t = town(modelled=False)
        self.listen(t, blocked=1000, observed=1000, flow=1000, dns=1000, name=1000, inbound=1000, neighbour=1000,
                    dhcp=1000, discovery=1000, router=1000)  # fmt: skip
        query = p.dns_query("Evil.Example")
        told: list[tuple[bytes, EventKind, Reason]] = [
            (OUT, EventKind.BLOCKED, Reason.TOXIC_ADDRESS),
            (IN, EventKind.BLOCKED, Reason.INBOUND),
            (p.ether(p.udp(p.PC, "198.18.0.1", 1, 2)), EventKind.OBSERVED, Reason.TOXIC_ADDRESS),
            (p.ether(p.udp(p.PC, p.PLAIN, 1, 53, query)), EventKind.BLOCKED, Reason.TOXIC_DNS),
            (p.arp(p.PC, p.GATEWAY), EventKind.NEIGHBOUR, Reason.NOT_IP),
            (p.ether(p.udp(p.PC, "224.0.0.251", 5353, 5353, b"mdns")), EventKind.DISCOVERY, Reason.MULTICAST),
            (p.ether(p.udp("0.0.0.0", "255.255.255.255", 68, 67, b"dhcp")), EventKind.DHCP, Reason.MULTICAST),
        ]
        for frame, kind, reason in told:
            t.kernel.run(WAN if frame is IN else LAN, frame)
            events = [e for e in t.kernel.events() if e.kind == kind]
            assert [(e.kind, e.reason) for e in events] == [(kind, reason)], frame.hex()
            event: Any = events[0]
            assert event.frame_len == len(frame)
            assert event.smac == frame[6:12]

    def test_the_name_that_decided_is_told(self, town: Make) -> None:
        t = town(modelled=False)
        self.listen(t, blocked=1000, name=1000)
        t.sends(p.udp(p.PC, p.PLAIN, 1, 53, p.dns_query("www.Evil.Example")))
        (event,) = t.kernel.events()
        assert event.name_hash == t.kernel.data.name_hash("www.evil.example")
        assert event.payload.lower().strip(b"\0") in (b"www.evil.example", p.dns_name("www.evil.example").rstrip(b"\0"))

    def test_rate_zero_is_silence(self, town: Make) -> None:
        t = town(modelled=False)
        self.listen(t)
        for _ in range(20):
            t.kernel.run(LAN, OUT)
            t.kernel.run(LAN, p.arp(p.PC, p.GATEWAY))
        assert not t.kernel.events()
