"""One HTTPS request to the authority: our roots, its name, bounded in bytes and time; and why it failed.

Each request has a connection of its own: there are three in a quarter of a year. The body may depend on the public key
of the server that this very session talks to (the attestation), so it is made after the handshake.
"""

from __future__ import annotations

import errno
import http.client
import logging
import socket
import ssl
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    HTTPError,
    NameResolutionError,
    ProxyError,
    SystemTimeWarning,
)

from vigie import __version__
from vigie.enrol.codes import Code
from vigie.enrol.errors import EnrolError
from vigie.errors import HostError
from vigie.host import tls
from vigie.host.boxconfig import BoxConfig
from vigie.host.trusted_clock import ClockReader

log = logging.getLogger("vigie.enrol")

ANSWER_MAX: Final = 64 * 1024
_CHUNK: Final = 8192
_NO_WAY: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL})
# A clock at 1970 is expected here and judged elsewhere (`host.tls`).
warnings.filterwarnings("ignore", category=SystemTimeWarning)

Body = Callable[[bytes], bytes]
"""DER SubjectPublicKeyInfo of the server -> body."""


class TransportError(EnrolError):
    """No answer was had. code: the reason, as far as it can be told from here."""

    def __init__(self, code: Code, detail: str) -> None:
        self.code = code
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. retry_after_s: of the header, 0 without one."""

    status: int
    body: bytes
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class ClientKey:
    """PEM files of a client certificate chain and its key."""

    chain: Path
    key: Path


class Transport:
    """POSTs to `https://enrol.DOMAIN/v1/`."""

    def __init__(self, config: BoxConfig, clock: ClockReader) -> None:
        self._config = config
        self._clock = clock

    def post(self, name: str, body: Body, client: ClientKey | None = None) -> Answer:
        """The answer to POST /v1/`name`. Raises TransportError; HostError when a file of ours cannot be used."""
        context = tls.client_context(
            self._config.paths.roots, client.chain if client else None, client.key if client else None
        )
        connection = self._connection(context)
        times = self._config.intervals.enrol
        # The one bound that nothing can trickle past: a server that sends a byte now and then is cut off here.
        alarm = threading.Timer(times.connect_s + 2 * times.read_s, _cut, (connection,))
        alarm.daemon = True
        alarm.start()
        try:
            return self._exchange(connection, name, body)
        except (tls.CertificateDateError, HTTPError, OSError, http.client.HTTPException, ValueError) as e:
            raise failure(e) from e
        finally:
            alarm.cancel()
            connection.close()

    def _connection(self, context: ssl.SSLContext) -> HTTPSConnection:
        config, times = self._config, self._config.intervals.enrol
        host, port = config.enrol_host, config.ports.https
        where, at = config.address_of(host), port
        if config.proxy:
            proxy = urlsplit(config.proxy)
            where, at = proxy.hostname or "", proxy.port or 0
        connection = HTTPSConnection(
            where, at, timeout=times.connect_s, ssl_context=context, server_hostname=host,
            proxy=urllib3.util.parse_url(config.proxy) if config.proxy else None,
        )  # fmt: skip
        if config.proxy:
            connection.set_tunnel(host, port, scheme="http")
        return connection

    def _exchange(self, connection: HTTPSConnection, name: str, body: Body) -> Answer:
        connection.connect()
        sock = connection.sock
        if not isinstance(sock, ssl.SSLSocket):
            raise TransportError(Code.SERVER_KEY, "the connection is not TLS")
        tls.check_dates(tls.verified_chain(sock), self._clock.time(), self._clock.floor())
        sock.settimeout(self._config.intervals.enrol.read_s)
        host, port = self._config.enrol_host, self._config.ports.https
        connection.request(
            "POST",
            f"/v1/{name}",
            body=body(tls.server_spki(sock)),
            headers={
                "Host": host if port == 443 else f"{host}:{port}",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"vigie/{__version__}",
            },
            preload_content=False,
            decode_content=False,
        )
        response = connection.getresponse()
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > ANSWER_MAX:
                raise TransportError(Code.PROTOCOL, f"/v1/{name}: an answer of more than {ANSWER_MAX} bytes")
        return Answer(response.status, bytes(data), _seconds(response.headers.get("Retry-After", "")))


def failure(error: Exception) -> TransportError:
    """Why an exchange failed, from the exception that ended it."""
    if isinstance(error, TransportError):
        return error
    detail = f"{type(error).__name__}: {error}"[:300]
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__
    for cause in chain:
        if isinstance(cause, tls.CertificateDateError):
            return TransportError(Code.SERVER_KEY, str(cause))
        if isinstance(cause, NameResolutionError | socket.gaierror):
            return TransportError(Code.NO_DNS, detail)
        if isinstance(cause, ProxyError) or "Tunnel connection failed" in str(cause):
            return TransportError(Code.NO_INTERNET, detail)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransportError(Code.SERVER_KEY, detail)
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return TransportError(Code.AUTHORITY_DOWN, detail)
        if isinstance(cause, ssl.SSLError) and "ALERT" not in str(cause).upper():
            return TransportError(Code.SERVER_KEY, detail)
        if isinstance(cause, OSError) and cause.errno in _NO_WAY:
            return TransportError(Code.NO_INTERNET, detail)
        if isinstance(cause, http.client.HTTPException) and not isinstance(cause, http.client.RemoteDisconnected):
            return TransportError(Code.PROTOCOL, detail)
    return TransportError(Code.AUTHORITY_DOWN, detail)


def portal(config: BoxConfig) -> str:
    """Whether a captive portal answers for the authority: what it said, "" when nobody does.

    The department has nothing on port 80, or sends to its own HTTPS; whoever answers otherwise is in between.
    """
    host, times = config.enrol_host, config.intervals.enrol
    connection = HTTPConnection(config.address_of(host), config.ports.http, timeout=times.connect_s)
    alarm = threading.Timer(2 * times.connect_s, _cut, (connection,))
    alarm.daemon = True
    alarm.start()
    try:
        connection.request("GET", "/", headers={"Host": host}, preload_content=False, decode_content=False)
        response = connection.getresponse()
        location = response.headers.get("Location", "")
        if response.status in (301, 302, 307, 308) and urlsplit(location).hostname == host:
            return ""
        return f"HTTP {response.status} {location}"[:200].rstrip()
    except (HTTPError, OSError, http.client.HTTPException, ValueError):
        return ""
    finally:
        alarm.cancel()
        connection.close()


def reachable(config: BoxConfig, host: str, port: int, client: ClientKey | None) -> bool:
    """Whether a TLS session with the department's own server opens at a port: not only that something answers."""
    times = config.intervals.enrol
    try:
        context = tls.client_context(
            config.paths.roots, client.chain if client else None, client.key if client else None
        )
        with (
            socket.create_connection((config.address_of(host), port), times.connect_s) as raw,
            context.wrap_socket(raw, server_hostname=host),
        ):
            return True
    except (OSError, HostError) as e:
        log.info("%s:%d: %s", host, port, e)
        return False


def _cut(connection: HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _seconds(text: str) -> float:
    """Seconds of a Retry-After header; dates (RFC 9110, 10.2.3) count as none: our clock may be wrong."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
