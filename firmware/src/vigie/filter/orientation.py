"""Which side of a capture is the LAN: a capture does not say at which port of the box a frame would have come in.

One pass counts who speaks to whom; then, in this order: the prefixes that the caller names; private addresses when
some talk to public ones; else the host that the capture is about (most peers), as happens in captures made on a server
or in a laboratory. MACs that mostly carry addresses of the other side are gateways: they settle the direction of frames
between two addresses of one side. Frames without Ethernet get made-up MACs, one per LAN address.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from vigie.filter.capture import ETHERNET, Packet, payload
from vigie.filter.decode.frames import Frame, address_text, parse

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LAN_PORT: Final = 0
WAN_PORT: Final = 1
CONVERSATIONS_MAX: Final = 50_000
ONLINK_MAX: Final = 7
GATEWAYS_MAX: Final = 2
GATEWAY_ADDRESSES_MAX: Final = 4

MADE_UP_GATEWAY: Final = bytes.fromhex("025647fffffe")
_NONE: Final = bytes(6)
_BROADCAST: Final = b"\xff" * 6
_MAPPED: Final = bytes(10) + b"\xff\xff"
PRIVATE: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
)

Conversation = tuple[bytes, bytes, bytes, bytes]
"""(source MAC, destination MAC, source address, destination address); addresses of 4 or 16 bytes."""


def _group(address: bytes) -> bool:
    """Multicast, broadcast, unspecified or loopback: says nothing about sides."""
    if len(address) == 4:
        return address[0] >= 224 or address[0] in (0, 127)
    return address[0] == 0xFF or not any(address[:15])


@dataclass(slots=True)
class Orientation:
    """The answer. `port` is asked for each frame; the rest goes into the data path's settings.

    `basis`: how it was found ("given", "private", "host" or "none"), for people.
    """

    basis: str
    lan: tuple[Network, ...]
    gateways: tuple[bytes, ...] = ()
    gateway_addresses: tuple[str, ...] = ()
    onlink: tuple[Network, ...] = ()
    _sides: dict[bytes, bool] = field(default_factory=dict)
    _bounds: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        self._bounds = tuple((net.network_address.packed, net.broadcast_address.packed) for net in self.lan)

    def is_lan(self, address: bytes) -> bool:
        """Whether an address (4 or 16 bytes) is on the LAN side."""
        side = self._sides.get(address)
        if side is None:
            # Bytes of one length compare as the addresses do.
            side = any(len(low) == len(address) and low <= address <= high for low, high in self._bounds)
            if len(self._sides) > CONVERSATIONS_MAX:
                self._sides.clear()
            self._sides[address] = side
        return side

    def port(self, data: bytes) -> int:
        """Port at which the box would have received an Ethernet frame."""
        source = data[6:12]
        if source in self.gateways:
            return WAN_PORT
        if data[:6] in self.gateways:
            return LAN_PORT
        # Plain IPv4, the common case, without a whole parsing.
        if data[12:14] == b"\x08\x00" and len(data) >= 34:
            return self._by_address(data[26:30], data[30:34])
        frame = parse(data)
        return self._by_address(frame.src, frame.dst) if frame.family else LAN_PORT

    def _by_address(self, source: bytes, destination: bytes) -> int:
        if self.is_lan(source):
            return LAN_PORT
        # Between two strangers (spoofed floods, transit): towards the LAN unless it says otherwise.
        return LAN_PORT if _group(source) and not self.is_lan(destination) else WAN_PORT

    def ethernet(self, packet: Packet) -> bytes | None:
        """The packet as an Ethernet frame; None when its link layer carries nothing that can be replayed."""
        if packet.linktype == ETHERNET:
            return packet.data
        inner = payload(packet.linktype, packet.data)
        if inner is None or len(inner.ethertype) != 2:
            return None
        source, destination = _ends(inner.ethertype, inner.data)
        if source and not self.is_lan(source):
            smac, dmac = MADE_UP_GATEWAY, self._mac(destination)
        else:
            smac, dmac = inner.mac or self._mac(source), MADE_UP_GATEWAY
            if destination and (_group(destination) or self.is_lan(destination)):
                dmac = _BROADCAST if _group(destination) else self._mac(destination)
        return dmac + smac + inner.ethertype + inner.data

    @staticmethod
    def _mac(address: bytes) -> bytes:
        return b"\x02\x56" + address[-4:].rjust(4, b"\0")


def _ends(ethertype: bytes, data: bytes) -> tuple[bytes, bytes]:
    if ethertype == b"\x08\x00" and len(data) >= 20:
        return data[12:16], data[16:20]
    if ethertype == b"\x86\xdd" and len(data) >= 40:
        return data[8:24], data[24:40]
    return b"", b""


def conversations(packets: Iterable[Packet]) -> Counter[Conversation]:
    """Frames per conversation; beyond CONVERSATIONS_MAX different ones, new ones are left out (floods)."""
    raw: Counter[tuple[bytes, bytes]] = Counter()
    found: Counter[Conversation] = Counter()
    for packet in packets:
        data = packet.data
        if packet.linktype == ETHERNET and data[12:14] == b"\x08\x00" and len(data) >= 34:
            key = (data[:12], data[26:34])
            if key in raw or len(raw) < CONVERSATIONS_MAX:
                raw[key] += 1
            continue
        if packet.linktype == ETHERNET:
            frame: Frame = parse(data)
            if not frame.family:
                continue
            conversation = (frame.smac, frame.dmac, frame.src, frame.dst)
        else:
            inner = payload(packet.linktype, data)
            source, destination = _ends(inner.ethertype, inner.data) if inner else (b"", b"")
            if not source:
                continue
            conversation = (_NONE, _NONE, source, destination)
        if conversation in found or len(found) < CONVERSATIONS_MAX:
            found[conversation] += 1
    for (macs, ends), count in raw.items():
        found[(macs[6:], macs[:6], ends[:4], ends[4:])] += count
    return found


def orient(packets: Iterable[Packet], lan: Iterable[Network | bytes] = ()) -> Orientation:
    """Find the LAN side. `lan`: prefixes of the LAN and MACs (6 bytes) of its machines, when known; empty: guess."""
    counts = conversations(packets)
    talks = {c: n for c, n in counts.items() if not _group(c[2]) and not _group(c[3])}
    nets, macs = _given(lan, talks)
    basis = "given"
    if not nets:
        basis, nets = _guess(talks)
    answer = Orientation(basis, nets)
    _find_gateways(answer, talks, macs)
    _find_onlink(answer, talks)
    return answer


def _given(lan: Iterable[Network | bytes], talks: dict[Conversation, int]) -> tuple[tuple[Network, ...], set[bytes]]:
    nets = [item for item in lan if not isinstance(item, bytes)]
    macs = {item for item in lan if isinstance(item, bytes)}
    for smac, dmac, source, destination in talks:
        for mac, address in ((smac, source), (dmac, destination)):
            if mac in macs:
                nets.append(ipaddress.ip_network(address))
    return tuple(dict.fromkeys(nets)), macs


def _guess(talks: dict[Conversation, int]) -> tuple[str, tuple[Network, ...]]:
    private = Orientation("", PRIVATE)
    if any(private.is_lan(source) != private.is_lan(destination) for _, _, source, destination in talks):
        return "private", PRIVATE
    peers: dict[bytes, set[bytes]] = {}
    packets: Counter[bytes] = Counter()
    for (_, _, source, destination), count in talks.items():
        peers.setdefault(source, set()).add(destination)
        peers.setdefault(destination, set()).add(source)
        packets[source] += count
        packets[destination] += count
    if not peers:
        return "none", PRIVATE
    # max() keeps the first of equals: conversations are in order of appearance, so that is who spoke first.
    host = max(peers, key=lambda address: (len(peers[address]), packets[address]))
    if private.is_lan(host):
        return "host", (ipaddress.ip_network((host, 24 if len(host) == 4 else 64), strict=False),)
    return "host", (ipaddress.ip_network(host),)


def _find_gateways(answer: Orientation, talks: dict[Conversation, int], lan_macs: set[bytes]) -> None:
    """MACs that mostly carry addresses of the other side, the busiest first; and their own addresses on the LAN."""
    carriers: Counter[bytes] = Counter()
    for (smac, dmac, source, destination), count in talks.items():
        for mac, address in ((smac, source), (dmac, destination)):
            if not mac[0] & 1 and mac not in lan_macs:
                carriers[mac] += count if not answer.is_lan(address) else -count
    carriers.pop(_NONE, None)
    answer.gateways = tuple(mac for mac, weight in carriers.most_common(GATEWAYS_MAX) if weight > 0)
    addresses: Counter[bytes] = Counter()
    hosts: set[bytes] = set()
    for (smac, _, source, _), count in talks.items():
        if answer.is_lan(source):
            if smac in answer.gateways:
                addresses[source] += count
            else:
                hosts.add(source)
    answer.gateway_addresses = tuple(
        address_text(address) for address, _ in addresses.most_common(GATEWAY_ADDRESSES_MAX) if address not in hosts
    )


def _find_onlink(answer: Orientation, talks: dict[Conversation, int]) -> None:
    """The /24 and /64 of the busiest LAN addresses, or the single address when the LAN is one host."""
    busy: Counter[bytes] = Counter()
    for (_, _, source, destination), count in talks.items():
        for address in (source, destination):
            if answer.is_lan(address):
                busy[address[:3] if len(address) == 4 else address[:8]] += count
    found: dict[Network, None] = {}
    for start, _ in busy.most_common(ONLINK_MAX):
        size = 4 if len(start) == 3 else 16
        whole = ipaddress.ip_network((start.ljust(size, b"\0"), 8 * len(start)))
        found[next((net for net in answer.lan if _within(net, whole)), whole)] = None
    answer.onlink = tuple(found)


def _within(net: Network, whole: Network) -> bool:
    return net.prefixlen >= whole.prefixlen and net.network_address in whole
