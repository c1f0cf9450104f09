"""The whole lab, as drawn in `lab.plan`: build it, plug cables in other places, take it down."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from lab import plan
from lab.hosts import department, office, router
from lab.hosts import internet as internet_host
from lab.netns import Namespace, World

ROOT = Path(__file__).resolve().parent.parent
LAN_PORT, WAN_PORT = "lan0", "wan0"
SWITCHES = {"lan": office.SWITCH, "router": router.BRIDGE}


@dataclass
class Topology:
    """Context manager. `offload` false: every veth computes and checks its checksums.

    The box is left bare: two ports, no bridge. `lab.box` puts a plain bridge or the product into it.
    """

    indicators: plan.Indicators
    offload: bool = True
    services: bool = True
    department: Path | None = None
    """folder of the lists that the department's publisher reads; None: no department"""
    mtu: int = 1500
    ends: dict[str, tuple[str, str]] = field(default_factory=dict)  # port of the box -> where its cable ends
    world: World = field(init=False)
    hosts: dict[str, Namespace] = field(init=False, default_factory=dict)

    def __enter__(self) -> Topology:
        self.world = World(python=sys.executable, root=ROOT, mtu=self.mtu)
        self.world.__enter__()
        try:
            self._build()
        except BaseException:
            self.world.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.__exit__(kind, error, trace)

    def _build(self) -> None:
        world = self.world
        self.internet = internet_host.build_internet(world, self.indicators)
        if self.department is not None:
            department.build_department(world, self.internet, self.offload, self.department)
        self.router = router.build_router(world, self.internet, self.offload)
        self.lan = office.build_switch(world)
        self.box = world.namespace("box")
        for port, place in ((LAN_PORT, "lan"), (WAN_PORT, "router")):
            self.ends[port] = (place, f"p-{port}")
            world.cable(self.box, port, self[place], f"p-{port}", up=False)
            for end, link in ((self.box, port), (self[place], f"p-{port}")):
                end.offload(link, self.offload)
            # On a real board a port comes up with its bridge; here it is up before, and would heed the router alone.
            self.box.sysctl(f"net/ipv6/conf/{port}/disable_ipv6", 1)
            if port == LAN_PORT:  # a bridge takes the MAC of its first port
                self.box.ip("link", "set", port, "address", plan.MACS["box"])
            self.plug(port, place)
        router.start_dnsmasq(self.router)
        for name in office.MEMBERS:
            self.hosts[name] = office.build_host(world, name, self.lan, office.SWITCH, self.offload)
        self.hosts["wifi"] = office.build_host(world, "wifi", self.router, router.BRIDGE, self.offload)
        if self.services:
            self.servers = internet_host.start_servers(self.internet, self.indicators)
            office.start_services(self.hosts)
        world.assert_isolated()

    def __getitem__(self, name: str) -> Namespace:
        return self.world.namespaces[name]

    # -- cables of the box --------------------------------------------------------------------

    def plug(self, port: str, where: str) -> None:
        """Put the cable of that port of the box into the switch of `where` ("lan" or "router"), from wherever it is."""
        place, link = self.ends[port]
        if place != where:
            name = f"p-{port}"
            self.world.move(link, self[place], self[where], name)
            link = name
            self.ends[port] = (where, link)
        self[where].ip("link", "set", link, "master", SWITCHES[where], "up")
        self.box.ip("link", "set", port, "up")

    def unplug(self, port: str) -> None:
        """Carrier is lost on that port."""
        place, link = self.ends[port]
        self[place].ip("link", "set", link, "down")

    def swap_cables(self) -> None:
        """Pull both cables out of the box and put each into the other port."""
        places = {port: place for port, (place, _) in self.ends.items()}
        for port in places:
            self.unplug(port)
        for port, place in places.items():
            self.plug(port, "router" if place == "lan" else "lan")

    # -- readiness ------------------------------------------------------------------------------

    def wait_until_ready(self, seconds: float = 15.0) -> None:
        """Every machine has its global IPv6 address and reaches the router over both."""
        deadline = time.monotonic() + seconds
        for name, host in self.hosts.items():
            while plan.host6(name) not in (
                shown := host.ip("-6", "address", "show", "dev", "eth0", "scope", "global").out
            ):
                if time.monotonic() > deadline:
                    raise AssertionError(
                        f"[{name}] no IPv6 address from router announcements after {seconds} s:\n{shown}"
                    )
                time.sleep(0.05)
            host.must_reach(plan.GATEWAY4, within=max(1.0, deadline - time.monotonic()))
            host.must_reach(plan.GATEWAY6, within=max(1.0, deadline - time.monotonic()))
