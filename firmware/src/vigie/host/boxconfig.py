"""Configuration of the box's services beside the filter: one YAML file for enrol, link, update, page and address.

The department's domain is part of its trust folder (`trust/domain`), so that one configuration serves every image; here
it may be written too. The intervals are those of the fleet; the lab and tests shorten them.
"""

from __future__ import annotations

import ipaddress
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from vigie import settings
from vigie.contract.identity import MODEL
from vigie.errors import ConfigError, HostError
from vigie.host.files import read_small
from vigie.settings import fail, items, pairs, scalar

DEFAULT_PATH: Final = Path("/etc/vigie/box.yaml")
DEFAULT_MODEL: Final = "vigie-cm4"
DOMAIN: Final = "domain"
"""File of the trust folder that names the department."""
DOMAIN_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders and sockets. trust: from the image, read-only; identity: survives a configuration reset; run: tmpfs.

    Below `state` and `run` each service has a folder of its own, which it alone may write: they are different users.
    """

    trust: Path = Path("/usr/share/vigie/trust")
    identity: Path = Path("/identity")
    state: Path = Path("/data/vigie")
    filter_socket: Path = Path("/run/vigie/filter.sock")
    run: Path = Path("/run/vigie")

    @property
    def enrol(self) -> Path:
        """Folder of the operational certificate, what is pending, and status.json."""
        return self.state / "enrol"

    @property
    def link(self) -> Path:
        """Folder of the link's state."""
        return self.state / "link"

    @property
    def update(self) -> Path:
        """Folder of the update's state: TUF metadata, downloads."""
        return self.state / "update"

    @property
    def address(self) -> Path:
        """Folder of the page's wish for an address."""
        return self.state / "address"

    @property
    def run_enrol(self) -> Path:
        """Of this boot: the trusted clock's anchor, the lock of enrolment."""
        return self.run / "enrol"

    @property
    def run_doubt(self) -> Path:
        """Where whoever uses the operational certificate says that it was refused."""
        return self.run / "doubt"

    @property
    def run_link(self) -> Path:
        """Of this boot: where the link stands, restarts that it asks for."""
        return self.run / "link"

    @property
    def run_update(self) -> Path:
        """Of this boot: the socket at which the updater is told to look."""
        return self.run / "update"

    @property
    def run_address(self) -> Path:
        """Of this boot: the addresses in force, resolv.conf of a fixed one."""
        return self.run / "address"

    @property
    def roots(self) -> Path:
        """Root certificates (PEM) of the department."""
        return self.trust / "roots.pem"


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of the department's servers. http: nobody listens there; a captive portal answers on it."""

    https: int = 443
    http: int = 80
    mqtt: tuple[int, ...] = (8883, 443)


@dataclass(frozen=True, slots=True)
class EnrolIntervals:
    """Seconds. first, most: of the full-jitter back-off; hourly: after `patience` without success; refused: between
    attempts of a box that is not wanted; time: between signed times; connect, read: time-outs of one request."""

    first_s: float = 5.0
    most_s: float = 900.0
    patience_s: float = 86_400.0
    hourly_s: float = 3600.0
    refused_s: float = 21_600.0
    time_s: float = 86_400.0
    connect_s: float = 10.0
    read_s: float = 20.0
    look_s: float = 5.0


@dataclass(frozen=True, slots=True)
class LinkIntervals:
    """Seconds, and rows per second. first, most: of the reconnect back-off; spread: random delay before the outbox is
    drained after an outage; drain: rows per second; state: between two state messages; poll: between two looks into the
    outbox; confirm: until rows that nobody confirms are sent again; reconcile: between two comparisons of what is in
    force with what was ordered; connect: time-out of each step of a connection; renewed: at most until a session is
    opened again with a renewed certificate."""

    first_s: float = 1.0
    most_s: float = 900.0
    spread_s: float = 30.0
    drain_per_s: float = 5.0
    keepalive_s: int = 60
    state_s: float = 900.0
    poll_s: float = 0.5
    confirm_s: float = 30.0
    reconcile_s: float = 10.0
    connect_s: float = 10.0
    renewed_s: float = 600.0


@dataclass(frozen=True, slots=True)
class UpdateIntervals:
    """Seconds. poll: between looks without an announcement; spread: random delay after one; first, most: of the
    back-off; connect, read: time-outs of one request."""

    poll_s: float = 3600.0
    spread_s: float = 0.0
    first_s: float = 5.0
    most_s: float = 900.0
    connect_s: float = 10.0
    read_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Intervals:
    """Times of each service."""

    enrol: EnrolIntervals = field(default_factory=EnrolIntervals)
    link: LinkIntervals = field(default_factory=LinkIntervals)
    update: UpdateIntervals = field(default_factory=UpdateIntervals)


@dataclass(frozen=True, slots=True)
class PageConfig:
    """The page. listen: address and port; the filter's `page_ports` must hold the port."""

    address: str = "::"  # IPv4 too; on-link clients of the bridge only (`page.guard`)
    port: int = 80


@dataclass(frozen=True, slots=True)
class BoxConfig:
    """Everything that enrol, link, update, page and address need to know.

    addresses: host name -> address to connect to instead of asking DNS (a department without public names, tests);
    TLS still checks the name. proxy: `http://host:port` for HTTPS and MQTT, "" for none. set_clock: whether `vigie
    enrol` may set the machine's clock.
    """

    domain: str = ""
    model: str = DEFAULT_MODEL
    bridge: str = "br0"
    set_clock: bool = True
    proxy: str = ""
    paths: Paths = field(default_factory=Paths)
    ports: Ports = field(default_factory=Ports)
    addresses: Mapping[str, str] = field(default_factory=lambda: types.MappingProxyType({}))
    intervals: Intervals = field(default_factory=Intervals)
    page: PageConfig = field(default_factory=PageConfig)

    @property
    def enrol_host(self) -> str:
        """Name of the authority."""
        return f"enrol.{self._named()}"

    @property
    def mqtt_host(self) -> str:
        """Name of the broker."""
        return f"mqtt.{self._named()}"

    @property
    def update_host(self) -> str:
        """Name of the repository."""
        return f"maj.{self._named()}"

    def _named(self) -> str:
        if not self.domain:
            raise ConfigError(
                str(self.paths.trust / DOMAIN),
                None,
                "no department is named: the image was built without a trust folder",
            )
        return self.domain

    def address_of(self, host: str) -> str:
        """What to connect to for a host: its configured address, else the name itself (DNS)."""
        return self.addresses.get(host, host)


_SECONDS: Final = (0.001, 30 * 86_400.0)
_LINK_OWN: Final = ("drain_per_s", "keepalive_s", "spread_s")
LIMITS: Mapping[str, tuple[float, float]] = types.MappingProxyType(
    {
        "ports.https": (1, 65535),
        "ports.http": (1, 65535),
        "page.port": (1, 65535),
        "intervals.link.drain_per_s": (0.1, 100_000),
        "intervals.link.keepalive_s": (2, 3600),
        "intervals.link.spread_s": (0, 3600),
        "intervals.update.spread_s": (0, 3600),
        **{f"intervals.enrol.{name}": _SECONDS for name in EnrolIntervals.__dataclass_fields__},
        **{f"intervals.link.{name}": _SECONDS for name in LinkIntervals.__dataclass_fields__ if name not in _LINK_OWN},
        **{f"intervals.update.{n}": _SECONDS for n in ("poll_s", "first_s", "most_s", "connect_s", "read_s")},
    }
)
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_IFNAME_MAX: Final = 15


def is_host(text: str) -> bool:
    """True for a host name in lower case ASCII (an IDN in its xn-- form)."""
    return 0 < len(text) <= 253 and all(_LABEL.fullmatch(label) for label in text.split("."))


def _domain(node: yaml.Node, where: str, name: str) -> str:
    text = str(scalar(node, where, name, "a domain name such as vigie.mondepartement.fr", (str,)))
    if not is_host(text) or len(text) > DOMAIN_MAX:
        raise fail(node, where, f"`{name}`: `{text}` is no domain name in lower case such as vigie.mondepartement.fr")
    return text


def _model(node: yaml.Node, where: str, name: str) -> str:
    text = str(scalar(node, where, name, "a model such as vigie-cm4", (str,)))
    if not MODEL.fullmatch(text):
        raise fail(node, where, f"`{name}`: `{text}` is not a model such as vigie-cm4")
    return text


def _bridge(node: yaml.Node, where: str, name: str) -> str:
    text = str(scalar(node, where, name, "the name of a network interface", (str,)))
    if not 0 < len(text) <= _IFNAME_MAX or "/" in text or any(c.isspace() for c in text):
        raise fail(node, where, f"`{name}`: `{text}` is not the name of a network interface")
    return text


def _proxy(node: yaml.Node, where: str, name: str) -> str:
    text = str(scalar(node, where, name, "a proxy such as http://proxy.mairie.lan:3128", (str,)))
    try:
        parts = urlsplit(text)
        good = not text or (parts.scheme == "http" and bool(parts.hostname) and parts.port is not None)
    except ValueError:
        good = False
    if not good or (text and (parts.path not in ("", "/") or parts.query or parts.fragment)):
        raise fail(node, where, f"`{name}`: `{text}` is not a proxy such as http://proxy.mairie.lan:3128")
    return text.rstrip("/")


def _ports(node: yaml.Node, where: str, name: str) -> tuple[int, ...]:
    expected = "ports such as 8883"
    ports = []
    for item in items(node, where, name, 4, expected):
        port = int(scalar(item, where, name, "a port such as 8883", (int,)))
        if not 0 < port < 65536:
            raise fail(item, where, f"`{name}`: {port} is not a port such as 8883")
        ports.append(port)
    if not ports:
        raise fail(node, where, f"`{name}` is empty: give at least one port")
    return tuple(ports)


def _addresses(node: yaml.Node, where: str, name: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for key, value in pairs(node, where, f"`{name}`"):
        if not is_host(key.value):
            raise fail(key, where, f"`{name}`: `{key.value}` is not a host name")
        text = str(scalar(value, where, f"{name}.{key.value}", "an address", (str,)))
        try:
            found[key.value] = str(ipaddress.ip_address(text))
        except ValueError as e:
            raise fail(value, where, f"`{name}.{key.value}`: `{text}` is not an address") from e
    return types.MappingProxyType(found)


def _listen(node: yaml.Node, where: str, name: str) -> str:
    text = str(scalar(node, where, name, "an address", (str,)))
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as e:
        raise fail(node, where, f"`{name}`: `{text}` is not an address") from e


_SPECIAL: Mapping[str, settings.Special] = types.MappingProxyType(
    {
        "domain": _domain,
        "model": _model,
        "bridge": _bridge,
        "proxy": _proxy,
        "ports.mqtt": _ports,
        "addresses": _addresses,
        "page.address": _listen,
    }
)
_READER = settings.Reader(BoxConfig, "the box", LIMITS, _SPECIAL)


def load(path: Path = DEFAULT_PATH) -> BoxConfig:
    """The configuration in file `path`, with the domain of the trust folder unless it names one. Raises ConfigError."""
    config = _READER.load(path)
    return config if config.domain else replace(config, domain=_domain_of(config.paths.trust / DOMAIN))


def _domain_of(path: Path) -> str:
    """The domain in a file of one line; "" when there is none. Raises ConfigError."""
    try:
        data = read_small(path, 1024)
    except HostError as e:
        raise ConfigError(str(path), None, str(e)) from e
    if data is None:
        return ""
    text = data.decode("ascii", "replace").strip()
    if not is_host(text) or len(text) > DOMAIN_MAX:
        raise ConfigError(
            str(path), 1, f"`{text[:80]}` is no domain name in lower case such as vigie.mondepartement.fr"
        )
    return text


def parse(text: str | bytes, where: str) -> BoxConfig:
    """The configuration written in `text`; `where` names it in errors."""
    return _READER.parse(text, where)
