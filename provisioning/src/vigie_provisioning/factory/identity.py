"""A box's identity: the key that never leaves it, and what its label says.

    DIR/identity.key   P-256, PKCS #8 PEM, 0600
    DIR/box.json       {"v":1,"serial","model","claim_id","lot","image"}

The station writes both into the identity partition; `join_state.json` comes later, from the authority.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from vigie.contract.errors import ContractError
from vigie.contract.identity import MODEL, box_id, check_claim_id, check_serial, claim_id
from vigie_provisioning.authority.ca import save_key
from vigie_provisioning.authority.checks import spki
from vigie_provisioning.authority.profiles import new_key
from vigie_provisioning.errors import UsageError
from vigie_provisioning.files import write_atomic

_IMAGE = re.compile(r"([0-9a-f]{64})?")
_LOT = re.compile(r"[A-Za-z0-9._/-]{0,48}")


@dataclass(slots=True, frozen=True)
class Identity:
    """What the register and the label need. public: DER of the identity key."""

    serial: str
    model: str
    claim_id: str
    lot: str
    public: bytes

    @property
    def box(self) -> str:
        """The box's id."""
        return box_id(self.public)


def create(
    folder: Path, *, serial: str, model: str, lot: str = "", image: str = "", claim: str | None = None
) -> Identity:
    """Makes the key and box.json in `folder`. UsageError when there is an identity already, or a malformed text.

    image: hex SHA-256 of what the board is flashed with, "" when unknown. claim: of a label printed before.
    """
    try:
        check_serial(serial)
        claim = check_claim_id(claim) if claim else claim_id(secrets.token_bytes(7))
    except ContractError as e:
        raise UsageError(str(e)) from e
    if MODEL.fullmatch(model) is None or _LOT.fullmatch(lot) is None:
        raise UsageError(f"model {model!r}, lot {lot!r}: letters, digits, `-` (lots also `.`, `_`, `/`) are expected")
    for name in ("identity.key", "box.json"):
        if (folder / name).exists():
            raise UsageError(f"{folder / name}: is there already; an identity is not overwritten, erase it on purpose")
    if _IMAGE.fullmatch(image) is None:
        raise UsageError(f"image {image!r}: the hex SHA-256 of the image is expected")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = new_key()
    save_key(folder / "identity.key", key)
    label = {"v": 1, "serial": serial, "model": model, "claim_id": claim, "lot": lot, "image": image}
    write_atomic(folder / "box.json", json.dumps(label, indent=1).encode() + b"\n")
    return Identity(serial, model, claim, lot, spki(key.public_key()))
