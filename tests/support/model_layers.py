"""Layers 1 to 8 of the decision, in their order, and the tables that they ask: all that needs no memory of flows."""

from __future__ import annotations

from typing import Literal

from tests.support.model_case import Blocked, Case, Opener, Side
from tests.support.model_frame import TCP, UDP, Fragment, Frame
from tests.support.model_names import Malformed, Name, dns_query, from_text, suffixes
from tests.support.policies import (
    CLASS_FORCE,
    CLASS_NEVER,
    CLASS_PORTS,
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
from vigie.contract.codes import Action, Direction, Reason, Verdict


class Layers:
    """A policy, and what its layers say of a case."""

    def __init__(self, policy: Policy) -> None:
        self.set_policy(policy)

    def set_policy(self, policy: Policy) -> None:
        """Another policy."""
        self.policy = policy
        self.resolved = {packed(a): (r.until, r.never, r.rank) for a, r in policy.resolved.items()}
        self.names = {from_text(n): c for n, c in policy.names.items()}
        self.local_names = {(m, from_text(n)): e for (m, n), e in policy.local_names.items()}
        self.boxes = [packed(a) for a in policy.box_addr]

    def _on_link(self, address: bytes) -> bool:
        fixed = ("fe80::/10", "169.254.0.0/16")
        return any(in_prefix(address, prefix) for prefix in (*fixed, *self.policy.onlink))

    def _layer_local(self, case: Case) -> Blocked:
        blocked = self._layer_quarantine(case) or self._layer_hiding(case) or self._layer_names(case)
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
                if not (case.local and case.frame.proto == UDP and dhcp):
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
        if case.opener_side == Opener.UNKNOWN and case.side == Side.OUT:
            wanted = Direction.OUT  # what leaves counts as opened here unless the internet is known to have opened it
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

    def _layer_hiding(self, case: Case) -> Blocked | None:
        """What hides a name or a port, and no ordinary host sends."""
        frame = case.frame
        if frame.overlaps:
            return Verdict.DROP, Reason.FRAGMENT
        if case.side == Side.IN:
            return None
        if Reason.EXT_HEADERS in frame.anomalies:
            return Verdict.DROP, Reason.EXT_HEADERS
        named = frame.proto == TCP or (frame.proto == UDP and frame.ports is not None and frame.ports[1] in (53, 443))
        if frame.fragment == Fragment.FIRST and named and not case.spared_by_address:
            return Verdict.DROP, Reason.FRAGMENT
        return None

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
        if verdict is Verdict.NXDOMAIN and case.side == Side.IN and not case.local:
            verdict = Verdict.DROP  # a question from the internet: its source may be forged
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
