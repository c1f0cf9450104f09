"""The register's file at a flashing station: one writer at a time, flushed before anybody is told, torn ends mended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie_provisioning.errors import ProvisioningError, RegisterError
from vigie_provisioning.files import sync_folder, write_atomic
from vigie_provisioning.register import (
    REGISTER_MAX,
    Entry,
    Register,
    entry_line,
    header_line,
    read_register,
)


@dataclass(slots=True, frozen=True)
class Article:
    """A box to register. public: DER of its identity key; image: hex SHA-256 of what it was flashed with, or ""."""

    serial: str
    claim_id: str
    public: bytes
    image: str
    lot: str
    model: str


@dataclass(slots=True, frozen=True)
class Added:
    """What became of it. known: it was registered before, with the same key. mended: what was found torn, or ""."""

    entry: Entry
    known: bool
    mended: str


def append(path: Path, key: Ed25519PrivateKey, operator: str, department: str, article: Article, now: int) -> Added:
    """Registers a box; starts the register when there is none. RegisterError for a duplicate or a damaged register.

    Asking twice for the same serial with the same key is fine: the station may have lost power before it heard.
    """
    with _locked(path) as fd:
        text = _read(fd)
        mended = ""
        if not text.rpartition(b"\n")[0]:
            mended = _mend(path, fd, text, 0) if text else ""
            text = header_line(key, operator, secrets.token_hex(16), department, now)
            read_register(text, None, path)
            _write(path, fd, text)
            sync_folder(path.parent)
        register = read_register(text, None, path)
        if register.torn:
            text, register, mended = _finish(path, fd, text, register)
        if register.department != department:
            raise RegisterError(path, 1, f"is the register of {register.department}, not of {department}")
        for entry in register.entries:
            if (entry.serial, entry.public) == (article.serial, article.public):
                return Added(entry, True, mended)
        line = entry_line(
            key,
            operator,
            len(register.entries) + 1,
            register.head,
            serial=article.serial,
            claim_id=article.claim_id,
            public=article.public,
            image=article.image,
            lot=article.lot,
            model=article.model,
            at=now,
        )
        # Read as the authority will: a duplicate or a malformed field is refused before anything is written.
        after = read_register(text + line, None, path)
        _write(path, fd, line)
        return Added(after.entries[-1], False, mended)


def _finish(path: Path, fd: int, text: bytes, register: Register) -> tuple[bytes, Register, str]:
    """A last line without its end: kept when only the end is missing, put aside when it is a part of a line.

    A part cannot pass for a whole: it lacks its closing brace, and with it the signature or a field.
    """
    try:
        whole = read_register(text + b"\n", None, path)
    except RegisterError:
        kept = text[: len(text) - len(register.torn)]
        mended = _mend(path, fd, register.torn, len(kept))
        return kept, read_register(kept, None, path), mended
    _write(path, fd, b"\n")
    return text + b"\n", whole, "the end of the last line was missing and was added"


def _mend(path: Path, fd: int, torn: bytes, length: int) -> str:
    aside = path.with_name(f"{path.name}.torn-{secrets.token_hex(4)}")
    write_atomic(aside, torn)
    os.ftruncate(fd, length)
    os.fsync(fd)
    return f"a part of a line ({len(torn)} bytes, power was cut) was put aside in {aside}"


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The open file, locked. ProvisioningError when it cannot be opened."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise ProvisioningError(f"{path}: cannot be opened ({e.strerror}); check the folder and rights") from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    parts = []
    offset = 0
    while part := os.pread(fd, 1 << 20, offset):
        parts.append(part)
        offset += len(part)
        if offset > REGISTER_MAX:
            break
    return b"".join(parts)


def _write(path: Path, fd: int, line: bytes) -> None:
    """All of it, on the disk; or none of it, and ProvisioningError."""
    before = os.fstat(fd).st_size
    try:
        done = 0
        while done < len(line):
            done += os.write(fd, line[done:])
        os.fsync(fd)
    except OSError as e:
        with contextlib.suppress(OSError):  # what is left of a line is put aside by the next registration
            os.ftruncate(fd, before)
        reason = f"cannot be written ({e.strerror}); nothing was registered"
        raise ProvisioningError(f"{path}: {reason}: check space and the disk, then go on") from e
