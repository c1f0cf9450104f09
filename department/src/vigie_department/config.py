"""The department's configuration: one TOML file, read once, typed, with every place spelled out.

`layout` says where things go by default; the file may move any of them. Nothing else in the department knows a path.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from vigie_department.base.settings import PublishSettings
from vigie_department.errors import ConfigError, UsageError
from vigie_department.layout import Paths as Paths
from vigie_department.layout import debian as debian
from vigie_department.layout import under as under
from vigie_department.signer.settings import SignerSettings

DEFAULT_FILE: Final = Path("/etc/vigie-department/department.toml")
ENVIRONMENT: Final = "VIGIE_DEPARTMENT_CONFIG"
MAX_BYTES: Final = 256 * 1024
_DOMAIN: Final = re.compile(r"(?=.{3,200}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports. Those of the outside are on `listen`; the others on the loopback."""

    https: int = 443
    mqtt: int = 8883
    web: int = 8443
    """nginx's own http server, behind its stream server (proxy protocol)"""


@dataclass(frozen=True, slots=True)
class Broker:
    """How the ingest reaches the broker. Its certificate is always checked against the name `mqtt.D`."""

    address: str = "127.0.0.1"
    keepalive_s: int = 30


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds. Shorter in the lab and in tests."""

    outgoing: float = 0.1
    authority: float = 0.5
    batch: float = 0.05
    """longest time that a received message waits for company before it is committed"""
    confirm: float = 1.0
    """between two confirmations to the same box: several of its rows then share one"""
    retry: float = 0.5
    """first pause after a failure of the database or the broker; doubled up to `retry_max`"""
    retry_max: float = 15.0
    renew: float = 300.0
    """how often documents that are about to expire are looked for"""


@dataclass(frozen=True, slots=True)
class Documents:
    """Lifetimes of what is signed online."""

    desired_days: int = 180
    renew_before_days: int = 60
    command_minutes: int = 30
    temporary_hours: int = 4
    """isolation from level 2 and quarantine; the box refuses more"""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that rows are kept (`vigie-department retain`). See docs/conformite for the reasons."""

    alerts: int = 365
    counters: int = 400
    observed: int = 90
    requests: int = 365
    diagnostics: int = 30
    audit: int = 365
    outgoing: int = 30
    commands: int = 365
    documents: int = 365
    aside: int = 30


@dataclass(frozen=True, slots=True)
class Users:
    """Names of the system users that each process runs as; empty: the user who runs the command (`--root`)."""

    console: str = ""
    ingest: str = ""
    authority: str = ""
    signer: str = ""
    publisher: str = ""
    web: str = ""
    broker: str = ""


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom the mairie calls: shown on the box's page."""

    name: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """Where the console sends what cannot wait. Empty host: no mail."""

    host: str = ""
    port: int = 25
    sender: str = ""
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file. `path` is where it was read."""

    path: Path
    domain: str
    paths: Paths
    database: str
    organisation: str = ""
    """name of the department as people read it"""
    language: str = "fr"
    time_zone: str = "Europe/Paris"
    listen: str = ""
    """address of the outside for nginx and mosquitto; empty: all of this machine's"""
    ports: Ports = field(default_factory=Ports)
    broker: Broker = field(default_factory=Broker)
    intervals: Intervals = field(default_factory=Intervals)
    documents: Documents = field(default_factory=Documents)
    retention: Retention = field(default_factory=Retention)
    users: Users = field(default_factory=Users)
    contact: Contact = field(default_factory=Contact)
    mail: Mail = field(default_factory=Mail)
    signer: SignerSettings = field(default_factory=SignerSettings)
    publish: PublishSettings = field(default_factory=PublishSettings)

    @property
    def mqtt_host(self) -> str:
        """Name of the broker."""
        return f"mqtt.{self.domain}"

    @property
    def enrol_host(self) -> str:
        """Name of the authority."""
        return f"enrol.{self.domain}"

    @property
    def updates_host(self) -> str:
        """Name of the TUF repository's server."""
        return f"maj.{self.domain}"

    @property
    def console_host(self) -> str:
        """Name of the console."""
        return f"console.{self.domain}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every public name."""
        return (self.mqtt_host, self.enrol_host, self.updates_host, self.console_host)


def file_of(root: Path) -> Path:
    """Name of the configuration in a `--root` layout."""
    return root.absolute() / "etc" / "department.toml"


def locate(path: Path | None = None, root: Path | None = None) -> Path:
    """The file that a command means: `--config`, else `--root`, else the environment, else Debian's place."""
    if path is not None:
        return path.absolute()
    if root is not None:
        return file_of(root)
    named = os.environ.get(ENVIRONMENT)
    return Path(named).absolute() if named else DEFAULT_FILE


def load(path: Path | None = None, *, root: Path | None = None) -> Config:
    """Read and check the file. Raises ConfigError, which names the file and the key."""
    place = locate(path, root)
    try:
        with place.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        hint = "run `vigie-department init` first, or name it with --config or --root"
        raise ConfigError(place, None, f"cannot be read ({error.strerror}); {hint}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(place, None, f"larger than {MAX_BYTES} bytes")
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(place, None, f"not TOML: {error}") from error
    return from_table(table, place)


def from_table(table: dict[str, Any], path: Path) -> Config:
    """A parsed file, checked. `root` (optional) chooses the layout that `[paths]` then changes key by key."""
    table = dict(table)
    root = table.pop("root", None)
    if root is not None and not isinstance(root, str):
        raise ConfigError(path, "root", "must be a string, the folder that holds everything")
    if root is not None and not Path(root).is_absolute():
        raise ConfigError(path, "root", f"{root} is not an absolute path")
    layout = debian() if root is None else _layout(path, Path(root))
    given = table.pop("paths", {})
    if not isinstance(given, dict):
        raise ConfigError(path, "paths", "must be a table")
    places = {entry.name: getattr(layout, entry.name) for entry in dataclasses.fields(Paths)}
    for name, value in given.items():
        if name not in places:
            raise ConfigError(path, f"paths.{name}", _unknown(name, places))
        if not isinstance(value, str) or not value:
            raise ConfigError(path, f"paths.{name}", "must be a string, an absolute path")
        places[name] = Path(value)
    try:
        paths = Paths(**places)
    except ValueError as error:
        key, _, reason = str(error).partition(": ")
        raise ConfigError(path, key, reason) from error
    table.setdefault("database", f"sqlite://{paths.data}/console.db")
    config: Config = _build(Config, table, path, "", {"path": path, "paths": paths})
    _check(config)
    return config


def _layout(path: Path, root: Path) -> Paths:
    try:
        return under(root)
    except ValueError as error:
        raise ConfigError(path, "root", str(error)) from error


def _unknown(name: str, known: Any) -> str:
    return f"unknown key; known ones are {', '.join(sorted(known))}"


def _build(kind: type[Any], table: dict[str, Any], path: Path, prefix: str, fixed: dict[str, Any]) -> Any:
    """A dataclass from a TOML table; every key must be one of its fields, of its type."""
    hints = typing.get_type_hints(kind)
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    values = dict(fixed)
    for name, value in table.items():
        key = f"{prefix}{name}"
        if name not in fields or name in fixed:
            raise ConfigError(path, key, _unknown(name, set(fields) - set(fixed)))
        values[name] = _value(hints[name], value, path, key)
    for name, entry in fields.items():
        if name not in values and entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING:
            raise ConfigError(path, f"{prefix}{name}", "is missing")
    return kind(**values)


def _value(hint: Any, value: Any, path: Path, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(path, key, "must be a table")
        return _build(typing.cast("type[Any]", hint), value, path, f"{key}.", {})
    if isinstance(hint, types.GenericAlias):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(path, key, "must be a list of strings")
        return tuple(value)
    # bool is an int in Python and must not pass for one; an integer is a fine number of seconds
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise ConfigError(path, key, f"must be of type {hint.__name__}, not {type(value).__name__}")
    return value


def _check(config: Config) -> None:
    def refuse(key: str, reason: str) -> typing.NoReturn:
        raise ConfigError(config.path, key, reason)

    if not _DOMAIN.fullmatch(config.domain):
        refuse("domain", f"{config.domain!r} is not a domain name in lower case, such as vigie.departement.fr")
    if not config.database.startswith(("sqlite:///", "postgresql://")):
        refuse("database", "must start with sqlite:/// or postgresql://")
    if config.language not in ("fr", "en"):
        refuse("language", "must be fr or en")
    if config.time_zone.startswith(("/", ".")):
        refuse("time_zone", f"{config.time_zone!r} is not a time zone")
    try:
        ZoneInfo(config.time_zone)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        refuse("time_zone", f"{config.time_zone!r} is not a time zone of this machine, such as Europe/Paris")
    for section in ("ports", "intervals", "documents", "retention"):
        for entry in dataclasses.fields(getattr(config, section)):
            value = getattr(getattr(config, section), entry.name)
            if value <= 0:
                refuse(f"{section}.{entry.name}", "must be more than 0")
    for entry in dataclasses.fields(Ports):
        if getattr(config.ports, entry.name) > 65535:
            refuse(f"ports.{entry.name}", "must be at most 65535")
    if config.documents.desired_days > 400:
        refuse("documents.desired_days", "must be at most 400: boxes refuse more")
    if config.documents.renew_before_days >= config.documents.desired_days:
        refuse("documents.renew_before_days", "must be less than documents.desired_days")
    if config.documents.temporary_hours > 4:
        refuse("documents.temporary_hours", "must be at most 4: boxes refuse more")


def render(
    domain: str, *, root: Path | None = None, organisation: str = "", extra: dict[str, dict[str, Any]] | None = None
) -> str:
    """Text of a new configuration file, as `init` writes it.

    extra: section -> key -> value, where the section "" holds top-level keys.
    """
    if not _DOMAIN.fullmatch(domain):
        raise UsageError(f"{domain!r} is not a domain name in lower case, such as vigie.departement.fr")
    extra = dict(extra or {})
    top: dict[str, Any] = {"domain": domain, "organisation": organisation}
    if root is not None:
        top["root"] = str(root.absolute())
    top.update(extra.pop("", {}))
    lines = ["# Vigie, department side. Every key is explained in docs/operations.md.", *_pairs(top)]
    for section, table in extra.items():
        lines += ["", f"[{section}]", *_pairs(table)]
    return "\n".join(lines) + "\n"


def _pairs(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {_literal(value)}" for key, value in table.items()]


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise UsageError(f"{value!r}: a value of the configuration cannot hold control characters")
    return f'"{text}"'
