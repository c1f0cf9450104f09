"""Random frames in one small world: a handful of addresses, MACs, ports and names, so that rules are hit often.

One number stands for one exchange (`random_frames`): mostly plain traffic of a few flows, sometimes odd, sometimes
absurd. Frames are described (`Spec`) before they are built, so that a report can say what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from random import Random
from typing import Any

from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from tests.support import packets as p

LAN4, LAN6 = (p.PC, p.CAMERA), (p.PC6, p.CAMERA6)
REMOTE4 = (p.PLAIN, p.TOXIC, p.RESOLVER, "198.51.100.67", p.NEIGHBOUR, p.GATEWAY, "169.254.9.9")
REMOTE6 = (p.PLAIN6, p.TOXIC6, p.RESOLVER6, "2001:db8:bad::67", p.NEIGHBOUR6, "fe80::50")
ODD4 = ("0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255", "239.1.2.3", p.BOX, "192.168.1.255", "0.1.2.3")
ODD6 = ("::", "::1", "ff02::1", "ff02::fb", p.BOX6, "::ffff:198.51.100.66", "::ffff:192.168.1.2", "fe80::2")
DEVICES = (p.PC_MAC, p.CAMERA_MAC)
MACS = (*DEVICES, p.GATEWAY_MAC, p.NEIGHBOUR_MAC, p.BOX_MAC, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb")
LAN_PORTS = (40000, 40001, 53, 68)
REMOTE_PORTS = (443, 53, 80, 22, 67)
NAMES = (
    "evil.example", "www.evil.example", "good.example", "pay.good.example", "doh.good.example", "example", "a.b.c.test",
    "test",
)  # fmt: skip
ASKED = (
    *NAMES, "x.www.evil.example", "WWW.Evil.Example", "x.pay.good.example", "mask.doh.good.example", "other.org",
    "notevil.example", "", "x" * 63 + ".evil.example", ".".join(["y" * 49] * 4) + ".evil.example",
)  # fmt: skip


@dataclass(frozen=True)
class Spec:
    """How a frame is made; hashable, so that equal frames are built once."""

    kind: str
    src: str
    dst: str
    sport: int = 0
    dport: int = 0
    smac: str = p.PC_MAC
    dmac: str = p.GATEWAY_MAC
    vlans: tuple[int, ...] = ()
    flags: str = "A"
    payload: bytes = b""
    quoted: tuple[str, str, str, int, int] | None = None
    chain: tuple[int, ...] = ()
    fragment: tuple[int, bool] | None = None
    cut: int | None = None
    changed: tuple[tuple[int, int], ...] = ()
    """(position, byte) overwritten after everything else."""
    trailer: bytes = b""
    transport: int | None = None
    """Bytes left of what follows the IP header, whose lengths agree with it."""

    def __repr__(self) -> str:
        """Only what differs from the defaults."""
        said = (f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if getattr(self, f.name) != f.default)
        return f"Spec({', '.join(said)})"


@lru_cache(maxsize=16384)
def build(spec: Spec) -> bytes:
    """The frame of a spec."""
    frame = _build_whole(spec)
    if spec.changed:
        raw = bytearray(frame)
        for at, value in spec.changed:
            if at < len(raw):
                raw[at] = value
        frame = bytes(raw)
    if spec.cut is not None:
        frame = frame[: max(spec.cut, 14)]
    frame += spec.trailer
    # BPF_PROG_RUN refuses an untagged IP frame without a whole IP header; cut ones are tested behind a tag.
    return frame.ljust({b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 14), b"\0")


def _build_whole(spec: Spec) -> bytes:
    if spec.kind == "arp":
        return p.arp(spec.src, spec.dst, spec.smac)
    if spec.kind == "probe":
        return p.probe(0x1122334455667788, spec.smac)
    if spec.kind == "other":
        return p.ether(spec.payload.ljust(46, b"\0"), spec.smac, spec.dmac, spec.vlans)
    packet = _PACKETS[spec.kind](spec)
    if spec.transport is not None:
        rest = bytes(packet.payload)[: spec.transport]
        number = {"nh": packet.nh} if p.is6(spec.src) else {"proto": packet.proto}
        packet = p.ip(spec.src, spec.dst, **number) / Raw(rest)
    if p.is6(spec.src):
        chain = spec.chain
        offset, more = spec.fragment or (0, False)
        if spec.fragment and 44 not in chain:
            chain = (*chain, 44)
        if chain:
            packet = p.extensions6(packet, chain, offset=offset, more=more)
    elif spec.fragment:
        packet = p.fragment4(packet, *spec.fragment)
    return p.ether(packet, spec.smac, spec.dmac, spec.vlans)


def _quoted(spec: Spec) -> bytes:
    kind, src, dst, sport, dport = spec.quoted or ("udp", spec.dst, spec.src, 40000, 443)
    return bytes(_PACKETS[kind](Spec(kind, src, dst, sport, dport)))


_PACKETS: dict[str, Callable[[Spec], Any]] = {
    "tcp": lambda s: p.tcp(s.src, s.dst, s.sport, s.dport, s.flags, s.payload),
    "udp": lambda s: p.udp(s.src, s.dst, s.sport, s.dport, s.payload),
    "echo": lambda s: p.echo(s.src, s.dst, s.sport),
    "reply": lambda s: p.echo(s.src, s.dst, s.sport, reply=True),
    "unreachable": lambda s: p.icmp_error(s.src, s.dst, _quoted(s), "unreachable"),
    "exceeded": lambda s: p.icmp_error(s.src, s.dst, _quoted(s), "exceeded"),
    "too_big": lambda s: p.icmp_error(s.src, s.dst, _quoted(s), "too_big"),
    "gre": lambda s: p.ip(s.src, s.dst) / GRE() / Raw(b"inner"),
    "ns": lambda s: p.ip(s.src, s.dst) / ICMPv6ND_NS(tgt=s.dst),
    "na": lambda s: p.ip(s.src, s.dst) / ICMPv6ND_NA(tgt=s.src),
    "ra": lambda s: p.ip(s.src, s.dst) / ICMPv6ND_RA(),
    "raw": lambda s: p.ip(s.src, s.dst, **({"nh": 132} if p.is6(s.src) else {"proto": 132})) / Raw(s.payload),
}

ODD_WIRE_NAMES = (b"\x03www\xc0\x0c", b"\x40" + b"a" * 64 + b"\0", b"\x3fabc", b"\x01z" * 127 + b"\0")
TCP_FLAGS = ("S", "S", "S", "SA", "A", "A", "PA", "PA", "FA", "R", "RA", "SF", "SR", "", "SEC")
OTHER_KINDS = ("echo", "reply", "unreachable", "exceeded", "too_big", "gre", "ns", "na", "ra", "raw", "probe", "other")
EXTENSIONS = (0, 43, 60, 44, 51, 135, 139, 140)


@dataclass(frozen=True)
class Flow:
    """Two ends, as the frames between them need them."""

    six: bool
    lan: str
    remote: str
    lan_port: int
    remote_port: int
    lan_mac: str
    far_mac: str
    port: int
    """The box's port on the LAN side."""

    def spec(self, kind: str, outward: bool, **values: Any) -> tuple[int, Spec]:
        """A frame of this flow, one way or the other."""
        ends = [(self.lan, self.lan_port, self.lan_mac), (self.remote, self.remote_port, self.far_mac)]
        (src, sport, smac), (dst, dport, dmac) = ends if outward else ends[::-1]
        fields_of: dict[str, Any] = {
            "src": src,
            "dst": dst,
            "sport": sport,
            "dport": dport,
            "smac": smac,
            "dmac": dmac,
        } | values
        return self.port if outward else 1 - self.port, Spec(kind, **fields_of)


def random_frames(seed: int, wan_port: int) -> list[tuple[int, Spec]]:
    """(port, frame)s of the small world that one number stands for: an exchange of one flow, or a single frame.

    Mostly plain traffic, sometimes odd, sometimes absurd. One number for several frames keeps thousands of them cheap
    to draw and to drop.
    """
    r = Random(seed)
    flow = _flow(r, wan_port)
    exchange = r.choice(
        (_any_frame,) * 8 + (_web, _web, _web, _question, _question, _datagrams, _served, _ping, _to_box, _found)
    )
    frames = exchange(r, flow)
    return [_made_odd(r, port, spec) for port, spec in frames if r.random() < 0.93]


def _flow(r: Random, wan_port: int) -> Flow:
    six = r.random() < 0.35
    lan = _first(r, LAN6 if six else LAN4)
    remote = _first(r, REMOTE6 if six else REMOTE4)
    return Flow(
        six,
        lan,
        remote,
        _first(r, LAN_PORTS),
        _first(r, REMOTE_PORTS),
        p.CAMERA_MAC if lan in (p.CAMERA, p.CAMERA6) else p.PC_MAC,
        p.NEIGHBOUR_MAC if remote in (p.NEIGHBOUR, p.NEIGHBOUR6) else p.GATEWAY_MAC,
        1 - wan_port if wan_port >= 0 else 0,
    )


def _web(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """A client of the LAN opens, says hello, is answered, closes."""
    early = _hello(r) if r.random() < 0.1 else b""
    frames = [
        flow.spec("tcp", True, flags="S", payload=early),
        flow.spec("tcp", False, flags="SA"),
        flow.spec("tcp", True, flags="PA", payload=_hello(r)),
        flow.spec("tcp", False, flags="PA", payload=b"hello yourself"),
        flow.spec("tcp", True, flags="FA"),
        flow.spec("tcp", False, flags="FA"),
        flow.spec("tcp", True, flags="A"),
    ]
    return frames[r.choice((0, 0, 0, 1, 2)) : r.choice((3, 4, 4, 5, 7))]


def _question(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """A DNS question by UDP or TCP, and its answer."""
    resolvers = (p.RESOLVER6, flow.remote, p.NEIGHBOUR6) if flow.six else (p.RESOLVER, flow.remote, p.NEIGHBOUR)
    flow = replace(flow, remote_port=53, remote=_first(r, resolvers), lan_port=_first(r, (40000, 40001)))
    query, answer = _query(r), _cut(r, _answer(r))
    if r.random() < 0.3:
        return [
            flow.spec("tcp", True, flags="S"),
            flow.spec("tcp", True, flags="PA", payload=_cut(r, r.choice((p.over_tcp(query), query)))),
            flow.spec("tcp", False, flags="PA", payload=p.over_tcp(answer)),
        ]
    return [flow.spec("udp", True, payload=query), flow.spec("udp", False, payload=answer)]


def _found(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """A name is looked up at a resolver that can be trusted, and its address opened, which is toxic otherwise."""
    resolver, toxic = (p.RESOLVER6, p.TOXIC6) if flow.six else (p.RESOLVER, p.TOXIC)
    name = r.choice(("good.example", "x.pay.good.example", "evil.example"))
    asks = replace(flow, remote=resolver, remote_port=53, lan_port=40000)
    opens = replace(flow, remote=toxic, remote_port=443, lan_port=r.choice((40000, 40001, 40002)))
    return [
        asks.spec("udp", True, payload=p.dns_query(name)),
        asks.spec("udp", False, payload=p.dns_answer(name, [toxic], r.choice((0, 60, 5000)))),
        opens.spec("tcp", True, flags="S"),
        opens.spec("tcp", False, flags="SA"),
        opens.spec("tcp", True, flags="S"),
    ][: r.randrange(3, 6)]


def _datagrams(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """A few datagrams, either side first, with an error about one of them."""
    ways = [r.random() < 0.6 for _ in range(r.randrange(1, 4))]
    frames = [flow.spec("udp", outward, payload=b"data") for outward in ways]
    if r.random() < 0.4:
        _, sent = frames[0]
        quoted = ("udp", sent.src, sent.dst, sent.sport, sent.dport)
        frames.append(flow.spec(r.choice(("unreachable", "exceeded", "too_big")), not ways[0], quoted=quoted))
    return frames


def _served(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """A client of the internet opens towards the LAN."""
    return [
        flow.spec("tcp", False, flags="S"),
        flow.spec("tcp", True, flags="SA"),
        flow.spec("tcp", False, flags="PA", payload=_hello(r)),
        flow.spec("tcp", True, flags=r.choice(("PA", "RA")), payload=b"x"),
        flow.spec("tcp", False, flags="A"),
    ][: r.randrange(1, 6)]


def _to_box(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """Frames for the box itself, wanted and not."""
    box = p.BOX6 if flow.six else p.BOX
    if r.random() < 0.4:  # what the own flows of the policies are answered with
        kind, remote, ports = r.choice((("tcp", p.PLAIN, (443, 40000)), ("udp", p.PLAIN6, (53, 40001))))
        dst = p.BOX6 if p.is6(remote) else p.BOX
        spec = Spec(kind, remote, dst, *ports, p.GATEWAY_MAC, p.BOX_MAC, flags="SA")
        return [(1 - flow.port, spec)]
    dhcp = (547, 546) if flow.six else (67, 68)
    sport, dport = r.choice(((40000, 443), (40000, 53), (40000, 22), dhcp, dhcp[::-1]))
    kind = r.choice(("tcp", "udp", "udp", "echo", "reply", "unreachable", "ns", "na", "gre"))
    if kind in ("ns", "na") and not flow.six:
        kind = "tcp"
    return [flow.spec(kind, True, dst=box, dmac=r.choice((p.BOX_MAC, p.GATEWAY_MAC)), sport=sport, dport=dport)]


def _ping(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    outward = r.random() < 0.6
    return [flow.spec("echo", outward, sport=7), flow.spec("reply", not outward, sport=7)]


def _any_frame(r: Random, flow: Flow) -> list[tuple[int, Spec]]:
    """One frame of any kind."""
    outward = r.random() < 0.6
    kind = r.choice(("tcp",) * 12 + ("udp",) * 8 + OTHER_KINDS)
    values: dict[str, Any] = {}
    sport, dport = (flow.lan_port, flow.remote_port) if outward else (flow.remote_port, flow.lan_port)
    if kind == "tcp":
        values["flags"] = r.choice(TCP_FLAGS)
        values["payload"] = _tcp_payload(r, dport, values["flags"])
    elif kind == "udp":
        values["payload"] = _udp_payload(r, sport, dport)
    elif kind in ("unreachable", "exceeded", "too_big"):
        # the packet complained of went the other way, between the same ends or others
        inner = r.choice(("tcp", "tcp", "udp", "udp", "echo", "gre"))
        here, there = (flow.lan, flow.remote) if outward else (flow.remote, flow.lan)
        values["quoted"] = (inner, there, r.choice((here, flow.remote)), 7 if inner == "echo" else dport, sport)
    elif kind in ("echo", "reply"):
        values["sport"] = 7
    elif kind in ("ns", "na", "ra") and not flow.six:
        kind = "arp" if kind == "ns" else "echo"
    return [flow.spec(kind, outward, **values)]


def _made_odd(r: Random, port: int, spec: Spec) -> tuple[int, Spec]:
    for _ in range(r.choice((0,) * 10 + (1, 1, 2))):
        name, value = _oddity(r, p.is6(spec.src))
        if name == "port":
            port = value
        elif name == "cut" and r.random() < 0.5:  # behind a tag, where even an IP header may be cut
            spec = replace(spec, cut=value, vlans=(7,))
        else:
            spec = replace(spec, **{name: value})
    return port, spec


def _first(r: Random, choices: Sequence[Any]) -> Any:
    """One of these, the first ones far more often: a few flows come back again and again."""
    return choices[min(int(r.expovariate(0.9)), len(choices) - 1)]


def _cut(r: Random, payload: bytes) -> bytes:
    """Mostly whole, sometimes cut anywhere or with one byte wrong."""
    if payload and r.random() < 0.1:
        at = r.randrange(min(len(payload), 90))
        payload = payload[:at] + bytes([r.choice((0, 1, 255, r.randrange(256)))]) + payload[at + 1 :]
    return payload[: r.randrange(160)] if r.random() < 0.15 else payload


def _query(r: Random) -> bytes:
    name = r.choice(ODD_WIRE_NAMES) if r.random() < 0.1 else r.choice((*ASKED, *ASKED[:5]))
    flags = r.choice((0x0100, 0x0100, 0x0100, 0x0000, 0x8180, 0x2800))
    questions = r.choice((1,) * 14 + (0, 2))
    return p.dns_query(name, r.choice((1, 28, 16)), flags=flags, edns=r.choice((0, 1232)), questions=questions)


def _tcp_payload(r: Random, dport: int, flags: str) -> bytes:
    if dport == 53:
        return _cut(r, p.over_tcp(_query(r))) if r.random() < 0.7 else b""
    return _hello(r) if flags in ("PA", "A", "S", "SEC") and r.random() < 0.6 else b""


def _hello(r: Random) -> bytes:
    """What a client says first: mostly a ClientHello."""
    if r.random() < 0.15:
        return r.choice((b"GET / HTTP/1.0\r\n\r\n", b"\x16", b"\x16\x03\x01"))
    hello = p.client_hello(
        r.choice((*ASKED, *ASKED[:5], "evil.example.", "evil..example", None)),
        before=r.choice((0, 0, 1, 4)),
        pad=r.choice((0, 0, 300)),
        session=r.choice((32, 32, 32, 0, 33)),
        name_type=r.choice((0,) * 9 + (1,)),
        record_split=r.choice((0,) * 8 + (20, 120)),
    )
    return _cut(r, hello)


def _udp_payload(r: Random, sport: int, dport: int) -> bytes:
    if dport == 53:
        return _cut(r, _query(r))
    if sport == 53:
        return _cut(r, _answer(r))
    return r.choice((b"", b"data", b"\x01" * 40))


def _answer(r: Random) -> bytes:
    family = r.choice(((p.TOXIC, p.PLAIN), (p.TOXIC6, p.PLAIN6)))
    return p.dns_answer(
        r.choice(NAMES),
        r.sample(family, r.randrange(3)),
        r.choice((60, 5000, 200_000)),
        cname=r.choice(("", "", "cdn.other.org")),
    )


def _oddity(r: Random, six: bool) -> tuple[str, Any]:
    """One field of a spec, and something unusual for it."""
    odd, usual = (ODD6, LAN6 + REMOTE6) if six else (ODD4, LAN4 + REMOTE4)
    kinds = ["src", "dst", "smac", "dmac", "port", "vlans", "fragment", "cut", "changed", "trailer", "sport", "dport"]
    kinds += ["transport", "transport", "changed"]
    kind = r.choice(kinds + ["chain"] * 3 * six)
    if kind in ("src", "dst"):
        return kind, r.choice(odd + usual)
    if kind in ("smac", "dmac"):
        return kind, r.choice(MACS)
    if kind == "port":
        return kind, r.randrange(2)
    if kind == "vlans":
        return kind, tuple(r.choice((0, 7, 832)) for _ in range(r.randrange(1, 6)))
    if kind == "fragment":
        return kind, (r.choice((0, 0, 1, 100)), r.random() < 0.5)
    if kind == "cut":
        return kind, r.randrange(14, 120)
    if kind == "changed":
        at = r.choice((14, 16, 17, 19, 20, r.randrange(12, 60), r.randrange(200)))
        return kind, ((at, r.choice((r.randrange(256), 0))),)
    if kind == "trailer":
        return kind, r.randbytes(r.randrange(1, 30))
    if kind == "transport":
        return kind, r.randrange(44)
    if kind == "chain":
        return kind, tuple(r.choice(EXTENSIONS) for _ in range(r.randrange(1, 11)))
    return kind, r.choice((0, 67, 547, 68, 546, 53, 5353))
