"""The yearly drill: whether the sticks can still be read, and how many losses are left.

Each key signs a sentence that stands for nothing else, and the answer is checked against root.json: a stick that opens
is not yet the right stick. Nothing that a box would take is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tuf.api.metadata import Metadata, Root

from vigie_department.signer import metadata
from vigie_department.signer.offline import Keyholder
from vigie_ota.bundle import certificates

WARN_DAYS: Final = 400
"""A ceremony is due when less is left: there is one drill a year."""


@dataclass(frozen=True, slots=True)
class Report:
    """answered: key ids that signed; silent: those of root.json that were not there; strangers: sticks of nobody."""

    answered: tuple[str, ...]
    silent: tuple[str, ...]
    strangers: tuple[int, ...]
    threshold: int

    @property
    def good(self) -> bool:
        """All keyholders are there, and nobody else."""
        return not self.silent and not self.strangers

    def lines(self) -> list[str]:
        """For people."""
        found = [f"{keyid[:8]}: answered" for keyid in self.answered]
        found += [f"{keyid[:8]}: MISSING" for keyid in self.silent]
        found += [f"keyholder-{number}.pem: NOT one of root.json; replaced long ago?" for number in self.strangers]
        left = len(self.answered) - self.threshold
        if left < 0:
            found.append(f"{len(self.answered)} of {self.threshold} that are needed: nobody could sign a release today")
        else:
            found.append(f"{left} of these could be lost before nobody can sign any more")
        if self.silent:
            found.append("replace those who do not answer: `vigie-department keys replace-keyholder N --new DIR`")
        return found


def sticks(root: Metadata[Root], holders: Sequence[Keyholder], now: datetime) -> Report:
    """Has every key sign the sentence of the day."""
    role = root.signed.roles["targets"]
    sentence = f"vigie drill {now:%Y-%m-%d}".encode()
    answered, strangers = [], []
    for holder in holders:
        keyid = metadata.tuf_key(holder.public).keyid
        if keyid not in role.keyids or not _answers(holder, root.signed.keys[keyid].keyval["public"], sentence):
            strangers.append(holder.number)
        elif keyid not in answered:
            answered.append(keyid)
    silent = tuple(keyid for keyid in role.keyids if keyid not in answered)
    return Report(tuple(answered), silent, tuple(strangers), role.threshold)


def _answers(holder: Keyholder, public: str, sentence: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(holder.key.sign(sentence), sentence)
    except InvalidSignature:
        return False
    return True


def ends(root: Metadata[Root], folder: Path | None, now: datetime) -> list[tuple[str, datetime, bool]]:
    """What ends when: root.json and, with a release folder, its certificates; and whether that is too soon."""
    found = [("root.json", root.signed.expires.astimezone(UTC))]
    if folder is not None:
        files = certificates.ReleaseFiles(folder)
        found += [
            (path.name, certificates.load_certificate(path).not_valid_after_utc)
            for path in (files.authority, files.certificate)
        ]
    return [(name, until, (until - now).days < WARN_DAYS) for name, until in found]
