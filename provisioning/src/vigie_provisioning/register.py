"""The register of purchased boxes: JSON lines, each chained to the one before and signed by the operator who wrote it.

    line 1   {"v":1,"n":0,"prev":"00…","register":ID,"department":D,"operator","key","at","sig"}
    line n+1 {"v":1,"n":n,"prev":SHA-256 of the line before,"serial","claim_id","public","image","lot","model",
              "operator","key","at","sig"}

A line is canonical JSON (sorted names, no spaces, ASCII) and must be exactly that. `sig` is Ed25519 over PREFIX and the
same JSON without `sig`; `key` is the SHA-256 of the raw public key, in hex. `public` is the DER of the box's identity
key in base64. Nothing is ever changed: what was registered wrongly is blocked at the authority.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vigie.contract import strictjson
from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.identity import MODEL, SERIAL, box_id, check_claim_id
from vigie_provisioning.authority.checks import load_public
from vigie_provisioning.errors import CaError, ConfigError, RegisterError
from vigie_provisioning.files import read_bounded

LINE_MAX = 4096
REGISTER_MAX = 12 << 20
PREFIX = b"vigie register line 1\n"
GENESIS = "0" * 64
_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_LOT = re.compile(r"[A-Za-z0-9._/-]{0,48}")
_IMAGE = re.compile(r"([0-9a-f]{64})?")
_DOMAIN = re.compile(r"[a-z0-9.-]{1,253}")
_UNIX_MAX = 2**40


@dataclass(slots=True, frozen=True)
class Operator:
    """Somebody whose lines are believed, from `since` to `until` (Unix seconds; 0 = no end)."""

    name: str
    public: bytes
    since: int = 0
    until: int = 0

    @property
    def key(self) -> str:
        """Id of the key."""
        return key_id(self.public)


@dataclass(slots=True, frozen=True)
class Entry:
    """A box. n: number of the entry, from 1; line: its line in the register; hash: of the line's bytes."""

    n: int
    hash: bytes
    serial: str
    claim_id: str
    public: bytes
    image: str
    lot: str
    model: str
    operator: str
    at: int

    @property
    def box(self) -> str:
        """The box's id."""
        return box_id(self.public)


@dataclass(slots=True, frozen=True)
class Register:
    """A register that holds together.

    hashes: of every line, the header's first. torn: bytes after the last whole line.
    """

    id: str
    department: str
    hashes: tuple[bytes, ...]
    entries: tuple[Entry, ...]
    torn: bytes

    @property
    def head(self) -> str:
        """What the next line chains to."""
        return self.hashes[-1].hex()


def read_register(text: bytes, operators: Mapping[str, Operator] | None, where: Path | str) -> Register:
    """Checks every line. RegisterError names the first that does not hold, and what to do.

    operators: by key id; None checks the chain and not who signed it (the flashing bench, which only knows its own
    operator). A last line without its end is not an error: power was cut while it was written (`torn`).
    """
    if len(text) > REGISTER_MAX:
        raise RegisterError(where, None, f"larger than {REGISTER_MAX} bytes; start a new register")
    whole, _newline, torn = text.rpartition(b"\n")
    lines = whole.split(b"\n") if whole else []
    if not lines:
        raise RegisterError(where, None, "holds no whole line; `vigie-factory register` starts one")
    header = _line(lines[0], where, 1, GENESIS, operators)
    register, department = _header(header, where)
    hashes = [hashlib.sha256(lines[0]).digest()]
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines[1:], 2):
        fields = _line(line, where, number, hashes[-1].hex(), operators)
        hashes.append(hashlib.sha256(line).digest())
        entry = _entry(fields, hashes[-1], where, number)
        if entry.n != number - 1:
            raise RegisterError(where, number, f"has number {entry.n}, {number - 1} is expected: lines are missing")
        for what in (f"serial {entry.serial}", f"claim id {entry.claim_id}", f"identity key of {entry.box}"):
            if what in seen:
                raise RegisterError(where, number, f"{what} was registered in line {seen[what]} already")
            seen[what] = number
        entries.append(entry)
    return Register(register, department, tuple(hashes), tuple(entries), torn)


def header_line(key: Ed25519PrivateKey, operator: str, register: str, department: str, at: int) -> bytes:
    """The first line of a new register, with its end."""
    fields = {"v": 1, "n": 0, "prev": GENESIS, "register": register, "department": department}
    return _signed(fields | {"operator": operator, "at": at}, key)


def entry_line(
    key: Ed25519PrivateKey,
    operator: str,
    n: int,
    prev: str,
    *,
    serial: str,
    claim_id: str,
    public: bytes,
    image: str,
    lot: str,
    model: str,
    at: int,
) -> bytes:
    """The line of entry number `n`, with its end. prev: hex SHA-256 of the line before (`Register.head`)."""
    return _signed(
        {
            "v": 1,
            "n": n,
            "prev": prev,
            "serial": serial,
            "claim_id": claim_id,
            "public": base64.b64encode(public).decode(),
            "image": image,
            "lot": lot,
            "model": model,
            "operator": operator,
            "at": at,
        },
        key,
    )


def key_id(public: bytes) -> str:
    """Id of an operator's raw public key."""
    return hashlib.sha256(public).hexdigest()


def raw_public(key: Ed25519PrivateKey) -> bytes:
    """The raw public key of an operator."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def read_operators(path: Path) -> dict[str, Operator]:
    """The allow-list: {"v":1,"operators":[{"name","public":hex,"since"?,"until"?}]}. ConfigError."""
    try:
        f = Fields("operators", strictjson.loads(read_bounded(path, 1 << 20), 1 << 20, str(path)))
        f.constant("v", 1)
        found: dict[str, Operator] = {}
        for item in f.objects("operators", 200):
            bounds = [item.integer(name, 0, _UNIX_MAX) if item.has(name) else 0 for name in ("since", "until")]
            operator = Operator(item.text("name", 64, _NAME), bytes.fromhex(item.text("public", 64, _HEX64)), *bounds)
            item.done()
            found[operator.key] = operator
        f.done()
    except ContractError as e:
        raise ConfigError(f"{path}: {e}") from e
    return found


def _signed(fields: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    fields = fields | {"key": key_id(raw_public(key))}
    signature = key.sign(PREFIX + _canonical(fields))
    return _canonical(fields | {"sig": base64.b64encode(signature).decode()}) + b"\n"


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _line(
    line: bytes, where: Path | str, number: int, prev: str, operators: Mapping[str, Operator] | None
) -> dict[str, Any]:
    """The fields of a line that follows `prev` and is signed by an operator."""
    damaged = "damaged, or changed after it was written; restore the register from the station or a backup"
    try:
        fields = strictjson.loads(line, LINE_MAX, "line")
    except ContractError as e:
        raise RegisterError(where, number, f"{e}: {damaged}") from e
    if _canonical(fields) != line:
        raise RegisterError(where, number, f"not in canonical form: {damaged}")
    if fields.get("prev") != prev:
        reason = "does not follow the line before: a line is missing, was changed, or the register forks here"
        raise RegisterError(where, number, f"{reason}; compare with the station's own copy")
    if operators is not None:
        _check_signature(fields, where, number, operators)
    return fields


def _check_signature(
    fields: Mapping[str, Any], where: Path | str, number: int, operators: Mapping[str, Operator]
) -> None:
    name, at = fields.get("operator"), fields.get("at")
    operator = operators.get(str(fields.get("key")))
    if operator is None or operator.name != name:
        reason = f"signed by `{name}` with a key that is not in the list of operators"
        raise RegisterError(where, number, f"{reason}; add it there if you trust it")
    if not isinstance(at, int) or at < operator.since or (operator.until and at > operator.until):
        raise RegisterError(where, number, f"signed by `{name}` outside the time in which this key is believed")
    try:
        signature = base64.b64decode(str(fields.get("sig")), validate=True)
        unsigned = _canonical({name: value for name, value in fields.items() if name != "sig"})
        Ed25519PublicKey.from_public_bytes(operator.public).verify(signature, PREFIX + unsigned)
    except (InvalidSignature, binascii.Error, ValueError) as e:
        raise RegisterError(where, number, "the signature is wrong: the line was changed after it was signed") from e


def _common(f: Fields) -> None:
    f.constant("v", 1)
    for name, pattern in (("prev", _HEX64), ("key", _HEX64)):
        f.text(name, 64, pattern)
    f.text("sig", 128)


def _header(fields: dict[str, Any], where: Path | str) -> tuple[str, str]:
    try:
        f = Fields("header", fields)
        _common(f)
        f.constant("n", 0)
        f.text("operator", 64, _NAME)
        f.integer("at", 0, _UNIX_MAX)
        register, department = f.text("register", 32, _HEX32), f.text("department", 253, _DOMAIN)
        f.done()
    except ContractError as e:
        raise RegisterError(where, 1, f"{e}: not the first line of a register") from e
    return register, department


def _entry(fields: dict[str, Any], digest: bytes, where: Path | str, number: int) -> Entry:
    try:
        f = Fields("entry", fields)
        _common(f)
        public = base64.b64decode(f.text("public", 1024), validate=True)
        load_public(public)
        claim = f.text("claim_id", 32)
        if check_claim_id(claim) != claim:
            f.fail("claim_id", "not in its canonical form")
        entry = Entry(
            n=f.integer("n", 1),
            hash=digest,
            serial=f.text("serial", 48, SERIAL),
            claim_id=claim,
            public=public,
            image=f.text("image", 64, _IMAGE),
            lot=f.text("lot", 48, _LOT),
            model=f.text("model", 32, MODEL),
            operator=f.text("operator", 64, _NAME),
            at=f.integer("at", 0, _UNIX_MAX),
        )
        f.done()
    except (ContractError, CaError, binascii.Error, ValueError) as e:
        raise RegisterError(where, number, f"{e}: not an entry of a register") from e
    return entry
