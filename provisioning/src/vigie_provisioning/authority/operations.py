"""What the console and the commands may ask on the admin socket."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from vigie_provisioning.authority import profiles, records
from vigie_provisioning.authority.attempts import Attempts
from vigie_provisioning.authority.ca import pem
from vigie_provisioning.authority.checks import csr_public_key, spki
from vigie_provisioning.authority.config import Config
from vigie_provisioning.authority.decide import Block
from vigie_provisioning.authority.importing import import_register
from vigie_provisioning.authority.publishing import Publisher
from vigie_provisioning.authority.service import Publish, Service
from vigie_provisioning.authority.writer import Writer
from vigie_provisioning.errors import ProvisioningError, StateError, UsageError
from vigie_provisioning.jsonsocket import Allow, Operation, Params, Peer
from vigie_provisioning.register import read_operators

PAGE_MAX = 10_000
_LISTED = """
SELECT b.serial, b.box, b.model, b.lot, b.claim_id, b.image, b.registered, b.seq, b.block, b.block_note, b.released,
       b.conflict, b.software, b.seen,
       (SELECT max(not_after) FROM certificates c WHERE c.serial = b.serial AND c.state = 'active') AS active_until,
       (SELECT max(not_after) FROM certificates c WHERE c.serial = b.serial AND c.state = 'pending') AS pending_until
FROM boxes b
"""


class Operations:
    """The operations. Every one runs on the loop; changes go through the writer."""

    def __init__(
        self,
        config: Config,
        service: Service,
        writer: Writer,
        reader: sqlite3.Connection,
        attempts: Attempts,
        publisher: Publisher,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._service = service
        self._writer = writer
        self._reader = reader
        self._attempts = attempts
        self._publisher = publisher
        self._clock = clock

    def table(self) -> dict[str, Operation]:
        """For the server: the configured users steer boxes; only root and the own user may have servers certified."""
        console = Allow(users=self._config.admin_users)
        steering = {
            "boxes": self.boxes,
            "show": self.show,
            "import": self.import_,
            "release": self.release,
            "revoke": self.revoke,
            "block": self.block,
            "unblock": self.unblock,
            "events": self.events,
            "unknown": self.unknown,
            "crl": self.crl,
            "status": self.status,
        }
        table = {name: Operation(handler, console) for name, handler in steering.items()}
        return table | {"issue-server": Operation(self.issue_server), "issue-client": Operation(self.issue_client)}

    async def boxes(self, _peer: Peer, params: Params) -> list[dict[str, Any]]:
        """All boxes by serial, a page at a time: {after?: serial, limit?}."""
        after, limit = _text(params, "after", 48, ""), _number(params, "limit", 1, PAGE_MAX, PAGE_MAX)
        rows = self._reader.execute(f"{_LISTED} WHERE b.serial > ? ORDER BY b.serial LIMIT ?", (after, limit))
        now = self._clock()
        return [_listed(row, now) for row in rows]

    async def show(self, _peer: Peer, params: Params) -> dict[str, Any]:
        """One box with its certificates and last events: {box} or {serial}."""
        box = records.box_named(self._reader, _name(params))
        [row] = self._reader.execute(f"{_LISTED} WHERE b.serial = ?", (box.serial,)).fetchall()
        certificates = self._reader.execute(
            "SELECT number, state, not_before, not_after, issued, revoked, reason FROM certificates WHERE serial = ? "
            "ORDER BY issued DESC, rowid DESC LIMIT 100",
            (box.serial,),
        )
        events = self._reader.execute(
            "SELECT * FROM events WHERE serial = ? ORDER BY id DESC LIMIT 100", (box.serial,)
        ).fetchall()
        return _listed(row, self._clock()) | {
            "public": box.public.hex(),
            "certificates": [dict(certificate) for certificate in certificates],
            "events": [_event(event) for event in events],
        }

    async def import_(self, _peer: Peer, params: Params) -> dict[str, Any]:
        """{register: text, name?: what to call it in errors, new?: bool}."""
        text = _text(params, "register", 64 << 20)
        where, new = _text(params, "name", 200, "register"), bool(params.get("new", False))
        operators = read_operators(self._config.operators)
        now = int(self._clock())
        domain = self._config.domain
        done = await self._writer.run(
            lambda db: import_register(db, text.encode(), operators, domain, where, now, new=new)
        )
        return asdict(done)

    async def release(self, _peer: Peer, params: Params) -> dict[str, Any]:
        """{serial|box, operator, note}: lets a serial enrol once without the right join state, and lifts any block."""
        name, operator, note = _name(params), _text(params, "operator", 64), _text(params, "note", 500, "")
        now = int(self._clock())

        def change(db: sqlite3.Connection) -> dict[str, Any]:
            box = records.box_named(db, name)
            was = box.record.block.value
            records.keep(db, box.serial, replace(box.record, block=Block.NONE, released=True))
            db.execute("UPDATE boxes SET block_note = '', conflict = 0 WHERE serial = ?", (box.serial,))
            detail = {"operator": operator, "note": note, "was": was}
            records.event(db, now, "released", box.serial, box.box, detail)
            return {"serial": box.serial, "box": box.box, "was": was}

        return await self._changed(change)

    async def revoke(self, _peer: Peer, params: Params) -> dict[str, Any]:
        """{box|serial, operator, reason}: revokes its certificates, blocks it. The list is out when this answers."""
        name, operator, reason = _name(params), _text(params, "operator", 64), _text(params, "reason", 500, "")
        now = int(self._clock())

        def change(db: sqlite3.Connection) -> dict[str, Any]:
            box = records.box_named(db, name)
            # A quarantine or a decommission stays what it is: it needs another decision to be lifted.
            block = box.record.block if box.record.block in (Block.CLONE, Block.DECOMMISSIONED) else Block.REVOKED
            numbers = self._service.block(db, box, block, reason, now, "privilege_withdrawn")
            detail = {"operator": operator, "reason": reason, "cert_serials": numbers}
            records.event(db, now, "revoked", box.serial, box.box, detail)
            return {"serial": box.serial, "box": box.box, "cert_serials": numbers}

        return await self._changed(change)

    async def block(self, _peer: Peer, params: Params) -> dict[str, Any]:
        """The box may not speak until unblocked; its certificates stay: {serial|box, operator, note}."""
        return await self._set_block(params, "blocked", Block.OPERATOR, {Block.NONE, Block.OPERATOR})

    async def unblock(self, _peer: Peer, params: Params) -> dict[str, Any]:
        """Lifts `block` or `revoke` (the box then enrols again by itself): {serial|box, operator, note}."""
        return await self._set_block(params, "unblocked", Block.NONE, {Block.NONE, Block.OPERATOR, Block.REVOKED})

    async def events(self, _peer: Peer, params: Params) -> list[dict[str, Any]]:
        """The log from an id on: {after, limit}."""
        after, limit = _number(params, "after", 0, 2**53, 0), _number(params, "limit", 1, PAGE_MAX, 1000)
        rows = self._reader.execute("SELECT * FROM events WHERE id > ? ORDER BY id LIMIT ?", (after, limit))
        return [_event(row) for row in rows]

    async def unknown(self, _peer: Peer, params: Params) -> list[dict[str, Any]]:
        """Serials refused before anything was proven, last seen first: {limit}."""
        await self._writer.run(lambda db: self._attempts.flush(db, int(self._clock())))
        limit = _number(params, "limit", 1, records.ATTEMPTS_MAX, 200)
        rows = self._reader.execute("SELECT * FROM attempts ORDER BY last DESC LIMIT ?", (limit,))
        return [dict(row) for row in rows]

    async def crl(self, _peer: Peer, _params: Params) -> str:
        """Publishes the revocation lists and returns them in PEM."""
        return (await self._publisher.publish()).decode()

    async def status(self, _peer: Peer, _params: Params) -> dict[str, Any]:
        """Counts, and when keys and lists end."""
        now = int(self._clock())
        [counts] = self._reader.execute(
            "SELECT count(*) AS boxes, coalesce(sum(seq > 0), 0) AS enrolled, "
            "coalesce(sum(block != ''), 0) AS blocked, "
            "coalesce(sum(block = 'clone'), 0) AS clones, coalesce(sum(conflict > 0), 0) AS conflicts FROM boxes"
        )
        certificates = self._reader.execute(
            "SELECT state, count(*) AS n FROM certificates WHERE not_after >= ? GROUP BY state", (now,)
        )
        [last] = self._reader.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        ca = self._service.ca
        issuers = [*ca.issuing, *ca.servers, *ca.challenge]
        return dict(counts) | {
            "now": now,
            "certificates": {row["state"]: row["n"] for row in certificates},
            "event": last,
            "refused": self._attempts.total,
            "crl_number": int(records.fact(self._reader, "crl_number", "0")),
            "keys": [{"name": issuer.name, "not_after": _end(issuer.certificate)} for issuer in issuers],
            "roots": [
                {"fingerprint": root.fingerprint(hashes.SHA256()).hex(), "not_after": _end(root)} for root in ca.roots
            ],
        }

    async def issue_server(self, peer: Peer, params: Params) -> dict[str, Any]:
        """{names, csr: base64 DER, days?}: a server's certificate for the CSR's key, and none of its names."""
        names = params.get("names")
        if not isinstance(names, list) or not 0 < len(names) <= 20 or not all(isinstance(n, str) for n in names):
            raise UsageError("names: 1 to 20 names are expected")
        life = timedelta(days=_number(params, "days", 1, profiles.SERVER_LIFE_MAX.days, profiles.SERVER_LIFE.days))
        now = int(self._clock())
        when = datetime.fromtimestamp(now, UTC)
        issuer = self._service.ca.current("servers", when)
        made = profiles.server(csr_public_key(_csr(params)), names, issuer, when, life)
        detail = {"names": names, "operator": peer.name, "cert_serial": f"{made.serial_number:x}"}
        await self._writer.run(lambda db: records.event(db, now, "server", "", "", detail))
        return {"chain": pem([made, issuer.certificate]).decode()}

    async def issue_client(self, peer: Peer, params: Params) -> dict[str, Any]:
        """The department's MQTT client, for the key of a request: {csr: base64 DER}."""
        public = csr_public_key(_csr(params))
        now = int(self._clock())
        when = datetime.fromtimestamp(now, UTC)
        issuer = self._service.ca.current("issuing", when)
        made = profiles.department_client(public, issuer, when)
        digest = hashlib.sha256(spki(public)).digest()

        def change(db: sqlite3.Connection) -> None:
            name = profiles.DEPARTMENT_CN
            held = records.add_certificate(db, made, serial=None, box=name, key=digest, state="active", now=now)
            detail = {"names": [name], "operator": peer.name, "cert_serial": held.number}
            records.event(db, now, "server", "", "", detail)

        await self._writer.run(change)
        return {"chain": pem([made, issuer.certificate]).decode()}

    async def _set_block(self, params: Params, kind: str, block: Block, allowed: set[Block]) -> dict[str, Any]:
        name, operator, note = _name(params), _text(params, "operator", 64), _text(params, "note", 500, "")
        now = int(self._clock())

        def change(db: sqlite3.Connection) -> dict[str, Any]:
            box = records.box_named(db, name)
            was = box.record.block
            if was not in allowed:
                raise StateError(f"{box.serial} is blocked for another reason ({was}); `release` decides about it")
            records.keep(db, box.serial, replace(box.record, block=block))
            db.execute("UPDATE boxes SET block_note = ? WHERE serial = ?", (note if block else "", box.serial))
            records.event(db, now, kind, box.serial, box.box, {"operator": operator, "note": note, "was": was.value})
            return {"serial": box.serial, "box": box.box, "was": was.value}

        return await self._changed(change)

    async def _changed(self, change: Callable[[sqlite3.Connection], dict[str, Any]]) -> dict[str, Any]:
        """A change of who may speak: the lists are out before the answer."""
        result = await self._writer.run(change)
        try:
            await self._publisher.publish()
        except ProvisioningError as e:
            self._publisher.wanted(Publish.NOW)
            raise StateError(f"it was done, but the revocation lists are not out yet and are tried again: {e}") from e
        return result


def _listed(row: sqlite3.Row, now: float) -> dict[str, Any]:
    """A box with one word for its state."""
    box = dict(row)
    if box["block"]:
        state = "quarantined" if box["block"] == "clone" else box["block"]
        state = "blocked" if state == "operator" else state
    elif (box["active_until"] or 0) >= now:
        state = "active"
    elif (box["pending_until"] or 0) >= now:
        state = "pending"
    else:
        state = "expected" if box["seq"] == 0 else "lapsed"
    box["released"] = bool(box["released"])
    return box | {"state": state}


def _end(certificate: x509.Certificate) -> int:
    return int(certificate.not_valid_after_utc.timestamp())


def _event(row: sqlite3.Row) -> dict[str, Any]:
    return dict(row) | {"detail": json.loads(row["detail"])}


def _text(params: Params, name: str, most: int, default: str | None = None) -> str:
    value = params.get(name, default)
    if not isinstance(value, str) or len(value) > most or (default is None and not value):
        raise UsageError(f"{name}: a text of at most {most} characters is expected")
    return value


def _number(params: Params, name: str, low: int, high: int, default: int) -> int:
    value = params.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name}: a whole number from {low} to {high} is expected")
    return value


def _name(params: Params) -> str:
    """`serial` or `box`, whichever is given."""
    return _text(params, "serial" if params.get("serial") else "box", 64)


def _csr(params: Params) -> bytes:
    text = re.sub(r"\s", "", _text(params, "csr", 16_384))
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as e:
        raise UsageError("csr: base64 of a certificate request's DER is expected") from e
