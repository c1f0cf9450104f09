"""The internet: real servers, each on its own address of the loopback link. It has no default route: nothing leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass

from lab import plan
from lab.netns import Namespace, Process, World
from lab.pki import Pki, make_pki


@dataclass(slots=True)
class Internet:
    namespace: Namespace
    pki: Pki
    web: Process
    names: Process
    plain: Process
    quic: Process
    sip: Process
    iperf: Process


def build_internet(world: World, indicators: plan.Indicators) -> Namespace:
    internet = world.namespace("internet")
    internet.sysctl("net/ipv6/conf/all/forwarding", 0)
    for site in indicators.sites:
        internet.address("lo", f"{site.v4}/32", f"{site.v6}/128")
    return internet


def start_servers(internet: Namespace, indicators: plan.Indicators) -> Internet:
    world = internet.world
    addresses = [address for site in indicators.sites for address in (site.v4, site.v6)]
    pki = make_pki(world.temp, indicators.zone(), addresses)
    zone = world.temp / "zone.json"
    zone.write_text(json.dumps(indicators.public_names()))
    every = [word for address in addresses for word in ("--address", address)]
    certificate = ["--chain", str(pki.chain), "--key", str(pki.key)]
    started = Internet(
        namespace=internet,
        pki=pki,
        web=internet.python("web", "lab.servers.web", *certificate),
        names=internet.python(
            "names",
            "lab.servers.names",
            "--zone",
            str(zone),
            "--address",
            plan.RESOLVER.v4,
            "--address",
            plan.RESOLVER.v6,
        ),
        plain=internet.python(
            "plain",
            "lab.servers.plain",
            "--echo",
            str(plan.ECHO),
            "--sink",
            str(plan.SINK),
            "--udp",
            str(plan.ECHO),
            *every,
        ),
        quic=internet.python("quic", "lab.servers.quic", *certificate, *every),
        sip=internet.python("sip", "lab.servers.sip", "--address", plan.SIP.v4, "--address", plan.SIP.v6),
        iperf=internet.start("iperf", "iperf3", "--server", "--forceflush", "--port", str(plan.IPERF)),
    )
    started.web.wait_for_line('"port": 443')
    started.names.wait_for_line('"tcp": 53')
    for process in (started.plain, started.quic, started.sip):
        process.wait_for_line('"ready"')
    started.iperf.wait_for_line("Server listening")
    return started
