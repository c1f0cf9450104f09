"""Who this box is: the identity partition, which survives a configuration reset and which only the factory writes,
except for the join state."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.identity import MODEL, SERIAL, box_id
from vigie.contract.signed import Signed
from vigie.contract.strictjson import loads
from vigie.enrol.errors import IdentityError
from vigie.errors import HostError
from vigie.host.files import SMALL, read_small, remove, write_atomic, write_json

KEY: Final = "identity.key"
BOX: Final = "box.json"
JOIN_STATE: Final = "join_state.json"
LEAVING: Final = "decommission.json"


class IdentityKey(Protocol):
    """The key that never leaves the box: a file today, one-time-programmable memory where the board has it."""

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER."""

    def public_spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""


class FileIdentityKey:
    """A P-256 key in a PEM file (0600)."""

    def __init__(self, path: Path) -> None:
        data = _read(path)
        if data is None:
            raise IdentityError(f"{path}: missing; only the factory bench makes an identity")
        try:
            key = load_pem_private_key(data, None)
        except (ValueError, TypeError) as e:
            raise IdentityError(f"{path}: not a private key in PEM ({e})") from e
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise IdentityError(f"{path}: not a P-256 key")
        self._key = key

    def sign(self, data: bytes) -> bytes:
        """ECDSA P-256 with SHA-256, DER."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def public_spki(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class Identity:
    """The box and its key. claim_id: of the label; lot: of purchase."""

    serial: str
    model: str
    claim_id: str
    lot: str
    image: str
    key: IdentityKey
    box_id: str


def load(folder: Path) -> Identity:
    """The identity in a folder. Raises IdentityError when it is missing or does not hold together."""
    path = folder / BOX
    data = _read(path)
    if data is None:
        raise IdentityError(f"{path}: missing; only the factory bench makes an identity")
    try:
        f = Fields("box", loads(data, SMALL, str(path)))
        serial, model = f.text("serial", 48, SERIAL), f.text("model", 32, MODEL)
        claim_id, lot = f.text("claim_id", 20), f.text("lot", 64) if f.has("lot") else ""
        image = f.text("image", 64) if f.has("image") else ""
    except ContractError as e:
        raise IdentityError(f"{path}: {e}") from e
    key = FileIdentityKey(folder / KEY)
    return Identity(serial, model, claim_id, lot, image, key, box_id(key.public_spki()))


def join_state(folder: Path) -> Signed | None:
    """The join state, None when there is none, or one that is spoilt: the authority then calls it a conflict."""
    data = _read(folder / JOIN_STATE)
    if data is None:
        return None
    try:
        return Signed.from_bytes(data)
    except ContractError:
        return None


def keep_join_state(folder: Path, state: Signed) -> None:
    """Writes the join state in one step. Raises HostError."""
    write_atomic(folder / JOIN_STATE, state.to_bytes(), 0o600)


# -- the end


def leaving(folder: Path) -> str:
    """ "" while the box is in service; `asked` once a decommissioning was begun; `done` when it is over."""
    data = _read(folder / LEAVING)
    if data is None:
        return ""
    return "done" if b'"done"' in data else "asked"


def set_leaving(folder: Path, state: str) -> None:
    """Marks the partition, so that a power cut in the middle of a decommissioning does not bring the box back."""
    write_json(folder / LEAVING, {"state": state})


def erase(folder: Path) -> None:
    """Overwrites and removes the identity key and the join state. box.json stays: the label says the same.

    Overwriting is no promise on flash (the controller may keep the old block): what makes the key useless is that the
    authority was told; `docs/adr/0014` and the guide say so.
    """
    for name in (KEY, JOIN_STATE):
        overwrite(folder / name)


def overwrite(path: Path) -> None:
    """Zeroes over a small file, on the disk, then its removal. Raises HostError."""
    try:
        with path.open("r+b") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            stream.write(bytes(min(size, SMALL)))
            stream.flush()
            os.fsync(stream.fileno())
    except FileNotFoundError:
        return
    except OSError as e:
        raise HostError(f"{path}: cannot be erased ({e.strerror})") from e
    remove(path)


def _read(path: Path) -> bytes | None:
    try:
        return read_small(path)
    except HostError as e:
        raise IdentityError(str(e)) from e
