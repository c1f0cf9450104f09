"""What the box itself opens (vigie_own, egress of br0) may come back to it; nothing else may."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support import packets as p
from tests.support.progrun import TC_ACT_OK
from tests.support.town import LAN, WAN, Town
from vigie.contract.codes import Reason, Verdict
from vigie.filter.libbpf import skb_context

pytestmark = pytest.mark.bpf
Make = Callable[..., Town]


def leaves(t: Town, packet: object) -> None:
    """The box sends a packet through its bridge."""
    frame = p.ether(packet, smac=p.BOX_MAC)  # type: ignore[arg-type]
    run = t.kernel.data.programs["vigie_own"].test_run(frame, ctx=skb_context(t.kernel.ifindex[0]))
    assert (run.retval, run.data_out) == (TC_ACT_OK, frame)


@pytest.mark.parametrize("wan", [0, 1])
@pytest.mark.parametrize(("box", "remote"), [(p.BOX, p.PLAIN), (p.BOX6, p.PLAIN6)])
def test_answers_come_back(town: Make, box: str, remote: str, wan: int) -> None:
    t = town(wan_port=wan, modelled=False)
    for sent, answer in (
        (p.tcp(box, remote, 50000, 443), p.tcp(remote, box, 443, 50000, "SA")),
        (p.udp(box, remote, 50000, 123), p.udp(remote, box, 123, 50000)),
        (p.echo(box, remote, 99), p.echo(remote, box, 99, reply=True)),
    ):
        assert t.receives(answer, dmac=p.BOX_MAC).decided == (Verdict.DROP, Reason.NOT_FOR_BOX)
        leaves(t, sent)
        for port in (LAN, WAN):
            got = t.frame(port, p.ether(answer, smac=p.GATEWAY_MAC, dmac=p.BOX_MAC))
            assert (got.decided, got.action) == ((Verdict.PASS, Reason.OWN), TC_ACT_OK)


def test_other_flows_do_not(town: Make) -> None:
    t = town(modelled=False)
    leaves(t, p.tcp(p.BOX, p.PLAIN, 50000, 443))
    for packet in (
        p.tcp(p.PLAIN, p.BOX, 443, 50001, "SA"),
        p.tcp(p.PLAIN, p.BOX, 444, 50000, "SA"),
        p.udp(p.PLAIN, p.BOX, 443, 50000),
        p.tcp(p.RESOLVER, p.BOX, 443, 50000, "SA"),
    ):
        assert t.receives(packet, dmac=p.BOX_MAC).reason == Reason.NOT_FOR_BOX


def test_an_attack_from_the_box_address_is_no_answer(town: Make) -> None:
    t = town(modelled=False)
    leaves(t, p.tcp(p.BOX, p.PLAIN, 50000, 443))
    assert t.receives(p.tcp(p.BOX, p.PLAIN, 50000, 443), dmac=p.BOX_MAC).reason == Reason.SPOOF


def test_multicast_opens_nothing(town: Make) -> None:
    t = town(modelled=False)
    leaves(t, p.udp(p.BOX, "224.0.0.251", 5353, 5353))
    assert not list(t.kernel.data.maps["own"].items())


def test_every_cut_of_what_it_sends_is_harmless(town: Make) -> None:
    t = town(modelled=False)
    whole = p.ether(p.tcp(p.BOX, p.PLAIN, 50000, 443), smac=p.BOX_MAC, vlans=[3])
    program = t.kernel.data.programs["vigie_own"]
    for size in range(14, len(whole)):
        assert program.test_run(whole[:size], ctx=skb_context(t.kernel.ifindex[0])).retval == TC_ACT_OK
    assert not list(t.kernel.data.maps["own"].items())
