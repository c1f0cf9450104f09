"""What the generated files need to know, taken from the department's configuration once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vigie_department.config import Config

DEPARTMENT: Final = "department"
"""Common name of the ingest's client certificate, so its MQTT user. Box ids start with vg-: none is called that."""

CONTROL_USER: Final = "control"
"""MQTT user of the control socket, which is in a folder that only the broker's user may enter."""

STREAM_MODULES: Final = (
    Path("/usr/lib/nginx/modules/ngx_stream_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_stream_module.so"),
)


@dataclass(frozen=True, slots=True)
class BrokerPlan:
    """Mosquitto. `folder` belongs to the broker's user alone: what mosquitto reads at a reload is in there."""

    folder: Path
    """configuration, access lists, checked copy of the revocation list, persistence, control socket"""
    certificate: Path
    key: Path
    clients: Path
    """roots and issuing authorities of boxes and of the ingest"""
    crl: Path
    """as the authority publishes it; mosquitto never reads this one"""
    denied: Path
    """boxes that may not speak, as the authority publishes them"""
    listen: tuple[str, ...] = ()
    """addresses; empty: every address of the machine"""
    port: int = 8883
    max_connections: int = 20000

    @property
    def configuration(self) -> Path:
        return self.folder / "mosquitto.conf"

    @property
    def acl(self) -> Path:
        return self.folder / "acl"

    @property
    def crl_in_force(self) -> Path:
        """The checked copy that mosquitto reads."""
        return self.folder / "crl.pem"

    @property
    def passwords(self) -> Path:
        return self.folder / "passwords"

    @property
    def control_password(self) -> Path:
        return self.folder / "control.password"

    @property
    def control(self) -> Path:
        """Unix socket on which sessions are taken over, see `control`."""
        return self.folder / "control.sock"

    @property
    def persistence(self) -> Path:
        return self.folder / "sessions"

    @property
    def status(self) -> Path:
        """What the watch says about itself, for `doctor`."""
        return self.folder / "watch.json"


@dataclass(frozen=True, slots=True)
class WebPlan:
    """nginx. `work` belongs to its user: pid, temporary bodies, one socket between its own two halves."""

    folder: Path
    work: Path
    certificate: Path
    key: Path
    clients: Path
    repository: Path
    static: Path
    authority: Path
    console: Path
    mqtt_host: str
    enrol_host: str
    updates_host: str
    console_host: str
    mqtt_port: int = 8883
    https_port: int = 443
    inner_port: int = 8443
    """loopback: the http half, behind the stream half"""
    listen: tuple[str, ...] = ()
    workers: int = 0
    """processes; 0: one per processor"""
    stream_module: Path | None = None
    access_log: str = "off"
    """as nginx writes it: a file, or syslog"""
    enrol_each_per_s: int = 5
    """requests to the authority per second and client address (a depot that plugs in 200 boxes has one address)"""
    enrol_each_burst: int = 400
    enrol_all_per_s: int = 400
    enrol_all_burst: int = 4000

    @property
    def configuration(self) -> Path:
        return self.folder / "nginx.conf"

    @property
    def local(self) -> Path:
        """Files of the administrators, included in the console's server and never overwritten: `allow`, `deny`."""
        return self.folder / "console.d"

    @property
    def unwrap(self) -> Path:
        """Unix socket of the stream half that takes the PROXY line off again for the broker."""
        return self.work / "mqtt.sock"


def bracketed(address: str) -> str:
    """An address as it stands before `:port`."""
    return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address


def _access_log(work: Path) -> str:
    """The journal on a server; a file beside the pid where everything is under one folder: no journal there."""
    if work.is_relative_to("/run"):
        return "syslog:server=unix:/dev/log,nohostname,tag=vigie_web"
    return str(work / "access.log")


def broker_plan(config: Config) -> BrokerPlan:
    """Of this department."""
    paths = config.paths
    return BrokerPlan(
        folder=paths.broker,
        certificate=paths.pki / "mqtt.pem",
        key=paths.pki / "mqtt.key",
        clients=paths.pki / "clients.pem",
        crl=paths.pki / "crl.pem",
        denied=paths.pki / "denied.json",
        listen=(config.listen,) if config.listen else (),
        port=config.ports.mqtt,
    )


def web_plan(config: Config) -> WebPlan:
    """Of this department."""
    paths = config.paths
    return WebPlan(
        folder=paths.nginx,
        work=paths.nginx_run,
        certificate=paths.pki / "web.pem",
        key=paths.pki / "web.key",
        clients=paths.pki / "clients.pem",
        repository=paths.repository,
        static=paths.static,
        authority=paths.authority_socket,
        console=paths.console_socket,
        mqtt_host=config.mqtt_host,
        enrol_host=config.enrol_host,
        updates_host=config.updates_host,
        console_host=config.console_host,
        mqtt_port=config.ports.mqtt,
        https_port=config.ports.https,
        inner_port=config.ports.web,
        listen=(config.listen,) if config.listen else (),
        access_log=_access_log(paths.nginx_run),
        stream_module=next((path for path in STREAM_MODULES if path.exists()), None),
    )
