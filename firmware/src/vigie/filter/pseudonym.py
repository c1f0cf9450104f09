"""Names for devices outside the commune: `d-` + 16 hex of HMAC-SHA256(salt, MAC).

The salt (32 random bytes) is made on the box, never leaves it, and is changed after thirty days in service; the one
before is kept, so that an order about a device reported last month still finds it. Days in service are counted by
the caller on a clock that nobody can set: a clock that jumps to 2040 and back must not change the salts twice, nor
never again.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vigie.errors import HostError, SourceError
from vigie.filter.abi import mac_bytes
from vigie.host.files import read_small, write_atomic

FORMAT: Final = 1
SALT_BYTES: Final = 32
LIFE_S: Final = 30 * 86_400.0
NAMES_MAX: Final = 4_096
_HEX: Final = 16


class SaltFileError(SourceError):
    """The file of the salts cannot be used."""


@dataclass(frozen=True, slots=True)
class Salts:
    """The salt in use since `since` (seconds in service), and the one before it (empty: none)."""

    current: bytes
    since: float
    previous: bytes = b""

    @classmethod
    def fresh(cls, service_s: float) -> Salts:
        """A first salt."""
        return cls(secrets.token_bytes(SALT_BYTES), service_s)

    def turned(self, service_s: float) -> Salts:
        """With a new salt when the present one has done its month; else the same object."""
        if service_s - self.since < LIFE_S:
            return self
        return Salts(secrets.token_bytes(SALT_BYTES), service_s, self.current)

    def name(self, mac: str) -> str:
        """Pseudonym of a device in use now. `mac` in lower case with colons."""
        return _name(self.current, mac)

    def resolve(self, pseudonyms: Collection[str], macs: Collection[str]) -> dict[str, str]:
        """Pseudonym -> the device among `macs` that bears it, or bore it under the salt before, where there is one."""
        found: dict[str, str] = {}
        for salt in (self.current, self.previous):
            if salt:
                found |= {name: mac for mac in macs if (name := _name(salt, mac)) in pseudonyms}
        return found


def _name(salt: bytes, mac: str) -> str:
    return "d-" + hmac.digest(salt, mac_bytes(mac), "sha256").hex()[:_HEX]


def dump(salts: Salts) -> bytes:
    """JSON text of the salts."""
    document = {
        "format": FORMAT,
        "current": salts.current.hex(),
        "since": salts.since,
        "previous": salts.previous.hex(),
    }
    return json.dumps(document).encode()


def parse(data: bytes, where: Path) -> Salts:
    """The salts of a JSON text. Raises SaltFileError."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise SaltFileError(where, None, f"format {document['format']}, this version reads {FORMAT}")
        salts = Salts(bytes.fromhex(document["current"]), float(document["since"]), bytes.fromhex(document["previous"]))
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise SaltFileError(where, None, f"no salts ({type(e).__name__}: {e})") from e
    if len(salts.current) != SALT_BYTES or len(salts.previous) not in (0, SALT_BYTES):
        raise SaltFileError(where, None, f"salts of {len(salts.current)} and {len(salts.previous)} bytes")
    return salts


def load(path: Path) -> Salts | None:
    """The salts kept in `path`; None when there is no file. Raises SaltFileError."""
    try:
        data = read_small(path)
    except HostError as e:
        raise SaltFileError(path, None, str(e)) from e
    return None if data is None else parse(data, path)


def save(path: Path, salts: Salts) -> None:
    """Keeps the salts, for the daemon's user alone. Raises HostError."""
    write_atomic(path, dump(salts), 0o600)


class Pseudonyms:
    """The salts of this box, in use. A file that cannot be used is replaced: names told before mean nothing then."""

    def __init__(self, path: Path, service_s: float) -> None:
        self._path = path
        self.problem = ""
        try:
            found = load(path)
        except SaltFileError as e:
            self.problem = str(e)
            found = None
        self._salts = found if found is not None else Salts.fresh(service_s)
        self._keep = found is None
        if self._salts.since > service_s:
            # The clock's file was lost: its month begins again, or the salt would stay for as long as the box was on.
            self._salts, self._keep = replace(self._salts, since=service_s), True
        self._names: dict[str, str] = {}
        self.turn(service_s)

    def name(self, mac: str) -> str | None:
        """Pseudonym of a device; None for what is no MAC of one."""
        known = self._names.get(mac)
        if known is None:
            if mac in ("", "00:00:00:00:00:00"):
                return None
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            known = self._names[mac] = self._salts.name(mac)
        return known

    def resolve(self, pseudonyms: Collection[str], macs: Collection[str]) -> dict[str, str]:
        """The devices among `macs` that pseudonyms of this month or the last one mean."""
        return self._salts.resolve(pseudonyms, macs)

    def turn(self, service_s: float) -> bool:
        """Changes the salt when its month is over, and keeps what is not on the disk yet. True when names changed."""
        turned = self._salts.turned(service_s)
        changed = turned is not self._salts
        if changed:
            self._salts, self._keep = turned, True
            self._names.clear()
        if self._keep:
            try:
                save(self._path, self._salts)
                self._keep = False
            except HostError as e:
                self.problem = str(e)
        return changed
