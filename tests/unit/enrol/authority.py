"""An authority that implements `Transport.post`: real keys and bodies, no network, every answer can be spoilt."""

from __future__ import annotations

import datetime as dt
import json
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.unit.enrol import pki
from vigie.contract import enrolment as wire
from vigie.contract.identity import EKU_BOX, EKU_CHALLENGE, EKU_ISSUING, box_id, box_uri
from vigie.contract.signed import verify_es256
from vigie.enrol.codes import Code
from vigie.enrol.transport import Answer, Body, ClientKey, TransportError
from vigie.host.boxconfig import BoxConfig, EnrolIntervals, Intervals, Paths

CLIENT = "1.3.6.1.5.5.7.3.2"
SERIAL = "VG-2026-000042"
FAST = Intervals(EnrolIntervals(first_s=0.05, most_s=0.2, refused_s=60.0, connect_s=2.0, read_s=2.0))
ROOT = pki.issue("root", ca=True, path_length=1, start=pki.NOW - 400 * pki.DAY, end=pki.NOW + 7000 * pki.DAY)
ISSUING = pki.issue(
    "issuing", ROOT, ca=True, path_length=0, eku=(CLIENT, EKU_BOX, EKU_ISSUING), end=pki.NOW + 3000 * pki.DAY
)
CHALLENGE = pki.issue("challenge", ROOT, eku=(EKU_CHALLENGE,), end=pki.NOW + 1500 * pki.DAY)


def box(folder: Path, **fields: object) -> tuple[BoxConfig, ec.EllipticCurvePrivateKey]:
    """Configuration and identity of a box below `folder`, trusting ROOT."""
    paths = Paths(
        trust=folder / "trust",
        identity=folder / "identity",
        state=folder / "state",
        filter_socket=folder / "filter.sock",
        run=folder / "run",
    )
    for path in (paths.trust, paths.identity):
        path.mkdir(parents=True, exist_ok=True)
    paths.roots.write_bytes(ROOT.pem)
    key = ec.generate_private_key(ec.SECP256R1())
    (paths.identity / "identity.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (paths.identity / "box.json").write_text(
        json.dumps({"serial": SERIAL, "model": "vigie-cm4", "claim_id": "7K3D-M2QF-9TXA", "lot": "2026-1"})
    )
    config = BoxConfig("vigie.lab", set_clock=False, paths=paths, intervals=FAST, **fields)  # type: ignore[arg-type]
    return config, key


class Authority:
    """Answers as the contract says; a test replaces what it wants to be wrong."""

    def __init__(self, identity: ec.EllipticCurvePublicKey) -> None:
        self.identity = identity
        self.box = box_id(identity.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        self.now = int(pki.NOW.timestamp())
        self.challenge = CHALLENGE
        self.issuing = ISSUING
        self.server_spki = ROOT.spki
        self.seq = 0
        self.ports: tuple[int, ...] = (8883, 443)
        self.requests: list[tuple[str, bytes, ClientKey | None]] = []
        self.csrs: list[bytes] = []
        self.spoil: dict[str, Callable[[Answer], Answer]] = {}
        self.fail: dict[str, list[Code]] = {}
        self.sent_chain: Callable[[str], list[pki.Issued]] = lambda _what: []
        self.claims: dict[str, object] = {}
        self.join: dict[str, object] = {}
        self.open: wire.Challenge | None = None

    def post(self, name: str, body: Body, client: ClientKey | None = None) -> Answer:
        if self.fail.get(name):
            raise TransportError(self.fail[name].pop(0), "made to fail")
        data = body(self.server_spki)
        self.requests.append((name, data, client))
        answer = getattr(self, "_" + name)(data)
        return self.spoil.get(name, lambda a: a)(answer)

    def _challenge(self, data: bytes) -> Answer:
        request = wire.ChallengeRequest.from_bytes(data)
        assert (request.serial, request.model) == (SERIAL, "vigie-cm4")
        fields = {"sid": secrets.token_hex(16), "srv_nonce": secrets.token_hex(32), "dev_nonce": request.dev_nonce}
        made = wire.Challenge(**({**fields, "time": self.now, "exp": 120} | self.claims))  # type: ignore[arg-type]
        self.open = made
        reply = wire.ChallengeReply(made.sign(self.challenge.key), self._pems("challenge", self.challenge))
        return Answer(200, reply.to_bytes(), 0.0)

    def _enrol(self, data: bytes) -> Answer:
        request = wire.EnrolRequest.from_bytes(data)
        opened = self.open
        assert opened is not None and request.sid == opened.sid
        statement = wire.attestation(
            sid=opened.sid,
            srv_nonce=opened.srv_nonce,
            dev_nonce=opened.dev_nonce,
            csr=request.csr,
            server_spki=self.server_spki,
            software=request.meta.software,
            join_state=request.join_state,
        )
        verify_es256(self.identity, request.att, statement)
        return self._grant(request.csr)

    def _renew(self, data: bytes) -> Answer:
        return self._grant(wire.RenewRequest.from_bytes(data).csr)

    def _grant(self, csr: bytes) -> Answer:
        self.csrs.append(csr)
        public = x509.load_der_x509_csr(csr).public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        own = self.certify(public)
        self.seq += 1
        fields = {"serial": SERIAL, "box": self.box, "seq": self.seq, "issued": self.now} | self.join
        state = wire.JoinState(**fields).sign(self.challenge.key)  # type: ignore[arg-type]
        reply = wire.EnrolReply(self._pems("enrol", own, self.issuing), "mqtt.vigie.lab", self.ports, state)
        return Answer(200, reply.to_bytes(), 0.0)

    def certify(self, public: ec.EllipticCurvePublicKey) -> pki.Issued:
        """A box's certificate for a key."""
        start = dt.datetime.fromtimestamp(self.now, dt.UTC) - dt.timedelta(minutes=5)
        return pki.issue(
            self.box,
            self.issuing,
            eku=(CLIENT, EKU_BOX),
            san=(x509.UniformResourceIdentifier(box_uri(self.box)),),
            public=public,
            start=start,
            end=start + 90 * pki.DAY,
        )

    def _confirm(self, data: bytes) -> Answer:
        request = wire.ConfirmRequest.from_bytes(data)
        client = self.requests[-1][2]
        assert client is not None
        own = x509.load_pem_x509_certificates(client.chain.read_bytes())[0]
        assert request.certificate == f"{own.serial_number:x}"
        key = own.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        verify_es256(key, request.att, wire.possession(wire.Purpose.CONFIRM, own.public_bytes(Encoding.DER)))
        return Answer(200, wire.ConfirmReply("active").to_bytes(), 0.0)

    def _decommission(self, data: bytes) -> Answer:
        request, opened = wire.DecommissionRequest.from_bytes(data), self.open
        assert opened is not None and request.sid == opened.sid
        statement = wire.farewell(
            sid=opened.sid, srv_nonce=opened.srv_nonce, dev_nonce=opened.dev_nonce, server_spki=self.server_spki
        )
        verify_es256(self.identity, request.att, statement)
        return Answer(200, wire.ConfirmReply("decommissioned").to_bytes(), 0.0)

    def _pems(self, what: str, *issued: pki.Issued) -> tuple[str, ...]:
        return tuple(c.pem.decode() for c in (self.sent_chain(what) or issued))


def refusal(status: int, code: wire.EnrolCode, retry_after_s: int = 0) -> Callable[[Answer], Answer]:
    """Replaces an answer by a refusal."""
    return lambda _answer: Answer(status, wire.Refusal(code, retry_after_s).to_bytes(), 0.0)


def raw(status: int, body: bytes, retry_after_s: float = 0.0) -> Callable[[Answer], Answer]:
    """Replaces an answer by bytes."""
    return lambda _answer: Answer(status, body, retry_after_s)
