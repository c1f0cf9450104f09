"""What enrolment has on disk, and what it means after a crash.

    identity/  identity.key  box.json  join_state.json  decommission.json
    enrol/     pending/{operational.key, request.csr, reply.json, chain.pem}  current -> set-<n>  challenge.pem

`pending` is written in the order of its list, each file in one step: a key without a CSR is no request yet and is made
again; a CSR is a request that may have been sent; a reply is a certificate that may have been confirmed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from vigie.contract.enrolment import CHAIN_MAX, EnrolReply
from vigie.contract.errors import ContractError
from vigie.contract.identity import UNREADABLE
from vigie.enrol import chains, credentials, identity, layout
from vigie.enrol.credentials import CHAIN, KEY
from vigie.enrol.events import Lifetime, Memory
from vigie.enrol.transport import ClientKey
from vigie.errors import HostError
from vigie.host.boxconfig import Paths
from vigie.host.files import read_small, sync_folder, write_atomic

_UNUSABLE: Final[tuple[type[Exception], ...]] = (HostError, *UNREADABLE)

REQUEST: Final = "request.csr"
REPLY: Final = "reply.json"
CHALLENGE: Final = "challenge.pem"


@dataclass(frozen=True, slots=True)
class Pending:
    """A request: key, and the DER of its CSR."""

    key: ec.EllipticCurvePrivateKey
    csr: bytes


class Store:
    """The folders of one box. HostError (DiskFull) when a write fails; what was there before stays."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._pending = paths.enrol / "pending"

    def memory(self) -> Memory:
        """What the disk says at a start."""
        state = identity.leaving(self._paths.identity)
        return Memory(
            certificate=self.in_force(),
            reply=self._granted_life(),
            joined=identity.join_state(self._paths.identity) is not None,
            leaving=state == "asked",
            decommissioned=state == "done",
        )

    def in_force(self) -> Lifetime | None:
        """Life of the certificate in force, None when there is none that can be read."""
        folder = layout.current(self._paths)
        return None if folder is None else _life(folder / CHAIN)

    # -- pending

    def prepare(self, box: str) -> Pending:
        """The request that lies there, or a new one: a fresh key and its CSR, on disk before anybody sees them."""
        kept = self.pending()
        if kept is not None:
            return kept
        self.forget()
        key = ec.generate_private_key(ec.SECP256R1())
        write_atomic(self._pending / KEY, _pem(key), 0o600)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, box)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        csr = request.public_bytes(Encoding.DER)
        write_atomic(self._pending / REQUEST, csr)
        return Pending(key, csr)

    def pending(self) -> Pending | None:
        """The request on disk, None when there is none or it does not hold together."""
        pem, csr = read_small(self._pending / KEY), read_small(self._pending / REQUEST)
        if pem is None or csr is None:
            return None
        key = _key(pem)
        try:
            request = x509.load_der_x509_csr(csr)
        except UNREADABLE:
            return None
        if key is None or request.public_key() != key.public_key():
            return None
        return Pending(key, csr)

    def keep(self, reply: EnrolReply) -> Lifetime:
        """Reply and join state on disk, in this order."""
        write_atomic(self._pending / REPLY, reply.to_bytes())
        write_atomic(self._pending / CHAIN, "".join(reply.chain).encode())
        identity.keep_join_state(self._paths.identity, reply.join_state)
        life = _life(self._pending / CHAIN)
        if life is None:
            raise HostError(f"{self._pending / CHAIN}: cannot be read again after it was written")
        return life

    def granted(self) -> EnrolReply | None:
        """The reply on disk, None when there is none that can be read."""
        data = read_small(self._pending / REPLY)
        if data is None or self.pending() is None:
            return None
        try:
            return EnrolReply.from_bytes(data)
        except ContractError:
            return None

    def _granted_life(self) -> Lifetime | None:
        reply = self.granted()
        if reply is None:
            return None
        try:
            return chains.lifetime(x509.load_pem_x509_certificate(reply.chain[0].encode()))
        except UNREADABLE:
            return None

    def install(self, box: str, reply: EnrolReply, ports: tuple[int, ...]) -> Lifetime:
        """Puts the confirmed set in force, then clears what is pending."""
        pem, chain = read_small(self._pending / KEY), read_small(self._pending / CHAIN)
        if pem is None or chain is None:
            raise HostError(f"{self._pending}: the confirmed key is gone")
        layout.install(self._paths, box, pem, chain, reply.mqtt_host, ports)
        life = self.in_force()
        if life is None:
            raise HostError(f"{self._paths.enrol}: the set in force cannot be read")
        self.forget()
        return life

    def reorder(self, order: Callable[[str, tuple[int, ...], ClientKey], tuple[int, ...]]) -> None:
        """Lets `order` (host, ports, key) decide the order of the broker's ports of the set in force."""
        found = credentials.load(self._paths)
        ports = order(found.mqtt_host, found.mqtt_ports, ClientKey(found.cert_chain_path, found.key_path))
        if ports != found.mqtt_ports:
            layout.set_ports(self._paths, found.mqtt_host, ports)

    def forget(self) -> None:
        """Nothing is pending any more."""
        identity.overwrite(self._pending / KEY)
        try:
            shutil.rmtree(self._pending)
            sync_folder(self._paths.enrol)
        except FileNotFoundError:
            return
        except OSError as e:
            raise HostError(f"{self._pending}: cannot be removed ({e.strerror})") from e

    # -- the authority's signing key

    def keep_challenge_chain(self, chain: Sequence[str]) -> None:
        """Remembers which certificate signed the last challenge: join states are signed by it too."""
        data = "".join(chain).encode()
        if read_small(self._paths.enrol / CHALLENGE) != data:
            write_atomic(self._paths.enrol / CHALLENGE, data)

    def challenge_chain(self) -> tuple[str, ...]:
        """Certificates of the last challenge; () when there was none."""
        try:
            found = x509.load_pem_x509_certificates(read_small(self._paths.enrol / CHALLENGE) or b"")
        except UNREADABLE:
            return ()
        return tuple(c.public_bytes(Encoding.PEM).decode() for c in found[:CHAIN_MAX])

    # -- the end

    def erase(self) -> None:
        """Keys, certificates and the join state go; the partition says that the box has left."""
        identity.set_leaving(self._paths.identity, "asked")
        for folder in (layout.current(self._paths), self._pending):
            if folder is not None:
                identity.overwrite(folder / KEY)
        layout.withdraw(self._paths)
        self.forget()
        identity.erase(self._paths.identity)
        identity.set_leaving(self._paths.identity, "done")


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _key(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _life(path: Path) -> Lifetime | None:
    try:
        data = read_small(path)
        return None if data is None else chains.lifetime(x509.load_pem_x509_certificate(data))
    except _UNUSABLE:
        return None
