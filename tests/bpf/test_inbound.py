"""Layer 9: what comes from the internet without having been asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from tests.support import packets as p
from tests.support.policies import FOREVER
from tests.support.progrun import TC_ACT_REDIRECT, TC_ACT_SHOT
from tests.support.strategies import T0
from tests.support.town import Town
from vigie.contract.codes import InboundMode, Reason, Verdict

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]

PASSES = (Verdict.PASS, Reason.DEFAULT)
REFUSED = (Verdict.REFUSE, Reason.INBOUND)
DROPPED = (Verdict.DROP, Reason.INBOUND)
ENDS = pytest.mark.parametrize(("pc", "remote"), [(p.PC, p.PLAIN), (p.PC6, p.PLAIN6)])


def gre(src: str, dst: str) -> Packet:
    return p.ip(src, dst) / GRE() / Raw(b"inner")


@ENDS
class TestUnsolicited:
    def test_is_refused(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        for packet, decided in (
            (p.tcp(remote, pc, 40000, 22), REFUSED),
            (p.tcp(remote, pc, 40000, 22, "SF"), REFUSED),
            (p.udp(remote, pc, 40000, 161), REFUSED),
            (p.echo(remote, pc), DROPPED),
            (p.echo(remote, pc, reply=True), DROPPED),
            (gre(remote, pc), DROPPED),
        ):
            got = t.receives(packet)
            assert got.decided == decided, packet
            assert got.action == (TC_ACT_REDIRECT if decided == REFUSED else TC_ACT_SHOT)
        assert not len(t.kernel.data.flows_snapshot()), "refused inbound never enters the flow cache"

    @pytest.mark.parametrize("flags", ["A", "SA", "FA", "R", "RA", "PA", ""])
    def test_other_tcp_passes(self, town: Make, pc: str, remote: str, flags: str) -> None:
        t = town()
        assert t.receives(p.tcp(remote, pc, 40000, 22, flags)).decided == PASSES
        assert not len(t.kernel.data.flows_snapshot())

    @pytest.mark.parametrize("mode", [InboundMode.OFF, InboundMode.LEARN])
    def test_passes_while_learning(self, town: Make, pc: str, remote: str, mode: InboundMode) -> None:
        t = town(inbound_mode=mode)
        for packet in (p.tcp(remote, pc, 40000, 22), p.udp(remote, pc, 1, 2), p.echo(remote, pc), gre(remote, pc)):
            assert t.receives(packet).decided == (Verdict.PASS, Reason.LEARNING)
        assert not len(t.kernel.data.flows_snapshot()), "inbound floods cannot evict"

    def test_grace_ends(self, town: Make, pc: str, remote: str) -> None:
        t = town(grace_until=T0 + 100)
        assert t.receives(p.tcp(remote, pc, 40000, 22)).decided == (Verdict.PASS, Reason.LEARNING)
        t.wait(110)
        assert t.receives(p.tcp(remote, pc, 40000, 22)).decided == REFUSED

    def test_ports_in_real_use_pass(self, town: Make, pc: str, remote: str) -> None:
        t = town(inbound_allow={(p.PC_MAC, 6, 22): FOREVER, (p.PC_MAC, 17, 5060): T0 + 100, (p.PC_MAC, 47, 0): FOREVER})
        allowed = (Verdict.PASS, Reason.INBOUND_ALLOWED)
        assert t.receives(p.tcp(remote, pc, 1, 22)).decided == allowed
        assert t.receives(p.tcp(remote, pc, 22, 1)).decided == REFUSED
        assert t.receives(p.udp(remote, pc, 1, 22)).decided == REFUSED
        assert t.receives(p.tcp(remote, pc, 1, 22), dmac=p.CAMERA_MAC).decided == REFUSED
        assert t.receives(gre(remote, pc)).decided == allowed
        assert t.receives(p.udp(remote, pc, 1, 5060)).decided == allowed
        t.wait(110)
        assert t.receives(p.udp(remote, pc, 1, 5060)).decided == REFUSED

    def test_nobody_is_judged_before_roles(self, town: Make, pc: str, remote: str) -> None:
        t = town(wan_port=-1)
        assert t.receives(p.tcp(remote, pc, 1, 22)).decided == PASSES

    def test_unreadable_extension_chain_is_dropped(self, town: Make, pc: str, remote: str) -> None:
        packet = p.extensions6(p.tcp(p.PLAIN6, p.PC6, 1, 2, "A"), [0] * 9)
        assert town().receives(packet).decided == DROPPED


@ENDS
class TestAnswers:
    def test_udp_for_five_minutes(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.udp(pc, remote, 40000, 443))
        answer = p.udp(remote, pc, 443, 40000)
        assert t.receives(answer).decided == PASSES
        t.wait(290)
        assert t.receives(answer).decided == PASSES
        t.wait(310)
        assert t.receives(answer).decided == REFUSED

    def test_udp_from_elsewhere_is_refused(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.udp(pc, remote, 40000, 443))
        assert t.receives(p.udp(remote, pc, 444, 40000)).decided == REFUSED
        assert t.receives(p.udp(remote, pc, 443, 40001)).decided == REFUSED

    def test_echo(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.echo(pc, remote, 7))
        assert t.receives(p.echo(remote, pc, 7, reply=True)).decided == PASSES
        assert t.receives(p.echo(remote, pc, 8, reply=True)).decided == DROPPED

    def test_other_protocols(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(gre(pc, remote))
        assert t.receives(gre(remote, pc)).decided == PASSES

    def test_opener_memory_outlives_the_cache(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.udp(pc, remote, 40000, 443))
        t.sends(gre(pc, remote))
        t.evict()
        assert t.receives(p.udp(remote, pc, 443, 40000)).decided == (Verdict.PASS, Reason.ESTABLISHED)
        assert t.receives(gre(remote, pc)).decided == (Verdict.PASS, Reason.ESTABLISHED)
        t.wait(310)
        assert t.receives(p.udp(remote, pc, 443, 40000)).decided == REFUSED

    def test_epochs_do_not_lose_flows(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.udp(pc, remote, 40000, 443))
        for _ in range(3):
            t.change()
            assert t.receives(p.udp(remote, pc, 443, 40000)).decided == (Verdict.PASS, Reason.ESTABLISHED)

    def test_a_served_flow_goes_on_after_its_device_answered(self, town: Make, pc: str, remote: str) -> None:
        t = town(inbound_allow={(p.PC_MAC, 17, 5060): FOREVER})
        t.receives(p.udp(remote, pc, 999, 5060))
        t.sends(p.udp(pc, remote, 5060, 999))
        t.change(inbound_allow={})
        assert t.receives(p.udp(remote, pc, 999, 5060)).decided == (Verdict.PASS, Reason.ESTABLISHED)


@ENDS
class TestIcmpErrors:
    @pytest.mark.parametrize("kind", ["unreachable", "exceeded", "too_big"])
    def test_about_a_known_flow_pass(self, town: Make, pc: str, remote: str, kind: str) -> None:
        t = town()
        router = "2001:db8:77::1" if p.is6(pc) else "192.0.2.77"
        for sent in (p.tcp(pc, remote, 40000, 443), p.udp(pc, remote, 40000, 443), p.echo(pc, remote, 9)):
            error = p.icmp_error(router, pc, bytes(sent), kind)
            assert t.receives(error).decided == DROPPED
            t.sends(sent)
            assert t.receives(error).decided == (Verdict.PASS, Reason.ICMP_ERROR)
            t.evict()
            assert t.receives(error).decided == (Verdict.PASS, Reason.ICMP_ERROR), "remembered as opened from the LAN"

    def test_about_other_flows_are_dropped(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.udp(pc, remote, 40000, 443))
        for quoted in (
            bytes(p.udp(pc, remote, 40000, 444)),
            bytes(p.udp(remote, pc, 443, 40000)),
            bytes(p.udp(pc, remote, 40000, 443))[:-5],
            b"",
        ):
            assert t.receives(p.icmp_error(remote, pc, quoted)).decided == DROPPED

    def test_open_nothing(self, town: Make, pc: str, remote: str) -> None:
        t = town()
        t.sends(p.icmp_error(pc, remote, bytes(p.udp(remote, pc, 1, 2))))
        assert not len(t.kernel.data.flows_snapshot())
        assert t.receives(p.icmp_error(remote, pc, bytes(p.udp(pc, remote, 2, 1)))).decided == DROPPED


def test_other_icmp_is_dropped(town: Make) -> None:
    for kind in (4, 5, 13, 14, 17):
        packet = p.ip(p.PLAIN, p.PC) / ICMP(type=kind) / Raw(bytes(12))
        assert town().receives(packet).decided == DROPPED


def test_quoted_ports_in_padding_do_not_count(town: Make) -> None:
    t = town()
    sent = bytes(p.udp(p.PC, p.PLAIN, 40000, 443))
    t.sends(sent)
    error = p.ether(p.icmp_error(p.PLAIN, p.PC, sent[:20]), smac=p.GATEWAY_MAC, dmac=p.PC_MAC)
    assert t.frame(1, error + sent[20:]).decided == DROPPED


def test_learning_remembers_who_opened(town: Make) -> None:
    t = town(inbound_mode=InboundMode.LEARN)
    t.receives(p.tcp(p.PLAIN, p.PC, 999, 22))
    t.sends(p.tcp(p.PC, p.PLAIN, 22, 999, "SA"))
    (flow,) = t.kernel.data.flows_snapshot()
    assert int(flow["flags"]) >> 8 & 3 == 2, "opened from port 1, the internet"
