"""What an office already has and must not lose: printers, telephone, television, leases, a published port."""

from __future__ import annotations

from lab import plan
from lab.clients import dhcp, discovery, telephone, television
from lab.clients.steady import Conversation
from lab.hosts.router import BRIDGE
from lab.office import Office


def printing(office: Office) -> str:
    """From the ISP box's Wi-Fi to the office's printer, and from the office to a printer on the Wi-Fi."""
    lines = []
    for client, printer in (("wifi", "printer"), ("pc", "wifi")):
        for six in (False, True):
            address = plan.host6(printer) if six else plan.host4(printer)
            discovery.find_by_mdns(office[client], printer, six)
            discovery.find_by_wsd(office[client], address, six)
            lines.append(discovery.print_job(office[client], address))
    return "\n".join(lines)


def both_ways(office: Office) -> str:
    probes = [
        office["wifi"].must_reach(plan.host4("pc")),
        office["wifi"].must_reach(plan.host6("pc")),
        office["wifi"].must_reach(plan.host4("pc"), plan.FORWARDED),
        office["pc"].must_reach(plan.host4("wifi")),
        office["pc"].must_reach(plan.host6("wifi")),
    ]
    return "\n".join(probe.evidence for probe in probes)


def calling(office: Office) -> str:
    lines = []
    for server, own in ((plan.SIP.v4, plan.host4("phone")), (plan.SIP.v6, plan.host6("phone"))):
        call = telephone.call(office["phone"], server, own)
        if call.voice_heard < call.voice_sent * 0.8:
            raise AssertionError(f"voice is lost with {server}: {call.voice_sent} sent, {call.voice_heard} heard")
        lines.append(f"{server}: {call.voice_sent} voice packets sent, {call.voice_heard} heard")
    return "; ".join(lines)


def watching(office: Office) -> str:
    return television.watch(office["tv"], office["router"], BRIDGE, plan.MACS["router"], plan.GATEWAY4)


def lease(office: Office) -> str:
    got = dhcp.lease(office["pc"])
    if got.router != plan.GATEWAY4 or not got.address.startswith("192.168.1."):
        raise AssertionError(f"not a lease of the ISP box: {got}")
    return f"{got.address}, router {got.router}, resolver {got.resolver}"


def published_port(office: Office) -> str:
    """The router forwards this port to the PC and people at home use it: while learning, the box takes note."""
    office["internet"].must_reach(plan.WAN4, plan.FORWARDED)
    with Conversation(office["internet"], plan.WAN4, plan.FORWARDED) as talk:
        evidence = talk.must_live()
        if office.product is not None:
            evidence += f"; learnt: {office.product.wait_learnt(plan.FORWARDED)}"
    return evidence
