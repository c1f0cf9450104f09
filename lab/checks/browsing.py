"""Never in the way: the web, names, QUIC, large transfers."""

from __future__ import annotations

import json

from lab import plan
from lab.clients import quic, tls
from lab.office import Office


def websites(office: Office) -> str:
    pc, lines = office["pc"], []
    for family in ("-4", "-6"):
        for url in ("http://www.commune.example/", "https://www.commune.example/", "https://agenda.commune.example/"):
            result = tls.curl(pc, url, office.ca, family).require()
            if "Bienvenue sur" not in result.out:
                raise AssertionError(f"not the page expected:\n{result.evidence}")
            lines.append(f"{url} {family} {result.seconds * 1000:.0f} ms")
    tls.s_client(pc, plan.TOWN.v4, plan.TOWN.name).require()
    return ", ".join(lines)


def names(office: Office) -> str:
    servers = (plan.GATEWAY4, plan.GATEWAY6, plan.RESOLVER.v4, plan.RESOLVER.v6)
    for server in servers:
        for transport in ("+notcp", "+tcp"):
            for kind, expected in (("A", plan.TOWN.v4), ("AAAA", plan.TOWN.v6)):
                result = tls.dig(office["pc"], plan.TOWN.name, server, kind, transport, "+short").require()
                if result.out.strip() != expected:
                    raise AssertionError(f"expected {expected}:\n{result.evidence}")
    return f"A and AAAA over UDP and TCP from {len(servers)} resolvers"


def protected_name(office: Office) -> str:
    result = tls.curl(office["pc"], f"https://{plan.TAX.name}/", office.ca).require()
    return result.evidence.splitlines()[0]


def large_client_hello(office: Office) -> str:
    """Post-quantum key shares make a first message longer than one packet."""
    attempts = []
    for address in (plan.TOWN.v4, plan.TOWN.v6):
        for big in (False, True):
            attempts.append(tls.handshake(office["pc"], address, 443, plan.TOWN.name, ca=office.ca, big=big))
    for attempt in attempts:
        attempt.require("reached")
    office.times["big_hello"] = max(attempt.ms for attempt in attempts)
    return "; ".join(f"{attempt.what}: {attempt.ms:.0f} ms" for attempt in attempts)


def http3(office: Office) -> str:
    attempts = [
        quic.fetch(office["pc"], address, plan.TOWN.name, big=big).require("reached", 2000)
        for address in (plan.TOWN.v4, plan.TOWN.v6)
        for big in (False, True)
    ]
    return "; ".join(f"{attempt.what}: {attempt.ms:.0f} ms" for attempt in attempts)


def throughput(office: Office) -> str:
    """Both directions, IPv4 and IPv6; the figure says that the office is not slowed down, not how fast hardware is."""
    rates = {}
    for label, address, way in (
        ("v4 up", plan.CLOUD.v4, []),
        ("v4 down", plan.CLOUD.v4, ["--reverse"]),
        ("v6 down", plan.CLOUD.v6, ["--reverse"]),
    ):
        argv = ["iperf3", "--client", address, "--port", str(plan.IPERF), "--time", "1", "--json", *way]
        result = office["pc"].run(*argv, timeout=10).require()
        rates[label] = json.loads(result.out)["end"]["sum_received"]["bits_per_second"] / 1e9
    office.times["iperf_gbit_s"] = round(min(rates.values()), 2)
    slow = {label: rate for label, rate in rates.items() if rate < 0.2}
    if slow:
        raise AssertionError(f"slower than 0.2 Gbit/s: {slow}")
    return ", ".join(f"{label} {rate:.1f} Gbit/s" for label, rate in rates.items())
