"""The decision of docs/datapath.md in plain Python: what the data path must say of each frame.

Slow and simple on purpose: tables are walked from end to end, nothing is shared with the C program but the numbers of
`vigie.contract.codes`. The order of the methods is the order of the specification. Not modelled, and tested by
intent in tests/bpf instead: names held back (F_HOLD), rate limits, eviction, redirection, events.
"""

from __future__ import annotations

import struct

from tests.support.model_case import (
    KNOWN_S,
    KNOWN_TCP_S,
    Blocked,
    Case,
    Flow,
    FlowKey,
    Opener,
    Outcome,
    Side,
)
from tests.support.model_frame import FIN, RST, SYN, TCP, UDP, Fragment, Frame, parse, parse_quote
from tests.support.model_layers import Layers
from tests.support.model_names import Malformed, Name, NotHere, NotTls, dns_answers, server_name
from tests.support.policies import CLASS_NEVER, Policy, in_prefix, mac, packed
from vigie.contract.codes import Action, InboundMode, Reason, Verdict
from vigie.filter.loop import probe_token

LOOP_HOLD_S = 2


class Model(Layers):
    """The data path's memory, and what it says of one frame after the other."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.flows: dict[FlowKey, Flow] = {}
        self.openers: dict[tuple[bytes, bytes, int, int, int], tuple[int, int]] = {}
        """Flow key without family and VLAN -> port by which the opening frame came in, and when."""
        self.loop_seen = -LOOP_HOLD_S
        """When a probe last came round."""

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
        gate = self._link_gates(port, frame, now)
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

    def _link_gates(self, port: int, frame: Frame, now: int) -> Blocked | None:
        policy = self.policy
        if frame.smac == mac(policy.box_mac):
            tokens = [b"VGLP" + struct.pack("!Q", probe_token(policy.probe_nonce, left_by)) for left_by in (0, 1)]
            if frame.ethertype != 0x88B5 or not frame.body.startswith(tuple(tokens)):
                return Verdict.DROP, Reason.SPOOF
            if frame.body.startswith(tokens[1 - port]):
                self.loop_seen = now
            return Verdict.DROP, Reason.LOOP
        if policy.loop_port == port + 1 or (now - self.loop_seen < LOOP_HOLD_S and self._turns(port, frame)):
            return Verdict.DROP, Reason.LOOP
        if Reason.VLAN_DEPTH in frame.anomalies:
            return Verdict.DROP, Reason.VLAN_DEPTH
        if frame.family == 0:
            if frame.ethertype == 0x0806 and len(frame.body) >= 18:
                sender = bytes(10) + b"\xff\xff" + frame.body[14:18]
                if sender in self.boxes:
                    return Verdict.DROP, Reason.SPOOF
            return Verdict.PASS, Reason.NOT_IP
        return None

    def _turns(self, port: int, frame: Frame) -> bool:
        """In a loop: would it turn? Port 1 is closed; `loop_port` 2 says that the bridge does not use it either."""
        return port == 1 or (frame.dmac != mac(self.policy.box_mac) and self.policy.loop_port != 2)

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
        outward = self.policy.wan_port >= 0 and port != self.policy.wan_port and not self._on_link(frame.dst)
        if frame.is_discovery and not outward:
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
        if frame.is_discovery:
            return True
        if frame.proto == UDP and (
            frame.ports == (67, 68) or (frame.ports == (547, 546) and _link_local(frame.src, frame.family))
        ):
            return True
        known_lan = policy.wan_port >= 0 and port != policy.wan_port
        if known_lan and self._on_link(frame.src):
            if frame.is_echo and not frame.is_echo_reply:
                return True
            if frame.ports is not None and (frame.proto, frame.ports[1]) in policy.box_ports:
                return True
        return frame.is_icmp_error

    # ---- words ----------------------------------------------------------------------------------

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
            link_local = frame.family == 6 and _link_local(remote, 6)
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
        if side == Side.IN and frame.smac in map(mac, self.policy.gw_mac):
            exchanged = False
        return Side.UNKNOWN if exchanged else side

    def _opener(self, port: int, frame: Frame, flow: Flow | None, now: int) -> int | None:
        """The port whose side opened the flow."""
        if frame.is_bare_syn:
            return port
        if flow is not None and flow.opener is not None:
            return flow.opener
        if frame.has_flow:
            recalled = self._recalled(_flow_key(port, frame), now)
            if recalled is not None:
                return recalled
        if frame.proto == TCP:
            return 1 - port if frame.tcp_flags & SYN else None
        unreadable_icmp = frame.is_icmp and frame.icmp_type is None
        if unreadable_icmp or frame.is_icmp_error or frame.is_echo_reply:
            return None
        return port

    def _recalled(self, key: FlowKey, now: int) -> int | None:
        """The port behind which this flow was opened, if that was not too long ago."""
        opener, when = self.openers.get(key[:5], (None, 0))
        return opener if now - when < (KNOWN_TCP_S if key[4] == TCP else KNOWN_S) else None

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
        passes = verdict in (Verdict.PASS, Verdict.OBSERVE)
        complete = frame.whole or Reason.EXT_HEADERS in frame.anomalies
        unsolicited = case.admitted in (Reason.LEARNING, Reason.INBOUND_ALLOWED)
        if unsolicited and complete and not frame.is_icmp_error:
            self._remember_opener(case)
        if reason == Reason.INBOUND or not frame.has_flow:
            return None  # refused inbound neither enters the cache nor cuts a flow
        if case.side == Side.IN and frame.is_bare_syn and not passes:
            return None
        asked = frame.ports is not None and frame.ports[1] == 53
        if not passes and asked and reason in (Reason.TOXIC_DNS, Reason.EXCEPTION_BLOCK):
            return flow  # one question is refused, not the way to the resolver
        if flow is None:
            if not passes or not case.passes_outward:
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
        self.openers[case.key[:5]] = case.port, case.now

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
            or self._layer_hiding(case)
            or self._layer_names(case)
            or self._layer_device_class(case)
            or self._layer_dynamic(case)
            or self._layer_inbound(case)
        )
        return blocked or self._layer_pass(case)

    # ---- inbound --------------------------------------------------------------------------------

    def _layer_inbound(self, case: Case) -> Blocked | None:
        frame = case.frame
        if case.side != Side.IN:
            return None
        if frame.fragment == Fragment.LATER:
            return None
        if frame.whole and frame.proto == TCP and not frame.is_bare_syn:
            if case.known:
                case.admitted = Reason.ESTABLISHED
            return None
        if not frame.whole:
            pass  # a header cut short: the rest may follow in a fragment
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
        verdict = Verdict.REFUSE if frame.proto in (TCP, UDP) and frame.whole else Verdict.DROP
        return verdict, Reason.INBOUND

    def _lan_opened(self, case: Case) -> bool:
        """Remembered as opened by the LAN end (the destination of an inbound frame)."""
        return case.frame.has_flow and self._recalled(case.key, case.now) == 1 - case.port

    def _quote_known(self, case: Case) -> bool:
        quote = parse_quote(case.frame)
        if quote is None:
            return False
        sport, dport = quote.ports
        behind_lan, behind_wan = (quote.src, sport), (quote.dst, dport)
        ends = (behind_wan, behind_lan) if case.port == 0 else (behind_lan, behind_wan)
        key = (ends[0][0], ends[1][0], ends[0][1], ends[1][1], quote.proto, case.frame.family, case.frame.vlan)
        flow = self.flows.get(key)
        if flow is not None and flow.known(quote.proto, case.now):
            return True
        return self._recalled(key, case.now) == 1 - case.port

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
        gateway = frame.smac in map(mac, self.policy.gw_mac) and frame.src in map(packed, self.policy.gateway)
        never = self._class_of(frame.src, frame.family).flags & CLASS_NEVER
        if not (gateway if case.local else never):
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


def _flow_key(port: int, frame: Frame) -> FlowKey:
    sport, dport = frame.key_ports
    if port == 0:
        return frame.src, frame.dst, sport, dport, frame.proto, frame.family, frame.vlan
    return frame.dst, frame.src, dport, sport, frame.proto, frame.family, frame.vlan


def _link_local(address: bytes, family: int) -> bool:
    return in_prefix(address, "fe80::/10" if family == 6 else "169.254.0.0/16")


def _is_group(address: bytes, family: int) -> bool:
    if family == 4:
        return address[12] >> 4 == 0xE or address[12:] == b"\xff\xff\xff\xff"
    return address[0] == 0xFF


def _bad_source(address: bytes, family: int) -> bool:
    if family == 4:
        return _is_group(address, 4) or address[12] == 127 or address[12:] == bytes(4)
    return address[0] == 0xFF or address in (bytes(16), bytes(15) + b"\x01")
