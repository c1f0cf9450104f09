"""Cables the wrong way round, a loop, a rogue router: the box finds its way and the office does not notice."""

from __future__ import annotations

import contextlib
import socket
import struct
import time

from lab import plan, wire
from lab.office import Office, within

LOOP_MS = 1000.0
SWAP_S = 20.0
STORM_SENT = 10
STORM_LEAST = 10  # frames in 50 ms beyond those sent, at both ports: more than an idle office says by itself
QUIET_S = 1.0
STORM = wire.ethernet("ff:ff:ff:ff:ff:ff", plan.MACS["tv"], 0x88B6, b"VIGIE-LAB-STORM".ljust(60, b"\0"))


def _filtering(office: Office) -> list[str]:
    """Roles are right: out passes, toxic is refused, in is refused."""
    return [
        office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS, within=15).evidence,
        office["pc"].must_reach(plan.TOWN.v6, plan.HTTPS, within=15).evidence,
        office["pc"].must_refuse_fast(office.indicators.toxic4, plan.HTTPS).evidence,
        _in_refused(office),
    ]


def _in_refused(office: Office, seconds: float = 15.0) -> str:
    """Inbound is let through until the roles are confirmed; then it must be refused."""
    deadline = time.monotonic() + seconds
    while True:
        probe = office["internet"].probe(plan.host6("printer"), 9100)
        if probe.outcome != "reached":
            return probe.evidence
        if time.monotonic() > deadline:
            raise AssertionError(f"roles are not found {seconds} s after the cables moved:\n{probe.evidence}")
        time.sleep(0.1)


def cables_swapped(office: Office) -> str:
    """Both cables into the other port, then back: the roles follow; what is toxic is refused at all times."""
    office.box.wait_learning_over()
    lines = []
    try:
        for wan in ("lan0", "wan0"):
            took = _swap(office, wan)
            office.times["cables_swapped_s"] = max(office.times.get("cables_swapped_s", 0.0), took)
            lines += [f"{wan} is WAN after {took:.1f} s", *_filtering(office)]
    finally:
        office.lab.plug("lan0", "lan")
        office.lab.plug("wan0", "router")
        office.box.wait_roles()
    return "\n".join(lines)


def _swap(office: Office, wan: str) -> float:
    """Seconds until `wan` is known as the WAN port; meanwhile and after, nothing listed is reached."""
    start = time.monotonic()
    with office.unheard(office.lab.servers.plain.log, "the toxic server"):
        office.lab.swap_cables()
        while office.box.roles()[wan] != "wan":
            for address in (office.indicators.toxic4, office.indicators.toxic6):
                office["pc"].must_not_reach(address, plan.SINK, attempts=1, timeout=0.1)
            if time.monotonic() - start > SWAP_S:
                raise AssertionError(f"{wan} is not the WAN port after {SWAP_S} s: {office.box.roles()}")
        took = time.monotonic() - start
        for address in (office.indicators.toxic4, office.indicators.toxic6):
            office["pc"].must_refuse_fast(address, plan.SINK)
    return took


def rogue_router(office: Office) -> str:
    """A machine of the office announces itself as router (RA) and answers DHCP: the roles stay, an alert is raised."""
    office.box.wait_learning_over()
    before = office.box.roles()
    camera_mac, link_local = plan.MACS["camera"], "fe80::4619:b6ff:fe00:11"
    with wire.Tap(office["camera"], "eth0") as cable:
        for _ in range(3):
            cable.send(router_advertisement(camera_mac, link_local, lifetime=1800), dhcp_offer(camera_mac))
            time.sleep(0.3)
        lines = [
            office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS).evidence,
            office["pc"].must_refuse_fast(office.indicators.toxic4, plan.HTTPS).evidence,
            _in_refused(office, 1.0),
        ]
        alerts = [office.box.wait_alert(kind) for kind in ("rogue-router", "rogue-dhcp")]
        after = office.box.roles()
        cable.send(router_advertisement(camera_mac, link_local, lifetime=0))  # withdraw it from everybody's tables
    if before != after:
        raise AssertionError(f"roles flipped: {before} -> {after}")
    if any(alert["mac"] != camera_mac for alert in alerts):
        raise AssertionError(f"alerts about the camera that plays router: {alerts}")
    return "\n".join([*lines, str(alerts)])


def router_advertisement(mac: str, link_local: str, lifetime: int) -> bytes:
    """To all nodes, with the source link-layer address option."""
    source = socket.inet_pton(socket.AF_INET6, link_local)
    target = socket.inet_pton(socket.AF_INET6, "ff02::1")
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + bytes([1, 1]) + wire.mac_bytes(mac)
    total = wire.checksum(source + target + struct.pack("!II", len(body), 58) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + source + target
    return wire.ethernet("33:33:00:00:00:01", mac, 0x86DD, head + body)


def dhcp_offer(mac: str) -> bytes:
    """An offer that nobody asked for, naming the camera as router."""
    own = socket.inet_aton(plan.host4("camera"))
    message = struct.pack("!BBBBIHH", 2, 1, 6, 0, 0x1234, 0, 0x8000) + b"\0" * 4 + socket.inet_aton("192.168.1.222")
    message += (
        own + b"\0" * 4 + wire.mac_bytes("8c:85:90:00:00:78").ljust(16, b"\0") + b"\0" * 192 + b"\x63\x82\x53\x63"
    )
    message += bytes([53, 1, 2, 54, 4]) + own + bytes([3, 4]) + own + bytes([51, 4, 0, 0, 14, 16, 255])
    return wire.udp4("ff:ff:ff:ff:ff:ff", mac, plan.host4("camera"), "255.255.255.255", 67, 68, message)


def loop(office: Office) -> str:
    """Both cables in the office switch, and broadcasts that would turn for ever: cut in time, told, then reopened.

    First while the daemon does not run: it is a storm that nobody but the data path ends. Then with the daemon, whose
    probes may cut the loop before anything turns.
    """
    office.box.wait_learning_over()
    lines = []
    for paused in (True, False):
        ended, evidence = _loop_cut(office, paused=paused)
        office.times["loop"] = max(ended, office.times.get("loop", 0.0))
        lines += [evidence, *_filtering(office)]
    return "\n".join(lines)


def _loop_cut(office: Office, *, paused: bool) -> tuple[float, str]:
    """Plugs the loop and plugs it out again; ms until it was cut, and the evidence."""
    turned, ended, alert, ports = 0, 0.0, {}, []
    with wire.Tap(office["tv"], "eth0", buffer=1 << 16) as screen, contextlib.ExitStack() as stack:
        if paused:
            stack.enter_context(office.box.paused())
        since = time.time()
        try:
            turned, ended = _storm(office, screen)
            stack.close()
            alert, ports = office.box.wait_alert("loop", since=since), office.box.status()["ports"]
            office["pc"].must_reach(plan.host4("printer"))
        finally:
            stack.close()
            start = time.monotonic()
            office.lab.plug("wan0", "router")
    reached = office["pc"].must_reach(plan.TOWN.v4, within=20)
    office.times["loop_reopened_s"] = max(time.monotonic() - start, office.times.get("loop_reopened_s", 0.0))
    office.box.wait_roles()
    if paused and turned < STORM_LEAST:
        raise AssertionError("no storm: there was no loop to cut")
    if not any(port["blocked"] for port in ports):
        raise AssertionError(f"no port is blocked: {ports}")
    who = "without the daemon" if paused else "with the daemon"
    text = within(ended, LOOP_MS, f"loop through which {turned} frames turned cut {who} after")
    return ended, "\n".join([text, str(alert), reached.evidence])


def _storm(office: Office, screen: wire.Tap, seconds: float = 5.0) -> tuple[int, float]:
    """Plugs the loop and has the office broadcast until nothing has turned for a second.

    Frames that turned, and ms from the hand on the cable until the last did. What other machines say is enough for it.
    """
    start, before = time.monotonic(), _received(office)
    office.lab.plug("wan0", "lan")
    turned, last = 0, start
    while (now := time.monotonic()) - last < QUIET_S:
        if now - start > seconds:
            raise AssertionError(f"the loop is still storming after {seconds} s: {turned} frames turned")
        screen.send(*[STORM] * STORM_SENT)
        time.sleep(0.05)
        received = _received(office)
        more = max(received - before - 2 * STORM_SENT, 0)
        turned += more
        if more > STORM_LEAST:
            last = time.monotonic()
        before = received
    return turned, (last - start) * 1000


def _received(office: Office) -> int:
    """Frames that came in at the box's two ports so far."""
    links = {str(link["ifname"]): link for link in office["box"].show_links()}
    return sum(int(links[port]["stats64"]["rx"]["packets"]) for port in ("lan0", "wan0"))
