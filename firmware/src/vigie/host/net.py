"""Network devices of the box: reading what is there, and the bridge over the two ports.

Everything goes through rtnetlink in the calling thread's network namespace (never /sys/class/net, which shows the
namespace of whoever mounted it). Functions that change something are idempotent: they write only what differs.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from vigie.errors import LinkError, UsageError
from vigie.host.netlink import command, converse
from vigie.host.sysctl import ProcSysctl, Sysctl, set_if_present

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Link-local groups that a bridge swallows unless told otherwise: bit n is 01:80:c2:00:00:0n.
GROUP_EAPOL: Final = 1 << 3
GROUP_LLDP: Final = 1 << 14
GROUP_FWD_MASK: Final = GROUP_EAPOL | GROUP_LLDP
"""BPDUs (bit 0) need no bit, and may not have one: without STP of its own the bridge forwards them
(net/bridge/br_input.c: br_handle_frame, case 0x00). Pause frames (bit 1) never cross a link."""

BRIDGE_SETTINGS: Final[dict[str, int]] = {
    "br_stp_state": 0,
    "br_forward_delay": 0,
    "br_mcast_snooping": 0,
    "br_vlan_filtering": 0,
    "br_group_fwd_mask": GROUP_FWD_MASK,
    "br_nf_call_iptables": 0,
    "br_nf_call_ip6tables": 0,
    "br_nf_call_arptables": 0,
}
BRIDGE_NF: Final = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-call-arptables")
PORT_DISABLED, PORT_LISTENING, PORT_LEARNING, PORT_FORWARDING, PORT_BLOCKING = range(5)
_IFF_UP: Final = 1
_IFF_LOWER_UP: Final = 1 << 16
_NUD_USABLE: Final = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent; not multicast
_RTM_SETLINK: Final = 19
_IFLA_PROTINFO_NESTED: Final = 12 | 0x8000
_IFLA_BRPORT_STATE: Final = 1
_AF_BRIDGE: Final = 7
_NTF_SELF: Final = 0x02


@dataclass(frozen=True, slots=True)
class Link:
    """A device. mac: 6 bytes, empty for devices without. port_state: PORT_* of a bridge port, else None."""

    index: int
    name: str
    mac: bytes
    mtu: int
    up: bool
    carrier: bool
    kind: str
    master: int
    port_state: int | None


@dataclass(frozen=True, slots=True)
class Route:
    """A default route. gateway None: on-link."""

    family: int
    gateway: Address | None
    ifindex: int
    metric: int


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the neighbour table that can be used. family 4 or 6."""

    family: int
    address: Address
    mac: bytes
    ifindex: int
    router: bool


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """Where the bridge saw a MAC. local: a MAC of the bridge's own ports."""

    mac: bytes
    ifindex: int
    local: bool


class NetReader(Protocol):
    """What zones and status need to see of the machine; `Net` is the real one."""

    def link(self, name: str) -> Link:
        """The device of this name. LinkError when there is none."""

    def addresses(self, ifindex: int) -> list[Interface]:
        """Addresses with their prefixes."""

    def default_routes(self) -> list[Route]:
        """Default routes of the main table, lowest metric first."""

    def neighbours(self, ifindex: int) -> list[Neighbour]:
        """Neighbours whose MAC is known."""

    def fdb(self, bridge: str) -> list[FdbEntry]:
        """Forwarding database of a bridge."""


def _mac(text: str | None) -> bytes:
    return bytes.fromhex(text.replace(":", "")) if text else b""


def _link(message: Any) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    slave = info.get_attr("IFLA_INFO_SLAVE_DATA") if info else None
    state = slave.get_attr("IFLA_BRPORT_STATE") if slave and hasattr(slave, "get_attr") else None
    flags = int(message["flags"])
    return Link(
        int(message["index"]), str(message.get_attr("IFLA_IFNAME")), _mac(message.get_attr("IFLA_ADDRESS")),
        int(message.get_attr("IFLA_MTU") or 0), bool(flags & _IFF_UP), bool(flags & _IFF_LOWER_UP), str(kind or ""),
        int(message.get_attr("IFLA_MASTER") or 0), None if state is None else int(state),
    )  # fmt: skip


class Net:
    """The machine's network, in the namespace of the calling thread."""

    def __init__(self, sysctl: Sysctl | None = None) -> None:
        self._sysctl = sysctl or ProcSysctl()

    # -- reading

    def links(self) -> list[Link]:
        """Every device, by number."""
        return converse("list of devices", lambda ip: [_link(m) for m in ip.get_links()])

    def link(self, name: str) -> Link:
        """The device of this name. LinkError when there is none."""
        found = next((link for link in self.links() if link.name == name), None)
        if found is None:
            raise LinkError(f"device {name} does not exist; `ip link` lists those that do", errno.ENODEV)
        return found

    def addresses(self, ifindex: int) -> list[Interface]:
        """Addresses with their prefixes, tentative and deprecated ones included."""

        def read(ip: Any) -> list[Interface]:
            out = []
            for m in ip.get_addr(index=ifindex):
                text = m.get_attr("IFA_LOCAL") or m.get_attr("IFA_ADDRESS")
                out.append(ipaddress.ip_interface(f"{text}/{m['prefixlen']}"))
            return out

        return converse(f"addresses of device {ifindex}", read)

    def default_routes(self) -> list[Route]:
        """Default routes of the main table, lowest metric first."""

        def read(ip: Any) -> list[Route]:
            out = []
            for family, number in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
                for m in ip.get_default_routes(family=family):
                    oif, via = m.get_attr("RTA_OIF"), m.get_attr("RTA_GATEWAY")
                    if oif:
                        gateway = ipaddress.ip_address(via) if via else None
                        out.append(Route(number, gateway, int(oif), int(m.get_attr("RTA_PRIORITY") or 0)))
            return sorted(out, key=lambda r: (r.metric, r.family))

        return converse("default routes", read)

    def neighbours(self, ifindex: int) -> list[Neighbour]:
        """Neighbours of a device whose MAC is known."""

        def read(ip: Any) -> list[Neighbour]:
            out = []
            for family, number in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
                for m in ip.get_neighbours(family=family, ifindex=ifindex):
                    mac, address = _mac(m.get_attr("NDA_LLADDR")), m.get_attr("NDA_DST")
                    if len(mac) == 6 and any(mac) and address and int(m["state"]) & _NUD_USABLE:
                        router = bool(int(m["flags"]) & 0x80)
                        out.append(Neighbour(number, ipaddress.ip_address(address), mac, ifindex, router))
            return out

        return converse(f"neighbours of device {ifindex}", read)

    def neighbour_mac(self, ifindex: int, address: Address) -> bytes | None:
        """MAC of a neighbour, None while it is not known."""
        return next((n.mac for n in self.neighbours(ifindex) if n.address == address), None)

    def fdb(self, bridge: str) -> list[FdbEntry]:
        """Where the bridge saw which MAC."""
        index = self.link(bridge).index

        def read(ip: Any) -> list[FdbEntry]:
            out = []
            for m in ip.fdb("dump"):
                if m.get_attr("NDA_MASTER") == index and not int(m["flags"]) & _NTF_SELF:
                    local = bool(int(m["state"]) & 0x80)
                    out.append(FdbEntry(_mac(m.get_attr("NDA_LLADDR")), int(m["ifindex"]), local))
            return list(dict.fromkeys(out))

        return converse(f"forwarding database of {bridge}", read)

    # -- the bridge

    def ensure_bridge(self, name: str, ports: Sequence[str], mac: bytes | None = None) -> Link:
        """Bridge `name` over `ports`, all up, with the settings of the box; whatever is right already is left alone.

        mac: of the bridge; without one a new bridge takes the first port's, an existing one keeps its own. Offloads
        of the ports are not touched. The ports themselves carry no IPv6: they are not for talking to the box.
        """
        if len(set(ports)) != len(ports):
            raise UsageError(f"ports {', '.join(ports)}: each must be another device")
        members = [self.link(p) for p in ports]
        existing = next((link for link in self.links() if link.name == name), None)
        if existing is not None and existing.kind != "bridge":
            raise LinkError(f"device {name} exists and is no bridge: give the bridge another name", errno.EEXIST)
        for setting in BRIDGE_NF:
            set_if_present(self._sysctl, f"net/bridge/{setting}", "0")
        if existing is None:
            converse(f"making bridge {name}", lambda ip: ip.link("add", ifname=name, kind="bridge"))
            mac = mac or members[0].mac
        index = self.link(name).index
        if mac is not None and self.link(name).mac != mac:
            text = mac.hex(":")
            converse(f"MAC of bridge {name}", lambda ip: ip.link("set", index=index, address=text))
        wrong = self.bridge_differences(name)
        if wrong:
            converse(f"settings of bridge {name}", lambda ip: ip.link("set", index=index, kind="bridge", **wrong))
        for member in members:
            self._ensure_port(member, index, name)
        if not self.link(name).up:
            converse(f"bridge {name} up", lambda ip: ip.link("set", index=index, state="up"))
        return self.link(name)

    def bridge_differences(self, name: str) -> dict[str, int]:
        """Settings of the bridge that are not those of the box -> what they should be. Settings that this kernel lacks
        (built without bridge netfilter) are left out."""

        def read(ip: Any) -> dict[str, int]:
            for m in ip.get_links(ifname=name):
                data = m.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
                have = {key: data.get_attr("IFLA_" + key.upper()) for key in BRIDGE_SETTINGS}
                return {k: v for k, v in BRIDGE_SETTINGS.items() if have[k] is not None and int(have[k]) != v}
            return {}

        return converse(f"settings of bridge {name}", read)

    def _ensure_port(self, port: Link, bridge: int, name: str) -> None:
        if port.master not in (0, bridge):
            raise LinkError(f"device {port.name} belongs to another bridge or bond: take it out first", errno.EBUSY)
        set_if_present(self._sysctl, f"net/ipv6/conf/{port.name}/disable_ipv6", "1")
        if port.master == 0:
            what = f"putting {port.name} into {name}"
            converse(what, lambda ip: ip.link("set", index=port.index, master=bridge))
        if not port.up:
            converse(f"device {port.name} up", lambda ip: ip.link("set", index=port.index, state="up"))

    def remove_bridge(self, name: str) -> None:
        """Delete a bridge; its ports stay, alone. Nothing happens when there is none."""
        found = next((link for link in self.links() if link.name == name and link.kind == "bridge"), None)
        if found is not None:
            converse(f"removing bridge {name}", lambda ip: ip.link("del", index=found.index))

    def set_port_state(self, port: str, forwarding: bool) -> None:
        """Let a bridge port forward, or stop it both ways (a loop); a link that goes down and up opens it again.

        LinkError when it is no bridge port, or is to be opened without a carrier (it opens by itself with the carrier).
        """
        link = self.link(port)
        # Not PORT_BLOCKING: without STP the bridge opens a blocking port again at once (br_port_state_selection).
        state = PORT_FORWARDING if forwarding else PORT_DISABLED
        if link.port_state is None:
            raise LinkError(f"device {port} is not a port of a bridge", errno.EINVAL)
        if link.port_state == state:
            return
        what = f"{'opening' if forwarding else 'blocking'} port {port}"
        info = struct.pack("=BxHiII", _AF_BRIDGE, 0, link.index, 0, 0)
        inner = struct.pack("=HHB3x", 5, _IFLA_BRPORT_STATE, state)
        command(what, _RTM_SETLINK, info + struct.pack("=HH", 4 + len(inner), _IFLA_PROTINFO_NESTED) + inner)
