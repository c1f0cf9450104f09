"""The identity partition as the factory writes it: first the key, last box.json.

identity.key   P-256, PKCS #8 PEM, 0600: made here, never leaves
watchdog.json  which boot armed the watchdog's test, until it is over
box.json       the label; with it, the factory is over
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract.bench import Code, Label, Reset, State, proof_message
from vigie.contract.errors import ContractError
from vigie.contract.identity import box_id
from vigie.contract.strictjson import loads
from vigie.enrol.errors import IdentityError
from vigie.enrol.identity import BOX, KEY, FileIdentityKey
from vigie.errors import HostError
from vigie.factory.errors import FactoryError
from vigie.factory.states import state_of
from vigie.host.files import SMALL, DiskFull, read_json, read_small, remove, write_atomic, write_json

WATCHDOG: Final = "watchdog.json"


class Keeping:
    """The identity partition in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def state(self) -> State:
        """How far the board is."""
        return state_of((self.folder / KEY).exists(), (self.folder / BOX).exists())

    def public(self) -> bytes | None:
        """DER of the public key, None when there is no key. FactoryError when the file holds something else."""
        if not (self.folder / KEY).exists():
            return None
        try:
            return FileIdentityKey(self.folder / KEY).public_spki()
        except IdentityError as e:
            raise FactoryError(Code.KEY_SPOILT, str(e)) from e

    def make_key(self) -> bytes:
        """DER of the public key: of the key that is there, else of one made now. FactoryError."""
        known = self.public()
        if known is not None:
            return known
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(KEY, pem, 0o600)
        # Read back from the disk: what is registered is what a start will find.
        public = self.public()
        if public is None:
            raise FactoryError(Code.DISK, f"{self.folder / KEY}: is gone after it was written")
        return public

    def prove(self, nonce: str) -> tuple[bytes, bytes]:
        """(public key, signature over the station's nonce). FactoryError."""
        try:
            key = FileIdentityKey(self.folder / KEY)
        except IdentityError as e:
            raise FactoryError(Code.KEY_SPOILT, str(e)) from e
        public = key.public_spki()
        return public, key.sign(proof_message(nonce, public))

    def label(self) -> Label | None:
        """What box.json says; None without one, or with one that is spoilt."""
        with contextlib.suppress(ContractError, HostError):
            data = read_small(self.folder / BOX)
            if data is not None:
                return Label.from_dict(loads(data, SMALL, BOX))
        return None

    def seal(self, label: Label) -> None:
        """Writes box.json, the last file of the factory. FactoryError when another label is there."""
        if (self.folder / BOX).exists():
            if self.label() != label:
                raise FactoryError(Code.SEALED_AS, "another label is written already")
            return
        self.disarm()
        try:
            write_json(self.folder / BOX, label.to_dict())
        except HostError as e:
            raise _disk(e) from e

    def box(self) -> str:
        """The box's id, "" without a key."""
        with contextlib.suppress(FactoryError):
            public = self.public()
            return box_id(public) if public is not None else ""
        return ""

    # -- the watchdog's test

    def arm(self, boot: str) -> None:
        """Notes that the start `boot` is about to be reset. FactoryError."""
        self._write(WATCHDOG, b'{"boot": "%s"}\n' % boot.encode(), 0o644)

    def disarm(self) -> None:
        """Forgets the note."""
        with contextlib.suppress(HostError):
            remove(self.folder / WATCHDOG)

    def reset(self, boot: str, power_on: bool | None) -> Reset:
        """What became of it. power_on: whether this start followed a loss of power, None when nobody knows."""
        note = read_json(self.folder / WATCHDOG)
        if note is None:
            return Reset.NONE
        if note.get("boot") == boot:
            return Reset.ARMED
        return Reset.POWER if power_on else Reset.WATCHDOG

    def _write(self, name: str, data: bytes, mode: int) -> None:
        try:
            write_atomic(self.folder / name, data, mode)
        except HostError as e:
            raise _disk(e) from e


def _disk(error: HostError) -> FactoryError:
    return FactoryError(Code.DISK_FULL if isinstance(error, DiskFull) else Code.DISK, str(error))
