"""Ed25519 private keys in PEM files: encrypted for people, readable by one user for the signer."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from vigie_department.signer.errors import KeyFileError
from vigie_department.signer.files import read_bounded, write_atomically

MAX_PEM = 16 * 1024
#: A key on a stick that is lost stands or falls with its passphrase.
MIN_PASSPHRASE = 12


def write_key(path: Path, key: Ed25519PrivateKey, passphrase: str | None) -> None:
    """A new file, mode 0600. `passphrase` None: not encrypted, for a daemon that starts alone. Never overwrites."""
    if path.exists():
        raise KeyFileError(f"{path}: exists already; a key is never overwritten, move it away first")
    encryption: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        if len(passphrase) < MIN_PASSPHRASE:
            raise KeyFileError(f"{path}: a passphrase needs at least {MIN_PASSPHRASE} characters")
        encryption = BestAvailableEncryption(passphrase.encode())
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)


def read_key(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """The key of a file. KeyFileError when it is missing, of another kind, or the passphrase is wrong."""
    data = read_bounded(path, MAX_PEM)
    try:
        key = load_pem_private_key(data, None if passphrase is None else passphrase.encode())
    except TypeError as e:  # a passphrase given and not needed, or needed and not given
        raise KeyFileError(f"{path}: {'is not encrypted' if passphrase else 'needs its passphrase'}") from e
    except ValueError as e:
        raise KeyFileError(f"{path}: not a private key in PEM, or the passphrase is wrong") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: an Ed25519 key is expected")
    return key


def read_online_key(path: Path) -> Ed25519PrivateKey:
    """Like `read_key`, for a key without passphrase: refused when others than its owner can read the file."""
    try:
        mode = path.stat().st_mode
    except OSError as e:
        raise KeyFileError(f"{path}: cannot be read ({e.strerror}); `vigie-department init` makes the keys") from e
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path}: others than its owner can read it ({stat.filemode(mode)}); chmod 600 it")
    return read_key(path, None)
