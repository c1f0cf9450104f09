"""A box that enrols, without I/O: it makes the requests and takes the answers. For tests and benchmarks.

It is written from `vigie.contract` alone, apart from the product's own box side, so that a mistake there does not hide.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from vigie.contract import enrolment
from vigie.contract.enrolment import (
    Challenge,
    ChallengeReply,
    ChallengeRequest,
    ConfirmRequest,
    DecommissionRequest,
    EnrolReply,
    EnrolRequest,
    Meta,
    Purpose,
    RenewRequest,
)
from vigie.contract.identity import EKU_CHALLENGE, box_id
from vigie.contract.signed import Signed

DER, PEM = serialization.Encoding.DER, serialization.Encoding.PEM


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def public_der(key: ec.EllipticCurvePrivateKey | x509.Certificate) -> bytes:
    public = key.public_key()
    return public.public_bytes(DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def csr_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(DER)


@dataclass(slots=True)
class Credentials:
    """An operational key and its chain."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[str, ...]

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.chain[0].encode())

    @property
    def number(self) -> str:
        return f"{self.certificate.serial_number:x}"

    def key_pem(self) -> bytes:
        plain = serialization.NoEncryption()
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain)

    def possession(self, purpose: Purpose, csr: bytes = b"", state: Signed | None = None) -> bytes:
        return sign(self.key, enrolment.possession(purpose, self.certificate.public_bytes(DER), csr, state))


@dataclass(slots=True)
class SimBox:
    """`spki`: DER of the server's key as the box sees it. `pending`: the new key, until its certificate is there."""

    serial: str
    spki: bytes
    identity: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    join_state: Signed | None = None
    credentials: Credentials | None = None
    pending: ec.EllipticCurvePrivateKey | None = None
    dev_nonce: str = ""
    challenge: Challenge | None = None

    @property
    def box(self) -> str:
        return box_id(public_der(self.identity))

    def copy(self) -> SimBox:
        """A clone: everything on the disk."""
        return SimBox(self.serial, self.spki, self.identity, self.join_state, self.credentials, self.pending)

    def ask_challenge(self) -> bytes:
        self.dev_nonce = secrets.token_hex(32)
        return ChallengeRequest(self.serial, "cm4", self.dev_nonce).to_bytes()

    def take_challenge(self, data: bytes) -> Challenge:
        reply = ChallengeReply.from_bytes(data)
        certificate = x509.load_pem_x509_certificate(reply.chain[0].encode())
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [usage.dotted_string for usage in purposes] == [EKU_CHALLENGE]
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        self.challenge = Challenge.verify(reply.challenge, public, self.dev_nonce)
        return self.challenge

    def ask_enrol(self, *, fresh: bool = False, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
        """A request for the challenge taken last, with the pending key (made when there is none, or `fresh`)."""
        if self.pending is None or fresh:
            self.pending = new_key()
        challenge = self.challenge
        assert challenge is not None
        csr = csr_of(self.pending)
        message = enrolment.attestation(
            sid=challenge.sid,
            srv_nonce=challenge.srv_nonce,
            dev_nonce=self.dev_nonce,
            csr=csr,
            server_spki=self.spki,
            software="1.0.0",
            join_state=self.join_state,
        )
        att = sign(key or self.identity, message)
        return EnrolRequest(challenge.sid, csr, self.join_state, Meta("cm4", "1.0.0", ""), att).to_bytes()

    def take_reply(self, data: bytes) -> EnrolReply:
        """Takes a certificate, for an enrolment or a renewal."""
        reply = EnrolReply.from_bytes(data)
        assert self.pending is not None
        credentials = Credentials(self.pending, reply.chain)
        assert public_der(credentials.certificate) == public_der(self.pending)
        self.credentials, self.join_state, self.pending = credentials, reply.join_state, None
        return reply

    def ask_confirm(self) -> bytes:
        held = self.credentials
        assert held is not None
        return ConfirmRequest(held.number, held.possession(Purpose.CONFIRM)).to_bytes()

    def ask_renew(self, *, fresh: bool = False) -> bytes:
        held, state = self.credentials, self.join_state
        assert held is not None
        assert state is not None
        if self.pending is None or fresh:
            self.pending = new_key()
        csr = csr_of(self.pending)
        return RenewRequest(csr, state, held.possession(Purpose.RENEW, csr, state)).to_bytes()

    def ask_decommission(self) -> bytes:
        held = self.credentials
        assert held is not None
        return DecommissionRequest(held.possession(Purpose.DECOMMISSION)).to_bytes()

    def ask_farewell(self) -> bytes:
        """To leave by the identity key, with the challenge taken last."""
        challenge = self.challenge
        assert challenge is not None
        message = enrolment.farewell(
            sid=challenge.sid, srv_nonce=challenge.srv_nonce, dev_nonce=self.dev_nonce, server_spki=self.spki
        )
        return DecommissionRequest(sign(self.identity, message), challenge.sid).to_bytes()
