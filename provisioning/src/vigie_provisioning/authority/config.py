"""The authority's configuration: one TOML file, every key known, every value checked."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vigie_provisioning.authority.ca import Places
from vigie_provisioning.errors import ConfigError
from vigie_provisioning.files import read_bounded

DEFAULT_FILE = Path("/etc/vigie-department/authority.toml")
CONFIG_MAX = 64 * 1024


@dataclass(slots=True, frozen=True)
class Config:
    """What the authority is told.

    domain: of the department; the broker is `mqtt.DOMAIN`. state: private folder (keys, store). public: folder for what
    other servers read (clients.pem, roots.pem, crl.pem, denied.json). trust: folder of the boxes' trust bundle.
    http_socket: for nginx. admin_socket: for the console and commands. operators: JSON file of the keys whose register
    lines are believed. server_certificates: PEM files of enrol.DOMAIN; the box attests which of their keys it saw.
    admin_users: who may use the admin socket besides root and the own user. http_group, public_group: groups that may
    connect, or read what is public ("" = the process's own). superseded_s: how long the certificate that a box had
    before stays out of the revocation list. source_*, serial_*: requests per second, and at once, from one address and
    for one serial; behind one address there may be a whole department.
    """

    domain: str
    state: Path
    public: Path
    trust: Path
    http_socket: Path
    admin_socket: Path
    operators: Path
    server_certificates: tuple[Path, ...]
    admin_users: tuple[str, ...] = ()
    http_group: str = ""
    public_group: str = ""
    mqtt_host: str = ""
    mqtt_ports: tuple[int, ...] = (8883, 443)
    certificate_days: int = 90
    crl_days: int = 30
    superseded_s: int = 900
    source_rate: float = 20.0
    source_burst: int = 3000
    serial_rate: float = 0.01
    serial_burst: int = 20

    def __post_init__(self) -> None:
        if not self.mqtt_host:
            object.__setattr__(self, "mqtt_host", f"mqtt.{self.domain}")

    @property
    def places(self) -> Places:
        """Where keys and certificates are."""
        return Places(self.state, self.public, self.trust)

    @property
    def store(self) -> Path:
        """The database."""
        return self.state / "authority.db"


_BOUNDS: dict[str, tuple[float, float]] = {
    "certificate_days": (1, 398),
    "crl_days": (2, 90),
    "superseded_s": (0, 86_400),
    "source_rate": (0.1, 10_000),
    "source_burst": (1, 100_000),
    "serial_rate": (0.0001, 1000),
    "serial_burst": (1, 10_000),
}


def load(path: Path = DEFAULT_FILE) -> Config:
    """Reads and checks the file. ConfigError names the key and what is expected."""
    try:
        table = tomllib.loads(read_bounded(path, CONFIG_MAX).decode())
    except (ValueError, tomllib.TOMLDecodeError) as e:
        raise ConfigError(f"{path}: not TOML ({e})") from e
    return from_table(table, path)


def from_table(table: dict[str, Any], path: Path) -> Config:
    """A parsed file, checked. Relative paths are refused: the daemon's working folder means nothing."""
    hints = typing.get_type_hints(Config)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in hints:
            raise ConfigError(f"{path}: unknown key `{name}`; known: {', '.join(sorted(hints))}")
        values[name] = _value(path, name, hints[name], value)
    for field in dataclasses.fields(Config):
        if field.name not in values and field.default is dataclasses.MISSING:
            raise ConfigError(f"{path}: `{field.name}` is missing")
    config = Config(**values)
    for name, (low, high) in _BOUNDS.items():
        if not low <= getattr(config, name) <= high:
            raise ConfigError(f"{path}: {name}: from {low:g} to {high:g} is expected")
    if not config.server_certificates:
        raise ConfigError(f"{path}: server_certificates: at least the certificate of enrol.{config.domain} is needed")
    if not config.mqtt_ports or not all(0 < port < 65536 for port in config.mqtt_ports):
        raise ConfigError(f"{path}: mqtt_ports: ports from 1 to 65535 are expected")
    return config


def render(config: Config) -> str:
    """The file that reads as `config`; what has its default is left out."""
    lines = ["# Vigie, enrolment authority. Keys are explained in vigie_provisioning.authority.config."]
    for field in dataclasses.fields(Config):
        value = getattr(config, field.name)
        if value != field.default and not (field.name == "mqtt_host" and value == f"mqtt.{config.domain}"):
            lines.append(f"{field.name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _value(path: Path, name: str, hint: Any, value: Any) -> Any:
    if hint is Path:
        if not isinstance(value, str) or not Path(value).is_absolute():
            raise ConfigError(f"{path}: {name}: an absolute path is expected")
        return Path(value)
    inner = typing.get_args(hint)
    if inner:
        if not isinstance(value, list):
            raise ConfigError(f"{path}: {name}: a list is expected")
        return tuple(_value(path, name, inner[0], item) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{path}: {name}: {hint.__name__} is expected, not {type(value).__name__}")
    return value


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, (int, float)):
        return repr(value)
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
