"""The private path of the guardian's own frames: vg0 = vgp0 - bridge vgbr - vgp1 = vg1, made through rtnetlink.

Nothing of it touches the customer's bridge. Run as root, once at each start (`main.py prepare`).
"""

import socket
import struct

BRIDGE = "vgbr"
PORTS = ("vgp0", "vgp1")
ENDS = ("vg0", "vg1")
MACS = (b"\x02vg\x00\x00\x01", b"\x02vg\x00\x00\x02")

AF_NETLINK = 16
RTM_NEWLINK = 16
REQUEST, ACK, EXCL, CREATE = 1, 4, 0x200, 0x400
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MASTER, IFLA_LINKINFO, IFLA_AF_SPEC = 1, 3, 10, 18, 26
INFO_KIND, INFO_DATA = 1, 2
VETH_PEER = 1
BR_FORWARD_DELAY, BR_STP_STATE, BR_MCAST_SNOOPING = 1, 5, 23
AF_INET6, ADDR_GEN_MODE, NO_ADDRESSES = 10, 8, 1
IFF_UP = 1
EEXIST = 17


def attribute(kind, data):
    """One netlink attribute, padded."""
    return struct.pack("HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def _header(index=0, up=False):
    return struct.pack("BBHiII", 0, 0, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


def _name(name):
    return attribute(IFLA_IFNAME, name.encode() + b"\x00")


def bridge():
    """Body of the message that makes the bridge: no spanning tree, no snooping, nothing to wait for."""
    data = (
        attribute(BR_FORWARD_DELAY, struct.pack("I", 0))
        + attribute(BR_STP_STATE, struct.pack("I", 0))
        + attribute(BR_MCAST_SNOOPING, b"\x00")
    )
    info = attribute(INFO_KIND, b"bridge") + attribute(INFO_DATA, data)
    return _header() + _name(BRIDGE) + attribute(IFLA_LINKINFO, info)


def pair(end, port, mac):
    """Body of the message that makes one veth pair."""
    peer = attribute(VETH_PEER, _header() + _name(port))
    info = attribute(INFO_KIND, b"veth") + attribute(INFO_DATA, peer)
    return _header() + _name(end) + attribute(IFLA_ADDRESS, mac) + attribute(IFLA_LINKINFO, info)


def join(port, master):
    """Body of the message that puts a port into the bridge and up. Both are interface numbers."""
    return _header(port, up=True) + attribute(IFLA_MASTER, struct.pack("I", master))


def up(index):
    """Body of the message that puts an interface up."""
    return _header(index, up=True)


def silent(index):
    """Body of the message that keeps IPv6 from giving the interface an address, and from talking on it."""
    mode = attribute(ADDR_GEN_MODE, bytes([NO_ADDRESSES]))
    return _header(index) + attribute(IFLA_AF_SPEC, attribute(AF_INET6, mode))


class Netlink:
    """One socket; `ask` sends one message and waits for its acknowledgement."""

    def __init__(self):
        self.socket = socket.socket(AF_NETLINK, socket.SOCK_RAW, 0)
        self.socket.bind(struct.pack("HHII", AF_NETLINK, 0, 0, 0))
        self.socket.settimeout(5)
        self.number = 0

    def ask(self, body, flags=0):
        """0, or the kernel's error number (positive). Raises OSError."""
        self.number += 1
        message = struct.pack("IHHII", len(body) + 16, RTM_NEWLINK, REQUEST | ACK | flags, self.number, 0) + body
        self.socket.send(message)
        while True:
            answer = self.socket.recv(4096)
            _length, kind, _flags, number = struct.unpack("IHHI", answer[:12])
            if kind == 2 and number == self.number:  # NLMSG_ERROR, which is the acknowledgement too
                return -struct.unpack("i", answer[16:20])[0]

    def close(self):
        """No more questions."""
        self.socket.close()


def make(index_of):
    """Makes what is missing of the path. index_of(name) -> interface number or None. Raises OSError."""
    link = Netlink()
    try:
        _want(link.ask(bridge(), CREATE | EXCL))
        for end, port, mac in zip(ENDS, PORTS, MACS):
            _want(link.ask(pair(end, port, mac), CREATE | EXCL))
        for name in (BRIDGE,) + PORTS + ENDS:
            link.ask(silent(index_of(name)))  # refused by a kernel without IPv6, which is as quiet
        master = index_of(BRIDGE)
        _want(link.ask(up(master)))
        for end, port in zip(ENDS, PORTS):
            _want(link.ask(join(index_of(port), master)))
            _want(link.ask(up(index_of(end))))
    finally:
        link.close()


def _want(error):
    if error not in (0, EEXIST):
        raise OSError(error)
