"""The decision of docs/datapath.md in plain Python: what the data path must say of each frame.

Slow and simple on purpose: tables are walked from end to end, nothing is shared with the C program but the numbers of
`vigie.contract.codes`. The order of the methods is the order of the specification. Not modelled, and tested by
intent in tests/bpf instead: names held back (F_HOLD), rate limits, eviction, redirection, events.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from tests.support.model_frame import (
    FIN,
    NEIGHBOUR_TYPES,
    RST,
    SYN,
    TCP,
    UDP,
    Fragment,
    Frame,
    parse,
    parse_quote,
)
from tests.support.model_names import (
    Malformed,
    Name,
    NotHere,
    NotTls,
    dns_answers,
    dns_query,
    from_text,
    server_name,
    suffixes,
)
from tests.support.policies import (
    CLASS_FORCE,
    CLASS_NEVER,
    CLASS_PORTS,
    FOREVER,
    PK_AS,
    PK_COUNTRY,
    PK_DEFAULT,
    AddressException,
    IndicatorClass,
    NameException,
    Policy,
    in_prefix,
    mac,
    mapped_prefix,
    packed,
)
from vigie.contract.codes import Action, Direction, InboundMode, Reason, Verdict

KNOWN_S = 300
KNOWN_TCP_S = 7200
CLOSED_S = 10

End = tuple[bytes, int]
"""An address and its port."""

FlowKey = tuple[bytes, bytes, int, int, int, int, int]
"""End behind port 0, end behind port 1, their ports, protocol, family, VLAN."""


class Side(Enum):
    """Which way a frame goes."""

    UNKNOWN = "unknown"
    OUT = "out"
    IN = "in"


class Opener(Enum):
    """Which side opened a flow, when roles are known."""

    UNKNOWN = "unknown"
    LAN = "lan"
    INTERNET = "internet"


@dataclass(frozen=True)
class Outcome:
    """What is done with a frame, why, what was odd in it, and which name decided."""

    verdict: Verdict
    reason: Reason
    anomaly: tuple[Reason, ...] = ()
    name: str | None = None


@dataclass
class Flow:
    """One entry of the flow cache."""

    epoch: int
    verdict: Verdict
    reason: Reason
    opener: int | None
    last: int
    until: int = 0
    macs: list[bytes] = field(default_factory=lambda: [b"", b""])
    """Of the end behind port 0, of the end behind port 1."""
    inspect: bool = False
    hello: bool = False
    named: bool = False
    """Refused by its server's name: no epoch forgets it."""
    closed: bool = False
    tcp_flags: list[int] = field(default_factory=lambda: [0, 0])

    def known(self, proto: int, now: int) -> bool:
        age = now - self.last
        if self.closed:
            return age < CLOSED_S
        return age < (KNOWN_TCP_S if proto == TCP else KNOWN_S)


@dataclass
class Case:
    """A frame on its way through the layers."""

    frame: Frame
    port: int
    now: int
    side: Side
    remote: bytes
    remote_port: int | None
    device: bytes
    device_port: int | None
    local: bool
    key: FlowKey
    flow: Flow | None
    opener: int | None
    opener_side: Opener
    spared: Reason | None = None
    spared_by_address: bool = False
    observed: Reason | None = None
    admitted: Reason | None = None
    until: int = 0
    name: Name | None = None

    def observe(self, reason: Reason) -> None:
        if self.observed is None:
            self.observed = reason

    def in_force(self, until: int) -> bool:
        """True while an entry with this expiry exists; the flow is decided again after the earliest one."""
        if until == FOREVER:
            return True
        if until <= self.now:
            return False
        self.until = min(self.until or until, until)
        return True

    @property
    def passes_outward(self) -> bool:
        """True for the frames that may create an entry, and that say which MACs a flow has."""
        return self.side != Side.IN or self.local

    @property
    def service_port(self) -> int | None:
        return self.device_port if self.opener_side == Opener.INTERNET else self.remote_port

    @property
    def known(self) -> bool:
        return self.flow is not None


Blocked = tuple[Verdict, Reason]


class Model:
    """The data path's memory, and what it says of one frame after the other."""

    def __init__(self, policy: Policy) -> None:
        self.flows: dict[FlowKey, Flow] = {}
        self.openers: dict[tuple[frozenset[End], int], tuple[End, int]] = {}
        """(Both ends, protocol) -> the end that opened last, and when."""
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Another policy; flows and the memory of openers stay."""
        self.policy = policy
        self.resolved = {packed(a): (r.until, r.never, r.rank) for a, r in policy.resolved.items()}
        self.names = {from_text(n): c for n, c in policy.names.items()}
        self.local_names = {(m, from_text(n)): e for (m, n), e in policy.local_names.items()}
        self.boxes = [packed(a) for a in policy.box_addr]

    def evict(self) -> None:
        """The flow cache is lost; the memory of openers stays."""
        self.flows.clear()

    # ---- one frame ------------------------------------------------------------------------------

    def decide(self, port: int, data: bytes, now: int) -> Outcome:
        """Verdict and reason of a frame that comes in at `port` at `now` seconds; remembers what it must."""
        frame = parse(data)
        if Reason.SHORT_FRAME in frame.anomalies:
            return Outcome(Verdict.PASS, Reason.NOT_IP, tuple(frame.anomalies))
        verdict, reason, name = self._decide(port, frame, now)
        text = None if name is None else name.replace(b"\0", b".").decode("latin-1")
        return Outcome(verdict, reason, tuple(frame.anomalies), text)

    def _decide(self, port: int, frame: Frame, now: int) -> tuple[Verdict, Reason, Name | None]:
        gate = self._link_gates(port, frame)
        if gate is None:
            gate = self._address_gates(port, frame, now)
        if gate is not None:
            return *gate, None
        case = self._case(port, frame, now)
        hit = self._hit(case)
        verdict, reason = hit or self._layers(case)
        flow = case.flow if hit else self._remember(case, verdict, reason)
        if flow is not None:
            self._account(flow, case)
            verdict, reason = self._first_payload(flow, case, verdict, reason)
        if verdict == Verdict.PASS:
            self._learn(case)
        return verdict, reason, case.name

    # ---- gates ----------------------------------------------------------------------------------

    def _link_gates(self, port: int, frame: Frame) -> Blocked | None:
        policy = self.policy
        if frame.smac == mac(policy.box_mac):
            probe = b"VGLP" + struct.pack("!Q", policy.probe_nonce)
            if frame.ethertype == 0x88B5 and frame.body.startswith(probe):
                return Verdict.DROP, Reason.LOOP
            return Verdict.DROP, Reason.SPOOF
        if policy.loop_port == port + 1:
            return Verdict.DROP, Reason.LOOP
        if frame.family == 0:
            if frame.ethertype == 0x0806 and len(frame.body) >= 18:
                sender = bytes(10) + b"\xff\xff" + frame.body[14:18]
                if sender in self.boxes:
                    return Verdict.DROP, Reason.SPOOF
            return Verdict.PASS, Reason.NOT_IP
        return None

    def _address_gates(self, port: int, frame: Frame, now: int) -> Blocked | None:
        if frame.src in self.boxes:
            return Verdict.DROP, Reason.SPOOF
        if frame.dmac == mac(self.policy.box_mac) or frame.dst in self.boxes:
            if self._for_box(port, frame):
                return Verdict.PASS, Reason.OWN
            return Verdict.DROP, Reason.NOT_FOR_BOX
        if _is_group(frame.dst, frame.family):
            return Verdict.PASS, Reason.MULTICAST
        if _bad_source(frame.src, frame.family):
            return Verdict.DROP, Reason.BAD_SOURCE
        if frame.family == 6 and frame.proto == 58 and frame.icmp_type in NEIGHBOUR_TYPES:
            return Verdict.PASS, Reason.LOCAL
        return None

    def _for_box(self, port: int, frame: Frame) -> bool:
        """True for a frame to the box that is let up to it."""
        policy = self.policy
        remote_port, box_port = frame.key_ports
        for own in policy.own:
            if (
                (frame.dst, frame.src) == (packed(own.box), packed(own.remote))
                and (box_port, remote_port) == (own.box_port, own.remote_port)
                and frame.proto == own.proto
                and frame.family == (4 if "." in own.box else 6)
            ):
                return True
        if frame.family == 6 and frame.proto == 58 and frame.icmp_type in NEIGHBOUR_TYPES:
            return True
        if frame.proto == UDP and frame.ports in ((67, 68), (547, 546)):
            return True
        known_lan = policy.wan_port >= 0 and port != policy.wan_port
        if known_lan and self._on_link(frame.src):
            if frame.is_echo and not frame.is_echo_reply:
                return True
            if frame.ports is not None and (frame.proto, frame.ports[1]) in policy.box_ports:
                return True
        return frame.is_icmp_error

    # ---- words ----------------------------------------------------------------------------------

    def _on_link(self, address: bytes) -> bool:
        fixed = ("fe80::/10", "169.254.0.0/16")
        return any(in_prefix(address, prefix) for prefix in (*fixed, *self.policy.onlink))

    def _case(self, port: int, frame: Frame, now: int) -> Case:
        policy = self.policy
        side = self._side(port, frame)
        sport, dport = frame.ports if frame.ports is not None else (None, None)
        if side == Side.IN:
            remote, remote_port, device, device_port = frame.src, sport, frame.dmac, dport
        else:
            remote, remote_port, device, device_port = frame.dst, dport, frame.smac, sport
        local = side != Side.UNKNOWN and self._on_link(remote)
        if local and side == Side.IN and frame.smac in map(mac, policy.gw_mac):
            link_local = in_prefix(remote, "fe80::/10") or in_prefix(remote, "169.254.0.0/16")
            if not link_local and remote not in map(packed, policy.gateway):
                local = False
        key = _flow_key(port, frame)
        flow = self.flows.get(key) if frame.has_flow else None
        if flow is not None and not flow.known(frame.proto, now):
            flow = None
        opener = self._opener(port, frame, flow, now)
        if opener is None or side == Side.UNKNOWN:
            opener_side = Opener.UNKNOWN
        else:
            opener_side = Opener.INTERNET if opener == policy.wan_port else Opener.LAN
        return Case(
            frame, port, now, side, remote, remote_port, device, device_port, local, key, flow, opener, opener_side
        )

    def _side(self, port: int, frame: Frame) -> Side:
        if self.policy.wan_port < 0:
            return Side.UNKNOWN
        side = Side.IN if port == self.policy.wan_port else Side.OUT
        ours, other = (frame.src, frame.dst) if side == Side.IN else (frame.dst, frame.src)
        exchanged = any(in_prefix(ours, prefix) for prefix in self.policy.onlink) and not self._on_link(other)
        return Side.UNKNOWN if exchanged else side

    def _opener(self, port: int, frame: Frame, flow: Flow | None, now: int) -> int | None:
        """The port whose side opened the flow."""
        if frame.is_bare_syn:
            return port
        if flow is not None and flow.opener is not None:
            return flow.opener
        sport, dport = frame.key_ports
        if frame.has_flow:
            recalled = self._recalled((frame.src, sport), (frame.dst, dport), frame.proto, now)
            if recalled is not None:
                return port if recalled == (frame.src, sport) else 1 - port
        if frame.proto == TCP:
            return 1 - port if frame.tcp_flags & SYN else None
        unreadable_icmp = frame.is_icmp and frame.icmp_type is None
        if unreadable_icmp or frame.is_icmp_error or frame.is_echo_reply:
            return None
        return port

    def _recalled(self, one: End, other: End, proto: int, now: int) -> End | None:
        """The end that opened this flow, if that was not too long ago."""
        opener, when = self.openers.get((frozenset((one, other)), proto), (None, 0))
        return opener if now - when < (KNOWN_TCP_S if proto == TCP else KNOWN_S) else None

    # ---- flow cache -----------------------------------------------------------------------------

    def _hit(self, case: Case) -> Blocked | None:
        """What the entry says, when it may decide."""
        flow, frame = case.flow, case.frame
        if flow is not None and flow.named and not frame.is_bare_syn:
            return flow.verdict, flow.reason
        if flow is None or flow.epoch != self.policy.gen or flow.inspect or frame.is_bare_syn:
            return None
        if flow.until and flow.until <= case.now:
            return None
        routed = case.port == self.policy.wan_port and frame.smac != mac(self.policy.box_mac)
        if frame.dmac != flow.macs[1 - case.port] or not (frame.smac == flow.macs[case.port] or routed):
            return None
        return flow.verdict, flow.reason

    def _account(self, flow: Flow, case: Case) -> None:
        flow.last = case.now
        flow.tcp_flags[case.port] |= case.frame.tcp_flags
        if case.frame.tcp_flags & RST or flow.tcp_flags[0] & flow.tcp_flags[1] & FIN:
            flow.closed = True

    def _remember(self, case: Case, verdict: Verdict, reason: Reason) -> Flow | None:
        """The entry that a decision of the layers leaves or makes, if any; writes the memory of openers."""
        frame, flow = case.frame, case.flow
        if case.admitted in (Reason.LEARNING, Reason.INBOUND_ALLOWED) and not frame.is_icmp_error:
            self._remember_opener(case)
        if reason == Reason.INBOUND or not frame.has_flow:
            return None  # refused inbound neither enters the cache nor cuts a flow
        passes = verdict in (Verdict.PASS, Verdict.OBSERVE)
        asked = frame.ports is not None and frame.ports[1] == 53
        if not passes and asked and reason in (Reason.TOXIC_DNS, Reason.EXCEPTION_BLOCK):
            return flow  # one question is refused, not the way to the resolver
        if flow is None:
            if not passes or not case.passes_outward or frame.fragment:
                return None
            flow = Flow(self.policy.gen, verdict, reason, case.opener, case.now)
            flow.inspect = frame.ports is not None and 53 in frame.ports
            self.flows[case.key] = flow
            if case.opener == case.port:
                self._remember_opener(case)
        if frame.is_bare_syn:  # the tuple is used anew
            flow.opener = case.port
            flow.closed = flow.named = False
            flow.tcp_flags = [0, 0]
            flow.hello = case.side != Side.IN and not case.local
        flow.epoch, flow.verdict, flow.reason, flow.until = self.policy.gen, verdict, reason, case.until
        if flow.opener is None:
            flow.opener = case.opener
        if case.passes_outward:
            flow.macs[case.port], flow.macs[1 - case.port] = frame.smac, frame.dmac
        return flow

    def _remember_opener(self, case: Case) -> None:
        """The sender of this frame opened its flow."""
        sport, dport = case.frame.key_ports
        sender, receiver = (case.frame.src, sport), (case.frame.dst, dport)
        self.openers[frozenset((sender, receiver)), case.frame.proto] = sender, case.now

    def _first_payload(self, flow: Flow, case: Case, verdict: Verdict, reason: Reason) -> Blocked:
        """Layer 6 for the server name in the client's first payload."""
        frame = case.frame
        if verdict not in (Verdict.PASS, Verdict.OBSERVE) or reason == Reason.EXCEPTION:
            return verdict, reason
        if not flow.hello or not frame.payload or frame.fragment or flow.opener != case.port:
            return verdict, reason
        flow.hello = False
        try:
            name = server_name(frame.payload)
        except (NotTls, NotHere):
            return verdict, reason
        except Malformed:
            frame.anomalies.append(Reason.BAD_TLS)
            return verdict, reason
        if name:
            case.name = name
            blocked = self._judge_name(case, name, Verdict.REFUSE, Reason.TOXIC_SNI)
            if blocked:
                verdict, reason = blocked
                flow.named = True
            elif verdict == Verdict.PASS and case.observed is not None:
                verdict, reason = Verdict.OBSERVE, case.observed
            flow.verdict, flow.reason = verdict, reason
        return verdict, reason

    # ---- layers ---------------------------------------------------------------------------------

    def _layers(self, case: Case) -> Blocked:
        if case.local:
            return self._layer_local(case)
        blocked = (
            self._layer_isolation(case)
            or self._layer_quarantine(case)
            or self._layer_exceptions(case)
            or self._layer_toxic_address(case)
            or self._layer_names(case)
            or self._layer_device_class(case)
            or self._layer_dynamic(case)
            or self._layer_inbound(case)
        )
        return blocked or self._layer_pass(case)

    def _layer_local(self, case: Case) -> Blocked:
        blocked = self._layer_quarantine(case) or self._layer_names(case)
        if blocked:
            return blocked
        if case.observed is not None:
            return Verdict.OBSERVE, case.observed
        return Verdict.PASS, Reason.LOCAL

    def _layer_isolation(self, case: Case) -> Blocked | None:
        policy = self.policy
        if policy.isolation_level < 2 or not case.in_force(policy.isolation_until):
            return None
        ranks = [self._class_of(case.remote, case.frame.family).rank]
        learnt = self._resolved(case)
        if learnt is not None:
            ranks.append(learnt[1])
        if case.service_port is not None:
            ranks.append(policy.essential_ports.get((case.frame.proto, case.service_port), 0))
        for device, (_, rank) in policy.device_class.items():
            if mac(device) == case.device:
                ranks.append(rank)
        highest = 9 if policy.isolation_level == 2 else 2
        if any(0 < rank <= highest for rank in ranks):
            return None
        return Verdict.REFUSE, Reason.ISOLATION

    def _layer_quarantine(self, case: Case) -> Blocked | None:
        for device, until in self.policy.quarantine.items():
            if mac(device) == case.device and case.in_force(until):
                ports = case.frame.ports
                dhcp = ports is not None and ({*ports} <= {67, 68} or {*ports} <= {546, 547})
                if not (case.frame.proto == UDP and dhcp):
                    return Verdict.REFUSE, Reason.QUARANTINE
        return None

    def _layer_exceptions(self, case: Case) -> Blocked | None:
        for device in (case.device, None):
            exception = self._longest_exception(device, case.remote)
            if exception is None or not case.in_force(exception.until):
                continue
            if exception.proto and exception.proto != case.frame.proto:
                continue
            if exception.port and exception.port != case.service_port:
                continue
            if exception.action == Action.BLOCK:
                return Verdict.REFUSE, Reason.EXCEPTION_BLOCK
            case.spared, case.spared_by_address = Reason.EXCEPTION, True
            if exception.action == Action.OBSERVE:
                case.observe(Reason.EXCEPTION)
            return None
        self._never_block(case)
        return None

    def _longest_exception(self, device: bytes | None, remote: bytes) -> AddressException | None:
        best, best_bits = None, -1
        for (who, prefix), exception in self.policy.exceptions.items():
            same = who is None if device is None else who is not None and mac(who) == device
            bits = mapped_prefix(prefix)[1]
            if same and in_prefix(remote, prefix) and bits > best_bits:
                best, best_bits = exception, bits
        return best

    def _never_block(self, case: Case) -> None:
        learnt = self._resolved(case)
        never = self._class_of(case.remote, case.frame.family).flags & CLASS_NEVER
        if never or (learnt is not None and learnt[0]):
            case.spared = Reason.NEVER_BLOCK

    def _layer_toxic_address(self, case: Case) -> Blocked | None:
        if case.spared is not None:
            return None
        address, port = case.remote, case.remote_port
        if case.side == Side.UNKNOWN and self._class_number(address, case.frame.family) == 0:
            address, port = case.frame.src, case.device_port
            if self._class_of(address, case.frame.family).flags & CLASS_NEVER:
                return None
        listed = self._class_of(address, case.frame.family)
        wanted = {Opener.LAN: Direction.OUT, Opener.INTERNET: Direction.IN}.get(case.opener_side)
        if listed.direction not in (Direction.BOTH, wanted):
            return None
        if listed.flags & CLASS_PORTS and not self._port_listed(address, port, case.frame.family):
            return None
        if listed.action == Action.OBSERVE:
            case.observe(Reason.TOXIC_ADDRESS)
        if listed.action != Action.BLOCK:
            return None
        verdict = Verdict.DROP if case.opener_side == Opener.INTERNET else Verdict.REFUSE
        return verdict, Reason.TOXIC_ADDRESS

    def _layer_names(self, case: Case) -> Blocked | None:
        if case.spared_by_address:
            return None
        frame = case.frame
        if frame.fragment or frame.ports is None or frame.ports[1] != 53:
            return None
        name = self._dns_name(frame)
        if not name:
            return None
        case.name = name
        verdict = Verdict.NXDOMAIN if frame.proto == UDP else Verdict.REFUSE
        return self._judge_name(case, name, verdict, Reason.TOXIC_DNS)

    def _dns_name(self, frame: Frame) -> Name | None:
        message = frame.payload
        starts = [message]
        if frame.proto == TCP:  # the length may have come in a segment of its own
            if len(message) < 3:
                return None
            starts = [message[2:], message]
        malformed = False
        for start in starts:
            malformed = False
            try:
                name = dns_query(start)
            except Malformed:
                malformed = True
                continue
            if name is not None:
                return name
        if malformed:
            frame.anomalies.append(Reason.BAD_DNS)
        return None

    def _judge_name(self, case: Case, name: Name, verdict: Verdict, reason: Reason) -> Blocked | None:
        exception = self._name_exception(case, name)
        if exception is not None:
            if exception.action == Action.BLOCK:
                return verdict, Reason.EXCEPTION_BLOCK
            case.spared = Reason.EXCEPTION
            if exception.action == Action.OBSERVE:
                case.observe(Reason.EXCEPTION)
            return None
        opinion, _ = self._opinion(name)
        if opinion == "never":
            if case.spared is None:
                case.spared = Reason.NEVER_BLOCK
        elif opinion == Action.OBSERVE:
            case.observe(reason)
        return (verdict, reason) if opinion == Action.BLOCK else None

    def _opinion(self, name: Name) -> tuple[Action | Literal["never"], int]:
        """What the base says of a name, and its essential rank."""
        listed = [self.policy.classes[self.names[s]] for s in suffixes(name) if self.names.get(s)]
        rank = min((c.rank for c in listed if c.rank), default=0)
        forced = [c for c in listed if c.flags & CLASS_FORCE and c.action in (Action.BLOCK, Action.OBSERVE)]
        if not forced and any(c.flags & CLASS_NEVER for c in listed):
            return "never", rank
        for decides in (forced or listed)[:1]:
            return Action(decides.action), rank
        return Action.NONE, rank

    def _name_exception(self, case: Case, name: Name) -> NameException | None:
        for device in (case.device, None):
            for suffix in suffixes(name):
                for (who, listed), exception in self.local_names.items():
                    same = who is None if device is None else who is not None and mac(who) == device
                    if same and listed == suffix and case.in_force(exception.until):
                        return exception
        return None

    def _layer_device_class(self, case: Case) -> Blocked | None:
        if case.spared is not None:
            return None
        numbers = [c for device, (c, _) in self.policy.device_class.items() if mac(device) == case.device]
        if not numbers or numbers[0] == 0:
            return None
        asn, country = self._geo_of(case.remote, case.frame.family)
        wanted: list[tuple[int, int | str]] = [(PK_AS, asn), (PK_COUNTRY, country), (PK_DEFAULT, 0)]
        for kind, value in wanted:
            if kind != PK_DEFAULT and not value:
                continue
            action = self.policy.class_policy.get((numbers[0], kind, value), Action.NONE)
            if action == Action.BLOCK:
                return Verdict.REFUSE, Reason.DEVICE_CLASS
            if action == Action.OBSERVE:
                case.observe(Reason.DEVICE_CLASS)
            if action != Action.NONE:
                return None
        return None

    def _layer_dynamic(self, case: Case) -> Blocked | None:
        if case.spared is not None:
            return None
        for (device, address), until in self.policy.dynamic.items():
            mine = device is None or mac(device) == case.device
            if mine and packed(address) == case.remote and case.in_force(until):
                return Verdict.REFUSE, Reason.DYNAMIC
        return None

    # ---- inbound --------------------------------------------------------------------------------

    def _layer_inbound(self, case: Case) -> Blocked | None:
        frame = case.frame
        if case.side != Side.IN:
            return None
        unread = Reason.EXT_HEADERS in frame.anomalies  # the receiver may walk further than the box does
        cut = frame.fragment == Fragment.LATER or not frame.whole
        if not unread and (cut or (frame.proto == TCP and not frame.is_bare_syn)):
            if case.known:
                case.admitted = Reason.ESTABLISHED
            return None
        if unread:
            pass
        elif frame.is_icmp_error:
            case.admitted = Reason.ICMP_ERROR if self._quote_known(case) else None
        elif frame.proto != TCP and (case.known or self._lan_opened(case)):
            case.admitted = Reason.ESTABLISHED
        elif self._inbound_allowed(case):
            case.admitted = Reason.INBOUND_ALLOWED
        if case.admitted is not None:
            return None
        policy = self.policy
        if policy.inbound_mode != InboundMode.REFUSE or case.now < policy.grace_until:
            case.admitted = Reason.LEARNING
            return None
        verdict = Verdict.REFUSE if frame.proto in (TCP, UDP) and not unread else Verdict.DROP
        return verdict, Reason.INBOUND

    def _lan_opened(self, case: Case) -> bool:
        """Remembered as opened by the LAN end (the destination of an inbound frame)."""
        sport, dport = case.frame.key_ports
        sender, receiver = (case.frame.src, sport), (case.frame.dst, dport)
        return self._recalled(sender, receiver, case.frame.proto, case.now) == receiver

    def _quote_known(self, case: Case) -> bool:
        quote = parse_quote(case.frame)
        if quote is None:
            return False
        sport, dport = quote.ports
        behind_lan, behind_wan = (quote.src, sport), (quote.dst, dport)
        if self._recalled(behind_lan, behind_wan, quote.proto, case.now) == behind_lan:
            return True
        ends = (behind_wan, behind_lan) if case.port == 0 else (behind_lan, behind_wan)
        key = (ends[0][0], ends[1][0], ends[0][1], ends[1][1], quote.proto, case.frame.family, case.frame.vlan)
        flow = self.flows.get(key)
        return flow is not None and flow.known(quote.proto, case.now)

    def _inbound_allowed(self, case: Case) -> bool:
        port = case.device_port or 0
        for (device, proto, listed), until in self.policy.inbound_allow.items():
            if mac(device) == case.device and (proto, listed) == (case.frame.proto, port):
                return case.in_force(until)
        return False

    def _layer_pass(self, case: Case) -> Blocked:
        if case.observed is not None:
            return Verdict.OBSERVE, case.observed
        return Verdict.PASS, case.spared or case.admitted or Reason.DEFAULT

    # ---- learning -------------------------------------------------------------------------------

    def _learn(self, case: Case) -> None:
        """Addresses of an answer for a never-block or essential name, from a resolver that is trusted."""
        frame = case.frame
        asked = frame.proto == UDP and frame.ports is not None and frame.ports[0] == 53
        if not self.policy.learn or not asked or frame.fragment or case.side != Side.IN or not case.known:
            return
        if not case.local and not self._class_of(frame.src, frame.family).flags & CLASS_NEVER:
            return
        parsed = dns_answers(frame.payload)
        if parsed is None:
            return
        name, answers = parsed
        opinion, rank = self._opinion(name)
        never = opinion == "never"
        if opinion in (Action.BLOCK, Action.OBSERVE) or not (never or rank):
            return
        for answer in answers:
            until = case.now + min(max(answer.ttl, 3600), 86400)
            self.resolved[answer.address] = (until, never, rank)

    # ---- tables ---------------------------------------------------------------------------------

    def _resolved(self, case: Case) -> tuple[bool, int] | None:
        found = self.resolved.get(case.remote)
        if not self.policy.learn or found is None or not case.in_force(found[0]):
            return None
        return found[1], found[2]

    def _class_number(self, address: bytes, family: int) -> int:
        found = _longest(list(self.policy.base), address, family)
        return 0 if found is None else self.policy.base[found]

    def _class_of(self, address: bytes, family: int) -> IndicatorClass:
        return self.policy.classes.get(self._class_number(address, family), IndicatorClass())

    def _port_listed(self, address: bytes, port: int | None, family: int) -> bool:
        if port is None:
            return False
        listed = [(a, p) for a, p in self.policy.base_ports if (":" in a) == (family == 6)]
        return any(packed(a) == address and p == port for a, p in listed)

    def _geo_of(self, address: bytes, family: int) -> tuple[int, str]:
        found = _longest(list(self.policy.geo), address, family)
        return (0, "") if found is None else self.policy.geo[found]


def _longest(prefixes: list[str], address: bytes, family: int) -> str | None:
    """The longest prefix of this family that holds the address."""
    holders = [p for p in prefixes if (":" in p) == (family == 6) and in_prefix(address, p)]
    return max(holders, key=lambda p: mapped_prefix(p)[1], default=None)


def _flow_key(port: int, frame: Frame) -> FlowKey:
    sport, dport = frame.key_ports
    if port == 0:
        return frame.src, frame.dst, sport, dport, frame.proto, frame.family, frame.vlan
    return frame.dst, frame.src, dport, sport, frame.proto, frame.family, frame.vlan


def _is_group(address: bytes, family: int) -> bool:
    if family == 4:
        return address[12] >> 4 == 0xE or address[12:] == b"\xff\xff\xff\xff"
    return address[0] == 0xFF


def _bad_source(address: bytes, family: int) -> bool:
    if family == 4:
        return _is_group(address, 4) or address[12] == 127 or address[12:] == bytes(4)
    return address[0] == 0xFF or address in (bytes(16), bytes(15) + b"\x01")
