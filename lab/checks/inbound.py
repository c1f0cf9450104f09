"""What comes in unasked is refused; what is in use keeps working; the box itself is not a target."""

from __future__ import annotations

from lab import plan, wire
from lab.clients.scan import scan
from lab.clients.steady import Conversation
from lab.office import Office

SCANNED = sorted({*range(1, 120), 139, 443, 445, 515, 554, 631, 3389, 5000, 8000, 8443, 9100})


def scan_refused(office: Office) -> str:
    """IPv6 has no NAT: without the box every machine is reachable from everywhere."""
    if office.product is not None:
        office.product.wait_learning_over()
    lines = []
    for name in ("printer", "camera", "pc"):
        result = scan(office["internet"], plan.SCANNER.v6, plan.host6(name), SCANNED)
        if result.open:
            raise AssertionError(f"an inbound scan of {name} found open ports: {result.evidence}")
        lines.append(f"{name}: {result.evidence}")
    office["internet"].must_not_reach(plan.host6("printer"), attempts=1)
    office["internet"].must_not_reach(plan.host6("printer"), 9100, attempts=1)
    return "\n".join(lines)


def forwarded_in_use(office: Office) -> str:
    """Used during the learning period: stays open, new connections too. Forwarded but never used: refused."""
    office.box.wait_learning_over()
    used = office["internet"].must_reach(plan.WAN4, plan.FORWARDED)
    with Conversation(office["internet"], plan.WAN4, plan.FORWARDED) as talk:
        talk.must_live()
    unused = office["internet"].must_not_reach(plan.WAN4, plan.UNUSED)
    return f"{used.evidence}\n{unused.evidence}"


def answers_pass(office: Office) -> str:
    """Replies to what the office opened, ICMP errors about it, and ping from inside."""
    probes = [
        office["pc"].must_reach(plan.TOWN.v4),
        office["pc"].must_reach(plan.TOWN.v6),
        office["pc"].must_reach(plan.CLOUD.v4, plan.ECHO, "udp"),
        office["pc"].must_refuse_fast(plan.TOWN.v6, 9999, "udp"),
        office["pc"].must_refuse_fast(plan.TOWN.v4, 9999, "udp"),
    ]
    return "\n".join(probe.evidence for probe in probes)


def page_port(office: Office) -> str:
    """The box's page answers the office, not the internet nor the ISP box's Wi-Fi."""
    office["box"].python("page", "lab.servers.plain", "--echo", str(plan.HTTP)).wait_for_line('"ready"')
    reached = office["pc"].must_reach(plan.BOX4, plan.HTTP)
    lines = [reached.evidence]
    lines.append(office["internet"].must_not_reach(plan.BOX6, plan.HTTP).evidence)
    lines.append(office["wifi"].must_not_reach(plan.BOX4, plan.HTTP).evidence)
    lines.append(office["pc"].must_not_reach(plan.BOX4, 22, attempts=1).evidence)
    return "\n".join(lines)


def spoofed_box(office: Office) -> str:
    """Frames that claim to come from the box (its MAC, or its address) do not get through, on either port."""
    pc, router = office["pc"], office["router"]
    payload = b"VIGIE-LAB-SPOOF"
    box_mac, pc_mac = plan.MACS["box"], plan.MACS["pc"]
    with wire.Tap(router, office.lab.ends["wan0"][1]) as upstream:
        with wire.Tap(pc, "eth0") as cable:
            cable.send(
                wire.udp4(plan.MACS["router"], box_mac, plan.BOX4, plan.TOWN.v4, 4000, 4000, payload),
                wire.udp4(plan.MACS["router"], pc_mac, plan.BOX4, plan.TOWN.v4, 4000, 4000, payload),
                wire.udp4(plan.MACS["router"], pc_mac, plan.host4("pc"), plan.TOWN.v4, 4000, 4000, payload),
            )
        got = [frame.data for frame in upstream.collect(lambda data: payload in data, 1.0)]
    if len(got) != 1 or wire.mac_bytes(pc_mac) != got[0][6:12]:
        raise AssertionError(
            f"only the honest frame may pass; {len(got)} came out: {[data[:34].hex() for data in got]}"
        )
    # The box's own neighbour tables were not poisoned either.
    return pc.must_reach(plan.TOWN.v4).evidence
