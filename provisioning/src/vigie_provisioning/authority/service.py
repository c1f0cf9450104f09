"""What the authority does for a box whose proofs were checked: changes of the store, each in one transaction.

`grant` issues, for an enrolment or a renewal; `confirm` makes a certificate the only one; `decommission` ends a box.
Each may be asked again after a lost reply and answers the same.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract.enrolment import EnrolCode, JoinState
from vigie.contract.signed import Signed
from vigie_provisioning.authority import profiles, records
from vigie_provisioning.authority.ca import Ca, pem
from vigie_provisioning.authority.checks import spki
from vigie_provisioning.authority.decide import Ask, Block, Outcome, after_issue, decide
from vigie_provisioning.authority.records import Box, Held

CONFLICT_EVENT_S = 86_400


class Publish(IntEnum):
    """Whether the revocation list changed, and how soon others must know."""

    NOTHING = 0
    SOON = 1
    NOW = 2


@dataclass(slots=True, frozen=True)
class Granted:
    """A certificate chain (PEM, the box's first) and the next join state."""

    chain: tuple[str, ...]
    join_state: Signed
    publish: Publish = Publish.NOTHING


@dataclass(slots=True, frozen=True)
class Refused:
    """No. The code is for the box; `why` for the log."""

    code: EnrolCode
    why: str
    publish: Publish = Publish.NOTHING


@dataclass(slots=True, frozen=True)
class Wish:
    """What a box asks, its proofs checked.

    shown: sequence of its join state, 0 for none. kind: of the event that tells it. sid: of the challenge, b"" when
    there was none.
    """

    serial: str
    shown: int
    public: ec.EllipticCurvePublicKey
    kind: str
    sid: bytes = b""
    sid_expires: int = 0
    software: str = ""


class Service:
    """The changes, with the keys they need."""

    def __init__(self, ca: Ca, certificate_days: int) -> None:
        self.ca = ca
        self._life = timedelta(days=certificate_days)

    def grant(self, db: sqlite3.Connection, wish: Wish, now: int) -> Granted | Refused:
        """A certificate, the same one again, or why not."""
        box = records.box_by_serial(db, wish.serial)
        if box is None:
            return Refused(EnrolCode.REFUSED, "unknown")
        der = spki(wish.public)
        key = hashlib.sha256(der).digest()
        if der == box.public or records.key_of_another(db, wish.serial, key):
            return Refused(EnrolCode.MALFORMED, "key-in-use")
        if wish.sid:
            used = db.execute("SELECT * FROM used WHERE sid = ?", (wish.sid,)).fetchone()
            if used is not None:
                return self._used(db, box, used, key, now)
        outcome, rule = decide(box.record, Ask(wish.shown, key))
        if outcome is Outcome.REPEAT:
            held = records.last_certificate(db, wish.serial, key)
            if held is not None and usable(held, now):
                self._use(db, wish, held, now)
                return self._again(held)
            outcome = Outcome.ISSUE  # it expired or was superseded in the meantime: a new one for the same key
        if outcome is Outcome.ISSUE:
            return self._issue(db, box, wish, key, rule, now)
        if outcome is Outcome.CONFLICT:
            return self._conflict(db, box, now)
        if outcome is Outcome.CLONE:
            return self._clone(db, box, wish.shown, rule, now)
        return Refused(EnrolCode.REFUSED, rule)

    def confirm(self, db: sqlite3.Connection, fingerprint: bytes, now: int) -> Refused | Publish:
        """PENDING -> ACTIVE; what the box had before is revoked."""
        held = records.certificate(db, fingerprint)
        if held is None or held.serial is None or not usable(held, now):
            return Refused(EnrolCode.REFUSED, "certificate")
        box = records.box_by_serial(db, held.serial)
        if box is None or box.record.block is not Block.NONE:
            return Refused(EnrolCode.REFUSED, "blocked")
        if held.state == "active":
            return Publish.NOTHING
        db.execute("UPDATE certificates SET state = 'active' WHERE fingerprint = ?", (fingerprint,))
        old = records.revoke(db, held.serial, now, "superseded", but=fingerprint)
        records.event(db, now, "confirmed", box.serial, box.box, _described(held))
        return Publish.SOON if old else Publish.NOTHING

    def decommission(self, db: sqlite3.Connection, serial: str, now: int) -> Refused | Publish:
        """The box erases its keys. What it may never do again, nobody may do in its name."""
        box = records.box_by_serial(db, serial)
        if box is None:
            return Refused(EnrolCode.REFUSED, "unknown")
        if box.record.block is Block.DECOMMISSIONED:
            return Publish.NOTHING
        if box.record.block is not Block.NONE:
            return Refused(EnrolCode.REFUSED, "blocked")
        self.block(db, box, Block.DECOMMISSIONED, "asked by the box", now, "cessation_of_operation")
        records.event(db, now, "decommissioned", box.serial, box.box, {})
        return Publish.NOW

    def block(
        self, db: sqlite3.Connection, box: Box, block: Block, note: str, now: int, reason: str | None
    ) -> list[str]:
        """Blocks a serial; with a reason its certificates are revoked too (numbers returned)."""
        records.keep(db, box.serial, replace(box.record, block=block, released=False))
        db.execute("UPDATE boxes SET block_note = ? WHERE serial = ?", (note, box.serial))
        return records.revoke(db, box.serial, now, reason) if reason is not None else []

    def _issue(self, db: sqlite3.Connection, box: Box, wish: Wish, key: bytes, rule: str, now: int) -> Granted:
        when = datetime.fromtimestamp(now, UTC)
        made = profiles.box(wish.public, box.box, self.ca.current("issuing", when), when, self._life)
        record = after_issue(box.record, Ask(wish.shown, key))
        state = JoinState(box.serial, box.box, record.seq, now).sign(self.ca.current("challenge", when).key)
        stale = records.revoke(db, box.serial, now, "superseded", states=("pending",))
        held = records.add_certificate(
            db, made, serial=box.serial, box=box.box, key=key, state="pending", now=now, join_state=state.to_bytes()
        )
        records.keep(db, box.serial, record)
        db.execute(
            "UPDATE boxes SET conflict = 0, seen = ?1, software = CASE ?2 WHEN '' THEN software ELSE ?2 END "
            "WHERE serial = ?3",
            (now, wish.software, box.serial),
        )
        self._use(db, wish, held, now)
        detail = _described(held) | {"seq": record.seq, "rule": rule, "software": wish.software}
        records.event(db, now, wish.kind, box.serial, box.box, detail)
        return replace(self._again(held), publish=Publish.SOON if stale else Publish.NOTHING)

    def _used(self, db: sqlite3.Connection, box: Box, used: sqlite3.Row, key: bytes, now: int) -> Granted | Refused:
        """A challenge that was used before: the same reply for the same key, nothing for another."""
        held = records.certificate(db, used["fingerprint"])
        if box.record.block is Block.CLONE:
            return Refused(EnrolCode.CLONE, "quarantined")
        if box.record.block is not Block.NONE:
            return Refused(EnrolCode.REFUSED, "blocked")
        if used["key"] != key or held is None or not usable(held, now):
            return Refused(EnrolCode.CHALLENGE, "challenge-used")
        return self._again(held)

    def _use(self, db: sqlite3.Connection, wish: Wish, held: Held, now: int) -> None:
        if wish.sid:
            row = (wish.sid, held.fingerprint, held.key, max(now, wish.sid_expires))
            db.execute("INSERT INTO used VALUES (?, ?, ?, ?)", row)

    def _again(self, held: Held) -> Granted:
        own = x509.load_pem_x509_certificate(held.pem.encode())
        chain = tuple(pem([part]).decode() for part in self.ca.chain(own))
        return Granted(chain, Signed.from_bytes(held.join_state))

    def _conflict(self, db: sqlite3.Connection, box: Box, now: int) -> Refused:
        if now - box.conflict >= CONFLICT_EVENT_S:
            # Once a day: the box tries again for ever, and the operator needs one line, not a thousand.
            db.execute("UPDATE boxes SET conflict = ? WHERE serial = ?", (now, box.serial))
            detail = {"reason": "enrolled before, and shows no join state", "seq": box.record.seq}
            records.event(db, now, "conflict", box.serial, box.box, detail)
        return Refused(EnrolCode.CONFLICT, "conflict")

    def _clone(self, db: sqlite3.Connection, box: Box, shown: int, rule: str, now: int) -> Refused:
        if box.record.block is Block.CLONE:
            return Refused(EnrolCode.CLONE, rule)
        seq = box.record.seq
        note = f"showed join state {shown} after {seq} was issued"
        numbers = self.block(db, box, Block.CLONE, note, now, "key_compromise")
        detail = {"reason": "an old join state was shown", "shown": shown, "seq": seq, "cert_serials": numbers}
        records.event(db, now, "clone", box.serial, box.box, detail)
        return Refused(EnrolCode.CLONE, rule, Publish.NOW)


def usable(held: Held, now: int) -> bool:
    """Whether a certificate counts: not revoked, not expired."""
    return held.state in ("pending", "active") and now <= held.not_after


def _described(held: Held) -> dict[str, object]:
    return {"cert_serial": held.number, "not_before": held.not_before, "not_after": held.not_after}
