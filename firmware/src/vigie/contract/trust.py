"""`steering.json` of the trust bundle: who may sign desired states and commands.

    {"keys": [{"keyid", "public"}...], "second": {"threshold": 2, "keys": [{"keyid", "public"}...]}}

`public` is the raw Ed25519 public key in hex; `keyid` its SHA-256 in hex, checked. One signature by any of `keys`
suffices; orders that need the offline second signature carry `threshold` of `second.keys` too. A key is in one list
only, so that no online key counts twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Self

from vigie.contract import dsse, strictjson
from vigie.contract.fields import Fields

FILE_MAX: Final = 16 * 1024
KEYS_MAX: Final = 16
_PUBLIC: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SteeringKeys:
    """Key id -> raw public key, online and offline."""

    online: dict[str, bytes]
    second: dict[str, bytes]
    second_threshold: int

    @classmethod
    def of(cls, online: tuple[bytes, ...], second: tuple[bytes, ...], threshold: int = 2) -> Self:
        """From raw public keys."""
        return cls({dsse.keyid(k): k for k in online}, {dsse.keyid(k): k for k in second}, threshold)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses the file; MessageError."""
        f = Fields("steering", strictjson.loads(data, FILE_MAX, "steering.json"))
        online = _keys(f)
        inner = f.object("second")
        threshold = inner.integer("threshold", 1, KEYS_MAX)
        second = _keys(inner)
        inner.done()
        f.done()
        if threshold > len(second):
            inner.fail("threshold", f"{threshold} signatures of {len(second)} keys cannot be had")
        if set(online) & set(second):
            inner.fail("keys", "a key is both online and offline")
        return cls(online, second, threshold)

    def to_bytes(self) -> bytes:
        """The file."""
        second: dict[str, Any] = {"threshold": self.second_threshold, "keys": _list(self.second)}
        return strictjson.dumps({"keys": _list(self.online), "second": second})

    def verify(self, envelope: dsse.Envelope, payload_type: str) -> bytes:
        """The payload when an online key signed it; SignatureError."""
        return dsse.verify(envelope, self.online, 1, payload_type)

    def second_signed(self, envelope: dsse.Envelope) -> bool:
        """Whether enough offline keys signed too."""
        return len(dsse.signers(envelope, self.second)) >= self.second_threshold


def _keys(f: Fields) -> dict[str, bytes]:
    out: dict[str, bytes] = {}
    for k in f.objects("keys", KEYS_MAX):
        public = bytes.fromhex(k.text("public", 64, _PUBLIC))
        ident = k.text("keyid", 64, dsse.KEYID)
        if dsse.keyid(public) != ident:
            k.fail("keyid", "not the SHA-256 of `public`")
        if ident in out:
            k.fail("keyid", "given twice")
        k.done()
        out[ident] = public
    if not out:
        f.fail("keys", "at least one key is expected")
    return out


def _list(keys: dict[str, bytes]) -> list[dict[str, str]]:
    return [{"keyid": ident, "public": public.hex()} for ident, public in keys.items()]
