"""The flow cache: what enters, how long it holds, what a new epoch, a new SYN or another MAC does to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support import packets as p
from tests.support.policies import AddressException, IndicatorClass
from tests.support.progrun import TC_ACT_OK, TC_ACT_REDIRECT
from tests.support.strategies import T0
from tests.support.town import TOXIC, Town
from vigie.contract.codes import Action, Direction, InboundMode, Reason, Verdict
from vigie.filter import abi
from vigie.filter.libbpf import skb_context

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

PASSES = (Verdict.PASS, Reason.DEFAULT)


def only_flow(t: Town) -> Any:
    (flow,) = t.kernel.data.flows_snapshot()
    return flow


class TestContent:
    def test_counts_both_ways(self, town: Make) -> None:
        t = town()
        out, back = p.tcp(p.PC, p.PLAIN, 40000, 443, "A", b"x" * 100), p.tcp(p.PLAIN, p.PC, 443, 40000, "A")
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "SA"))
        for _ in range(10):
            t.sends(out)
            t.receives(back)
        flow = only_flow(t)
        assert list(flow["packets"]) == [11, 11]
        assert list(flow["bytes"]) == [54 + 10 * 154, 54 * 11]
        flags = int(flow["flags"])
        assert flags >> 8 & 3 == 1, "opened from port 0"
        assert (flags >> 16 & 0xFF, flags >> 24) == (0x12, 0x12)
        assert flags & abi.FL_ANSWERED
        assert bytes(flow["mac_a"]) == bytes.fromhex(p.PC_MAC.replace(":", ""))
        assert bytes(flow["mac_b"]) == bytes.fromhex(p.GATEWAY_MAC.replace(":", ""))

    @pytest.mark.parametrize("wan", [0, 1])
    def test_key_has_port_zero_first(self, town: Make, wan: int) -> None:
        t = town(wan_port=wan)
        t.sends(p.udp(p.PC, p.PLAIN, 40000, 443), vlans=[77])
        key = only_flow(t)["key"]
        ends = [(abi.address_text(bytes(key[end])), int(key[f"p{end}"])) for end in "ab"]
        assert ends == ([(p.PC, 40000), (p.PLAIN, 443)] if wan else [(p.PLAIN, 443), (p.PC, 40000)])
        assert (int(key["proto"]), int(key["family"]), int(key["vlan"])) == (17, 4, 77)

    def test_verdict_reason_and_epoch(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, "198.18.0.1", 1, 2))
        epoch, verdict, reason, _ = abi.split_meta(int(only_flow(t)["meta"]))
        assert (epoch, verdict, reason) == (t.kernel.data.settings.gen, Verdict.OBSERVE, Reason.TOXIC_ADDRESS)

    def test_only_what_passes_outward_enters(self, town: Make) -> None:
        t = town(inbound_mode=InboundMode.OFF)
        t.sends(p.udp(p.PC, p.TOXIC, 1, 2))
        t.receives(p.udp(p.PLAIN, p.PC, 1, 2))
        t.sends(p.udp(p.PC, "224.0.0.251", 1, 2))
        assert not len(t.kernel.data.flows_snapshot())
        t.receives(p.udp(p.NEIGHBOUR, p.PC, 1, 2), smac=p.NEIGHBOUR_MAC)
        assert only_flow(t)["flags"] & abi.FL_LOCAL

    def test_inspected_and_awaited_flows_are_marked(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("fine.example")))
        assert only_flow(t)["flags"] & abi.FL_INSPECT
        t.evict()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        assert only_flow(t)["flags"] & abi.FL_HELLO
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", b"GET"))
        assert not only_flow(t)["flags"] & abi.FL_HELLO


class TestEpochs:
    def test_a_newly_toxic_address_cuts_its_flows(self, town: Make) -> None:
        t = town()
        for _ in range(4):
            t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "A"))
            t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A"))
        t.change(base={"203.0.113.0/24": TOXIC})
        assert t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "A")).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)
        assert t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A")).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)
        t.change(base={})
        assert t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "A")).decided == PASSES

    def test_same_epoch_is_not_decided_again(self, town: Make) -> None:
        t = town()
        first = t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
        second = t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
        assert (first.cached, second.cached) == (False, True)
        t.change()
        assert not t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).cached

    def test_opener_survives_epochs(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        for _ in range(3):
            t.change()
            t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A"))
            assert int(only_flow(t)["flags"]) >> 8 & 3 == 1


class TestTime:
    @pytest.mark.parametrize(("kind", "limit"), [("udp", 300), ("tcp", 7200)])
    def test_known_until_silent_too_long(self, town: Make, kind: str, limit: int) -> None:
        t = town()
        make = p.udp if kind == "udp" else lambda *ends: p.tcp(*ends, "A")
        t.sends(make(p.PC, p.PLAIN, 1, 2))
        for _ in range(2):
            t.wait(limit - 10)
            assert t.receives(make(p.PLAIN, p.PC, 2, 1)).cached
        t.wait(limit + 10)
        assert not t.receives(make(p.PLAIN, p.PC, 2, 1)).cached

    @pytest.mark.parametrize("end", ["R", "F"])
    def test_closed_flows_are_known_ten_seconds_more(self, town: Make, end: str) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "FA" if end == "F" else "A"))
        t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "FA" if end == "F" else "R"))
        assert only_flow(t)["flags"] & abi.FL_CLOSED
        assert t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A")).cached
        t.wait(20)
        assert not t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A")).cached

    def test_one_fin_closes_nothing(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "FA"))
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "FA"))
        assert not only_flow(t)["flags"] & abi.FL_CLOSED

    def test_what_a_verdict_rests_on_ends_it(self, town: Make) -> None:
        t = town(exceptions={(None, "198.51.100.0/24"): AddressException(Action.BLOCK, until=T0 + 100)}, base={})
        t.change(exceptions={}, base={})
        t.sends(p.udp(p.PC, p.TOXIC, 1, 2))
        t.change(exceptions={(None, "198.51.100.0/24"): AddressException(Action.BLOCK, until=T0 + 100)})
        for _ in range(2):
            assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).reason == Reason.EXCEPTION_BLOCK
        t.wait(110)
        assert t.sends(p.udp(p.PC, p.TOXIC, 1, 2)).decided == PASSES


class TestSyn:
    def test_a_forged_syn_cuts_no_flow(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "SA"))
        before = only_flow(t).copy()
        assert t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000)).decided == (Verdict.REFUSE, Reason.INBOUND)
        assert only_flow(t) == before
        assert t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A")).cached

    def test_nor_does_one_that_is_refused_for_another_reason(self, town: Make) -> None:
        t = town(
            classes={1: IndicatorClass(direction=Direction.IN, action=Action.BLOCK)},
            names={},
            base={"203.0.113.0/24": 1},
        )
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "SA"))
        before = only_flow(t).copy()
        assert t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000)).decided == (Verdict.DROP, Reason.TOXIC_ADDRESS)
        assert only_flow(t) == before

    def test_memory_of_openers_cannot_be_turned_round(self, town: Make) -> None:
        """It holds the port by which the opening frame came in: a forged source changes nothing."""
        t = town(inbound_mode=InboundMode.LEARN)
        t.receives(p.udp(p.PC, p.PLAIN, 40000, 443), smac=p.GATEWAY_MAC)
        t.change(inbound_mode=InboundMode.REFUSE)
        assert t.receives(p.udp(p.PLAIN, p.PC, 443, 40000)).decided == (Verdict.REFUSE, Reason.INBOUND)

    def test_a_new_syn_starts_the_flow_again(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "R"))
        t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443))
        flags = int(only_flow(t)["flags"])
        assert flags & abi.FL_HELLO
        assert not flags & abi.FL_CLOSED
        assert flags >> 16 & 0xFF == 2

    def test_syn_ack_says_who_opened(self, town: Make) -> None:
        t = town()
        t.sends(p.tcp(p.PC, p.PLAIN, 22, 999, "SA"))
        assert int(only_flow(t)["flags"]) >> 8 & 3 == 2
        t.evict()
        t.sends(p.tcp(p.PC, p.PLAIN, 22, 998, "A"))
        assert int(only_flow(t)["flags"]) >> 8 & 3 == 0


class TestMacs:
    def test_another_device_with_the_address_is_decided_for_itself(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
        t.change(quarantine={p.CAMERA_MAC: T0 + 1000})
        t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
        got = t.sends(p.udp(p.PC, p.PLAIN, 1, 2), smac=p.CAMERA_MAC)
        assert got.decided == (Verdict.REFUSE, Reason.QUARANTINE)
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).decided == PASSES

    def test_frames_to_another_mac_are_decided_again(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, p.PLAIN, 1, 2))
        assert not t.receives(p.udp(p.PLAIN, p.PC, 2, 1), dmac=p.CAMERA_MAC).cached
        assert t.receives(p.udp(p.PLAIN, p.PC, 2, 1), smac=p.NEIGHBOUR_MAC).cached, "may come by another way"


class TestRedirect:
    def known_both_ways(self, t: Town, packet: Any = None) -> None:
        for _ in range(3):
            t.sends(packet or p.udp(p.PC, p.PLAIN, 1, 2))
            t.receives(p.udp(p.PLAIN, p.PC, 2, 1))

    def test_known_flows_go_straight_to_the_other_port(self, town: Make) -> None:
        t = town()
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2)).action == TC_ACT_OK
        self.known_both_ways(t)
        frame = p.udp(p.PC, p.PLAIN, 1, 2, b"y" * 40)
        got = t.sends(frame)
        assert (got.action, got.data) == (TC_ACT_REDIRECT, p.ether(frame))
        assert t.receives(p.udp(p.PLAIN, p.PC, 2, 1, b"z" * 40)).action == TC_ACT_REDIRECT

    def test_a_mac_that_moved_takes_the_bridge(self, town: Make) -> None:
        t = town()
        self.known_both_ways(t)
        t.frame(0, p.arp(p.GATEWAY, p.PC, p.GATEWAY_MAC))
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2, b"y" * 40)).action == TC_ACT_OK
        assert t.kernel.data.counters()[Reason.MAC_MOVED][0] >= 1

    def test_too_large_for_the_other_port_takes_the_bridge(self, town: Make) -> None:
        t = town()
        self.known_both_ways(t)
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2, b"y" * 1472)).action == TC_ACT_REDIRECT
        assert t.sends(p.udp(p.PC, p.PLAIN, 1, 2, b"y" * 1473)).action == TC_ACT_OK

    def test_unknown_macs_and_broadcast_take_the_bridge(self, town: Make) -> None:
        t = town()
        for dmac in ("02:00:00:00:99:99", "ff:ff:ff:ff:ff:ff"):
            for _ in range(3):
                assert t.sends(p.udp(p.PC, p.PLAIN, 5, 6, b"y" * 40), dmac=dmac).action == TC_ACT_OK


@pytest.mark.parametrize("known", [False, True])
def test_segmented_frames_count_as_on_the_wire(town: Make, known: bool) -> None:
    t = town(modelled=False)
    flags = "A" if known else "PA"
    if known:
        for _ in range(3):
            t.sends(p.tcp(p.PC, p.PLAIN, 40000, 443, "A"))
            t.receives(p.tcp(p.PLAIN, p.PC, 443, 40000, "A"))
    before = np.zeros(2, np.uint64), np.zeros(2, np.uint64)
    if known:
        before = only_flow(t)["packets"].copy(), only_flow(t)["bytes"].copy()
    frame = p.ether(p.tcp(p.PC, p.PLAIN, 40000, 443, flags, b"x" * 2500))
    t.kernel.run(0, frame, skb_context(t.kernel.ifindex[0], gso_segs=3, gso_size=1000, wire_len=len(frame)))
    flow = only_flow(t)
    assert list(flow["packets"] - before[0]) == [3, 0]
    assert list(flow["bytes"] - before[1]) == [2500 + 3 * 54, 0]


def test_inbound_flood_evicts_no_flow(town: Make) -> None:
    t = town(modelled=False)
    flows = [p.ether(p.udp(p.PC, p.PLAIN, port, 443)) for port in range(2000, 2100)]
    for frame in flows:
        t.frame(0, frame)
    before = len(t.kernel.data.flows_snapshot())
    flood = bytearray(p.ether(p.tcp(p.PLAIN, p.PC, 1, 22), smac=p.GATEWAY_MAC, dmac=p.PC_MAC))
    for i in range(20_000):
        flood[26:30] = (0x2D000000 + i * 7919).to_bytes(4, "big")
        t.kernel.run(1, bytes(flood))
    assert len(t.kernel.data.flows_snapshot()) == before
    assert all(t.frame(0, frame).cached for frame in flows)


def test_a_full_cache_evicts_and_goes_on(town: Make) -> None:
    t = town(modelled=False)
    frame = bytearray(p.ether(p.udp(p.PC, p.PLAIN, 1, 443)))
    rows = t.kernel.data.flows
    rng = np.random.default_rng(1)
    count = 30_000
    fake = rng.integers(1, 1 << 62, abi.FLOW_COUNT, dtype=np.uint64)
    rows["tag"], rows["last_s"] = fake, 1  # as if full of old flows
    t.kernel.flow_tags[:] = fake.astype(np.uint16) | np.uint16(1)
    evicted = t.kernel.data.counters().get(Reason.FLOW_EVICTED, (0, 0))[0]
    for i in range(count):
        frame[26:30] = (0x0A000000 + i).to_bytes(4, "big")
        t.kernel.run(0, bytes(frame))
    assert t.kernel.data.counters()[Reason.FLOW_EVICTED][0] - evicted >= count * 0.99
    recent = [0x0A000000 + i for i in range(count - 50, count)]
    for address in recent:
        frame[26:30] = address.to_bytes(4, "big")
        assert t.kernel.run(0, bytes(frame)).cached
