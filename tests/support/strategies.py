"""Random policies, frames and histories in one small world, for hypothesis.

The world is small so that random rules meet random packets: a handful of addresses, MACs, ports and names. Times
are far from each other (at least minutes), so that the seconds that a test itself takes change no decision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from random import Random
from typing import Any

from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA
from scapy.layers.l2 import GRE
from scapy.packet import Raw

from tests.support import packets as p
from tests.support.policies import (
    CLASS_FORCE,
    CLASS_NEVER,
    CLASS_PORTS,
    FOREVER,
    NO_VLAN,
    PK_AS,
    PK_COUNTRY,
    PK_DEFAULT,
    AddressException,
    IndicatorClass,
    NameException,
    OwnFlow,
    Policy,
    Resolved,
)
from vigie.contract.codes import Action, Direction, InboundMode

T0 = 1_000_000
"""The model's clock at the start of a history, seconds."""
UNTILS = (FOREVER, FOREVER, T0 - 5000, T0 + 1000)
JUMPS = (20, 330, 1100, 7300)
"""Ages that matter: closed 10 s, known 300 s, the `until` above, TCP 2 h."""

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
ADDRESSES = (*LAN4, *LAN6, *REMOTE4, *REMOTE6)
MAPPED = "::ffff:198.51.100.66"
"""The same 16 bytes as an IPv4 address, in an IPv6 packet."""
PREFIXES = (
    "198.51.100.0/24", "198.51.100.66/32", "198.51.100.64/30", "203.0.113.0/24", "9.9.9.9/32", "192.168.1.0/24",
    "192.168.1.10/32", "0.0.0.0/0", "2001:db8:bad::/48", "2001:db8:bad::66/128", "2001:db8:900d::/48", "2620:fe::9/128",
    "2001:db8::/32", "::/0",
)  # fmt: skip
LISTED = (*PREFIXES, f"{MAPPED}/128")


# ---- policies -------------------------------------------------------------------------------------

_actions = st.sampled_from((Action.BLOCK, Action.BLOCK, Action.OBSERVE, Action.NONE))
_classes = st.builds(
    IndicatorClass,
    flags=st.sampled_from((0, 0, 0, 0, CLASS_NEVER, CLASS_PORTS, CLASS_FORCE)),
    direction=st.sampled_from((Direction.BOTH, Direction.BOTH, Direction.OUT, Direction.IN)),
    action=_actions,
    category=st.integers(1, 16),
    rank=st.sampled_from((0, 0, 0, 1, 2, 3, 9)),
)
_untils = st.sampled_from(UNTILS)
_maybe_device = st.sampled_from((None, *DEVICES))
_wanted = st.sampled_from((Action.BLOCK, Action.ALLOW, Action.OBSERVE))


def _table(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any], size: int) -> st.SearchStrategy[Any]:
    """A small table, empty in half of the policies."""
    return st.one_of(st.just({}), st.dictionaries(keys, values, min_size=1, max_size=size))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A policy of the small world; each table is empty half of the time."""
    classes = dict(enumerate(draw(st.lists(_classes, min_size=1, max_size=5)), start=1))
    numbers = st.sampled_from(tuple(classes))
    isolation = draw(st.sampled_from((0,) * 12 + (1, 2, 3)))
    nothing = draw(st.integers(0, 15)) == 15
    return Policy(
        wan_port=draw(st.sampled_from((1, 1, 1, 0, 0, -1))),
        gw_mac=draw(st.sampled_from(((), (p.GATEWAY_MAC,), (p.GATEWAY_MAC, p.NEIGHBOUR_MAC)))),
        onlink=draw(st.sampled_from(((), ("192.168.1.0/24", "2001:db8:1::/64"), ("192.168.1.0/24",)))),
        box_addr=draw(st.sampled_from(((p.BOX, p.BOX6), (p.BOX,), ()))),
        gateway=draw(st.sampled_from(((), (p.GATEWAY, p.GATEWAY6)))),
        box_ports=draw(st.sampled_from(((), ((6, 443), (17, 53))))),
        inbound_mode=draw(st.sampled_from((*InboundMode, *[InboundMode.REFUSE] * 3))),
        isolation_level=isolation,
        isolation_until=draw(st.sampled_from((T0 + 1000, T0 + 9000, T0 - 5))) if isolation else 0,
        grace_until=draw(st.sampled_from((0, 0, 0, T0 + 1000))),
        loop_port=draw(st.sampled_from((0,) * 40 + (1, 2))),
        learn=draw(st.booleans()),
        classes=classes,
        base={} if nothing else draw(st.dictionaries(st.sampled_from(LISTED), numbers, max_size=6)),
        base_ports=draw(
            st.frozensets(st.tuples(st.sampled_from((*ADDRESSES, MAPPED)), st.sampled_from(REMOTE_PORTS)), max_size=4)
        ),
        names={} if nothing else draw(st.dictionaries(st.sampled_from(NAMES), numbers, min_size=1, max_size=5)),
        geo=draw(
            _table(
                st.sampled_from(LISTED),
                st.tuples(st.sampled_from((0, 64500, 64501)), st.sampled_from(("", "FR", "US"))),
                4,
            )
        ),
        exceptions=draw(
            _table(
                st.tuples(_maybe_device, st.sampled_from(PREFIXES)),
                st.builds(
                    AddressException,
                    action=_wanted,
                    until=_untils,
                    port=st.sampled_from((0, 0, 443, 53, 40000)),
                    proto=st.sampled_from((0, 0, 6, 17)),
                ),
                4,
            )
        ),
        local_names=draw(
            _table(
                st.tuples(_maybe_device, st.sampled_from(NAMES)),
                st.builds(NameException, action=_wanted, until=_untils),
                4,
            )
        ),
        quarantine=draw(st.one_of(*[st.just({})] * 4, _table(st.sampled_from(DEVICES), _untils, 1))),
        dynamic=draw(_table(st.tuples(_maybe_device, st.sampled_from(ADDRESSES)), _untils, 3)),
        inbound_allow=draw(
            _table(
                st.tuples(st.sampled_from(DEVICES), st.sampled_from((6, 17, 47)), st.sampled_from((*LAN_PORTS, 0))),
                _untils,
                5,
            )
        ),
        device_class=draw(
            _table(st.sampled_from(DEVICES), st.tuples(st.integers(1, 2), st.sampled_from((0, 0, 1, 3))), 2)
        ),
        class_policy=draw(
            _table(
                st.one_of(
                    st.tuples(st.integers(1, 2), st.just(PK_DEFAULT), st.just(0)),
                    st.tuples(st.integers(1, 2), st.just(PK_COUNTRY), st.sampled_from(("FR", "US"))),
                    st.tuples(st.integers(1, 2), st.just(PK_AS), st.sampled_from((64500, 64501))),
                ),
                st.sampled_from((Action.BLOCK, Action.OBSERVE, Action.ALLOW)),
                4,
            )
        ),
        essential_ports=draw(
            _table(st.tuples(st.sampled_from((6, 17)), st.sampled_from(REMOTE_PORTS)), st.sampled_from((1, 2, 5)), 2)
        ),
        resolved=draw(
            _table(
                st.sampled_from(ADDRESSES),
                st.builds(Resolved, until=_untils, never=st.booleans(), rank=st.sampled_from((0, 1, 5))),
                3,
            )
        ),
        own=draw(
            st.sampled_from(
                (
                    (),
                    (
                        OwnFlow(p.BOX, p.PLAIN, 40000, 443, 6, NO_VLAN),
                        OwnFlow(p.BOX6, p.PLAIN6, 40001, 53, 17, NO_VLAN),
                    ),
                )
            )
        ),
    )


Step = int | tuple[str, int] | Policy
"""Of a history: the seed of some frames (`random_frames`); ("advance", seconds); ("evict", 0); another policy."""


@st.composite
def histories(draw: st.DrawFn, length: int = 40) -> tuple[Policy, list[Step]]:
    """A policy and what happens under it: frames, time, loss of the flow cache, other policies with the same roles."""
    policy = draw(policies())
    later = policies().map(lambda other: replace(other, wan_port=policy.wan_port))
    rare = st.one_of(st.sampled_from(JUMPS).map(lambda s: ("advance", s)), st.just(("evict", 0)), later)
    runs = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=length // 2)
    steps: list[Step] = [*draw(st.lists(st.integers(0, 2**32 - 1), min_size=length // 4, max_size=length))]
    for _ in range(draw(st.integers(0, 3))):
        steps += [draw(rare), *draw(runs)]
    return policy, steps


# ---- frames ---------------------------------------------------------------------------------------


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
    if not seed:
        return []  # what a number that matters not shrinks to
    r = Random(seed)
    flow = _flow(r, wan_port)
    exchange = r.choice((_any_frame,) * 8 + (_web, _web, _web, _question, _question, _datagrams, _served, _ping))
    frames = exchange(r, flow)
    return [_made_odd(r, flow, port, spec) for port, spec in frames if r.random() < 0.93]


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
    flow = replace(flow, remote_port=53, remote=_first(r, (flow.remote, p.RESOLVER6 if flow.six else p.RESOLVER)))
    query, answer = _query(r), _answer(r)
    if r.random() < 0.3:
        return [
            flow.spec("tcp", True, flags="S"),
            flow.spec("tcp", True, flags="PA", payload=_cut(r, r.choice((p.over_tcp(query), query)))),
            flow.spec("tcp", False, flags="PA", payload=p.over_tcp(answer)),
        ]
    return [flow.spec("udp", True, payload=query), flow.spec("udp", False, payload=answer)]


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


def _made_odd(r: Random, flow: Flow, port: int, spec: Spec) -> tuple[int, Spec]:
    for _ in range(r.choice((0,) * 10 + (1, 1, 2))):
        name, value = _oddity(r, flow.six)
        if name == "port":
            port = value
        else:
            spec = replace(spec, **{name: value})
    return port, spec


def _first(r: Random, choices: Sequence[Any]) -> Any:
    """One of these, the first ones far more often: a few flows come back again and again."""
    return choices[min(int(r.expovariate(0.9)), len(choices) - 1)]


def _cut(r: Random, payload: bytes) -> bytes:
    """Mostly whole, sometimes cut anywhere."""
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
        return kind, ((r.choice((r.randrange(12, 60), r.randrange(200))), r.choice((r.randrange(256), 0))),)
    if kind == "trailer":
        return kind, r.randbytes(r.randrange(1, 30))
    if kind == "chain":
        return kind, tuple(r.choice(EXTENSIONS) for _ in range(r.randrange(1, 11)))
    return kind, r.choice((0, 67, 547, 68, 546, 53, 5353))
