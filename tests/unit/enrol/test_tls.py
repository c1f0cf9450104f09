"""TLS without a clock: OpenSSL checks signatures, names and purposes; dates are judged by the trusted clock."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.enrol import pki
from vigie.errors import HostError
from vigie.host import tls
from vigie.host.trusted_clock import Time

NAME = "enrol.vigie.lab"
ROOT = pki.issue("root", ca=True, start=pki.NOW - 400 * pki.DAY, end=pki.NOW + 3000 * pki.DAY)
MIDDLE = pki.issue("servers", ROOT, ca=True, end=pki.NOW + 900 * pki.DAY)


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    path = tmp_path / "roots.pem"
    path.write_bytes(ROOT.pem)
    return path


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[list[pki.OneShot]]:
    servers: list[pki.OneShot] = []
    yield servers
    for server in servers:
        server.close()


def _chain(context: ssl.SSLContext, port: int, name: str = NAME) -> tuple[list[bytes], bytes]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname=name) as sock,
    ):
        return tls.verified_chain(sock), tls.server_spki(sock)


def test_an_expired_certificate_passes_openssl_and_fails_the_dates(
    tmp_path: Path, roots: Path, serve: list[pki.OneShot]
) -> None:
    """Proof of X509_V_FLAG_NO_CHECK_TIME: without the flag the same handshake is refused for its date."""
    expired = pki.server(NAME, MIDDLE, start=pki.NOW - 40 * pki.DAY, end=pki.NOW - 10 * pki.DAY)
    serve.append(pki.OneShot(tmp_path, expired, MIDDLE))
    chain, spki = _chain(tls.client_context(roots), serve[0].port)
    assert chain == [expired.der, MIDDLE.der, ROOT.der] and spki == expired.spki

    strict = tls.client_context(roots)
    strict.verify_flags &= ~tls.NO_CHECK_TIME
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        _chain(strict, serve[0].port)

    now = pki.NOW.timestamp()
    with pytest.raises(tls.CertificateDateError, match="expired on"):
        tls.check_dates(chain, Time(now, "signed"), 0)
    with pytest.raises(tls.CertificateDateError, match="expired on"):
        tls.check_dates(chain, Time(now, "floor"), now)
    tls.check_dates(chain, Time(now, "floor"), now - 20 * pki.DAY.total_seconds())


def test_only_a_signed_time_says_not_yet_valid(tmp_path: Path, roots: Path, serve: list[pki.OneShot]) -> None:
    young = pki.server(NAME, MIDDLE)
    serve.append(pki.OneShot(tmp_path, young, MIDDLE))
    chain, _spki = _chain(tls.client_context(roots), serve[0].port)
    past = (pki.NOW - 100 * pki.DAY).timestamp()
    for word in ("unset", "floor", "ntp"):
        tls.check_dates(chain, Time(0 if word == "unset" else past, word), past)
        tls.check_dates(chain, Time(2_208_988_800, word), past)  # 2040, from an NTP server that lies
    with pytest.raises(tls.CertificateDateError, match="not valid before"):
        tls.check_dates(chain, Time(past, "signed"), past)
    tls.check_dates(chain, Time(pki.NOW.timestamp(), "signed"), past)


def test_without_dates_everything_else_is_still_checked(tmp_path: Path, roots: Path, serve: list[pki.OneShot]) -> None:
    foreign_root = pki.issue("root", ca=True)  # the same name, another key
    foreign = pki.server(NAME, foreign_root)
    client_only = pki.issue(NAME, MIDDLE, eku=("1.3.6.1.5.5.7.3.2",), san=(pki.x509.DNSName(NAME),))
    under_a_leaf = pki.server(NAME, pki.server("x.vigie.lab", MIDDLE))
    serve += [pki.OneShot(tmp_path, c, MIDDLE) for c in (foreign, client_only, under_a_leaf, pki.server(NAME, MIDDLE))]
    context = tls.client_context(roots)
    for server in serve[:3]:
        with pytest.raises(ssl.SSLCertVerificationError):
            _chain(context, server.port)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        _chain(context, serve[3].port, "maj.vigie.lab")
    _chain(context, serve[3].port)


def test_a_bundle_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"roots\.pem"):
        tls.client_context(tmp_path / "roots.pem")
    (tmp_path / "roots.pem").write_text("no certificate")
    with pytest.raises(HostError, match=r"roots\.pem"):
        tls.client_context(tmp_path / "roots.pem")
