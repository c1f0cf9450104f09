"""A signer in the test's own process: real rules and real signatures, with neither socket nor disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract import dsse, limits
from vigie.contract.downward import Command, Desired
from vigie_department.console.services import desired, fleet
from vigie_department.errors import RefusedError, UnavailableError


@dataclass
class LocalSigner:
    """Keeps the versions that it signed, and refuses what boxes refuse."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    versions: dict[str, int] = field(default_factory=dict)
    signed: list[Any] = field(default_factory=list)
    away: bool = False

    def sign_desired(self, payload: Any, operator: str) -> bytes:
        if self.away:
            raise UnavailableError("signer: away")
        made = Desired.from_bytes(dsse_payload(payload))
        try:
            checked = limits.check_desired(
                made, box=made.box, now=made.issued, trusted=True, second_signed=False,
                newer_than=self.versions.get(made.box, 0),
            )  # fmt: skip
        except limits.OrderRefused as error:
            raise RefusedError(str(error), "rule") from error
        if checked.refused:
            raise RefusedError(f"{checked.refused}", "rule")
        self.versions[made.box] = made.version
        self.signed.append(made)
        return dsse.sign(made.to_bytes(), dsse.DESIRED_TYPE, self.key).to_bytes()

    def sign_desired_envelope(self, envelope: bytes, operator: str) -> bytes:
        return envelope

    def sign_command(self, payload: Any, operator: str) -> bytes:
        if self.away:
            raise UnavailableError("signer: away")
        made = Command.from_bytes(dsse_payload(payload))
        self.signed.append(made)
        return dsse.sign(made.to_bytes(), dsse.COMMAND_TYPE, self.key).to_bytes()


def dsse_payload(payload: Any) -> bytes:
    """As the socket would carry it."""
    import json

    return json.dumps(payload).encode()


@dataclass
class LocalAuthority:
    """Remembers what was asked."""

    asked: list[tuple[str, ...]] = field(default_factory=list)
    away: bool = False

    def _ask(self, *words: str) -> None:
        if self.away:
            raise UnavailableError("authority: away")
        self.asked.append(words)

    def release(self, serial: str, operator: str, note: str) -> None:
        self._ask("release", serial, note)

    def revoke(self, box: str, operator: str, reason: str) -> None:
        self._ask("revoke", box, reason)


@contextmanager
def local() -> Iterator[tuple[LocalSigner, LocalAuthority]]:
    """Both, in place of the sockets."""
    signer, authority = LocalSigner(), LocalAuthority()
    before = desired.signer, fleet.authority
    desired.signer, fleet.authority = lambda: signer, lambda: authority
    try:
        yield signer, authority
    finally:
        desired.signer, fleet.authority = before
