"""The certification authority: what each certificate carries, what is refused, rotation, loading."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vigie.contract.identity import EKU_BOX, EKU_CHALLENGE, EKU_ISSUING
from vigie_provisioning.authority import ca as authority
from vigie_provisioning.authority import checks, profiles
from vigie_provisioning.authority.ca import Ca, Places
from vigie_provisioning.errors import CaError, NotFoundError, UsageError

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BOX = "vg-abcdefghij234567"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "state", tmp_path / "public", tmp_path / "trust")


@pytest.fixture
def ca(places: Places, tmp_path: Path) -> Ca:
    return authority.create(places, tmp_path / "offline", domain="vigie.lab", organisation="Département", now=NOW)


def request(key: ec.EllipticCurvePrivateKey | None = None, name: str = "somebody else") -> bytes:
    key = key or profiles.new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def openssl(*argv: str) -> str:
    done = subprocess.run(["openssl", *argv], capture_output=True, text=True, timeout=20, check=False)
    return f"{done.returncode} {done.stdout}{done.stderr}"


def usage(certificate: x509.Certificate) -> x509.KeyUsage:
    extension = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert extension.critical
    return extension.value


def constraints(certificate: x509.Certificate) -> tuple[bool, int | None]:
    extension = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert extension.critical
    return extension.value.ca, extension.value.path_length


def test_roots(ca: Ca) -> None:
    assert len(ca.roots) == 2
    for root in ca.roots:
        assert constraints(root) == (True, 1)
        assert usage(root).key_cert_sign
        assert not usage(root).digital_signature
        assert timedelta(days=365 * 20) < root.not_valid_after_utc - NOW < timedelta(days=365 * 20 + 6)
        assert checks.purposes(root) == set()


@pytest.mark.parametrize(
    ("role", "is_ca", "purposes"),
    [
        ("issuing", (True, 0), {ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string, EKU_BOX, EKU_ISSUING}),
        ("servers", (True, 0), {ExtendedKeyUsageOID.SERVER_AUTH.dotted_string}),
        ("challenge", (False, None), {EKU_CHALLENGE}),
    ],
)
def test_what_the_root_signs(ca: Ca, role: str, is_ca: tuple[bool, int | None], purposes: set[str]) -> None:
    certificate = ca.current(role, NOW).certificate
    assert constraints(certificate) == is_ca
    assert checks.purposes(certificate) == purposes
    assert usage(certificate).key_cert_sign is is_ca[0]
    assert usage(certificate).digital_signature is not is_ca[0]
    assert checks.issued_by(certificate, ca.roots[0])
    assert not checks.issued_by(certificate, ca.roots[1])
    assert certificate.not_valid_after_utc < ca.roots[0].not_valid_after_utc


def test_a_boxs_certificate(ca: Ca) -> None:
    public = checks.csr_public_key(request())
    issuer = ca.current("issuing", NOW)
    certificate = profiles.box(public, BOX, issuer, NOW)
    assert certificate.subject.rfc4514_string() == f"CN={BOX}", "nothing of the request but its key"
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:vigie:box:{BOX}"]
    assert constraints(certificate) == (False, None)
    assert checks.purposes(certificate) == {ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string, EKU_BOX}
    assert certificate.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert certificate.not_valid_after_utc == NOW + timedelta(days=90)
    above = issuer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == above
    assert checks.spki(checks.p256(certificate.public_key())) == checks.spki(public)
    assert ca.chain(certificate) == (certificate, issuer.certificate)


def test_openssl_agrees(ca: Ca, places: Places, tmp_path: Path) -> None:
    """Chains, purposes and name constraints as the servers' library sees them."""
    issuing, servers = ca.current("issuing", NOW), ca.current("servers", NOW)
    key = profiles.new_key().public_key()
    made = {
        "box": profiles.box(key, BOX, issuing, NOW),
        "server": profiles.server(key, ["enrol.vigie.lab", "maj.vigie.lab"], servers, NOW),
        "client": profiles.department_client(key, issuing, NOW),
    }
    for name, certificate in made.items():
        (tmp_path / name).write_bytes(authority.pem([certificate]))
    chain = tmp_path / "chain"
    chain.write_bytes(authority.pem([issuing.certificate, servers.certificate]))
    base = ("verify", "-attime", str(int(NOW.timestamp())), "-x509_strict", "-CAfile", str(places.trust / "roots.pem"))
    base = (*base, "-untrusted", str(chain))
    assert openssl(*base, "-purpose", "sslclient", str(tmp_path / "box")).startswith("0 ")
    assert openssl(*base, "-purpose", "sslclient", str(tmp_path / "client")).startswith("0 ")
    assert (
        openssl(*base, "-purpose", "sslserver", "-verify_hostname", "maj.vigie.lab", str(tmp_path / "server"))[0] == "0"
    )
    assert "unsuitable certificate purpose" in openssl(*base, "-purpose", "sslserver", str(tmp_path / "box"))
    assert "unsuitable certificate purpose" in openssl(*base, "-purpose", "sslclient", str(tmp_path / "server"))


def test_servers_outside_the_domain_or_too_long(ca: Ca) -> None:
    servers, key = ca.current("servers", NOW), profiles.new_key().public_key()
    for name in ("enrol.elsewhere.example", "evilvigie.lab", "vigie.lab.example"):
        with pytest.raises(CaError, match="only signs names below"):
            profiles.server(key, [name], servers, NOW)
    with pytest.raises(CaError, match="at most 825 days"):
        profiles.server(key, ["enrol.vigie.lab"], servers, NOW, timedelta(days=826))
    with pytest.raises(CaError, match="at least one name"):
        profiles.server(key, [], servers, NOW)


def test_never_longer_than_its_issuer(ca: Ca) -> None:
    issuer = ca.current("issuing", NOW)
    late = issuer.certificate.not_valid_after_utc - timedelta(days=3)
    assert profiles.box(profiles.new_key().public_key(), BOX, issuer, late).not_valid_after_utc == late + timedelta(3)
    with pytest.raises(CaError, match="expired on"):
        profiles.box(profiles.new_key().public_key(), BOX, issuer, late + timedelta(days=4))


def broken_signature() -> bytes:
    der = bytearray(request())
    der[-1] ^= 1
    return bytes(der)


def other_curve() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return request(key)


def edwards() -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("der", "match"),
    [
        (b"", "cannot be read"),
        (b"\x30\x03\x02\x01\x01", "cannot be read"),
        (request() + b"\0" * 4096, "at most 4096"),
        (request()[:-10], "cannot be read"),
        (broken_signature(), "not signed by its own key|cannot be read"),
        (other_curve(), "only P-256"),
        (edwards(), "only P-256"),
    ],
)
def test_requests_that_are_refused(der: bytes, match: str) -> None:
    with pytest.raises(CaError, match=match):
        checks.csr_public_key(der)


def test_keys_are_private_and_never_overwritten(ca: Ca, places: Places, tmp_path: Path) -> None:
    keys = [*places.ca.glob("*.key"), *(tmp_path / "offline" / "ca").glob("*.key")]
    assert len(keys) == 5
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}
    assert places.ca.stat().st_mode & 0o777 == 0o700
    with pytest.raises(UsageError, match="never overwritten"):
        authority.create(places, tmp_path / "other", domain="vigie.lab")
    with pytest.raises(UsageError, match="never overwritten"):
        authority.create(
            Places(tmp_path / "b", tmp_path / "c", tmp_path / "d"), tmp_path / "offline", domain="vigie.lab"
        )


def test_rotation_keeps_both(ca: Ca, places: Places, tmp_path: Path) -> None:
    old = profiles.box(profiles.new_key().public_key(), BOX, ca.current("issuing", NOW), NOW)
    later = NOW + timedelta(days=30)
    after = authority.rotate(places, tmp_path / "offline", "issuing", now=later)
    assert [issuer.name for issuer in after.issuing] == ["issuing-1", "issuing-2"]
    assert after.current("issuing", later).name == "issuing-2"
    assert after.chain(old)[1] == ca.issuing[0].certificate
    trusted = x509.load_pem_x509_certificates((places.public / "clients.pem").read_bytes())
    assert trusted == [*after.roots, after.issuing[0].certificate, after.issuing[1].certificate]


def test_a_certificate_not_yet_valid_does_not_sign(ca: Ca, places: Places, tmp_path: Path) -> None:
    after = authority.rotate(places, tmp_path / "offline", "challenge", now=NOW + timedelta(days=30))
    assert after.current("challenge", NOW).name == "challenge-1"
    with pytest.raises(CaError, match="no challenge certificate is valid"):
        after.current("challenge", NOW - timedelta(days=1))


def test_encrypted_roots(places: Places, tmp_path: Path) -> None:
    authority.create(places, tmp_path / "offline", domain="vigie.lab", passphrases=["one", "two"], now=NOW)
    with pytest.raises(CaError, match="a passphrase is needed"):
        authority.rotate(places, tmp_path / "offline", "issuing", now=NOW)
    with pytest.raises(CaError, match="wrong passphrase"):
        authority.rotate(places, tmp_path / "offline", "issuing", passphrase="two", now=NOW)
    # the spare root signs when the first is lost
    after = authority.rotate(places, tmp_path / "offline", "issuing", passphrase="two", root=2, now=NOW)
    assert checks.issued_by(after.issuing[1].certificate, after.roots[1])
    with pytest.raises(UsageError, match="one each, or none"):
        authority.create(
            Places(*[tmp_path / x for x in "abc"]), tmp_path / "x", domain="vigie.lab", passphrases=["one"]
        )


def test_loading_refuses_what_does_not_hold_together(ca: Ca, places: Places, tmp_path: Path) -> None:
    def swap(a: str, b: str) -> None:
        first, second = places.ca / a, places.ca / b
        x, y = first.read_bytes(), second.read_bytes()
        first.write_bytes(y)
        second.write_bytes(x)

    for a, b, match in (
        ("issuing-1.key", "servers-1.key", "do not belong together"),
        ("challenge-1.pem", "servers-1.pem", "do not belong together"),
    ):
        swap(a, b)
        with pytest.raises(CaError, match=match):
            authority.load(places)
        swap(a, b)
    for suffix in ("pem", "key"):
        swap(f"issuing-1.{suffix}", f"servers-1.{suffix}")
    with pytest.raises(CaError, match="not made for its role"):
        authority.load(places)
    for suffix in ("pem", "key"):
        swap(f"issuing-1.{suffix}", f"servers-1.{suffix}")
    other = Places(tmp_path / "b", tmp_path / "c", tmp_path / "d")
    authority.create(other, tmp_path / "y", domain="vigie.lab", now=NOW)
    (places.ca / "roots.pem").write_bytes((other.ca / "roots.pem").read_bytes())
    with pytest.raises(CaError, match="not signed by a root"):
        authority.load(places)
    (places.ca / "roots.pem").unlink()
    with pytest.raises(NotFoundError, match=r"roots\.pem"):
        authority.load(places)
