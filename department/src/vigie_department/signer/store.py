"""The signer's private folder: online keys, TUF metadata in force, steering trust, log.

    keys/{timestamp,snapshot,base,steering}.pem   keys/next/ (made, not yet in force)   keys/steering-old.pem
    tuf/        metadata as served          trust/steering.json          log/

Everything is 0700/0600: only the signer's user reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract.dsse import public_bytes
from vigie.contract.errors import ContractError
from vigie.contract.trust import FILE_MAX, SteeringKeys
from vigie_department.signer import metadata, tufstate
from vigie_department.signer.errors import KeyFileError
from vigie_department.signer.files import make_folder, read_bounded, sync_folder, write_atomically
from vigie_department.signer.keyfiles import read_online_key, write_key
from vigie_department.signer.tufstate import OnlineKeys, TufState

ROLES: Final = ("timestamp", "snapshot", "base", "steering")


@dataclass(frozen=True, slots=True)
class Store:
    """Paths in one folder, and what is read from them."""

    folder: Path

    @property
    def keys(self) -> Path:
        """Private keys in force."""
        return self.folder / "keys"

    @property
    def next(self) -> Path:
        """Private keys that a ceremony will put in force."""
        return self.keys / "next"

    @property
    def tuf(self) -> Path:
        """TUF metadata."""
        return self.folder / "tuf"

    @property
    def log(self) -> Path:
        """Log of signatures."""
        return self.folder / "log"

    @property
    def steering_file(self) -> Path:
        """Whom boxes believe."""
        return self.folder / "trust" / "steering.json"

    def make_folders(self) -> None:
        """All of them, for their owner alone."""
        for path in (self.folder, self.keys, self.tuf, self.log, self.steering_file.parent):
            make_folder(path, 0o700)

    def online_keys(self, *, coming: bool = False) -> OnlineKeys:
        """Keys of the TUF roles. coming: as they will be once those of `next/` have moved."""

        def path(role: str) -> Path:
            new = self.next / f"{role}.pem"
            return new if coming and new.exists() else self.keys / f"{role}.pem"

        return OnlineKeys(*(read_online_key(path(role)) for role in ("timestamp", "snapshot", "base")))

    def is_next(self, timestamp: str) -> bool:
        """Whether that TUF key id is the one of the timestamp key to come."""
        path = self.next / "timestamp.pem"
        return path.exists() and metadata.tuf_key(public_bytes(read_online_key(path))).keyid == timestamp

    def steering_keys(self) -> list[Ed25519PrivateKey]:
        """The steering key; after a rotation the former one too, until `keys retire-steering`.

        Boxes that have not fetched the new one yet still obey that way: an envelope carries both signatures.
        """
        old = self.keys / "steering-old.pem"
        keys = [read_online_key(self.keys / "steering.pem")]
        return [*keys, read_online_key(old)] if old.exists() else keys

    def steering(self) -> SteeringKeys:
        """Public keys of steering and of the second signature."""
        try:
            return SteeringKeys.from_bytes(read_bounded(self.steering_file, FILE_MAX))
        except ContractError as e:
            raise KeyFileError(f"{self.steering_file}: {e}") from e

    def load_tuf(self) -> TufState:
        """The metadata in force."""
        return tufstate.load(self.tuf)

    def make_keys(self, folder: Path) -> dict[str, bytes]:
        """New online keys in `folder`; their public halves by role. Refuses to overwrite."""
        make_folder(folder, 0o700)
        public = {}
        for role in ROLES:
            key = Ed25519PrivateKey.generate()
            write_key(folder / f"{role}.pem", key, None)
            public[role] = public_bytes(key)
        return public

    def next_keys(self) -> dict[str, bytes]:
        """Public halves of the keys to come; made when there are none yet."""
        if all((self.next / f"{role}.pem").exists() for role in ROLES):
            return {role: public_bytes(read_online_key(self.next / f"{role}.pem")) for role in ROLES}
        for path in self.next.glob("*.pem"):  # a first attempt that was cut short; nobody has seen these
            path.unlink()
        return self.make_keys(self.next)

    def adopt_next_keys(self, new_timestamp: str) -> bool:
        """Puts the keys to come in force when the root names them. new_timestamp: TUF key id of the timestamp role.

        Each rename is atomic; one that was cut short is finished by the next call, which `next/` still shows.
        """
        if not self.is_next(new_timestamp):
            return False
        # the timestamp key says whose turn it is, so it goes last
        for role in ("steering", "base", "snapshot", "timestamp"):
            source = self.next / f"{role}.pem"
            if not source.exists():
                continue
            if role == "steering":
                old = self.keys / "steering-old.pem"
                write_atomically(old, read_bounded(self.keys / "steering.pem", 16384), 0o600)
            source.rename(self.keys / source.name)
        sync_folder(self.next)
        sync_folder(self.keys)
        return True

    def retire_steering(self) -> bool:
        """From now on only the present steering key signs. False when there was no other."""
        old = self.keys / "steering-old.pem"
        if not old.exists():
            return False
        old.unlink()
        sync_folder(self.keys)
        return True
