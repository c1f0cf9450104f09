"""What each request of a box is worth: proofs are checked here, changes are made by `Service` in the writer's thread.

Nothing in this module knows HTTP beyond a status. A refusal of an unknown serial, of a blocked one and of a wrong
signature have the same bytes, cost the same work (a signature is checked against a key that nobody has) and leave at
the same moment: at a multiple of QUANTUM_S after the request came.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from vigie.contract import enrolment
from vigie.contract.enrolment import (
    Challenge,
    ChallengeReply,
    ChallengeRequest,
    ConfirmReply,
    ConfirmRequest,
    DecommissionRequest,
    EnrolCode,
    EnrolReply,
    EnrolRequest,
    Purpose,
    Refusal,
    RenewRequest,
)
from vigie.contract.errors import MessageError
from vigie_provisioning.authority import proofs, records
from vigie_provisioning.authority.attempts import Attempts
from vigie_provisioning.authority.ca import pem
from vigie_provisioning.authority.checks import csr_public_key, load_public, p256
from vigie_provisioning.authority.config import Config
from vigie_provisioning.authority.limits import Buckets, source_of
from vigie_provisioning.authority.profiles import new_key
from vigie_provisioning.authority.records import Held
from vigie_provisioning.authority.service import Granted, Publish, Refused, Service, Wish, usable
from vigie_provisioning.authority.token import Ticket, Tickets, derived_key
from vigie_provisioning.authority.writer import Writer
from vigie_provisioning.errors import BusyError, CaError, ProvisioningError

log = logging.getLogger("vigie.authority")

QUANTUM_S = 0.05
SOURCES_MAX = 20_000
SERIALS_MAX = 20_000
_STATUS = {
    EnrolCode.REFUSED: 403,
    EnrolCode.CONFLICT: 409,
    EnrolCode.CLONE: 409,
    EnrolCode.BUSY: 429,
    EnrolCode.CHALLENGE: 400,
    EnrolCode.MALFORMED: 400,
}
_RETRY_S = {EnrolCode.REFUSED: 6 * 3600, EnrolCode.CONFLICT: 3600, EnrolCode.CLONE: 6 * 3600}


@dataclass(slots=True, frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    retry_after_s: int = 0


@dataclass(slots=True, frozen=True)
class Call:
    """A request as it came. verify, certificate: what nginx says of the client's certificate; source: its address."""

    body: bytes
    source: str = ""
    verify: str = "NONE"
    certificate: str = ""


Handler = Callable[[Call], Awaitable[Answer]]


class Front:
    """The five requests. Lives on one event loop; `reader` belongs to its thread."""

    def __init__(
        self,
        config: Config,
        service: Service,
        writer: Writer,
        reader: sqlite3.Connection,
        attempts: Attempts,
        publish: Callable[[Publish], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._service = service
        self._writer = writer
        self._reader = reader
        self._attempts = attempts
        self._publish = publish
        self._clock = clock
        self._servers = proofs.ServerKeys(config.server_certificates)
        self._sources = Buckets(config.source_rate, config.source_burst, SOURCES_MAX)
        self._serials = Buckets(config.serial_rate, config.serial_burst, SERIALS_MAX)
        self._signers = tuple(p256(issuer.certificate.public_key()) for issuer in service.ca.challenge)
        self._nobody = new_key().public_key()
        self._tickets: dict[str, Tickets] = {}
        self._servers()

    async def challenge(self, call: Call) -> Answer:
        """Step 1. Looks up nothing and stores nothing."""
        now = int(self._clock())
        try:
            ask = ChallengeRequest.from_bytes(call.body)
        except MessageError:
            return refusal(EnrolCode.MALFORMED)
        issuer = self._service.ca.current("challenge", datetime.fromtimestamp(now, UTC))
        sid, ticket = self._tickets_of(issuer.name, now).issue(ask.serial, bytes.fromhex(ask.dev_nonce), now)
        life = enrolment.CHALLENGE_LIFE_S
        statement = Challenge(sid, ticket.srv_nonce.hex(), ask.dev_nonce, now, life).sign(issuer.key)
        return Answer(200, ChallengeReply(statement, (pem([issuer.certificate]).decode(),)).to_bytes())

    async def enrol(self, call: Call) -> Answer:
        """Step 2."""
        now = int(self._clock())
        try:
            ask = EnrolRequest.from_bytes(call.body)
            public = csr_public_key(ask.csr)
        except (MessageError, CaError):
            return refusal(EnrolCode.MALFORMED)
        ticket = self._ticket(ask.sid, now)
        if ticket is None:
            return refusal(EnrolCode.CHALLENGE)

        def message(server: bytes) -> bytes:
            return enrolment.attestation(
                sid=ask.sid,
                srv_nonce=ticket.srv_nonce.hex(),
                dev_nonce=ticket.dev_nonce.hex(),
                csr=ask.csr,
                server_spki=server,
                software=ask.meta.software,
                join_state=ask.join_state,
            )

        box = self._attested(ticket, ask.att, message, call.source)
        if box is None:
            return refusal(EnrolCode.REFUSED)
        wish = Wish(
            box.serial,
            proofs.shown(ask.join_state, self._signers, box),
            public,
            "enrolled",
            bytes.fromhex(ask.sid),
            ticket.time + enrolment.CHALLENGE_LIFE_S + 60,
            ask.meta.software,
        )
        return await self._grant(wish, now)

    async def confirm(self, call: Call) -> Answer:
        """Step 3."""
        now = int(self._clock())
        try:
            ask = ConfirmRequest.from_bytes(call.body)
        except MessageError:
            return refusal(EnrolCode.MALFORMED)
        found = self._client(call)
        if found is None:
            return refusal(EnrolCode.REFUSED)
        certificate, held = found
        message = enrolment.possession(Purpose.CONFIRM, _der(certificate))
        if ask.certificate != held.number or not proofs.signed(p256(certificate.public_key()), ask.att, message):
            return refusal(EnrolCode.REFUSED)
        done = await self._writer.run(lambda db: self._service.confirm(db, held.fingerprint, now))
        return self._done(done, "active")

    async def renew(self, call: Call) -> Answer:
        """Step 4."""
        now = int(self._clock())
        try:
            ask = RenewRequest.from_bytes(call.body)
            public = csr_public_key(ask.csr)
        except (MessageError, CaError):
            return refusal(EnrolCode.MALFORMED)
        found = self._client(call)
        if found is None:
            return refusal(EnrolCode.REFUSED)
        certificate, held = found
        message = enrolment.possession(Purpose.RENEW, _der(certificate), ask.csr, ask.join_state)
        box = records.box_by_serial(self._reader, held.serial) if held.serial is not None else None
        good = held.state == "active" and usable(held, now)
        if box is None or not good or not proofs.signed(p256(certificate.public_key()), ask.att, message):
            return refusal(EnrolCode.REFUSED)
        wish = Wish(box.serial, proofs.shown(ask.join_state, self._signers, box), public, "renewed")
        return await self._grant(wish, now)

    async def decommission(self, call: Call) -> Answer:
        """The box leaves, by its certificate or by its identity."""
        now = int(self._clock())
        try:
            ask = DecommissionRequest.from_bytes(call.body)
        except MessageError:
            return refusal(EnrolCode.MALFORMED)
        if ask.sid is None:
            serial = self._leaving_by_certificate(call, ask.att, now)
        else:
            ticket = self._ticket(ask.sid, now)
            if ticket is None:
                return refusal(EnrolCode.CHALLENGE)
            serial = self._leaving_by_identity(ask.sid, ticket, ask.att, call.source)
        if serial is None:
            return refusal(EnrolCode.REFUSED)
        done = await self._writer.run(lambda db: self._service.decommission(db, serial, now))
        return self._done(done, "decommissioned")

    async def answer(self, handler: Handler, call: Call) -> Answer:
        """One request under limits: what comes out is always an answer of the contract."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        wait = self._sources.wait(source_of(call.source), start)
        if wait:
            return busy(429, wait)
        try:
            answer = await handler(call)
        except BusyError:
            return busy(503, 5.0)
        except (ProvisioningError, sqlite3.Error) as e:
            log.error("%s", e)
            return busy(503, 60.0)
        if answer.status == 403:
            elapsed = loop.time() - start
            await asyncio.sleep(math.ceil(elapsed / QUANTUM_S) * QUANTUM_S - elapsed)
        return answer

    def _attested(
        self, ticket: Ticket, att: bytes, message: Callable[[bytes], bytes], source: str
    ) -> records.Box | None:
        """The box of a ticket when its identity key signed; the same work when there is none."""
        box = records.box_by_serial(self._reader, ticket.serial)
        key = self._nobody if box is None else load_public(box.public)
        if proofs.signed_for_one(key, att, message, self._servers()) and box is not None:
            return box
        self._attempts.note(ticket.serial, "unknown" if box is None else "signature", source)
        return None

    def _client(self, call: Call) -> tuple[x509.Certificate, Held] | None:
        """The certificate that nginx verified, when it is, byte for byte, one that we issued to a box."""
        certificate = proofs.client_certificate(call.verify, call.certificate)
        if certificate is None:
            return None
        held = records.certificate(self._reader, records.fingerprint_of(certificate))
        return None if held is None else (certificate, held)

    def _leaving_by_certificate(self, call: Call, att: bytes, now: int) -> str | None:
        found = self._client(call)
        if found is None:
            return None
        certificate, held = found
        message = enrolment.possession(Purpose.DECOMMISSION, _der(certificate))
        told = held.reason == "cessation_of_operation"  # asked before; the reply was lost
        if not (told or usable(held, now)) or not proofs.signed(p256(certificate.public_key()), att, message):
            return None
        return held.serial

    def _leaving_by_identity(self, sid: str, ticket: Ticket, att: bytes, source: str) -> str | None:
        def message(server: bytes) -> bytes:
            nonces = {"srv_nonce": ticket.srv_nonce.hex(), "dev_nonce": ticket.dev_nonce.hex()}
            return enrolment.farewell(sid=sid, server_spki=server, **nonces)

        box = self._attested(ticket, att, message, source)
        return None if box is None else box.serial

    async def _grant(self, wish: Wish, now: int) -> Answer:
        wait = self._serials.wait(wish.serial, asyncio.get_running_loop().time())
        if wait:
            return busy(429, wait)
        done = await self._writer.run(lambda db: self._service.grant(db, wish, now))
        if isinstance(done, Refused):
            log.info("%s: %s (%s)", wish.serial, done.code, done.why)
            self._publish(done.publish)
            return refusal(done.code)
        return self._granted(done)

    def _granted(self, done: Granted) -> Answer:
        self._publish(done.publish)
        reply = EnrolReply(done.chain, self._config.mqtt_host, self._config.mqtt_ports, done.join_state)
        return Answer(200, reply.to_bytes())

    def _done(self, done: Refused | Publish, state: str) -> Answer:
        if isinstance(done, Refused):
            return refusal(done.code)
        self._publish(done)
        return Answer(200, ConfirmReply(state).to_bytes())

    def _ticket(self, sid: str, now: int) -> Ticket | None:
        """What a challenge's id holds, whichever of our challenge keys made it."""
        for issuer in reversed(self._service.ca.challenge):
            ticket = self._tickets_of(issuer.name, now).read(sid, now)
            if ticket is not None:
                return ticket
        return None

    def _tickets_of(self, name: str, now: int) -> Tickets:
        tickets = self._tickets.get(name)
        if tickets is None:
            key = next(issuer.key for issuer in self._service.ca.challenge if issuer.name == name)
            tickets = self._tickets[name] = Tickets(derived_key(key), enrolment.CHALLENGE_LIFE_S)
        return tickets


def refusal(code: EnrolCode) -> Answer:
    """A refusal of the contract."""
    retry = _RETRY_S.get(code, 0)
    return Answer(_STATUS[code], Refusal(code, retry).to_bytes(), retry)


def busy(status: int, wait_s: float) -> Answer:
    """Not now. Spread, so that those who were sent away do not come back together."""
    retry = math.ceil(wait_s) + secrets.randbelow(1 + math.ceil(wait_s))
    return Answer(status, Refusal(EnrolCode.BUSY, retry).to_bytes(), retry)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)
