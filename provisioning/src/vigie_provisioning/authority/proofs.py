"""Signatures of boxes, and the certificate that nginx says it saw."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract.enrolment import JoinState
from vigie.contract.errors import ContractError
from vigie.contract.identity import UNREADABLE
from vigie.contract.signed import Signed, verify_es256
from vigie_provisioning.authority.checks import p256, spki
from vigie_provisioning.authority.records import Box
from vigie_provisioning.errors import ConfigError, ProvisioningError
from vigie_provisioning.files import read_bounded

_UNUSABLE: Final[tuple[type[Exception], ...]] = (ProvisioningError, *UNREADABLE)

log = logging.getLogger("vigie.authority")

ESCAPED_MAX = 16 * 1024
KEPT_S = 3600.0


def signed_for_one(
    key: ec.EllipticCurvePublicKey, signature: bytes, message: Callable[[bytes], bytes], servers: Sequence[bytes]
) -> bool:
    """Whether `key` signed `message(spki)` for one of our servers' keys.

    All are tried, also after a match: how long it takes says nothing.
    """
    found = False
    for server in servers:
        found |= signed(key, signature, message(server))
    return found


def signed(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Whether `key` signed `message` (ES256, DER)."""
    try:
        verify_es256(key, signature, message)
    except ContractError:
        return False
    return True


def shown(statement: Signed | None, keys: Iterable[ec.EllipticCurvePublicKey], box: Box) -> int:
    """Sequence of a join state when one of our challenge keys signed it for this box; else 0, as if there were none."""
    if statement is None:
        return 0
    for key in keys:
        try:
            state = JoinState.verify(statement, key)
        except ContractError:
            continue
        if (state.serial, state.box) == (box.serial, box.box):
            return state.seq
    return 0


def client_certificate(verify: str, escaped: str) -> x509.Certificate | None:
    """The certificate of a TLS client, from the headers that nginx sets; None unless nginx verified one."""
    if verify != "SUCCESS" or not 0 < len(escaped) <= ESCAPED_MAX:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(unquote(escaped).encode())
        p256(certificate.public_key())
    except _UNUSABLE:
        return None
    return certificate


class ServerKeys:
    """Public keys (DER) of the servers that boxes may have seen; read again when a file changes.

    A key that is no longer in its file counts for KEPT_S more: the web server reads the file later than we do.
    """

    def __init__(self, files: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._files = tuple(files)
        self._clock = clock
        self._seen: tuple[tuple[int, int] | None, ...] = ()
        self._until: dict[bytes, float] = {}

    def __call__(self) -> tuple[bytes, ...]:
        """The keys. ConfigError when there is none."""
        now = self._clock()
        seen = tuple(_stamp(file) for file in self._files)
        if seen != self._seen:
            found = self._read()
            self._until = {key: min(until, now + KEPT_S) for key, until in self._until.items()}
            self._until |= dict.fromkeys(found, math.inf)
            self._seen = seen
        self._until = {key: until for key, until in self._until.items() if until > now}
        if not self._until:
            raise ConfigError(f"server_certificates: none of {', '.join(map(str, self._files))} can be read")
        return tuple(self._until)

    def _read(self) -> list[bytes]:
        keys = []
        for file in self._files:
            try:
                certificate = x509.load_pem_x509_certificate(read_bounded(file))
                keys.append(spki(p256(certificate.public_key())))
            except _UNUSABLE as e:
                log.warning("server_certificates: %s: %s", file, e)
        return keys


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino)
