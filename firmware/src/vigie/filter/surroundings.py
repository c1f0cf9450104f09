"""What the box sees around it: links, its own addresses, its default gateways and the MACs that answer for them."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from vigie.errors import LinkError
from vigie.filter.zones import Address, Network, onlink_prefixes
from vigie.host.net import Interface, Link, Net

_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ARPHRD_ETHER, _ETH_ARP, _ETH_IPV4, _REQUEST = 1, 0x0806, 0x0800, 1
_DISCARD = 9
# include/uapi/linux/rtnetlink.h, if.h
_NLMSG = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_RTM_NEWLINK, _RTMGRP_LINK, _IFF_LOWER_UP = 16, 1, 1 << 16
_NETLINK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One look. `gateways`: next hops of default routes through the bridge, with their MAC where it is known."""

    ports: tuple[Link, Link]
    bridge: Link
    addresses: tuple[Interface, ...]
    gateways: tuple[tuple[Address, bytes | None], ...]

    @property
    def onlink(self) -> list[Network]:
        """Prefixes of the LAN."""
        return onlink_prefixes(a.network for a in self.addresses)


def look(net: Net, ports: Sequence[str], bridge: str) -> Surroundings:
    """The surroundings now. LinkError when a device has gone."""
    links = {link.name: link for link in net.links()}
    missing = [name for name in (*ports, bridge) if name not in links]
    if missing:
        raise LinkError(f"device {missing[0]} does not exist (any more)")
    own = links[bridge]
    macs = {n.address: n.mac for n in net.neighbours(own.index)}
    hops = [r.gateway for r in net.default_routes() if r.ifindex == own.index and r.gateway is not None]
    gateways = tuple((hop, macs.get(hop)) for hop in dict.fromkeys(hops))
    return Surroundings((links[ports[0]], links[ports[1]]), own, tuple(net.addresses(own.index)), gateways)


class CarrierWatch:
    """Every change of carrier, in order: a cable pulled and put back within milliseconds must not go unseen.

    A look at the links (`look`) shows only how they are; the kernel's messages show each step.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._socket.bind((0, _RTMGRP_LINK))

    def fileno(self) -> int:
        """Readable when there is something to `read`."""
        return self._socket.fileno()

    def read(self) -> list[tuple[int, bool]]:
        """(ifindex, carrier) of the messages that wait."""
        found: list[tuple[int, bool]] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    found += carriers(self._socket.recv(_NETLINK_BYTES))
                except OSError as e:
                    if e.errno != errno.ENOBUFS:
                        raise
        return found

    def close(self) -> None:
        """Stops watching."""
        self._socket.close()


def carriers(data: bytes) -> list[tuple[int, bool]]:
    """(ifindex, carrier) of the RTM_NEWLINK messages of one datagram; a bridge's messages about its ports left out."""
    found = []
    at = 0
    while at + _NLMSG.size + _IFINFO.size <= len(data):
        length, kind = _NLMSG.unpack_from(data, at)[:2]
        if length < _NLMSG.size:
            break
        family, _type, index, flags, _change = _IFINFO.unpack_from(data, at + _NLMSG.size)
        if kind == _RTM_NEWLINK and family == socket.AF_UNSPEC:
            found.append((index, bool(flags & _IFF_LOWER_UP)))
        at += (length + 3) & ~3
    return found


def find_ports(net: Net, bridge: str) -> tuple[str, str]:
    """The two ports when the configuration does not name them: the bridge's members, else the two physical ones."""
    links = net.links()
    existing = next((link for link in links if link.name == bridge and link.kind == "bridge"), None)
    if existing is not None:
        members = sorted(link.name for link in links if link.master == existing.index)
        if len(members) == 2:
            return members[0], members[1]
    # A device made by software says so (veth, bridge, vlan ...); wireless ones cannot be bridged as a station.
    physical = sorted(
        link.name for link in links if not link.kind and len(link.mac) == 6 and any(link.mac) and link.name[:2] != "wl"
    )
    if len(physical) != 2:
        seen = ", ".join(physical) or "none"
        raise LinkError(f"two Ethernet ports are needed, these were found: {seen}; name them (`ports: [eth0, eth1]`)")
    return physical[0], physical[1]


def arp_request(mac: bytes, source: IPv4Address, target: IPv4Address) -> bytes:
    """A broadcast ARP request (RFC 826), padded to the Ethernet minimum."""
    frame = _ARP.pack(
        *(b"\xff" * 6, mac, _ETH_ARP, _ARPHRD_ETHER, _ETH_IPV4, 6, 4, _REQUEST),
        *(mac, source.packed, bytes(6), target.packed),
    )
    return frame.ljust(60, b"\0")


def ask_gateways(seen: Surroundings) -> None:
    """Makes the gateways speak, so that the data path sees behind which port they are.

    IPv4: an ARP request. Both: a datagram to the discard port, which makes the kernel resolve a next hop that it does
    not know yet.
    """
    own = [a for a in seen.addresses if isinstance(a, IPv4Interface)]
    for address, _mac in seen.gateways:
        with contextlib.suppress(OSError):
            _poke(address, seen.bridge.index)
        source = next((a.ip for a in own if address in a.network), own[0].ip if own else None)
        if isinstance(address, IPv4Address) and source is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
                sock.bind((seen.bridge.name, 0))
                sock.send(arp_request(seen.bridge.mac, source, address))


def _poke(address: Address, ifindex: int) -> None:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    where = (str(address), _DISCARD) if address.version == 4 else (str(address), _DISCARD, 0, ifindex)
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(b"\0", where)
