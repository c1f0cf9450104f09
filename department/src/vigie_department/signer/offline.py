"""The five keyholders: their key files, and what two of them together can do.

One key per person and stick: `keyholder-N.pem`, encrypted. The same five keys sign TUF root and targets, and are the
second signature of mass orders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract.dsse import public_bytes
from vigie_department.signer.errors import KeyFileError
from vigie_department.signer.files import make_folder
from vigie_department.signer.keyfiles import read_key, write_key
from vigie_department.signer.metadata import KEYHOLDERS, THRESHOLD

#: number of a keyholder, 1..5 -> passphrase
AskPassphrase = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Keyholder:
    """An offline key that is here and open. number: 1..5."""

    number: int
    key: Ed25519PrivateKey

    @property
    def public(self) -> bytes:
        """32 bytes."""
        return public_bytes(self.key)


def path_of(folder: Path, number: int) -> Path:
    """File of one keyholder."""
    return folder / f"keyholder-{number}.pem"


def create(folder: Path, passphrases: Sequence[str]) -> list[Keyholder]:
    """Five new keys, written encrypted. Refuses to overwrite any."""
    if len(passphrases) != KEYHOLDERS:
        raise KeyFileError(f"{len(passphrases)} passphrases where {KEYHOLDERS} are needed, one per keyholder")
    existing = [path_of(folder, n) for n in range(1, KEYHOLDERS + 1) if path_of(folder, n).exists()]
    if existing:
        raise KeyFileError(f"{existing[0]}: exists already; choose another folder for new offline keys")
    make_folder(folder, 0o700)
    return [create_one(folder, number, text) for number, text in enumerate(passphrases, 1)]


def create_one(folder: Path, number: int, passphrase: str) -> Keyholder:
    """One new key, written encrypted."""
    holder = Keyholder(number, Ed25519PrivateKey.generate())
    write_key(path_of(folder, number), holder.key, passphrase)
    return holder


def open_some(folder: Path, ask: AskPassphrase, numbers: Sequence[int] = ()) -> list[Keyholder]:
    """The keys of these keyholders, or of all whose files are in `folder`: one person's stick is enough here."""
    present = [n for n in range(1, KEYHOLDERS + 1) if path_of(folder, n).exists()]
    chosen = sorted(set(numbers or present))
    if not chosen:
        raise KeyFileError(f"{folder}: no offline key (keyholder-N.pem) there")
    return [Keyholder(n, read_key(path_of(folder, n), ask(n))) for n in chosen]


def open_keys(folder: Path, ask: AskPassphrase, numbers: Sequence[int] = ()) -> list[Keyholder]:
    """The keys of these keyholders, or of the first two whose files are in `folder`.

    KeyFileError when fewer than two are there: nothing that one person alone signs is valid.
    """
    present = [n for n in range(1, KEYHOLDERS + 1) if path_of(folder, n).exists()]
    chosen = sorted(set(numbers or present[:THRESHOLD]))
    if len(chosen) < THRESHOLD:
        raise KeyFileError(
            f"{folder}: {len(chosen)} offline key(s) (keyholder-N.pem), {THRESHOLD} are needed: bring another stick"
        )
    return open_some(folder, ask, chosen)
