"""Revocation lists, and the list of boxes that may not speak at all.

`crl.pem`: one list per issuing CA, one after the other, each with what it revoked and has not expired. `denied.json`:
{"v":1,"boxes":[...]}: a revocation list names certificates, also those that healthy boxes no longer use; who is to be
cut off whatever it shows is named here. The lists are written first.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from vigie_provisioning.authority.ca import Ca
from vigie_provisioning.authority.profiles import BACKDATE, Issuer

OVERLAP_S = 86_400
"""A certificate stays listed for a day after its end, for servers whose clock is late."""


@dataclass(slots=True, frozen=True)
class Entry:
    """A revoked certificate: number, when (Unix seconds), why (a name of x509.ReasonFlags)."""

    number: int
    revoked: int
    reason: str


@dataclass(slots=True, frozen=True)
class Content:
    """What to publish: entries by the issuer's name, boxes denied, and the lists' number."""

    entries: Mapping[str, Sequence[Entry]]
    denied: Sequence[str]
    number: int


def content(db: sqlite3.Connection, now: int, number: int, grace_s: int = 0) -> Content:
    """What the store says at this moment.

    grace_s: how long a superseded certificate is left out: a box goes over to its new one without a cut line.
    """
    rows = db.execute(
        "SELECT number, revoked, reason, issuer FROM certificates WHERE state = 'revoked' AND not_after >= ? "
        "AND (reason != 'superseded' OR revoked <= ?) ORDER BY revoked, number",
        (now - OVERLAP_S, now - grace_s),
    )
    entries: dict[str, list[Entry]] = {}
    for row in rows:
        entries.setdefault(row["issuer"], []).append(Entry(int(row["number"], 16), row["revoked"], row["reason"]))
    denied = [row["box"] for row in db.execute("SELECT box FROM boxes WHERE block != '' ORDER BY box")]
    return Content(entries, denied, number)


def sign(ca: Ca, what: Content, now: int, life: timedelta) -> bytes:
    """The lists in PEM, of every issuing CA that has not expired."""
    return b"".join(
        _one(issuer, what.entries.get(issuer.certificate.subject.rfc4514_string(), ()), what.number, now, life)
        for issuer in ca.issuing
        if issuer.certificate.not_valid_after_utc.timestamp() > now
    )


def denied_json(what: Content) -> bytes:
    """The boxes that may not speak."""
    return json.dumps({"v": 1, "boxes": list(what.denied)}).encode() + b"\n"


def _one(issuer: Issuer, entries: Sequence[Entry], number: int, now: int, life: timedelta) -> bytes:
    when = datetime.fromtimestamp(now, UTC)
    key_id = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(when - BACKDATE)
        .next_update(when + life)
        .add_extension(x509.CRLNumber(number), False)
        .add_extension(identifier, False)
    )
    for entry in entries:
        revoked = (
            x509.RevokedCertificateBuilder()
            .serial_number(entry.number)
            .revocation_date(datetime.fromtimestamp(entry.revoked, UTC))
            .add_extension(x509.CRLReason(x509.ReasonFlags[entry.reason]), False)
            .build()
        )
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
