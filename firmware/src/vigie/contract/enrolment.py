"""Bodies of the authority's API (`https://enrol.D/v1/...`, JSON) and the bytes a box attests.

| request | body | answers |
|---|---|---|
| POST /v1/challenge | ChallengeRequest | 200 ChallengeReply, same shape and time for an unknown serial |
| POST /v1/enrol | EnrolRequest | 200 EnrolReply · 202 `wait` · 403 `refused` · 409 `conflict`, `clone` · 429, 503 |
| POST /v1/confirm (mTLS, new certificate) | ConfirmRequest | 200 ConfirmReply · 403 |
| POST /v1/renew (mTLS) | RenewRequest | as enrol |
| POST /v1/decommission (mTLS, or a challenge) | DecommissionRequest | 200 ConfirmReply · 403 |

400 `challenge`: the challenge is too old or was used; ask for another at once. 400 `malformed`: the request itself.
Every refusal has a Refusal as its body. A lost reply is asked for again: the same join state and the same new key get
the same certificate, whatever the challenge. All times are Unix seconds.

TLS ends at a web server, which is not trusted with the fleet: each request carries, beside what TLS says, a signature
by a key of the box over what is asked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract import signed, strictjson
from vigie.contract.errors import MessageError
from vigie.contract.fields import Fields
from vigie.contract.identity import BOX_ID, MODEL, SERIAL
from vigie.contract.signed import CHALLENGE_TYPE, JOIN_STATE_TYPE, Signed
from vigie.contract.upward import SOFTWARE, UNIX_MAX

VERSION: Final = 1
BODY_MAX: Final = 32 * 1024
CHALLENGE_LIFE_S: Final = 120
CERTIFICATE_DAYS: Final = 90
CSR_MAX: Final = 4096
PEM_MAX: Final = 8192
CHAIN_MAX: Final = 4
PORTS: Final = (8883, 443)

NONCE: Final = re.compile(r"[0-9a-f]{64}")
SID: Final = re.compile(r"([0-9a-f]{2}){16,256}")
"""Opaque to the box: what the authority must know again travels in it, so that it stores nothing per challenge."""
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_TAG: Final = b"VG1"


class EnrolCode(StrEnum):
    """Why the authority did not do as asked. Unknown, blocked and wrongly signed are all `refused`, on purpose."""

    REFUSED = "refused"
    CONFLICT = "conflict"
    CLONE = "clone"
    WAIT = "wait"
    BUSY = "busy"
    CHALLENGE = "challenge"
    MALFORMED = "malformed"


@dataclass(frozen=True, slots=True)
class ChallengeRequest:
    """Step 1. `dev_nonce`: 32 fresh random bytes, hex."""

    serial: str
    model: str
    dev_nonce: str

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = _body(data, "challenge")
        out = cls(f.text("serial", 48, SERIAL), f.text("model", 32, MODEL), f.text("dev_nonce", 64, NONCE))
        f.done()
        return out

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump({"serial": self.serial, "model": self.model, "dev_nonce": self.dev_nonce})


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the authority signs (CHALLENGE_TYPE): binds the box's nonce, and gives the time."""

    sid: str
    srv_nonce: str
    dev_nonce: str
    time: int
    exp: int  # seconds from `time`

    def sign(self, key: ec.EllipticCurvePrivateKey) -> Signed:
        """The signed statement."""
        body = {"v": VERSION, "sid": self.sid, "srv_nonce": self.srv_nonce, "dev_nonce": self.dev_nonce}
        return signed.sign(body | {"time": self.time, "exp": self.exp}, CHALLENGE_TYPE, key)

    @classmethod
    def verify(cls, statement: Signed, key: ec.EllipticCurvePublicKey, dev_nonce: str) -> Self:
        """The challenge, signed by `key` in answer to `dev_nonce`. SignatureError, MessageError."""
        f = statement.verify(CHALLENGE_TYPE, key)
        f.constant("v", VERSION)
        out = cls(
            f.text("sid", 512, SID),
            f.text("srv_nonce", 64, NONCE),
            f.text("dev_nonce", 64, NONCE),
            f.integer("time", 0, UNIX_MAX),
            f.integer("exp", 1, 3600),
        )
        if out.dev_nonce != dev_nonce:
            f.fail("dev_nonce", "the answer to another question")
        return out


@dataclass(frozen=True, slots=True)
class ChallengeReply:
    """The signed challenge and the certificate chain (PEM, challenge certificate first) that signed it."""

    challenge: Signed
    chain: tuple[str, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; unknown fields are ignored (a newer authority). MessageError."""
        f = _body(data, "challenge_reply")
        return cls(Signed.read(f.object("challenge")), _pems(f, "chain"))

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump({"challenge": self.challenge.to_dict(), "chain": list(self.chain)})


@dataclass(frozen=True, slots=True)
class JoinState:
    """What the authority signs (JOIN_STATE_TYPE) and the box shows next time: a copy with an older `seq` is a clone."""

    serial: str
    box: str
    seq: int
    issued: int

    def sign(self, key: ec.EllipticCurvePrivateKey) -> Signed:
        """The signed statement."""
        body = {"v": VERSION, "serial": self.serial, "box": self.box, "seq": self.seq, "issued": self.issued}
        return signed.sign(body, JOIN_STATE_TYPE, key)

    @classmethod
    def verify(cls, statement: Signed, key: ec.EllipticCurvePublicKey) -> Self:
        """The join state, signed by `key`. SignatureError, MessageError."""
        f = statement.verify(JOIN_STATE_TYPE, key)
        f.constant("v", VERSION)
        serial, box = f.text("serial", 48, SERIAL), f.text("box", 19, BOX_ID)
        return cls(serial, box, f.integer("seq", 1), f.integer("issued", 0, UNIX_MAX))


@dataclass(frozen=True, slots=True)
class Meta:
    """What a box says of itself when it enrols."""

    model: str
    software: str
    image: str  # hex SHA-256 of the image it was flashed with, "" when unknown

    @classmethod
    def read(cls, f: Fields) -> Self:
        """Reads and checks."""
        out = cls(f.text("model", 32, MODEL), f.text("software", 40, SOFTWARE), f.text("image", 64, _IMAGE))
        f.done()
        return out

    def to_dict(self) -> dict[str, str]:
        """As JSON."""
        return {"model": self.model, "software": self.software, "image": self.image}


_IMAGE: Final = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """Step 2. `csr` is the DER of a PKCS #10 request for a fresh P-256 key; `att` the identity key's signature."""

    sid: str
    csr: bytes
    join_state: Signed | None
    meta: Meta
    att: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = _body(data, "enrol")
        out = cls(
            f.text("sid", 512, SID),
            _bytes(f, "csr", CSR_MAX),
            _join_state(f),
            Meta.read(f.object("meta")),
            _bytes(f, "att", 256),
        )
        f.done()
        return out

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump(
            {
                "sid": self.sid,
                "csr": base64.b64encode(self.csr).decode(),
                "join_state": None if self.join_state is None else self.join_state.to_dict(),
                "meta": self.meta.to_dict(),
                "att": base64.b64encode(self.att).decode(),
            }
        )


def attestation(
    *,
    sid: str,
    srv_nonce: str,
    dev_nonce: str,
    csr: bytes,
    server_spki: bytes,
    software: str,
    join_state: Signed | None,
) -> bytes:
    """The bytes that the identity key signs (ES256, DER) in `EnrolRequest.att`.

    "VG1", then each item as a big-endian 32-bit length and its bytes: sid, srv_nonce, dev_nonce (decoded from hex),
    SHA-256 of the CSR's DER, SHA-256 of the DER SubjectPublicKeyInfo of the TLS server certificate the box sees, the
    software version in UTF-8, SHA-256 of `join_state.to_bytes()` (empty when there is none). Lengths keep two different
    lists of items from giving the same bytes; the server's key defeats a relay.
    """
    items = (
        bytes.fromhex(sid),
        bytes.fromhex(srv_nonce),
        bytes.fromhex(dev_nonce),
        hashlib.sha256(csr).digest(),
        hashlib.sha256(server_spki).digest(),
        software.encode(),
        b"" if join_state is None else hashlib.sha256(join_state.to_bytes()).digest(),
    )
    return _TAG + b"".join(struct.pack(">I", len(i)) + i for i in items)


@dataclass(frozen=True, slots=True)
class EnrolReply:
    """A certificate: `chain` in PEM, the box's first; where the broker is; the next join state (its time is signed)."""

    chain: tuple[str, ...]
    mqtt_host: str
    mqtt_ports: tuple[int, ...]
    join_state: Signed

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; unknown fields are ignored. MessageError."""
        f = _body(data, "enrol_reply")
        mqtt = f.object("mqtt")
        ports = []
        for i, value in enumerate(mqtt.items("ports", 4)):
            ports.append(Fields(mqtt.path("ports"), {f"[{i}]": value}).integer(f"[{i}]", 1, 65535))
        if not ports:
            mqtt.fail("ports", "at least one is expected")
        return cls(_pems(f, "chain"), mqtt.text("host", 253, _HOST), tuple(ports), Signed.read(f.object("join_state")))

    def to_bytes(self) -> bytes:
        """As JSON."""
        mqtt = {"host": self.mqtt_host, "ports": list(self.mqtt_ports)}
        return _dump({"chain": list(self.chain), "mqtt": mqtt, "join_state": self.join_state.to_dict()})


class Purpose(StrEnum):
    """What an operational key signs a request for."""

    RENEW = "VG1R"
    CONFIRM = "VG1C"
    DECOMMISSION = "VG1D"


def possession(purpose: Purpose, certificate: bytes, csr: bytes = b"", join_state: Signed | None = None) -> bytes:
    """The bytes that the operational key of `certificate` (DER) signs (ES256, DER) in a request's `att`.

    The purpose, then with lengths as in `attestation`: SHA-256 of the certificate, of the CSR's DER (empty when there
    is none), of `join_state.to_bytes()` (empty when there is none).
    """
    return _joined(
        purpose.value.encode(),
        hashlib.sha256(certificate).digest(),
        hashlib.sha256(csr).digest() if csr else b"",
        b"" if join_state is None else hashlib.sha256(join_state.to_bytes()).digest(),
    )


def farewell(*, sid: str, srv_nonce: str, dev_nonce: str, server_spki: bytes) -> bytes:
    """The bytes that the identity key signs (ES256, DER) in a DecommissionRequest with a `sid`; as `attestation`."""
    return _joined(
        Purpose.DECOMMISSION.value.encode(),
        bytes.fromhex(sid),
        bytes.fromhex(srv_nonce),
        bytes.fromhex(dev_nonce),
        hashlib.sha256(server_spki).digest(),
    )


def _joined(tag: bytes, *items: bytes) -> bytes:
    return tag + b"".join(struct.pack(">I", len(i)) + i for i in items)


@dataclass(frozen=True, slots=True)
class ConfirmRequest:
    """Step 3, over TLS with the new certificate, whose serial number (lower-case hex) is repeated.

    att: by the certificate's key over `possession(Purpose.CONFIRM, certificate)`.
    """

    certificate: str
    att: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = _body(data, "confirm")
        out = cls(f.text("certificate", 40, re.compile(r"[0-9a-f]{1,40}")), _bytes(f, "att", 256))
        f.done()
        return out

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump({"certificate": self.certificate, "att": base64.b64encode(self.att).decode()})


@dataclass(frozen=True, slots=True)
class ConfirmReply:
    """Done."""

    state: str  # active, decommissioned

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; unknown fields are ignored. MessageError."""
        return cls(_body(data, "confirm_reply").text("state", 20, re.compile(r"active|decommissioned")))

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump({"state": self.state})


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """A new key before the certificate ends, over TLS with the current one. Idempotent on (join state, new key).

    att: by the current certificate's key over `possession(Purpose.RENEW, certificate, csr, join_state)`.
    """

    csr: bytes
    join_state: Signed
    att: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = _body(data, "renew")
        out = cls(_bytes(f, "csr", CSR_MAX), Signed.read(f.object("join_state")), _bytes(f, "att", 256))
        f.done()
        return out

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump(
            {
                "csr": base64.b64encode(self.csr).decode(),
                "join_state": self.join_state.to_dict(),
                "att": base64.b64encode(self.att).decode(),
            }
        )


@dataclass(frozen=True, slots=True)
class DecommissionRequest:
    """The box will erase its keys.

    sid None: over TLS with the current certificate, att by its key over `possession(Purpose.DECOMMISSION,
    certificate)`. Else no certificate is needed: att by the identity key over `farewell(...)` with that challenge.
    """

    att: bytes
    sid: str | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; MessageError."""
        f = _body(data, "decommission")
        out = cls(_bytes(f, "att", 256), None if f.null("sid") else f.text("sid", 512, SID))
        f.done()
        return out

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump({"sid": self.sid, "att": base64.b64encode(self.att).decode()})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Any answer but 200. `retry_after_s` 0 = the box's own back-off."""

    code: EnrolCode
    retry_after_s: int = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses; unknown fields are ignored. MessageError."""
        f = _body(data, "refusal")
        return cls(f.word("code", EnrolCode), f.integer("retry_after_s", 0, 7 * 86_400))

    def to_bytes(self) -> bytes:
        """As JSON."""
        return _dump({"code": self.code.value, "retry_after_s": self.retry_after_s})


def _body(data: bytes, what: str) -> Fields:
    f = Fields(what, strictjson.loads(data, BODY_MAX, what))
    f.constant("v", VERSION)
    return f


def _dump(fields: dict[str, Any]) -> bytes:
    return strictjson.dumps({"v": VERSION} | fields)


def _bytes(f: Fields, name: str, most: int) -> bytes:
    text = f.text(name, 2 * most)
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise MessageError(f.path(name), "base64 is expected") from e
    if not 0 < len(data) <= most:
        f.fail(name, f"1 to {most} bytes are expected")
    return data


def _join_state(f: Fields) -> Signed | None:
    return None if f.null("join_state") else Signed.read(f.object("join_state"))


def _pems(f: Fields, name: str) -> tuple[str, ...]:
    out = []
    for i, value in enumerate(f.items(name, CHAIN_MAX)):
        if not isinstance(value, str) or len(value) > PEM_MAX or not value.startswith("-----BEGIN CERTIFICATE-----"):
            f.fail(name, f"item {i} is not a certificate in PEM")
        out.append(value)
    if not out:
        f.fail(name, "at least one certificate is expected")
    return tuple(out)
