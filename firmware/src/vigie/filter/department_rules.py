"""The department's exceptions as rules of the data path, beside the commune's own. Pure.

Where a rule of the commune and one of the department meet, the commune's decides, whatever their lengths: the line
is its own. The department's must keep off what the box itself protects.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from vigie.contract import targets
from vigie.contract.codes import Action
from vigie.contract.downward import Desired, Exemption
from vigie.contract.limits import Part
from vigie.contract.targets import Network
from vigie.contract.words import Code, Proto, RuleAction
from vigie.filter.base import lists
from vigie.filter.base.suffixes import Suffixes
from vigie.filter.local_policy import LONGEST_S, Isolation, LocalPolicy, Quarantined, Rule

ORDERED: Final = "department"
LOCAL: Final = ""
_ACTIONS: Final = {
    RuleAction.ALLOW: Action.ALLOW,
    RuleAction.OBSERVE: Action.OBSERVE,
    RuleAction.BLOCK: Action.BLOCK,
}
_PROTOS: Final = {Proto.TCP: 6, Proto.UDP: 17, None: 0}


@dataclass(frozen=True, slots=True)
class Protection:
    """What no block of the department may touch: names (with what is below and above them), networks, names that
    strangers share. never_name(name): whether the base in force protects it; never_address(prefix): the same of any
    address in it."""

    names: tuple[str, ...]
    networks: tuple[Network, ...]
    shared: Suffixes
    never_name: Callable[[str], bool] = lambda _name: False
    never_address: Callable[[Network], bool] = lambda _network: False

    def refuses(self, target: str) -> bool:
        """Whether a block of the target would beat a protection."""
        network = targets.network(target)
        if network is None:
            return self.shared.is_suffix(target) or self._protected_name(target) or self.never_name(target)
        same = (n for n in self.networks if n.version == network.version)
        return any(network.overlaps(n) for n in same) or self.never_address(network)

    def _protected_name(self, target: str) -> bool:
        return any(n == target or n.endswith("." + target) or target.endswith("." + n) for n in self.names)


@cache
def built_in() -> tuple[tuple[str, ...], tuple[Network, ...], Suffixes]:
    """Names, networks and shared suffixes of the lists shipped with the box. Raises ListError."""
    never, own = lists.never_block(), lists.built_in()
    ranges = [s.range for s in own.special if not s.documentation]
    ranges += [r for group in (own.resolvers, own.fronts) for service in group for r in service.ranges]
    networks: list[Network] = list(never.prefixes)
    for one in ranges:
        networks += _networks(one.first, one.last, one.family)
    return (*never.names, *own.local_names), tuple(networks), own.suffixes


def _networks(first: int, last: int, version: int) -> list[Network]:
    if version == 4:
        return list(ipaddress.summarize_address_range(ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)))
    return list(ipaddress.summarize_address_range(ipaddress.IPv6Address(first), ipaddress.IPv6Address(last)))


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules to put in force, and the parts that are not, with why. Expired exceptions are among neither."""

    rules: tuple[Rule, ...]
    parts: tuple[Part, ...]


def rules(desired: Desired, macs: Mapping[str, str], now: float, protection: Protection) -> Rules:
    """The exceptions and the never-block entries of a document. `macs`: devices of its pseudonyms."""
    found: list[Rule] = []
    parts: list[Part] = []
    for i, exemption in enumerate(desired.exceptions):
        if exemption.until <= now:
            continue
        code = _refusal(exemption, macs, protection, desired.never_block)
        if code is not None:
            parts.append(Part(f"exceptions[{i}]", code))
            continue
        found.append(_rule(exemption, macs, desired.issued))
    # Not temporary: these outlive the document.
    always = now + LONGEST_S
    spared = [Rule(Action.ALLOW, t, "", 0, 0, always, float(desired.issued), "", ORDERED) for t in desired.never_block]
    return Rules((*found, *spared), tuple(parts))


def _refusal(
    exemption: Exemption, macs: Mapping[str, str], protection: Protection, never_block: Sequence[str]
) -> Code | None:
    if exemption.device is not None and exemption.device not in macs:
        return Code.UNKNOWN_DEVICE
    if exemption.action is RuleAction.BLOCK and (
        protection.refuses(exemption.target) or any(covers(n, exemption.target) for n in never_block)
    ):
        return Code.NEVER_BLOCK
    return None


def _rule(exemption: Exemption, macs: Mapping[str, str], issued: int) -> Rule:
    return Rule(
        _ACTIONS[exemption.action],
        exemption.target,
        macs[exemption.device] if exemption.device is not None else "",
        _PROTOS[exemption.proto],
        exemption.port or 0,
        float(exemption.until),
        float(issued),
        exemption.note,
        ORDERED,
    )


def covers(wide: str, target: str) -> bool:
    """Whether one target holds all of another: a prefix in a prefix, a name below a name."""
    outer, inner = targets.network(wide), targets.network(target)
    if outer is None or inner is None:
        return outer is None and inner is None and (target == wide or target.endswith("." + wide))
    return outer.version == inner.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def merge(
    local: LocalPolicy,
    ordered: Sequence[Rule],
    isolation: Isolation,
    quarantine: Mapping[str, float],
    now: float,
) -> LocalPolicy:
    """The commune's decisions and the department's as one policy. quarantine: MAC -> Unix time of its end.

    Of two isolations the stricter one holds, of two quarantines the longer one.
    """
    mine = local.swept(now)
    own = _Own(mine.rules)
    theirs: dict[tuple[str, str], Rule] = {}
    for rule in ordered:
        if not own.speaks_for(rule):
            theirs.setdefault(rule.key, rule)  # of two with one key the first holds: exceptions before never-block
    # A rule of the commune for every device must hold against the department's for one of them, which the data path
    # would look at first: it is repeated for that device.
    for rule in [r for r in theirs.values() if r.device]:
        for inner in own.inside(rule):
            theirs[rule.device, inner.target] = replace(inner, device=rule.device)
    held = {q.mac: q for q in mine.quarantine}
    for mac, until in quarantine.items():
        if mac not in held or held[mac].until < until:
            held[mac] = Quarantined(mac, until, now, ORDERED)
    stricter = isolation if isolation.level > mine.isolation.level else mine.isolation
    rest = [r for key, r in theirs.items() if key not in own.keys]
    return LocalPolicy((*mine.rules, *rest), tuple(held.values()), stricter)


class _Own:
    """The commune's rules, prepared for many questions."""

    def __init__(self, own: Sequence[Rule]) -> None:
        self.keys = {r.key for r in own}
        self._names: dict[str, list[Rule]] = {}
        self._ranges: list[tuple[int, int, int, Rule]] = []
        for rule in own:
            if rule.is_name:
                self._names.setdefault(rule.target, []).append(rule)
            else:
                self._ranges.append((*_range(rule.target), rule))

    def speaks_for(self, ordered: Rule) -> bool:
        """Whether a rule of the commune is about all that a rule of the department is about."""
        devices = ("", ordered.device)
        if ordered.is_name:
            labels = ordered.target.split(".")
            wider = (".".join(labels[i:]) for i in range(len(labels) - 1))
            return any(r.device in devices for name in wider for r in self._names.get(name, ()))
        version, first, last = _range(ordered.target)
        return any(v == version and a <= first and last <= b and r.device in devices for v, a, b, r in self._ranges)

    def inside(self, ordered: Rule) -> list[Rule]:
        """Rules of the commune, for every device, about a part of what a rule of the department is about."""
        if ordered.is_name:
            below = "." + ordered.target
            return [r for name, found in self._names.items() if name.endswith(below) for r in found if not r.device]
        version, first, last = _range(ordered.target)
        return [r for v, a, b, r in self._ranges if v == version and first <= a and b <= last and not r.device]


def _range(target: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(target)
    return network.version, int(network.network_address), int(network.broadcast_address)
