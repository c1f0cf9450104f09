"""The lists that come with the product: never-block names, essential services, and built-in protections.

    never-block.fr.yaml   what a French commune works with; nothing may block it
    essential.fr.yaml     what stays reachable under isolation, ranked
    protected.yaml        special-purpose ranges, public resolvers, shared fronts, local names, shared suffixes

Loaders are strict: every error is a ListError with file and line. A department may give its own files of that shape.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from vigie.contract.codes import DeviceClass
from vigie.errors import UsageError
from vigie.filter.base import yamltext
from vigie.filter.base.readers.tokens import Range, classify
from vigie.filter.base.readers.tokens import name as name_of
from vigie.filter.base.suffixes import Suffixes
from vigie.filter.base.yamltext import Value

DATA: Final = Path(__file__).parents[2] / "data"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
PROTOCOLS: Final = {"tcp": 6, "udp": 17}
RANKS: Final = (1, 9)
_CONTENT: Final = ("names", "addresses", "ports", "devices", "provided_by")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NeverName:
    """A name that nothing may block, with what is below it. `source`: where the name is known from."""

    name: str
    category: str
    source: str
    line: int

    @property
    def why(self) -> str:
        """For reports."""
        return f"liste à ne jamais bloquer, {self.category}"


@dataclass(frozen=True, slots=True)
class NeverPrefix:
    """Addresses that nothing may block."""

    prefix: Network
    category: str
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class NeverBlock:
    """`categories`: key -> French label, in the order of the file."""

    entries: tuple[NeverName, ...] = ()
    prefix_entries: tuple[NeverPrefix, ...] = ()
    categories: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, as lower-case A-labels."""
        return tuple(entry.name for entry in self.entries)

    @property
    def prefixes(self) -> tuple[Network, ...]:
        """The prefixes."""
        return tuple(entry.prefix for entry in self.prefix_entries)

    def prefixes_why(self) -> Iterator[tuple[Network, str]]:
        """(prefix, reason for reports)."""
        return ((entry.prefix, f"liste à ne jamais bloquer, {entry.category}") for entry in self.prefix_entries)


@dataclass(frozen=True, slots=True)
class Port:
    """A service kept by its port whoever serves it. protocol: 6 TCP, 17 UDP."""

    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class Essential:
    """A service kept under isolation. rank 1..9: level 2 keeps all, level 3 keeps ranks 1 and 2.
    `devices`: classes of devices that keep all their traffic. `provided`: its names come with the box's enrolment,
    see :func:`provide`."""

    rank: int
    key: str
    label: str
    names: tuple[str, ...]
    prefixes: tuple[Network, ...]
    ports: tuple[Port, ...]
    devices: tuple[DeviceClass, ...]
    source: str
    line: int
    provided: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    """A special-purpose range. `documentation`: kept for examples (RFC 5737, RFC 3849, RFC 9637)."""

    text: str
    range: Range
    why: str
    source: str
    documentation: bool


@dataclass(frozen=True, slots=True)
class Service:
    """Addresses of one public service."""

    name: str
    source: str
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Protections that need no file from outside."""

    special: tuple[Special, ...]
    resolvers: tuple[Service, ...]
    fronts: tuple[Service, ...]
    rented: tuple[Service, ...]
    local_names: frozenset[str]
    suffixes: Suffixes


def _name(value: Value) -> str:
    found = name_of(value.text())
    if found is None or found != value.text():
        value.fail(f"{value.text()!r} is not a name of two labels or more, in lower-case A-labels")
    return found


def _range(value: Value) -> Range:
    what = classify(value.text())
    if not isinstance(what, Range):
        value.fail(f"{value.text()!r} is not an address or a prefix")
    if what.warning or what.port:
        value.fail(f"{value.text()!r}: {what.warning or 'a port is not expected here'}")
    return what


def _network(value: Value) -> Network:
    try:
        return ipaddress.ip_network(value.text())
    except ValueError as error:
        value.fail(f"not an address or a prefix: {error}")


def _once(seen: dict[str, int], item: str, value: Value) -> None:
    if item in seen:
        value.fail(f"{item} is already on line {seen[item]}")
    seen[item] = value.line


def load_never_block(path: Path) -> NeverBlock:
    """Read a never-block file. Names and prefixes are unique. ListError."""
    document = yamltext.load(path).mapping({"version", "groups"})
    document["version"].number(1, 1)
    entries: list[NeverName] = []
    prefixes: list[NeverPrefix] = []
    categories: dict[str, str] = {}
    seen: dict[str, int] = {}
    for group in document["groups"].items():
        keys = group.mapping({"category", "label"}, {"names", "prefixes"})
        category = keys["category"].text()
        if category in categories:
            keys["category"].fail(f"category {category!r} is given twice")
        categories[category] = keys["label"].text()
        for item in keys["names"].items() if "names" in keys else ():
            fields = item.mapping({"name", "source"})
            name = _name(fields["name"])
            _once(seen, name, fields["name"])
            entries.append(NeverName(name, category, fields["source"].text(), item.line))
        for item in keys["prefixes"].items() if "prefixes" in keys else ():
            fields = item.mapping({"prefix", "source"})
            prefix = _network(fields["prefix"])
            _once(seen, str(prefix), fields["prefix"])
            prefixes.append(NeverPrefix(prefix, category, fields["source"].text(), item.line))
    return NeverBlock(tuple(entries), tuple(prefixes), tuple(categories.items()))


def load_essential(path: Path) -> tuple[Essential, ...]:
    """Read an essential-services file; entries come in the order of their rank."""
    document = yamltext.load(path).mapping({"version", "services"})
    document["version"].number(1, 1)
    services: list[Essential] = []
    keys_seen: dict[str, int] = {}
    seen: dict[str, int] = {}
    for item in document["services"].items():
        keys = item.mapping({"rank", "key", "label", "source"}, frozenset(_CONTENT))
        rank = keys["rank"].number(*RANKS)
        _once(keys_seen, keys["key"].text(), keys["key"])
        if services and rank < services[-1].rank:
            keys["rank"].fail(f"rank {rank} after rank {services[-1].rank}: services are listed by rank")
        services.append(
            Essential(
                rank,
                keys["key"].text(),
                keys["label"].text(),
                names=_unique(keys, "names", _name, seen),
                prefixes=_unique(keys, "addresses", _network, seen),
                ports=_unique(keys, "ports", _port, seen),
                devices=_unique(keys, "devices", _device, seen),
                source=keys["source"].text(),
                line=item.line,
                provided="provided_by" in keys,
            )
        )
        if not any(key in keys for key in _CONTENT):
            item.fail(f"a service needs one of {', '.join(_CONTENT)}")
        if "provided_by" in keys and keys["provided_by"].text() != "enrolment":
            keys["provided_by"].fail("only `enrolment` provides names")
    return tuple(services)


def provide(
    services: Sequence[Essential], names: Sequence[str], prefixes: Sequence[Network] = ()
) -> tuple[Essential, ...]:
    """The services, with the department's names and addresses (from enrolment) in the entries that wait for them."""
    checked = []
    for text in names:
        found = name_of(text)
        if found is None:
            raise UsageError(f"{text!r}, given by the enrolment, is not a name")
        checked.append(found)
    return tuple(
        replace(service, names=tuple(checked), prefixes=tuple(prefixes)) if service.provided else service
        for service in services
    )


def _unique(keys: dict[str, Value], key: str, take: Callable[[Value], _T], seen: dict[str, int]) -> tuple[_T, ...]:
    done = []
    for value in keys[key].items() if key in keys else ():
        item = take(value)
        _once(seen, f"{key}: {item}", value)
        done.append(item)
    return tuple(done)


def _port(value: Value) -> Port:
    protocol, slash, port = value.text().partition("/")
    if (
        protocol not in PROTOCOLS
        or not slash
        or not (port.isascii() and port.isdigit())
        or not 0 < int(port[:6]) < 65536
    ):
        value.fail(f"{value.text()!r} is not tcp/PORT or udp/PORT")
    return Port(PROTOCOLS[protocol], int(port))


def _device(value: Value) -> DeviceClass:
    known = {c.name.lower(): c for c in DeviceClass if c is not DeviceClass.NONE}
    if value.text() not in known:
        value.fail(f"unknown device class {value.text()!r}; known: {', '.join(known)}")
    return known[value.text()]


def load_built_in(path: Path) -> BuiltIn:
    """Read the built-in protections."""
    keys = yamltext.load(path).mapping(
        {"version", "special", "resolvers", "fronts", "rented", "local_names", "shared_suffixes"}
    )
    keys["version"].number(1, 1)
    special = []
    for item in keys["special"].items():
        fields = item.mapping({"prefix", "why", "source"}, {"documentation"})
        documentation = "documentation" in fields and fields["documentation"].truth()
        special.append(
            Special(
                fields["prefix"].text(),
                _range(fields["prefix"]),
                fields["why"].text(),
                fields["source"].text(),
                documentation,
            )
        )
    suffixes = Suffixes(frozenset(_name(value) for value in keys["shared_suffixes"].items()))
    local = frozenset(value.text() for value in keys["local_names"].items())
    resolvers, fronts, rented = (_services(keys[key]) for key in ("resolvers", "fronts", "rented"))
    return BuiltIn(tuple(special), resolvers, fronts, rented, local, suffixes)


def _services(value: Value) -> tuple[Service, ...]:
    done = []
    for item in value.items():
        fields = item.mapping({"name", "source", "addresses"})
        ranges = tuple(_range(address) for address in fields["addresses"].items())
        done.append(Service(fields["name"].text(), fields["source"].text(), ranges))
    return tuple(done)


@cache
def never_block(path: Path = DATA / "never-block.fr.yaml") -> NeverBlock:
    """The never-block list shipped with the product, or another one of the same shape. ListError."""
    return load_never_block(path)


@cache
def essential(path: Path = DATA / "essential.fr.yaml") -> tuple[Essential, ...]:
    """The essential services shipped with the product, or others of the same shape, by rank. ListError."""
    return load_essential(path)


@cache
def built_in(path: Path = DATA / "protected.yaml") -> BuiltIn:
    """The built-in protections. ListError."""
    return load_built_in(path)
