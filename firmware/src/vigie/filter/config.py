"""Configuration of `vigie filter`: YAML with defaults that need no file.

An unknown key, a wrong type or a value out of range is a `ConfigError` that names the file and the line
(`vigie.settings`). Here are the fields, their limits, and the fields that are more than a word or a number.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml

from vigie import settings
from vigie.contract.codes import EventKind
from vigie.settings import fail, pairs, scalar

PROTOCOLS = {"tcp": 6, "udp": 17}
# Per second and CPU. Discovery and ARP are chatty; names and blocks are what people ask about.
DEFAULT_EVENT_RATES: Mapping[str, int] = types.MappingProxyType(
    {
        "blocked": 500,
        "observed": 200,
        "flow": 500,
        "dns": 500,
        "name": 500,
        "dhcp": 50,
        "discovery": 50,
        "neighbour": 100,
        "router": 20,
        "inbound": 100,
        "probe": 20,
        "mac_moved": 20,
    }
)


@dataclass(frozen=True, slots=True)
class BoxPort:
    """A port of the box itself, open to on-link LAN hosts."""

    proto: int
    port: int

    def __str__(self) -> str:
        name = next((n for n, p in PROTOCOLS.items() if p == self.proto), str(self.proto))
        return f"{self.port}/{name}"


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Where attempts are kept, and how much of them."""

    path: Path = Path("/data/vigie/journal.db")
    max_rows: int = 200_000
    max_bytes: int = 64 * 1024 * 1024
    keep_days: int = 30
    outbox_rows: int = 20_000  # of those, rows already handed to the link are never dropped
    outbox_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InboundConfig:
    """What unsolicited traffic from the internet meets once roles are known."""

    mode: Literal["learn", "refuse", "off"] = "learn"
    learning_days: float = 14.0
    grace_s: int = 0


@dataclass(frozen=True, slots=True)
class RatesConfig:
    """Refusals told to each side, and events reported, per second and CPU."""

    refuse_out: int = 1000
    refuse_in: int = 100
    events: Mapping[str, int] = field(default_factory=lambda: DEFAULT_EVENT_RATES)


@dataclass(frozen=True, slots=True)
class HoldConfig:
    """Frames held until the server's name is known."""

    enabled: bool = True
    ms: int = 300


@dataclass(frozen=True, slots=True)
class IsolationConfig:
    """How long an isolation level or a quarantine lasts unless renewed."""

    hours: float = 4.0


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """Loop probes."""

    enabled: bool = True
    interval_ms: int = 200
    reopen_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `vigie filter run` needs to know."""

    ports: tuple[str, str] | None = None
    bridge: str = "br0"
    early_loader: bool = False
    object: Path = Path("/usr/lib/vigie/filter.bpf.o")
    pin_dir: Path = Path("/sys/fs/bpf/vigie")
    state_dir: Path = Path("/data/vigie/filter")
    socket: Path = Path("/run/vigie/filter.sock")
    socket_group: str = ""
    link_user: str = ""  # of the group, who alone takes reports and brings orders; "" the whole group
    base: Path = Path("/data/vigie/base.vgb")
    builtin_base: Path = Path("/usr/share/vigie/base.vgb")
    image: Path = Path("/data/vigie/base.img")  # what the early loader maps at the next boot
    trust: Path = Path("/usr/share/vigie/trust")  # steering.json: whose second signatures count
    box_state: Path = Path("/data/vigie")  # of the other services: the box's id, the trusted clock's floor
    run_dir: Path = Path("/run/vigie")  # the trusted clock's anchor
    journal: JournalConfig = field(default_factory=JournalConfig)
    page_ports: tuple[BoxPort, ...] = (BoxPort(6, 80), BoxPort(6, 443))
    inbound: InboundConfig = field(default_factory=InboundConfig)
    rates: RatesConfig = field(default_factory=RatesConfig)
    hold: HoldConfig = field(default_factory=HoldConfig)
    isolation: IsolationConfig = field(default_factory=IsolationConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


# Inclusive bounds by dotted name; the data path's arrays and the contract set them.
LIMITS: Mapping[str, tuple[float, float]] = {
    "journal.max_rows": (1000, 10_000_000),
    "journal.max_bytes": (1024 * 1024, 8 * 1024**3),
    "journal.keep_days": (1, 30),
    "journal.outbox_rows": (100, 1_000_000),
    "journal.outbox_bytes": (256 * 1024, 256 * 1024 * 1024),
    "inbound.learning_days": (0, 90),
    "inbound.grace_s": (0, 3600),
    "rates.refuse_out": (0, 1_000_000),
    "rates.refuse_in": (0, 1_000_000),
    "hold.ms": (10, 300),
    "isolation.hours": (0.01, 4),
    "loop.interval_ms": (50, 1000),
    "loop.reopen_s": (1, 600),
}
MAX_PAGE_PORTS = 8
IFNAME_MAX = 15


def _ifname(node: yaml.Node, where: str, name: str) -> str:
    text = str(scalar(node, where, name, "the name of a network interface", (str,)))
    if not 0 < len(text) <= IFNAME_MAX or "/" in text or any(c.isspace() for c in text):
        raise fail(node, where, f"`{name}`: `{text}` is not the name of a network interface")
    return text


def _ports(node: yaml.Node, where: str, name: str) -> tuple[str, str] | None:
    if isinstance(node, yaml.ScalarNode) and node.value == "auto":
        return None
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
        raise fail(node, where, "`ports` must be `auto` or exactly two interface names, such as [eth0, eth1]")
    first, second = (_ifname(n, where, name) for n in node.value)
    if first == second:
        raise fail(node, where, f"`ports` names `{first}` twice")
    return first, second


def _page_ports(node: yaml.Node, where: str, name: str) -> tuple[BoxPort, ...]:
    if not isinstance(node, yaml.SequenceNode) or len(node.value) > MAX_PAGE_PORTS:
        raise fail(node, where, f"`{name}` must be a list of at most {MAX_PAGE_PORTS} ports such as 443/tcp")
    ports = []
    for item in node.value:
        text = str(scalar(item, where, name, "a port such as 443/tcp", (str,)))
        number, _, proto = text.partition("/")
        if proto not in PROTOCOLS or not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
            raise fail(item, where, f"`{name}`: `{text}` is not a port such as 443/tcp")
        ports.append(BoxPort(PROTOCOLS[proto], int(number)))
    return tuple(ports)


def _event_rates(node: yaml.Node, where: str, name: str) -> Mapping[str, int]:
    known = {kind.name.lower() for kind in EventKind} & set(DEFAULT_EVENT_RATES)
    rates = dict(DEFAULT_EVENT_RATES)
    for key, value in pairs(node, where, f"`{name}`"):
        if key.value not in known:
            raise fail(key, where, f"unknown event kind `{key.value}`; known: {', '.join(sorted(known))}")
        rate = int(scalar(value, where, f"{name}.{key.value}", "a whole number", (int,)))
        if not 0 <= rate <= 1_000_000:
            raise fail(value, where, f"`{name}.{key.value}` must be between 0 and 1000000")
        rates[key.value] = rate
    return types.MappingProxyType(rates)


_SPECIAL: Mapping[str, settings.Special] = {
    "ports": _ports,
    "bridge": _ifname,
    "page_ports": _page_ports,
    "rates.events": _event_rates,
}

_READER = settings.Reader(Config, "vigie filter", LIMITS, _SPECIAL)


def load(path: Path | None) -> Config:
    """The configuration of file `path`; all defaults when `path` is None. Raises ConfigError."""
    return Config() if path is None else _READER.load(path)


def parse(text: str | bytes, where: str) -> Config:
    """The configuration written in `text`; `where` names it in errors."""
    return _READER.parse(text, where)
