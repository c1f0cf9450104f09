"""The town hall: an office switch and its machines; and a machine on the ISP box's Wi-Fi."""

from __future__ import annotations

from pathlib import Path

from lab import plan
from lab.netns import Namespace, World

SWITCH = "sw0"
MEMBERS = ("pc", "camera", "printer", "phone", "tv")


def build_switch(world: World) -> Namespace:
    lan = world.namespace("lan")
    lan.bridge(SWITCH)
    return lan


def build_host(world: World, name: str, switch: Namespace, bridge: str, offload: bool) -> Namespace:
    """A machine with a static IPv4 address and an IPv6 one from the router's announcements (fixed interface part)."""
    host = world.namespace(name)
    host.sysctl("net/ipv6/conf/default/router_solicitation_interval", 1)
    host.sysctl("net/ipv6/conf/default/router_solicitations", 30)
    world.cable(host, "eth0", switch, f"p-{name}", up=False)
    switch.ip("link", "set", f"p-{name}", "master", bridge, "up")
    host.ip("link", "set", "eth0", "address", plan.MACS[name])
    host.ip("link", "set", "eth0", "up")
    host.ip("token", "set", f"::{plan.HOSTS[name]}", "dev", "eth0")
    host.address("eth0", f"{plan.host4(name)}/24")
    host.route("default", "via", plan.GATEWAY4)
    for end, link in ((host, "eth0"), (switch, f"p-{name}")):
        end.offload(link, offload)
    host.resolv_conf = _resolv_conf(world, name)
    return host


def _resolv_conf(world: World, name: str) -> Path:
    path = world.temp / f"{name}.resolv.conf"
    path.write_text(f"nameserver {plan.GATEWAY4}\noptions timeout:2 attempts:2\n")
    return path


def start_services(hosts: dict[str, Namespace]) -> None:
    """What the office itself offers: printers on both sides of the box, a service of the PC published by the router."""
    for name in ("printer", "wifi"):
        process = hosts[name].python(
            "printer", "lab.servers.printer", "--name", name, "--v4", plan.host4(name), "--v6", plan.host6(name)
        )
        process.wait_for_line('"ready"')
    service = hosts["pc"].python(
        "service", "lab.servers.plain", "--echo", str(plan.FORWARDED), "--sink", str(plan.UNUSED)
    )
    service.wait_for_line('"ready"')
