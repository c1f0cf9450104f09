"""The data path in the box without its daemon: exact policies for tests, set from the test's own process."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from lab import plan
from lab.box import BRIDGE, OBJECT, make_plain_bridge
from lab.topology import LAN_PORT, WAN_PORT, Topology
from vigie.contract.codes import Action, Category, InboundMode
from vigie.filter.abi import KIND_BASE
from vigie.filter.base.image import build_image
from vigie.filter.base.model import Base, ClassEntry, Intervals4, Intervals6, Names
from vigie.filter.base.names import name_hash, name_keys
from vigie.filter.datapath import DataPath

TOXIC = ClassEntry(action=Action.BLOCK, category=Category.C2)
HALF = (1 << 64) - 1


def make_base(addresses: Iterable[str] = (), names: Iterable[str] = (), filler: int = 0, serial: int = 1) -> Base:
    """A base that blocks these, both ways, plus `filler` IPv4 addresses of 198.18.0.0/15 (RFC 2544)."""
    parsed = [ipaddress.ip_address(address) for address in addresses]
    first = int(ipaddress.ip_address("198.18.0.0"))
    v4 = sorted({int(a) for a in parsed if a.version == 4} | {first + 2 * number for number in range(filler)})
    v6 = sorted(int(a) for a in parsed if a.version == 6)
    starts = np.array(v4, np.uint32)
    high, low = (np.array(half, np.uint64) for half in ([a >> 64 for a in v6], [a & HALF for a in v6]))
    key, seed = name_keys()
    hashes = np.array(sorted(name_hash(name, key, seed) for name in names), np.uint64)
    return Base(
        serial, 0, key, seed, classes=[ClassEntry(), TOXIC],
        v4=Intervals4(starts, starts.copy(), np.ones(len(v4), np.uint8)),
        v6=Intervals6(high, low, high.copy(), low.copy(), np.ones(len(v6), np.uint8)),
        names=Names(hashes, np.ones(len(hashes), np.uint8)),
    )  # fmt: skip


@contextmanager
def attach(lab: Topology, base: Base, inbound: InboundMode = InboundMode.REFUSE) -> Iterator[DataPath]:
    """A plain bridge with the data path on both ports, roles known, `base` in force. Maps vanish with it."""
    make_plain_bridge(lab)
    with lab.box.entered():
        path = DataPath.open(OBJECT)
    try:
        with path.batch():
            path.settings.set_box_mac(plan.MACS["box"])
            path.settings.set_box_addresses([plan.BOX4, plan.BOX6])
            path.settings.set_box_ports([(plan.HTTP, 6)])
            path.settings.set_onlink([plan.LAN4, plan.LAN6])
            path.settings.set_gateways([plan.MACS["router"]], [plan.GATEWAY4, plan.GATEWAY6])
            path.settings.set_wan_port(1)
            path.settings.set_inbound_mode(inbound)
        path.load_image(KIND_BASE, build_image(base))
        with lab.box.entered():
            path.attach(LAN_PORT, WAN_PORT, BRIDGE)
        yield path
        with lab.box.entered():
            path.detach(LAN_PORT, WAN_PORT, BRIDGE)
    finally:
        path.close()
