"""Gates, before policy: what is settled without asking any table, and what a broken packet gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6MLReport2, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA
from scapy.layers.l2 import GRE, Ether
from scapy.packet import Raw

from tests.support import packets as p
from tests.support.policies import NO_VLAN, OwnFlow
from tests.support.progrun import TC_ACT_OK, TC_ACT_SHOT
from tests.support.town import HOME, LAN, WAN, Town
from vigie.contract.codes import InboundMode, Reason, Verdict
from vigie.filter.libbpf import skb_context

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]


def tagged(frame: bytes, *tags: tuple[int, int]) -> bytes:
    """The frame behind (TPID, VLAN) tags."""
    middle = b"".join(tpid.to_bytes(2, "big") + vlan.to_bytes(2, "big") for tpid, vlan in tags)
    return frame[:12] + middle + frame[12:]


class TestLink:
    def test_own_mac_as_source_is_a_spoof(self, town: Make) -> None:
        for port in (LAN, WAN):
            got = town().frame(port, p.ether(p.udp(p.PC, p.PLAIN, 1, 2), smac=p.BOX_MAC))
            assert got.decided == (Verdict.DROP, Reason.SPOOF)
            assert got.action == TC_ACT_SHOT

    def test_own_probe_that_comes_round_is_a_loop_and_is_noted_per_port(self, town: Make) -> None:
        t = town()
        for port in (LAN, WAN):
            t.kernel.data.state["probe_seen_ns"] = 0
            got = t.frame(port, p.probe(HOME.probe_nonce, left_by=1 - port))
            assert got.decided == (Verdict.DROP, Reason.LOOP)
            seen = [bool(x) for x in t.kernel.data.state["probe_seen_ns"]]
            assert seen == [port == 0, port == 1]
            assert int(t.kernel.data.state["loop_port"]) == 2

    def test_own_probe_sent_back_on_its_side_closes_nothing(self, town: Make) -> None:
        """A loop on one side is not the box's; and who hears one side's probes can send them back there."""
        t = town()
        for port in (LAN, WAN):
            assert t.frame(port, p.probe(HOME.probe_nonce, left_by=port)).decided == (Verdict.DROP, Reason.LOOP)
        assert t.kernel.data.state["probe_seen_ns"].tolist() == [0, 0]
        assert t.frame(1, p.arp(p.GATEWAY, p.PC, p.GATEWAY_MAC)).decided == (Verdict.PASS, Reason.NOT_IP)

    def test_without_a_nonce_there_are_no_probes(self, town: Make) -> None:
        t = town(modelled=False, probe_nonce=0)
        for left_by in (0, 1):
            assert t.frame(LAN, p.probe(0, left_by=left_by)).decided == (Verdict.DROP, Reason.SPOOF)
        assert int(t.kernel.data.state["loop_port"]) == 0

    def test_probe_of_another_nonce_is_a_spoof(self, town: Make) -> None:
        assert town().frame(LAN, p.probe(HOME.probe_nonce ^ 1)).decided == (Verdict.DROP, Reason.SPOOF)

    def test_probe_of_another_box_passes(self, town: Make) -> None:
        frame = p.probe(HOME.probe_nonce, smac="02:b0:00:00:00:99")
        assert town().frame(LAN, frame).decided == (Verdict.PASS, Reason.NOT_IP)

    def test_a_loop_is_cut_at_once_for_two_seconds(self, town: Make) -> None:
        """Nobody but the data path: neither in at port 1, nor out by it; the box itself is reached by port 0."""
        t = town(wan_port=1)
        asks = p.arp(p.PC, p.GATEWAY)
        answer = p.ether(p.udp(p.PLAIN, p.BOX, 53, 40000), smac=p.GATEWAY_MAC, dmac=p.BOX_MAC)
        t.change(own=(OwnFlow(p.BOX, p.PLAIN, 40000, 53, 17),))
        for _again in range(2):
            assert t.frame(0, asks).decided == (Verdict.PASS, Reason.NOT_IP)
            t.frame(0, p.probe(HOME.probe_nonce, left_by=1))
            for port, frame in ((0, asks), (1, asks), (0, p.ether(p.udp(p.PC, p.PLAIN, 1, 2))), (1, answer)):
                assert t.frame(port, frame).decided == (Verdict.DROP, Reason.LOOP)
            assert t.frame(0, answer).decided == (Verdict.PASS, Reason.OWN)
            t.wait(1)
            t.frame(1, p.probe(HOME.probe_nonce, left_by=0))
            t.wait(1)
            assert t.frame(0, asks).decided == (Verdict.DROP, Reason.LOOP)
            t.wait(1)
            assert t.frame(1, asks).decided == (Verdict.PASS, Reason.NOT_IP)

    def test_once_the_bridge_is_closed_the_box_hears_its_side(self, town: Make) -> None:
        t = town()
        t.frame(0, p.probe(HOME.probe_nonce, left_by=1))
        t.change(loop_port=2)
        assert t.frame(0, p.arp(p.PC, p.BOX)).decided == (Verdict.PASS, Reason.NOT_IP)
        assert t.frame(1, p.arp(p.PC, p.BOX)).decided == (Verdict.DROP, Reason.LOOP)

    def test_a_loop_stops_flows_already_known(self, town: Make) -> None:
        t = town()
        for _ in range(3):
            t.sends(p.udp(p.PC, p.PLAIN, 40000, 443))
            assert t.receives(p.udp(p.PLAIN, p.PC, 443, 40000)).decided[0] == Verdict.PASS
        t.frame(0, p.probe(HOME.probe_nonce, left_by=1))
        assert t.receives(p.udp(p.PLAIN, p.PC, 443, 40000)).decided == (Verdict.DROP, Reason.LOOP)
        assert t.sends(p.udp(p.PC, p.PLAIN, 40000, 443)).decided == (Verdict.DROP, Reason.LOOP)
        t.wait(2)
        assert t.receives(p.udp(p.PLAIN, p.PC, 443, 40000)).decided == (Verdict.PASS, Reason.DEFAULT)

    def test_blocked_port_lets_nothing_in(self, town: Make) -> None:
        t = town(loop_port=1)
        frame = p.ether(p.udp(p.PC, p.PLAIN, 1, 2))
        assert t.frame(0, frame).decided == (Verdict.DROP, Reason.LOOP)
        assert t.frame(0, p.arp(p.PC, p.GATEWAY)).decided == (Verdict.DROP, Reason.LOOP)
        assert t.frame(1, p.arp(p.GATEWAY, p.PC, p.GATEWAY_MAC)).decided == (Verdict.PASS, Reason.NOT_IP)

    def test_blocked_port_stops_flows_already_known(self, town: Make) -> None:
        t = town()
        for _ in range(3):
            t.sends(p.udp(p.PC, p.PLAIN, 40000, 443))
            t.receives(p.udp(p.PLAIN, p.PC, 443, 40000))
        t.change(loop_port=1)
        t.receives(p.udp(p.PLAIN, p.PC, 443, 40000))
        assert t.sends(p.udp(p.PC, p.PLAIN, 40000, 443)).decided == (Verdict.DROP, Reason.LOOP)

    @pytest.mark.parametrize("kind", [0x0806, 0x8863, 0x8864, 0x88CC, 0x888E, 0x0842, 0x0000, 0x0027])
    def test_other_ethertypes_pass_untouched(self, town: Make, kind: int) -> None:
        frame = bytes(Ether(src=p.PC_MAC, dst="01:80:c2:00:00:0e", type=kind) / Raw(bytes(46)))
        for port in (LAN, WAN):
            got = town().frame(port, frame)
            assert got.decided == (Verdict.PASS, Reason.NOT_IP)
            assert (got.action, got.data) == (TC_ACT_OK, frame)

    def test_arp_in_the_name_of_the_box_is_a_spoof(self, town: Make) -> None:
        t = town()
        assert t.frame(LAN, p.arp(p.BOX, p.PC)).decided == (Verdict.DROP, Reason.SPOOF)
        assert t.frame(WAN, p.arp(p.BOX, p.PC, op=2)).decided == (Verdict.DROP, Reason.SPOOF)
        assert t.frame(LAN, p.arp(p.PC, p.BOX)).decided == (Verdict.PASS, Reason.NOT_IP)


class TestTags:
    @pytest.mark.parametrize("tpid", [0x8100, 0x88A8, 0x9100])
    @pytest.mark.parametrize("depth", [1, 2, 3, 4])
    def test_filtered_behind_up_to_four_tags_which_stay(self, town: Make, tpid: int, depth: int) -> None:
        frame = tagged(p.ether(p.udp(p.PC, p.PLAIN, 1, 2)), *[(tpid, 100 + i) for i in range(depth)])
        got = town().frame(LAN, frame)
        assert got.decided == (Verdict.PASS, Reason.DEFAULT)
        assert got.data == frame
        toxic = tagged(p.ether(p.udp(p.PC, p.TOXIC, 1, 2)), *[(tpid, 100 + i) for i in range(depth)])
        assert town().frame(LAN, toxic).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)

    def test_deeper_tags_are_dropped(self, town: Make) -> None:
        got = town().frame(LAN, p.ether(p.udp(p.PC, p.TOXIC, 1, 2), vlans=range(2, 7)))
        assert (got.decided, got.anomaly) == ((Verdict.DROP, Reason.VLAN_DEPTH), Reason.VLAN_DEPTH)

    def test_a_priority_tag_is_no_network(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, p.PLAIN, 5004, 5004), vlans=[0])
        assert t.receives(p.udp(p.PLAIN, p.PC, 5004, 5004)).decided == (Verdict.PASS, Reason.DEFAULT)
        assert t.sends(p.udp(p.PC, p.PLAIN, 5004, 5004)).cached
        t.sends(p.udp(p.PC, p.PLAIN, 1, 2), vlans=[0, 77])
        assert sorted(int(flow["key"]["vlan"]) for flow in t.kernel.data.flows_snapshot()) == [77, NO_VLAN]

    def test_flows_of_two_vlans_are_two_flows(self, town: Make) -> None:
        t = town()
        t.sends(p.udp(p.PC, p.PLAIN, 40000, 443), vlans=[10])
        answer = p.udp(p.PLAIN, p.PC, 443, 40000)
        assert t.receives(answer, vlans=[10]).decided == (Verdict.PASS, Reason.DEFAULT)
        assert len(t.kernel.data.flows_snapshot()) == 1
        t.sends(p.udp(p.PC, p.PLAIN, 40000, 443), vlans=[11])
        assert len(t.kernel.data.flows_snapshot()) == 2


def changed(frame: bytes, at: int, value: int) -> bytes:
    raw = bytearray(frame)
    raw[at] = value
    return bytes(raw)


class TestBrokenPackets:
    TOXIC4 = p.ether(p.udp(p.PC, p.TOXIC, 1, 2))
    TOXIC6 = p.ether(p.udp(p.PC6, p.TOXIC6, 1, 2))

    @pytest.mark.parametrize(
        ("frame", "anomaly"),
        [
            (changed(TOXIC4, 14, 0x65), Reason.BAD_IP_VERSION),
            (changed(TOXIC4, 14, 0x44), Reason.BAD_IP_LENGTH),
            (changed(TOXIC4, 17, 19), Reason.BAD_IP_LENGTH),
            (changed(TOXIC4, 17, 0), Reason.BAD_IP_LENGTH),
            (changed(TOXIC4, 16, 0xFF), Reason.BAD_IP_LENGTH),
            (changed(TOXIC6, 14, 0x40), Reason.BAD_IP_VERSION),
            (changed(TOXIC6, 18, 0xFF), Reason.BAD_IP_LENGTH),
        ],
    )
    def test_contradicting_headers_are_not_ip(self, town: Make, frame: bytes, anomaly: Reason) -> None:
        got = town().frame(LAN, frame)
        assert (got.decided, got.anomaly) == ((Verdict.PASS, Reason.NOT_IP), anomaly)

    @pytest.mark.parametrize("whole", [TOXIC4, TOXIC6])
    def test_every_cut_behind_a_tag(self, town: Make, whole: bytes) -> None:
        t = town()
        whole = tagged(whole, (0x8100, 5))
        header = 18 + (20 if whole[16:18] == b"\x08\x00" else 40)
        for size in range(14, len(whole)):
            got = t.frame(LAN, whole[:size])
            assert got.decided == (Verdict.PASS, Reason.NOT_IP), size
            assert got.anomaly == (Reason.SHORT_IP if size < header else Reason.BAD_IP_LENGTH), size
        assert t.frame(LAN, whole).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)

    @pytest.mark.parametrize("family", [4, 6])
    @pytest.mark.parametrize("kind", ["tcp", "udp", "icmp"])
    def test_short_transport_gets_the_address_verdict(self, town: Make, family: int, kind: str) -> None:
        source, plain, toxic = (p.PC, p.PLAIN, p.TOXIC) if family == 4 else (p.PC6, p.PLAIN6, p.TOXIC6)
        number = {"tcp": 6, "udp": 17, "icmp": 1 if family == 4 else 58}[kind]
        whole = 20 if kind == "tcp" else 8
        for size in range(whole):
            for remote, decided in (
                (plain, (Verdict.PASS, Reason.DEFAULT)),
                (toxic, (Verdict.REFUSE, Reason.TOXIC_ADDRESS)),
            ):
                header = p.ip(source, remote, **({"proto": number} if family == 4 else {"nh": number}))
                got = town().sends(header / Raw(b"\x01" * size))
                assert (got.decided, got.anomaly) == (decided, Reason.SHORT_L4), size

    @pytest.mark.parametrize("offset", [0, 4, 6, 15])
    def test_impossible_tcp_offset_gets_the_address_verdict(self, town: Make, offset: int) -> None:
        frame = changed(p.ether(p.tcp(p.PC, p.PLAIN, 1, 2)), 14 + 20 + 12, offset << 4)
        got = town().frame(LAN, frame)
        assert (got.decided, got.anomaly) == ((Verdict.PASS, Reason.DEFAULT), Reason.BAD_TCP)
        assert not len(town().kernel.data.flows_snapshot())

    def test_padding_is_not_payload(self, town: Make) -> None:
        query = p.ether(p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example")[:20]))
        got = town().frame(LAN, query + p.dns_query("evil.example")[20:])
        assert (got.decided, got.anomaly) == ((Verdict.PASS, Reason.DEFAULT), Reason.BAD_DNS)

    @pytest.mark.parametrize("chain", [[], [0], [0, 43, 60, 44, 51, 135, 139, 140], [60] * 8])
    def test_ipv6_headers_are_walked_eight_deep(self, town: Make, chain: list[int]) -> None:
        packet = p.extensions6(p.tcp(p.PLAIN6, p.PC6, 40000, 22, "S"), chain)
        got = town().receives(packet)
        assert got.decided == (Verdict.REFUSE, Reason.INBOUND)

    def test_longer_chains_have_no_ports(self, town: Make) -> None:
        packet = p.extensions6(p.tcp(p.PC6, p.PLAIN6, 1, 2), [60] * 9)
        got = town().sends(packet)
        assert (got.decided, got.anomaly) == ((Verdict.DROP, Reason.EXT_HEADERS), Reason.EXT_HEADERS)
        toxic = p.extensions6(p.tcp(p.PC6, p.TOXIC6, 1, 2), [60] * 9)
        assert town().sends(toxic).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)


class TestFragments:
    @pytest.mark.parametrize(("pc", "remote"), [(p.PC, p.PLAIN), (p.PC6, p.PLAIN6), (p.PC, p.NEIGHBOUR)])
    def test_first_fragments_that_hide_a_name_are_dropped(self, town: Make, pc: str, remote: str) -> None:
        passes = (Verdict.PASS, Reason.LOCAL if remote == p.NEIGHBOUR else Reason.DEFAULT)
        for packet, decided in (
            (p.udp(pc, remote, 40000, 53, p.dns_query("evil.example")), (Verdict.DROP, Reason.FRAGMENT)),
            (p.udp(pc, remote, 40000, 443, bytes(1200)), (Verdict.DROP, Reason.FRAGMENT)),
            (p.tcp(pc, remote, 40000, 443, "PA", p.client_hello("evil.example")), (Verdict.DROP, Reason.FRAGMENT)),
            (p.udp(pc, remote, 40000, 5060, bytes(1200)), passes),
        ):
            first = p.extensions6(packet, [44], more=True) if p.is6(pc) else p.fragment4(packet, 0, more=True)
            got = town().sends(first)
            assert (got.decided, got.anomaly) == (decided, Reason.FRAGMENT)

    @pytest.mark.parametrize("size", [8, 16, 19])
    def test_tiny_fragments_open_nothing(self, town: Make, size: int) -> None:
        """A SYN cut before its flags (RFC 1858), and one laid over the flags of another segment (RFC 3128)."""
        whole = bytes(p.tcp(p.PLAIN, p.PC, 999, 22, "S"))[20:]
        tiny = IP(src=p.PLAIN, dst=p.PC, proto=6, flags="MF") / Raw(whole[:size])
        assert town().receives(tiny).decided == (Verdict.DROP, Reason.INBOUND)
        assert town(inbound_mode=InboundMode.LEARN).receives(tiny).decided == (Verdict.PASS, Reason.LEARNING)
        over = IP(src=p.PLAIN, dst=p.PC, proto=6, frag=1) / Raw(whole[8:])
        assert town().receives(over).decided == (Verdict.DROP, Reason.FRAGMENT)
        assert town().sends(IP(src=p.PC, dst=p.NEIGHBOUR, proto=6, frag=1) / Raw(whole[8:])).verdict == Verdict.DROP

    def test_later_fragments_get_the_address_verdict(self, town: Make) -> None:
        t = town()
        assert t.receives(p.fragment4(p.udp(p.PLAIN, p.PC, 1, 2), 9, more=False)).decided[0] == Verdict.PASS
        got = t.receives(p.fragment4(p.udp(p.TOXIC, p.PC, 1, 2), 9, more=False))
        assert got.decided == (Verdict.DROP, Reason.TOXIC_ADDRESS)
        six = p.extensions6(p.udp(p.TOXIC6, p.PC6, 1, 2), [44], offset=9)
        assert t.receives(six).decided == (Verdict.DROP, Reason.TOXIC_ADDRESS)

    def test_first_fragments_are_judged_inbound(self, town: Make) -> None:
        got = town().receives(p.fragment4(p.udp(p.PLAIN, p.PC, 1, 2), 0, more=True))
        assert got.decided == (Verdict.REFUSE, Reason.INBOUND)
        assert got.action == TC_ACT_SHOT, "a fragment is never answered"

    def test_only_first_fragments_make_a_flow(self, town: Make) -> None:
        t = town()
        t.sends(p.fragment4(p.udp(p.PC, p.PLAIN, 1, 2), 9, more=False))
        t.sends(p.extensions6(p.udp(p.PC6, p.PLAIN6, 1, 2), [44], offset=9))
        assert not len(t.kernel.data.flows_snapshot())
        t.sends(p.fragment4(p.udp(p.PC, p.PLAIN, 1, 2), 0, more=True))
        assert len(t.kernel.data.flows_snapshot()) == 1
        answer = p.fragment4(p.udp(p.PLAIN, p.PC, 2, 1), 0, more=True)
        assert t.receives(answer).decided == (Verdict.PASS, Reason.DEFAULT)

    def test_atomic_fragment_is_a_whole_packet(self, town: Make) -> None:
        t = town()
        got = t.sends(p.extensions6(p.udp(p.PC6, p.PLAIN6, 40000, 53, p.dns_query("evil.example")), [44]))
        assert (got.verdict, got.anomaly) == (Verdict.NXDOMAIN, Reason.NONE)


class TestBox:
    """To the box: only what it asked for, and LAN hosts on declared ports."""

    @pytest.mark.parametrize(("pc", "box"), [(p.PC, p.BOX), (p.PC6, p.BOX6)])
    def test_lan_reaches_declared_ports_and_ping(self, town: Make, pc: str, box: str) -> None:
        for packet, allowed in (
            (p.tcp(pc, box, 40000, 443), True),
            (p.udp(pc, box, 40000, 443), False),
            (p.tcp(pc, box, 40000, 22), False),
            (p.echo(pc, box), True),
            (p.echo(pc, box, reply=True), False),
        ):
            expected = (Verdict.PASS, Reason.OWN) if allowed else (Verdict.DROP, Reason.NOT_FOR_BOX)
            got = town().sends(packet, dmac=p.BOX_MAC)
            assert got.decided == expected, packet
            assert got.action == (TC_ACT_OK if allowed else TC_ACT_SHOT)

    def test_not_from_off_link_nor_from_the_wan_port_nor_before_roles(self, town: Make) -> None:
        page = p.tcp(p.PC, p.BOX, 40000, 443)
        assert town().sends(p.tcp(p.PLAIN, p.BOX, 40000, 443)).reason == Reason.NOT_FOR_BOX
        assert town().receives(page, smac=p.NEIGHBOUR_MAC).reason == Reason.NOT_FOR_BOX
        assert town(wan_port=-1).sends(page).reason == Reason.NOT_FOR_BOX

    def test_box_mac_is_guarded_whatever_the_address(self, town: Make) -> None:
        got = town().sends(p.tcp(p.PC, p.PLAIN, 40000, 22), dmac=p.BOX_MAC)
        assert got.decided == (Verdict.DROP, Reason.NOT_FOR_BOX)

    def test_own_flows_come_back(self, town: Make) -> None:
        own = (OwnFlow(p.BOX, p.PLAIN, 50000, 443, 6), OwnFlow(p.BOX6, p.PLAIN6, 50001, 53, 17))
        t = town(own=own)
        assert t.receives(p.tcp(p.PLAIN, p.BOX, 443, 50000, "SA"), dmac=p.BOX_MAC).reason == Reason.OWN
        assert t.receives(p.udp(p.PLAIN6, p.BOX6, 53, 50001), dmac=p.BOX_MAC).reason == Reason.OWN
        assert t.receives(p.tcp(p.PLAIN, p.BOX, 443, 50001, "SA"), dmac=p.BOX_MAC).reason == Reason.NOT_FOR_BOX

    def test_dhcp_and_neighbour_discovery_reach_the_box(self, town: Make) -> None:
        t = town()
        for packet in (
            p.udp(p.GATEWAY, p.BOX, 67, 68),
            p.udp(p.GATEWAY6, p.BOX6, 547, 546),
            p.ip(p.GATEWAY6, p.BOX6, ttl=255) / ICMPv6ND_NA(tgt=p.GATEWAY6),
            p.ip(p.GATEWAY6, p.BOX6, ttl=255) / ICMPv6ND_NS(tgt=p.BOX6),
        ):
            assert t.receives(packet, dmac=p.BOX_MAC).decided == (Verdict.PASS, Reason.OWN), packet
        for packet in (
            p.ip(p.GATEWAY6, p.BOX6, ttl=254) / ICMPv6ND_NS(tgt=p.BOX6),
            p.udp(p.PLAIN6, p.BOX6, 547, 546),
        ):
            assert t.receives(packet, dmac=p.BOX_MAC).decided == (Verdict.DROP, Reason.NOT_FOR_BOX), packet
        assert t.receives(p.udp(p.GATEWAY, p.BOX, 68, 67), dmac=p.BOX_MAC).reason == Reason.NOT_FOR_BOX

    def test_icmp_errors_reach_the_box(self, town: Make) -> None:
        sent = bytes(p.udp(p.BOX, p.PLAIN, 50000, 123))
        assert town().receives(p.icmp_error(p.PLAIN, p.BOX, sent), dmac=p.BOX_MAC).reason == Reason.OWN

    @pytest.mark.parametrize("box", [p.BOX, p.BOX6])
    def test_box_address_as_source_is_a_spoof(self, town: Make, box: str) -> None:
        remote = p.PLAIN6 if p.is6(box) else p.PLAIN
        for got in (town().sends(p.udp(box, remote, 1, 2)), town().receives(p.udp(box, remote, 1, 2))):
            assert got.decided == (Verdict.DROP, Reason.SPOOF)


class TestGroupsAndSources:
    @pytest.mark.parametrize("group", ["224.0.0.251", "239.255.255.250", "255.255.255.255", "ff02::fb", "ff0e::1"])
    def test_multicast_passes_both_ways(self, town: Make, group: str) -> None:
        source = p.PC6 if p.is6(group) else p.PC
        for got in (town().sends(p.udp(source, group, 5353, 5353)), town().receives(p.udp(source, group, 1, 2))):
            assert (got.decided, got.action) == ((Verdict.PASS, Reason.MULTICAST), TC_ACT_OK)

    def test_dhcp_discover_passes(self, town: Make) -> None:
        got = town().sends(p.udp("0.0.0.0", "255.255.255.255", 68, 67), dmac="ff:ff:ff:ff:ff:ff")
        assert got.decided == (Verdict.PASS, Reason.MULTICAST)

    def test_broadcast_mac_is_no_way_round(self, town: Make) -> None:
        for mac in ("ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"):
            got = town().sends(p.udp(p.PC, p.TOXIC, 1, 2), dmac=mac)
            assert (got.decided, got.action) == ((Verdict.REFUSE, Reason.TOXIC_ADDRESS), TC_ACT_SHOT)

    @pytest.mark.parametrize("source", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"])
    def test_absurd_sources_are_dropped(self, town: Make, source: str) -> None:
        remote = p.PLAIN6 if p.is6(source) else p.PLAIN
        for got in (town().sends(p.udp(source, remote, 1, 2)), town().receives(p.udp(source, remote, 1, 2))):
            assert (got.decided, got.action) == ((Verdict.DROP, Reason.BAD_SOURCE), TC_ACT_SHOT)

    @pytest.mark.parametrize("message", [ICMPv6ND_NS(tgt=p.PC6), ICMPv6ND_NA(tgt=p.PC6), ICMPv6ND_RA()])
    def test_neighbour_discovery_passes(self, town: Make, message: Any) -> None:
        got = town().receives(p.ip(p.GATEWAY6, p.PC6, ttl=255) / message)
        assert got.decided == (Verdict.PASS, Reason.LOCAL)
        routed = town().receives(p.ip(p.PLAIN6, p.PC6, ttl=254) / message)
        assert routed.decided == (Verdict.DROP, Reason.INBOUND), "what crossed a router is no neighbour discovery"
        toxic = town().sends(p.ip(p.PC6, p.TOXIC6, ttl=64) / message)
        assert toxic.decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)

    def test_group_reports_pass(self, town: Make) -> None:
        got = town().sends(p.ip("fe80::10", "fe80::1", ttl=1) / ICMPv6MLReport2())
        assert got.decided == (Verdict.PASS, Reason.LOCAL)


class TestLocal:
    @pytest.mark.parametrize("neighbour", [p.NEIGHBOUR, p.NEIGHBOUR6, "169.254.7.7", "fe80::50"])
    def test_neighbours_are_reached_both_ways(self, town: Make, neighbour: str) -> None:
        pc = p.PC6 if p.is6(neighbour) else p.PC
        t = town()
        assert t.sends(p.tcp(pc, neighbour, 40000, 631), dmac=p.NEIGHBOUR_MAC).decided == (Verdict.PASS, Reason.LOCAL)
        got = t.receives(p.tcp(neighbour, pc, 40001, 631), smac=p.NEIGHBOUR_MAC)
        assert got.decided == (Verdict.PASS, Reason.LOCAL)

    def test_our_prefix_forged_behind_the_gateway_is_not_local(self, town: Make) -> None:
        forged = p.tcp(p.NEIGHBOUR, p.PC, 40000, 445)
        assert town().receives(forged, smac=p.GATEWAY_MAC).decided == (Verdict.REFUSE, Reason.INBOUND)
        honest = p.udp(p.GATEWAY, p.PC, 1900, 40000)
        assert town().receives(honest, smac=p.GATEWAY_MAC).decided == (Verdict.PASS, Reason.LOCAL)
        link_local = p.udp("fe80::1", p.PC6, 1900, 40000)
        assert town().receives(link_local, smac=p.GATEWAY_MAC).decided == (Verdict.PASS, Reason.LOCAL)

    def test_exchanged_cables_open_nothing(self, town: Make) -> None:
        """An office's frame that comes in by the believed WAN port has no side: both its ends are looked up."""
        t = town()
        assert t.receives(p.tcp(p.PC, p.TOXIC, 40000, 443), smac=p.PC_MAC).decided == (
            Verdict.REFUSE,
            Reason.TOXIC_ADDRESS,
        )
        assert t.receives(p.tcp(p.PC, p.PLAIN, 40000, 443), smac=p.PC_MAC).decided == (Verdict.PASS, Reason.DEFAULT)
        assert t.sends(p.tcp(p.TOXIC, p.PC, 443, 40000, "A")).decided == (Verdict.REFUSE, Reason.TOXIC_ADDRESS)
        hello = p.tcp(p.PC, p.PLAIN, 40000, 443, "PA", p.client_hello("evil.example"))
        assert t.receives(hello, smac=p.PC_MAC).decided == (Verdict.REFUSE, Reason.TOXIC_SNI)
        query = p.udp(p.PC, p.PLAIN, 40000, 53, p.dns_query("evil.example"))
        assert t.receives(query, smac=p.PC_MAC).verdict == Verdict.NXDOMAIN
        assert t.receives(p.tcp(p.PC, p.NEIGHBOUR, 40000, 631), smac=p.NEIGHBOUR_MAC).reason == Reason.LOCAL
        forged = t.receives(p.tcp(p.PC, p.PLAIN, 40000, 22), smac=p.GATEWAY_MAC)
        assert forged.decided == (Verdict.REFUSE, Reason.INBOUND), "a gateway's MAC is where it belongs"

    def test_nothing_is_local_before_roles_are_known(self, town: Make) -> None:
        got = town(wan_port=-1).sends(p.tcp(p.PC, p.NEIGHBOUR, 40000, 631))
        assert got.decided == (Verdict.PASS, Reason.DEFAULT)

    def test_without_prefixes_only_link_local(self, town: Make) -> None:
        t = town(onlink=(), inbound_mode=InboundMode.REFUSE)
        assert t.sends(p.udp(p.PC, p.NEIGHBOUR, 1, 2)).reason == Reason.DEFAULT
        assert t.sends(p.udp(p.PC, "169.254.1.1", 1, 2)).reason == Reason.LOCAL


def test_other_protocols_are_filtered_by_address(town: Make) -> None:
    t = town()
    assert t.sends(p.ip(p.PC, p.PLAIN) / GRE() / Raw(b"x")).decided == (Verdict.PASS, Reason.DEFAULT)
    assert t.sends(IP(src=p.PC, dst=p.TOXIC, proto=50) / Raw(bytes(40))).reason == Reason.TOXIC_ADDRESS
    assert t.sends(p.ip(p.PC, p.TOXIC) / ICMP(type=13)).reason == Reason.TOXIC_ADDRESS


def test_a_frame_from_no_known_port_is_left_alone(town: Make) -> None:
    t = town()
    frame = p.ether(p.udp(p.PC, p.TOXIC, 1, 2))
    run = t.kernel.data.programs["vigie_ingress"].test_run(frame, ctx=skb_context(1))
    assert (run.retval, run.data_out) == (TC_ACT_OK, frame)
    assert t.kernel.data.counters()[Reason.NO_CONTROL][0] >= 1
