"""What is inside the box: a plain Linux bridge (the yardstick), or the product."""

from __future__ import annotations

from lab import plan
from lab.topology import LAN_PORT, WAN_PORT, Topology

BRIDGE = "br0"
# Bits 3 and 14 of the link-local group: EAPOL (01:80:c2:00:00:03) and LLDP (..:0e).
GROUP_FORWARD = (1 << 3) | (1 << 14)


def make_plain_bridge(lab: Topology) -> None:
    """Bridge both ports and give the bridge its address and default route; forwards what the product must forward."""
    box = lab.box
    box.sysctl("net/ipv6/conf/default/accept_ra", 2)
    box.bridge(BRIDGE, LAN_PORT, WAN_PORT)
    box.ip("link", "set", BRIDGE, "type", "bridge", "group_fwd_mask", str(GROUP_FORWARD))
    give_address(lab)


def give_address(lab: Topology) -> None:
    """Static address of the office range and default route, on an existing `br0`."""
    box = lab.box
    box.ip("link", "set", BRIDGE, "address", plan.MACS["box"])
    box.address(BRIDGE, f"{plan.BOX4}/24", f"{plan.BOX6}/64")
    box.route("default", "via", plan.GATEWAY4)
