"""A TLS 1.3 connection to the broker: address, proxy, client certificate, dates judged by the trusted clock."""

from __future__ import annotations

import http.client
import socket
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from vigie.enrol.credentials import Credentials
from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig
from vigie.host.tls import CertificateDateError, check_dates, client_context, verified_chain
from vigie.host.trusted_clock import ClockReader
from vigie.link.codes import LinkCode
from vigie.link.errors import BrokerError

CLIENT_ALERTS: Final = (
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
    "CERTIFICATE_UNK",
)


def dial(config: BoxConfig, credentials: Credentials, port: int, clock: ClockReader, timeout_s: float) -> ssl.SSLSocket:
    """A connected socket whose server is the department's broker. Blocks up to `timeout_s` a few times. BrokerError."""
    host = credentials.mqtt_host
    raw = _connect(config, host, port, timeout_s)
    try:
        raw.settimeout(timeout_s)
        context = _context(credentials.roots_path, credentials.cert_chain_path, credentials.key_path)
        sock = context.wrap_socket(raw, server_hostname=host)
    except BrokerError:
        raw.close()
        raise
    except ssl.SSLCertVerificationError as e:
        raw.close()
        raise BrokerError(LinkCode.SERVER_CERTIFICATE, f"{host}:{port}: {e.verify_message}") from e
    except (OSError, ValueError) as e:
        raw.close()
        raise tls_error(e, f"{host}:{port}") from e
    try:
        check_dates(verified_chain(sock), clock.time(), clock.floor())
    except CertificateDateError as e:
        sock.close()
        raise BrokerError(LinkCode.SERVER_CERTIFICATE, f"{host}:{port}: {e}") from e
    return sock


def tls_error(error: Exception, where: str) -> BrokerError:
    """What a failure during or after the handshake means. With TLS 1.3 the server judges our certificate afterwards."""
    text = str(error).upper().replace(" ", "_")
    if isinstance(error, TimeoutError):
        return BrokerError(LinkCode.TIMEOUT, f"{where}: no answer during the TLS handshake")
    if "ALERT" in text and any(word in text for word in CLIENT_ALERTS):
        return BrokerError(LinkCode.BOX_CERTIFICATE, f"{where}: the broker refuses the box's certificate ({error})")
    if isinstance(error, ssl.SSLError):
        return BrokerError(LinkCode.PROTOCOL, f"{where}: {error.reason or error}")
    return BrokerError(LinkCode.LOST, f"{where}: {error}")


def _context(roots: Path, chain: Path, key: Path) -> ssl.SSLContext:
    try:
        context = client_context(roots, chain, key)
    except HostError as e:
        raise BrokerError(LinkCode.NOT_ENROLLED, str(e)) from e
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _connect(config: BoxConfig, host: str, port: int, timeout_s: float) -> socket.socket:
    where = f"{host}:{port}"
    try:
        if config.proxy:
            return _through_proxy(config.proxy, host, port, timeout_s)
        return socket.create_connection((config.address_of(host), port), timeout=timeout_s)
    except socket.gaierror as e:
        raise BrokerError(LinkCode.NO_NAME, f"{where}: the name does not resolve ({e.strerror})") from e
    except ConnectionRefusedError as e:
        raise BrokerError(LinkCode.REFUSED, f"{where}: nobody listens there") from e
    except TimeoutError as e:
        raise BrokerError(LinkCode.TIMEOUT, f"{where}: no answer in {timeout_s:g} s") from e
    except (OSError, http.client.HTTPException) as e:
        code = LinkCode.PROXY if config.proxy else LinkCode.NO_ROUTE
        raise BrokerError(code, f"{where}: {e}") from e


def _through_proxy(proxy: str, host: str, port: int, timeout_s: float) -> socket.socket:
    """CONNECT (RFC 9110, 9.3.6). http.client bounds the lines of the answer."""
    parts = urlsplit(proxy)
    tunnel = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    tunnel.set_tunnel(host, port)
    tunnel.connect()
    sock: socket.socket = tunnel.sock
    return sock
