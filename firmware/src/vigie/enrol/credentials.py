"""The operational certificate in force, as the link and the updater use it.

The set in use is a folder of its own, `enrol/current` -> `enrol/set-<n>`: key, chain and broker belong together and
change in one rename. Load again before each connection; a set that was replaced stays readable until the next renewal.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie.enrol.errors import NotEnrolled
from vigie.errors import HostError
from vigie.host.boxconfig import Paths, is_host
from vigie.host.files import read_json, read_small, remove, write_json

CURRENT: Final = "current"
KEY: Final = "operational.key"
CHAIN: Final = "chain.pem"
MQTT: Final = "mqtt.json"
BOX: Final = "box.json"
DOUBT: Final = "credentials-doubted.json"

log = logging.getLogger("vigie.enrol")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client of the department's servers needs. Paths are of PEM files; mqtt_ports in the order to try.

    generation: changes with each renewal: a session opened with another one goes on, and is to be opened again when
    that suits.
    """

    box_id: str
    cert_chain_path: Path
    key_path: Path
    roots_path: Path
    mqtt_host: str
    mqtt_ports: tuple[int, ...]
    generation: str


def load(paths: Paths) -> Credentials:
    """The credentials in force. Raises NotEnrolled."""
    link = paths.enrol / CURRENT
    try:
        folder = link.resolve(strict=True)  # one set for all files, even if it is replaced meanwhile
    except OSError as e:
        raise NotEnrolled(f"{link}: no operational certificate; `vigie enrol status` says why") from e
    box, mqtt = _object(folder / BOX), _object(folder / MQTT)
    box_id, host, ports = box.get("box_id"), mqtt.get("host"), mqtt.get("ports")
    valid = (
        isinstance(box_id, str)
        and isinstance(host, str)
        and is_host(host)
        and isinstance(ports, list)
        and 0 < len(ports) <= 4
        and all(type(port) is int and 0 < port < 65536 for port in ports)
    )
    if not valid or not isinstance(box_id, str) or not isinstance(host, str) or not isinstance(ports, list):
        raise NotEnrolled(f"{folder}: {BOX} or {MQTT} is spoilt; `vigie enrol run` makes them again")
    for name in (KEY, CHAIN):
        if not (folder / name).is_file():
            raise NotEnrolled(f"{folder / name}: missing; `vigie enrol run` enrols again")
    return Credentials(
        box_id, folder / CHAIN, folder / KEY, paths.roots, host, tuple(ports), generation=folder.name
    )  # fmt: skip


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_small(path) or b"{}")
    except (HostError, ValueError, RecursionError) as e:
        raise NotEnrolled(f"{path}: {e}") from e
    return value if isinstance(value, dict) else {}


def doubt(paths: Paths, generation: str) -> None:
    """Says that the broker refused the certificate of this generation: `vigie enrol` then asks with the identity key.

    Cheap and safe to repeat. Never raises: who doubts goes on trying.
    """
    try:
        write_json(paths.run_doubt / DOUBT, {"generation": generation}, 0o660)
    except HostError as e:
        log.warning("%s", e)


def doubted(paths: Paths) -> bool:
    """True once when the certificate in force was doubted; the doubt is taken away."""
    try:
        value = read_json(paths.run_doubt / DOUBT)
        if value is None:
            return False
        remove(paths.run_doubt / DOUBT)
        return value.get("generation") == load(paths).generation
    except (HostError, NotEnrolled):
        return False
