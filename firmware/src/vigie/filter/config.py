"""Configuration of `vigie filter`: YAML with defaults that need no file.

An unknown key, a wrong type or a value out of range is a `ConfigError` that names the file and the line: the
document is composed into YAML nodes first (which carry marks), then each node is checked against the field it fills.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from vigie.contract.codes import EventKind
from vigie.errors import ConfigError

MAX_FILE_BYTES = 64 * 1024
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
    base: Path = Path("/data/vigie/base.vgb")
    builtin_base: Path = Path("/usr/share/vigie/base.vgb")
    image: Path = Path("/data/vigie/base.img")  # what the early loader maps at the next boot
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


def load(path: Path | None) -> Config:
    """The configuration of file `path`; all defaults when `path` is None. Raises ConfigError."""
    if path is None:
        return Config()
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as e:
        raise ConfigError(path, None, f"cannot be read ({e.strerror}); give another --config or none") from e
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(path, None, f"larger than {MAX_FILE_BYTES} bytes, no configuration of vigie filter")
    return parse(raw, str(path))


def parse(text: str | bytes, where: str) -> Config:
    """The configuration written in `text`; `where` names it in errors."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        line = mark.line + 1 if mark is not None else None
        raise ConfigError(where, line, f"not valid YAML: {e.problem or e.context}") from e
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as e:
        raise ConfigError(where, None, f"not valid YAML: {e}") from e
    if root is None:
        return Config()
    return _section(Config, root, where, "")


def _fail(node: yaml.Node, where: str, message: str) -> ConfigError:
    return ConfigError(where, node.start_mark.line + 1, message)


_T = TypeVar("_T")


def _section(cls: type[_T], node: yaml.Node, where: str, prefix: str) -> _T:
    """An instance of dataclass `cls` from a mapping node."""
    what = f"`{prefix[:-1]}`" if prefix else "the configuration"
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value_node in _pairs(node, where, what):
        name = key.value
        if name not in hints:
            raise _fail(key, where, f"unknown key `{prefix}{name}`; known: {', '.join(sorted(hints))}")
        if name in values:
            raise _fail(key, where, f"`{prefix}{name}` is given twice")
        values[name] = _value(hints[name], value_node, where, prefix + name)
    return cls(**values)


def _pairs(node: yaml.Node, where: str, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise _fail(node, where, f"{what} must be a mapping of `key: value`")
    pairs = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _fail(key, where, f"a key of {what} must be a word")
        pairs.append((key, value))
    return pairs


def _value(kind: Any, node: yaml.Node, where: str, name: str) -> Any:
    special = _SPECIAL.get(name)
    if special is not None:
        return special(node, where, name)
    if dataclasses.is_dataclass(kind):
        return _section(typing.cast(type, kind), node, where, name + ".")
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        text = _scalar(node, where, name, "one of " + ", ".join(choices), (str, bool))
        # YAML 1.1 reads a bare `off` as false; the word itself is what was written.
        word = node.value if isinstance(text, bool) else text
        if word not in choices:
            raise _fail(node, where, f"`{name}` must be one of {', '.join(choices)}, not `{word}`")
        return word
    return _plain(kind, node, where, name)


def _plain(kind: Any, node: yaml.Node, where: str, name: str) -> Any:
    if kind is bool:
        return _scalar(node, where, name, "true or false", (bool,))
    if kind is int:
        return _bounded(_scalar(node, where, name, "a whole number", (int,)), node, where, name)
    if kind is float:
        return float(_bounded(_scalar(node, where, name, "a number", (int, float)), node, where, name))
    text = _scalar(node, where, name, "a text", (str,))
    if kind is Path:
        if not text.startswith("/"):
            raise _fail(node, where, f"`{name}` must be an absolute path, not `{text}`")
        return Path(text)
    return text


def _scalar(node: yaml.Node, where: str, name: str, expected: str, types_: tuple[type, ...]) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise _fail(node, where, f"`{name}` must be {expected}, not a list or a mapping")
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as e:
        raise _fail(node, where, f"`{name}` must be {expected}, not `{node.value}`") from e
    if not isinstance(value, types_) or (isinstance(value, bool) and bool not in types_):
        raise _fail(node, where, f"`{name}` must be {expected}, not `{node.value}`")
    return value


def _bounded(value: float, node: yaml.Node, where: str, name: str) -> float:
    low, high = LIMITS.get(name, (float("-inf"), float("inf")))
    if not low <= value <= high:
        raise _fail(node, where, f"`{name}` must be between {low:g} and {high:g}, not {node.value}")
    return value


def _ifname(node: yaml.Node, where: str, name: str) -> str:
    text = str(_scalar(node, where, name, "the name of a network interface", (str,)))
    if not 0 < len(text) <= IFNAME_MAX or "/" in text or any(c.isspace() for c in text):
        raise _fail(node, where, f"`{name}`: `{text}` is not the name of a network interface")
    return text


def _ports(node: yaml.Node, where: str, name: str) -> tuple[str, str] | None:
    if isinstance(node, yaml.ScalarNode) and node.value == "auto":
        return None
    if not isinstance(node, yaml.SequenceNode) or len(node.value) != 2:
        raise _fail(node, where, "`ports` must be `auto` or exactly two interface names, such as [eth0, eth1]")
    first, second = (_ifname(n, where, name) for n in node.value)
    if first == second:
        raise _fail(node, where, f"`ports` names `{first}` twice")
    return first, second


def _page_ports(node: yaml.Node, where: str, name: str) -> tuple[BoxPort, ...]:
    if not isinstance(node, yaml.SequenceNode) or len(node.value) > MAX_PAGE_PORTS:
        raise _fail(node, where, f"`{name}` must be a list of at most {MAX_PAGE_PORTS} ports such as 443/tcp")
    ports = []
    for item in node.value:
        text = str(_scalar(item, where, name, "a port such as 443/tcp", (str,)))
        number, _, proto = text.partition("/")
        if proto not in PROTOCOLS or not number.isascii() or not number.isdigit() or not 0 < int(number) < 65536:
            raise _fail(item, where, f"`{name}`: `{text}` is not a port such as 443/tcp")
        ports.append(BoxPort(PROTOCOLS[proto], int(number)))
    return tuple(ports)


def _event_rates(node: yaml.Node, where: str, name: str) -> Mapping[str, int]:
    known = {kind.name.lower() for kind in EventKind} & set(DEFAULT_EVENT_RATES)
    rates = dict(DEFAULT_EVENT_RATES)
    for key, value in _pairs(node, where, f"`{name}`"):
        if key.value not in known:
            raise _fail(key, where, f"unknown event kind `{key.value}`; known: {', '.join(sorted(known))}")
        rate = int(_scalar(value, where, f"{name}.{key.value}", "a whole number", (int,)))
        if not 0 <= rate <= 1_000_000:
            raise _fail(value, where, f"`{name}.{key.value}` must be between 0 and 1000000")
        rates[key.value] = rate
    return types.MappingProxyType(rates)


_SPECIAL: Mapping[str, Callable[[yaml.Node, str, str], Any]] = {
    "ports": _ports,
    "bridge": _ifname,
    "page_ports": _page_ports,
    "rates.events": _event_rates,
}
