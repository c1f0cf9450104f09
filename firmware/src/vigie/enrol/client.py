"""The steps of enrolment as conversations with the authority: files and answers in, events of the machine out."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from vigie import __version__
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
    JoinState,
    Meta,
    Purpose,
    Refusal,
    RenewRequest,
    attestation,
    farewell,
    possession,
)
from vigie.contract.errors import ContractError
from vigie.contract.identity import UNREADABLE
from vigie.contract.signed import Signed
from vigie.enrol import chains, identity
from vigie.enrol import events as on
from vigie.enrol.codes import Code
from vigie.enrol.credentials import CHAIN, KEY
from vigie.enrol.errors import ChainError, EnrolError, IdentityError
from vigie.enrol.events import Event, Failed, Refused
from vigie.enrol.identity import Identity
from vigie.enrol.store import Pending, Store
from vigie.enrol.transport import Answer, ClientKey, Transport, TransportError, portal, reachable
from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig
from vigie.host.files import DiskFull, read_small
from vigie.host.trusted_clock import ClockError, TrustedClock

_UNUSABLE: Final[tuple[type[Exception], ...]] = (TypeError, *UNREADABLE)

log = logging.getLogger("vigie.enrol")

_WHY = {
    EnrolCode.REFUSED: "refused",
    EnrolCode.CONFLICT: "conflict",
    EnrolCode.CLONE: "clone",
    EnrolCode.WAIT: "wait",
    EnrolCode.BUSY: "busy",
    EnrolCode.CHALLENGE: "challenge",
    EnrolCode.MALFORMED: "malformed",
}
_STATUS = {202: {"wait"}, 400: {"malformed", "challenge"}, 403: {"refused"}, 409: {"conflict", "clone"}}


@dataclass(frozen=True, slots=True)
class _Open:
    """A challenge that was answered, to be used once."""

    challenge: Challenge
    dev_nonce: str


class Client:
    """One box's conversations. Each method returns one event; network and disk never make it raise."""

    def __init__(self, config: BoxConfig, clock: TrustedClock, store: Store, transport: Transport) -> None:
        self._config = config
        self._clock = clock
        self._store = store
        self._transport = transport
        self._open: _Open | None = None
        self._reply: EnrolReply | None = None
        self.notes: tuple[Code, ...] = ()

    # -- steps

    def challenge(self) -> Event:
        """Asks for a challenge, checks who signed it, takes over its time."""
        return self._guard(self._challenge)

    def prepare(self) -> Event:
        """A key and its CSR on disk."""

        def work() -> Event:
            self._store.prepare(self._identity().box_id)
            return on.Prepared()

        return self._guard(work)

    def enrol(self) -> Event:
        """Asks for a certificate with the identity key."""
        return self._guard(self._enrol)

    def renew(self) -> Event:
        """Asks for a certificate with the one in force."""
        return self._guard(self._renew)

    def keep(self) -> Event:
        """The reply in memory, else the one on disk: on disk, with its join state."""

        def work() -> Event:
            reply = self._reply or self._store.granted()
            if reply is None:
                return Failed(Code.DISK_FULL, "the granted certificate cannot be read back")
            life = self._store.keep(reply)
            self._reply = None
            return on.Kept(life)

        return self._guard(work)

    def confirm(self) -> Event:
        """Tells the authority, with the new certificate, that it is on disk."""
        return self._guard(self._confirm)

    def install(self) -> Event:
        """The new set in force, its ports in the order in which they work."""

        def work() -> Event:
            reply = self._store.granted()
            if reply is None:
                return Failed(Code.DISK_FULL, "the confirmed certificate cannot be read back")
            folder = self._config.paths.enrol / "pending"
            ports = self._order(reply.mqtt_host, reply.mqtt_ports, ClientKey(folder / CHAIN, folder / KEY))
            return on.Installed(self._store.install(self._identity().box_id, reply, ports))

        return self._guard(work)

    def forget(self) -> Event:
        """Gives up what is pending."""

        def work() -> Event:
            self._reply = None
            self._store.forget()
            return on.Forgotten()

        return self._guard(work)

    def leave(self) -> Event:
        """Tells the authority that the box leaves the fleet, with the identity key: no certificate is needed."""
        return self._guard(self._leave)

    def erase(self) -> Event:
        """Erases keys and certificates."""

        def work() -> Event:
            self._store.erase()
            return on.Erased()

        return self._guard(work)

    def order_ports(self) -> None:
        """Looks again at which of the broker's ports work, for the set in force. Called with the daily signed time."""
        try:
            self._store.reorder(self._order)
        except (EnrolError, HostError) as e:
            log.warning("%s", e)

    # -- conversations

    def _challenge(self) -> Event:
        box = self._identity()
        nonce = secrets.token_hex(32)
        answer = self._transport.post(
            "challenge", lambda _spki: ChallengeRequest(box.serial, box.model, nonce).to_bytes()
        )
        if answer.status != 200:
            return self._refusal(answer)
        reply = ChallengeReply.from_bytes(answer.body)
        key, path = chains.challenge_key(reply.chain, chains.load_roots(self._config.paths.roots))
        challenge = Challenge.verify(reply.challenge, key, nonce)
        chains.check_time(path, challenge.time)
        self._clock.adopt(challenge.time)
        self._store.keep_challenge_chain(reply.chain)
        self._open = _Open(challenge, nonce)
        return on.Challenged()

    def _enrol(self) -> Event:
        opened, self._open = self._open, None
        if opened is None:
            return Refused("challenge")
        box, pending = self._identity(), self._pending()
        state = identity.join_state(self._config.paths.identity)
        meta = Meta(box.model, __version__, box.image)

        def body(server_spki: bytes) -> bytes:
            statement = attestation(
                sid=opened.challenge.sid,
                srv_nonce=opened.challenge.srv_nonce,
                dev_nonce=opened.dev_nonce,
                csr=pending.csr,
                server_spki=server_spki,
                software=meta.software,
                join_state=state,
            )
            return EnrolRequest(
                opened.challenge.sid, pending.csr, state, meta, box.key.sign(statement)
            ).to_bytes()  # fmt: skip

        return self._grant(self._twice("enrol", body), box, pending)

    def _renew(self) -> Event:
        box, pending = self._identity(), self._pending()
        state = identity.join_state(self._config.paths.identity)
        folder = self._config.paths.enrol / "current"
        own = _read(folder / CHAIN, folder / KEY)
        if state is None or own is None:
            return Refused("refused")  # without a join state, or a key, only the identity can speak for this box
        certificate, key = own
        statement = possession(Purpose.RENEW, certificate, pending.csr, state)
        body = RenewRequest(pending.csr, state, _sign(key, statement)).to_bytes()
        answer = self._twice("renew", lambda _spki: body, ClientKey(folder / CHAIN, folder / KEY))
        return self._grant(answer, box, pending)

    def _grant(self, answer: Answer, box: Identity, pending: Pending) -> Event:
        """Checks what was granted before anything of it is kept."""
        if answer.status != 200:
            return self._refusal(answer)
        reply = EnrolReply.from_bytes(answer.body)
        roots = chains.load_roots(self._config.paths.roots)
        chains.check_operational(reply.chain, roots, pending.key.public_key(), box.box_id, self._clock.now())
        self._check_join_state(reply.join_state, box)
        self._reply = reply
        return on.Granted()

    def _check_join_state(self, state: Signed, box: Identity) -> None:
        """A join state that the authority did not sign would make the next enrolment a conflict. Its key may have
        changed since the last challenge."""
        roots = chains.load_roots(self._config.paths.roots)
        try:
            key, _path = chains.challenge_key(self._store.challenge_chain(), roots)
            found = JoinState.verify(state, key)
        except (ContractError, ChainError):
            self._challenge()
            key, _path = chains.challenge_key(self._store.challenge_chain(), roots)
            found = JoinState.verify(state, key)
        if (found.serial, found.box) != (box.serial, box.box_id):
            raise ChainError(f"the join state is for {found.serial} {found.box}, not for this box")

    def _confirm(self) -> Event:
        folder = self._config.paths.enrol / "pending"
        own = _read(folder / CHAIN, folder / KEY)
        if own is None:
            return Failed(Code.DISK_FULL, "the granted certificate cannot be read back")
        certificate, key = own
        number = f"{x509.load_der_x509_certificate(certificate).serial_number:x}"
        body = ConfirmRequest(number, _sign(key, possession(Purpose.CONFIRM, certificate))).to_bytes()
        answer = self._twice("confirm", lambda _spki: body, ClientKey(folder / CHAIN, folder / KEY))
        if answer.status != 200:
            return self._refusal(answer)
        if ConfirmReply.from_bytes(answer.body).state != "active":
            return Failed(Code.PROTOCOL, "the authority confirms something else")
        return on.Confirmed()

    def _leave(self) -> Event:
        identity.set_leaving(self._config.paths.identity, "asked")
        event = self._challenge()
        opened, self._open = self._open, None
        if opened is None or not isinstance(event, on.Challenged):
            return event
        box = self._identity()

        def body(server_spki: bytes) -> bytes:
            statement = farewell(
                sid=opened.challenge.sid,
                srv_nonce=opened.challenge.srv_nonce,
                dev_nonce=opened.dev_nonce,
                server_spki=server_spki,
            )
            return DecommissionRequest(box.key.sign(statement), opened.challenge.sid).to_bytes()

        answer = self._twice("decommission", body)
        if answer.status != 200:
            return self._refusal(answer)
        if ConfirmReply.from_bytes(answer.body).state != "decommissioned":
            return Failed(Code.PROTOCOL, "the authority answers something else than decommissioned")
        return on.Told()

    # -- what they share

    def _identity(self) -> Identity:
        return identity.load(self._config.paths.identity)

    def _pending(self) -> Pending:
        pending = self._store.pending()
        if pending is None:
            raise HostError("the prepared request cannot be read back")
        return pending

    def _twice(self, name: str, body: Callable[[bytes], bytes], client: ClientKey | None = None) -> Answer:
        """A request whose answer may have been lost is repeated once, as it was, before the machine waits."""
        try:
            return self._transport.post(name, body, client)
        except TransportError as e:
            if e.code is not Code.AUTHORITY_DOWN:
                raise
            log.info("/v1/%s: %s; once more", name, e)
            return self._transport.post(name, body, client)

    def _refusal(self, answer: Answer) -> Event:
        """What an answer other than 200 means. Only a body of the authority's own can refuse the box for hours."""
        try:
            refusal = Refusal.from_bytes(answer.body)
        except ContractError:
            if answer.status == 429 or answer.status >= 500:
                return Refused("busy", answer.retry_after_s)
            return Failed(Code.PROTOCOL, f"HTTP {answer.status}, not from the authority", answer.retry_after_s)
        why = _WHY[refusal.code]
        if answer.status == 429 or answer.status >= 500:
            why = "busy"
        elif why not in _STATUS.get(answer.status, ()):
            return Failed(Code.PROTOCOL, f"HTTP {answer.status} with `{why}`")
        return Refused(why, max(answer.retry_after_s, refusal.retry_after_s))  # type: ignore[arg-type]  # words of _WHY

    def _guard(self, work: Callable[[], Event]) -> Event:
        """Runs a step; whatever goes wrong is one of the coded reasons."""
        try:
            return work()
        except TransportError as e:
            return self._located(e)
        except ClockError as e:
            return Failed(Code.CLOCK, str(e))
        except DiskFull as e:
            return Failed(Code.DISK_FULL, str(e))
        except IdentityError as e:
            return Failed(Code.IDENTITY, str(e))
        except (ContractError, ChainError) as e:
            return Failed(Code.PROTOCOL, str(e))
        except HostError as e:
            return Failed(Code.DISK_FULL, str(e))
        except EnrolError as e:
            return Failed(Code.SERVER_KEY, str(e))

    def _located(self, error: TransportError) -> Event:
        """A failure at the line, told from a portal's."""
        if error.code in (Code.SERVER_KEY, Code.AUTHORITY_DOWN) and not self._config.proxy:
            said = portal(self._config)
            if said:
                return Failed(Code.PORTAL, f"port 80 of {self._config.enrol_host} answers {said}")
        return Failed(error.code, str(error))

    def _order(self, host: str, ports: tuple[int, ...], key: ClientKey) -> tuple[int, ...]:
        """The broker's ports, those that work first; as they are when none does (the broker may be down)."""
        if self._config.proxy:
            return ports
        works = [port for port in ports if reachable(self._config, host, port, key)]
        blocked = [port for port in ports if port not in works]
        self.notes = (Code.MQTT_BLOCKED,) if works and works[0] != ports[0] else ()
        return (*works, *blocked) if works else ports


def _read(chain: Path, key: Path) -> tuple[bytes, ec.EllipticCurvePrivateKey] | None:
    """(DER of the first certificate, key) of a set; None when it cannot be read."""
    pem, key_pem = read_small(chain), read_small(key)
    if pem is None or key_pem is None:
        return None
    try:
        certificate = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        loaded = load_pem_private_key(key_pem, None)
    except _UNUSABLE:
        return None
    return (certificate, loaded) if isinstance(loaded, ec.EllipticCurvePrivateKey) else None


def _sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))
