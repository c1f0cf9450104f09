"""The link's files, under `<state>/link`: small, atomic, readable by the page and the updater.

desired.json    the order in force: its envelope, and what was answered
settings.json   {"v":1, "version", "volunteer", "contact": {phone, name}|null, "hours": [...]|null,
                "firmware": {version, order}|null}
commands.json   commands done · session: number of the last connection
consent.json    written by the page: {"v":1, "at", "until"}: the mairie lets diagnostics be sent until then

Where the link stands is `<run>/link/link-status.json`: it changes too often for a flash memory.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie.contract.downward import Desired
from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.trust import FILE_MAX, SteeringKeys
from vigie.contract.upward import UNIX_MAX, Consent
from vigie.errors import HostError, VigieError
from vigie.host.boxconfig import Paths
from vigie.host.files import read_json, read_small, write_json
from vigie.link.orders import Memory

log = logging.getLogger("vigie.link")

DESIRED_FILE_MAX: Final = 256 * 1024
CONSENT_MAX_S: Final = 24 * 3600
"""Longest consent: one for ever is not consent to something."""
STEERING: Final = "steering.json"
STATUS: Final = "link-status.json"


class TrustError(VigieError):
    """The steering keys of the image are missing or spoilt: no order can be believed."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The order kept on the disk, its version (which counts even when its key is no longer believed), and the answer
    given to it, so that it is not given twice."""

    envelope: bytes
    version: int
    answered: str


class Store:
    """Files of the link. Reading what is spoilt gives what is safe: no order, no consent, a new session number."""

    def __init__(self, paths: Paths) -> None:
        self._folder = paths.link
        self._trust = paths.trust / STEERING
        self._newer_trust = paths.update / STEERING
        self._status = paths.run_link / STATUS

    @property
    def status_file(self) -> Path:
        """Where `save_status` writes."""
        return self._status

    def keys(self) -> SteeringKeys:
        """Steering keys: those that the updater verified last, else the image's. Raises TrustError."""
        for path in (self._newer_trust, self._trust):
            try:
                data = read_small(path, FILE_MAX)
                if data is not None:
                    return SteeringKeys.from_bytes(data)
            except (HostError, ContractError) as e:
                log.error("%s: steering keys cannot be used: %s", path, e)
        raise TrustError(f"{self._trust}: no steering keys; the image is incomplete")

    def next_session(self) -> int:
        """Number of the connection that begins, larger than all before. HostError when it cannot be kept."""
        path = self._folder / "session"
        saved = (read_json(path) or {}).get("session", 0)
        number = (saved if isinstance(saved, int) and 0 <= saved < UNIX_MAX else 0) + 1
        write_json(path, {"session": number})
        return number

    def load_desired(self) -> Kept | None:
        """The order in force when the box was switched off; None for none, or when the file is spoilt."""
        try:
            data = read_json(self._folder / "desired.json", DESIRED_FILE_MAX)
        except HostError as e:
            log.error("%s", e)
            return None
        if data is None:
            return None
        envelope, version = data.get("envelope"), data.get("version")
        if not isinstance(envelope, str) or not isinstance(version, int):
            log.error("%s: spoilt; the order will be asked for again", self._folder / "desired.json")
            return None
        return Kept(envelope.encode(), version, str(data.get("answered", "")))

    def save_desired(self, kept: Kept) -> None:
        """Keeps the order in force. HostError."""
        value = {"v": 1, "version": kept.version, "envelope": kept.envelope.decode(), "answered": kept.answered}
        write_json(self._folder / "desired.json", value, 0o600)

    def save_settings(self, desired: Desired) -> None:
        """Settings for the page and the updater. HostError."""
        s = desired.settings
        contact = None if s.contact is None else {"phone": s.contact.phone, "name": s.contact.name}
        hours = None if s.hours is None else [o.to_dict() for o in s.hours]
        firmware = None if desired.firmware is None else desired.firmware.to_dict()
        value = {
            "v": 1, "version": desired.version, "volunteer": s.volunteer, "contact": contact, "hours": hours,
            "firmware": firmware,
        }  # fmt: skip
        write_json(self._folder / "settings.json", value)

    def load_memory(self) -> Memory:
        """Commands done. A spoilt file counts as none: commands live for a day at most."""
        try:
            data = read_json(self._folder / "commands.json", DESIRED_FILE_MAX)
            return Memory() if data is None else Memory.from_dict(data)
        except (HostError, ContractError) as e:
            log.error("commands done: %s", e)
            return Memory()

    def save_memory(self, memory: Memory) -> None:
        """Keeps the commands done. HostError."""
        write_json(self._folder / "commands.json", memory.to_dict(), 0o600)

    def consent(self, now: float) -> Consent | None:
        """The mairie's consent to diagnostics, when it holds now."""
        try:
            data = read_json(self._folder / "consent.json")
            if data is None:
                return None
            f = Fields("consent", data)
            at, until = f.integer("at", 0, UNIX_MAX), f.integer("until", 0, UNIX_MAX)
        except (HostError, ContractError) as e:
            log.error("consent: %s", e)
            return None
        return Consent(at) if at <= now < min(until, at + CONSENT_MAX_S) else None

    def save_status(self, status: dict[str, Any]) -> None:
        """Where the link stands, for the page. A full disk is no reason to stop."""
        try:
            write_json(self.status_file, status)
        except HostError as e:
            log.error("%s", e)

    def load_status(self) -> dict[str, Any] | None:
        """What `save_status` wrote."""
        return read_json(self.status_file)
