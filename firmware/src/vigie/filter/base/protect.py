"""What must never be blocked, taken out of a feed before it becomes policy; every removal is reported with its line.

Hard protections hold against every entry, whole or in part:
- special-purpose ranges (RFC 6890 and its successors): an entry that covers more is cut to the remainder;
- public resolvers and root servers;
- never-block prefixes and names: an entry equal to a never-block name, above it (it would take it along) or below it;
- addresses just resolved from never-block names;
- public suffixes (co.uk, github.io): blocking one blocks everybody under it; names under it stay blockable.

Soft protections are about shared infrastructure (what users of such lists complain of most: one bad customer, and a
whole CDN is gone). They follow from how an address is shared, see :mod:`.allowlists`:
- FRONT ranges, where one address serves thousands of sites: no entry may hold them;
- RENTED ranges, where an address is one customer's machine: entries of up to 16 addresses (IPv6: a /64) stay, since
  that is where malware lives; wider ones are cut, they would take the neighbours;
- open resolvers of the warning lists: protected when listed one by one;
- names: an entry equal to a popular or curated name, or above one, is removed; one below stays blockable
  (`bad.github.io`, `sites.example.com`).

An OBSERVE feed blocks nothing, so only special ranges, local names and public suffixes are taken out of it. An ALLOW
feed is a never-block list itself and is left as it is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

import numpy as np

from vigie.contract.codes import Action
from vigie.filter.base.allowlists import Allowlists
from vigie.filter.base.columns import Entries, Feed
from vigie.filter.base.lists import BuiltIn, NeverBlock
from vigie.filter.base.ranges import Labelled, Ranges, without
from vigie.filter.base.readers.tokens import Range, classify
from vigie.filter.base.suffixes import Suffixes

SMALL4: Final = 16
SMALL6: Final = 1 << 64
"""Widest entry that may stay inside a rented range: what one customer holds."""
_MASK64: Final = (1 << 64) - 1


class Kind(Enum):
    """How strong a protection is, the strongest first."""

    SPECIAL = "special"
    NEVER = "never-block"
    RESOLVER = "resolver"
    RESOLVED = "resolved"
    FRONT = "front"
    RENTED = "rented"
    SUFFIX = "public suffix"
    LOCAL = "local"
    SITE = "site"

    @property
    def hard(self) -> bool:
        """True when no entry, however small, may override it."""
        return self not in (Kind.FRONT, Kind.RENTED, Kind.SITE)


@dataclass(frozen=True, slots=True)
class Guard:
    """One protection: `by` names it (list, name or range), `why` says why it exists."""

    kind: Kind
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Protected:
    """An entry of a feed that was taken out, or (`cut`) reduced to what is not protected.
    `indicator` is the protected part as text."""

    feed: str
    line: int
    indicator: str
    by: str
    why: str
    kind: Kind
    cut: bool = False


@dataclass(slots=True)
class Protection:
    """Everything protected, ready for look-ups; see :func:`build`."""

    guards: list[Guard] = field(default_factory=list)
    always: dict[int, Ranges] = field(default_factory=dict)
    special: dict[int, Ranges] = field(default_factory=dict)
    rented: dict[int, Ranges] = field(default_factory=dict)
    single: dict[int, Ranges] = field(default_factory=dict)
    never: Mapping[str, Guard] = field(default_factory=dict)
    never_above: Mapping[str, Guard] = field(default_factory=dict)
    local: frozenset[str] = frozenset()
    sites: Mapping[str, Guard] = field(default_factory=dict)
    suffixes: Suffixes = field(default_factory=Suffixes)


def parents(name: str) -> Iterator[str]:
    """Names above, the nearest first, down to two labels: a.b.c.d -> b.c.d, c.d."""
    while name.count(".") > 1:
        name = name.partition(".")[2]
        yield name


def build(
    built_in: BuiltIn,
    never: NeverBlock,
    *,
    allowlists: Allowlists | None = None,
    suffixes: Suffixes | None = None,
    resolved: Mapping[str, Sequence[str]] | None = None,
    documentation: bool = True,
) -> Protection:
    """Assemble the protections. resolved: never-block name -> addresses it has now. documentation: False leaves the
    ranges of RFC 5737 and RFC 3849 blockable, for demonstrations that use them as the internet."""
    collected: list[tuple[Range, Guard]] = []
    for special in built_in.special:
        if documentation or not special.documentation:
            collected.append((special.range, Guard(Kind.SPECIAL, special.text, f"{special.why} ({special.source})")))
    collected += [(_range(net), Guard(Kind.NEVER, str(net), why)) for net, why in never.prefixes_why()]
    for service in built_in.resolvers:
        guard = Guard(Kind.RESOLVER, service.name, f"résolveur ou serveur DNS ({service.source})")
        collected += [(r, guard) for r in service.ranges]
    for name, addresses in (resolved or {}).items():
        for text in addresses:
            what = classify(text)
            if isinstance(what, Range):
                collected.append((what, Guard(Kind.RESOLVED, name, "adresse actuelle d’un nom protégé")))
    lists = allowlists or Allowlists()
    for_rent = [(r, service.name) for service in built_in.rented for r in service.ranges]
    holes = [r for r, _ in for_rent]
    for service in built_in.fronts:
        guard = Guard(Kind.FRONT, service.name, f"adresses partagées par des milliers de sites ({service.source})")
        collected += [(r, guard) for r, _ in _minus([(r, "") for r in service.ranges], holes)]
    shared = _minus(lists.front, holes)
    collected += [(r, Guard(Kind.FRONT, stem, "adresses partagées par de nombreux sites")) for r, stem in shared]
    neighbours = "machines louées une à une : un préfixe toucherait les voisins"
    rented = [(r, Guard(Kind.RENTED, name, neighbours)) for r, name in for_rent + lists.rented]
    single = [(r, Guard(Kind.RESOLVER, stem, "résolveur DNS ouvert")) for r, stem in lists.resolvers]

    done = Protection(suffixes=suffixes or built_in.suffixes, local=built_in.local_names)
    ids: dict[Guard, int] = {}
    for _, guard in collected + rented + single:
        if guard not in ids:
            ids[guard] = len(done.guards)
            done.guards.append(guard)
    for family in (4, 6):
        mine = [(r, g) for r, g in collected if r.family == family]
        done.always[family] = Ranges.of(Labelled(r.first, r.last, ids[g]) for r, g in mine)
        done.special[family] = Ranges.of(Labelled(r.first, r.last, ids[g]) for r, g in mine if g.kind is Kind.SPECIAL)
        done.rented[family] = Ranges.of(Labelled(r.first, r.last, ids[g]) for r, g in rented if r.family == family)
        done.single[family] = Ranges.of(Labelled(r.first, r.last, ids[g]) for r, g in single if r.family == family)
    done.never = {entry.name: Guard(Kind.NEVER, entry.name, entry.why) for entry in never.entries}
    done.never_above = {up: done.never[name] for name in done.never for up in parents(name) if up not in done.never}
    sites: dict[str, Guard] = {}
    for name, stem in lists.names.items():
        sites[name] = Guard(Kind.SITE, stem, "site très fréquenté ou service partagé")
    for name, stem in lists.names.items():
        for up in parents(name):
            sites.setdefault(up, Guard(Kind.SITE, stem, f"au-dessus de {name}"))
    done.sites = sites
    return done


def _minus(ranges: list[tuple[Range, str]], holes: list[Range]) -> list[tuple[Range, str]]:
    """The labelled ranges without the holes."""
    for hole in holes:
        left = []
        for r, label in ranges:
            if r.family != hole.family or r.last < hole.first or hole.last < r.first:
                left.append((r, label))
                continue
            part = Labelled(max(r.first, hole.first), min(r.last, hole.last), 0)
            left += [(Range(r.family, low, high), label) for low, high in without(r.first, r.last, [part])]
        ranges = left
    return ranges


def _range(net: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Range:
    return Range(net.version, int(net.network_address), int(net.broadcast_address))


def protect(feed: Feed, entries: Entries, protection: Protection) -> tuple[Entries, list[Protected]]:
    """The entries without what is protected, and the list of what was taken out. Pure: `entries` is not changed."""
    if feed.action == Action.ALLOW:
        return entries, []
    report: list[Protected] = []
    kept = _protect4(feed, entries, protection, report)
    kept = _protect6(feed, kept, protection, report)
    return _protect_names(feed, kept, protection, report), report


def _cut(
    feed: Feed,
    family: int,
    first: int,
    last: int,
    port: int,
    line: int,
    protection: Protection,
    report: list[Protected],
) -> list[tuple[int, int]]:
    """What stays of one entry; reports the rest."""
    observes = feed.action == Action.OBSERVE
    parts = (protection.special if observes else protection.always)[family].overlaps(first, last)
    if not observes and not parts and first == last:
        parts = protection.single[family].overlaps(first, last)
    left = without(first, last, parts)
    if not observes:
        wide = []
        for low, high in left:
            if high - low + 1 > (SMALL4 if family == 4 else SMALL6):
                rented = protection.rented[family].overlaps(low, high)
                parts += rented
                wide += without(low, high, rented)
            else:
                wide.append((low, high))
        left = wide
    for part in parts:
        guard = protection.guards[part.label]
        text = show(family, part.first, part.last, port)
        report.append(Protected(feed.name, line, text, guard.by, guard.why, guard.kind, bool(left)))
    return left


def _protect4(feed: Feed, entries: Entries, protection: Protection, report: list[Protected]) -> Entries:
    first, last = entries.v4_first, entries.v4_last
    if feed.action == Action.OBSERVE:
        touched = protection.special[4].touches(first, last)
    else:
        wide = last - first >= SMALL4
        touched = protection.always[4].touches(first, last) | (wide & protection.rented[4].touches(first, last))
        touched |= (first == last) & protection.single[4].touches(first, last)
    if not touched.any():
        return entries
    rows: list[tuple[int, int, int, int]] = []
    for i in np.flatnonzero(touched).tolist():
        port, line = int(entries.v4_port[i]), int(entries.v4_line[i])
        left = _cut(feed, 4, int(first[i]), int(last[i]), port, line, protection, report)
        rows += [(low, high, port, line) for low, high in left]
    keep = ~touched
    extra = np.array(rows, np.int64).reshape(-1, 4)
    return replace(
        entries,
        v4_first=np.concatenate([first[keep], extra[:, 0].astype(np.uint32)]),
        v4_last=np.concatenate([last[keep], extra[:, 1].astype(np.uint32)]),
        v4_port=np.concatenate([entries.v4_port[keep], extra[:, 2].astype(np.uint16)]),
        v4_line=np.concatenate([entries.v4_line[keep], extra[:, 3].astype(np.uint32)]),
    )


def _protect6(feed: Feed, entries: Entries, protection: Protection, report: list[Protected]) -> Entries:
    rows: list[tuple[int, int, int, int]] = []
    before = len(report)
    columns = (entries.v6_first.tolist(), entries.v6_last.tolist(), entries.v6_port.tolist(), entries.v6_line.tolist())
    for low, high, port, line in zip(*columns, strict=True):
        first, last = low[0] << 64 | low[1], high[0] << 64 | high[1]
        for left in _cut(feed, 6, first, last, port, line, protection, report):
            rows.append((*left, port, line))
    if len(report) == before:
        return entries
    return replace(
        entries,
        v6_first=np.array([(row[0] >> 64, row[0] & _MASK64) for row in rows], np.uint64).reshape(-1, 2),
        v6_last=np.array([(row[1] >> 64, row[1] & _MASK64) for row in rows], np.uint64).reshape(-1, 2),
        v6_port=np.array([row[2] for row in rows], np.uint16),
        v6_line=np.array([row[3] for row in rows], np.uint32),
    )


def _protect_names(feed: Feed, entries: Entries, protection: Protection, report: list[Protected]) -> Entries:
    drop: list[int] = []
    observes = feed.action == Action.OBSERVE
    for i, name in enumerate(entries.names):
        guard = _name_guard(name, protection, observes)
        if guard is not None:
            drop.append(i)
            report.append(Protected(feed.name, int(entries.name_line[i]), name, guard.by, guard.why, guard.kind))
    if not drop:
        return entries
    keep = np.ones(len(entries.names), np.bool_)
    keep[drop] = False
    dropped = set(drop)
    names = [name for i, name in enumerate(entries.names) if i not in dropped]
    return replace(entries, names=names, name_line=entries.name_line[keep])


def _name_guard(name: str, protection: Protection, observes: bool) -> Guard | None:
    """The protection that keeps a name out, if any."""
    labels = name.rsplit(".", 2)
    if labels[-1] in protection.local or ".".join(labels[-2:]) in protection.local:
        return Guard(Kind.LOCAL, labels[-1], "nom du réseau local (RFC 6761, RFC 8375)")
    if not observes:
        never, above = protection.never, protection.never_above
        if name in never:
            return never[name]
        for up in parents(name):
            if up in never:
                return Guard(Kind.NEVER, up, f"au-dessous de {up} : {never[up].why}")
        if name in above:
            return Guard(Kind.NEVER, above[name].by, f"au-dessus de {above[name].by} : {above[name].why}")
    if protection.suffixes.is_suffix(name):
        return Guard(Kind.SUFFIX, name, "suffixe public : bloquerait tous ceux qui sont dessous")
    if not observes and name in protection.sites:
        return protection.sites[name]
    return None


def show(family: int, first: int, last: int, port: int = 0) -> str:
    """An address, a prefix, or a-b when the range is no prefix; `:port` when limited to one."""
    kind = ipaddress.IPv4Address if family == 4 else ipaddress.IPv6Address
    if first == last:
        text = str(kind(first))
        return text if not port else f"{text}:{port}" if family == 4 else f"[{text}]:{port}"
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        text = f"{kind(first)}/{(32 if family == 4 else 128) - size.bit_length() + 1}"
    else:
        text = f"{kind(first)}-{kind(last)}"
    return text if not port else f"{text} port {port}"


def names_to_resolve(never: NeverBlock) -> Iterable[str]:
    """What the edge resolves before :func:`build`."""
    return (entry.name for entry in never.entries)
