"""TLS clients that bypass DNS: straight to an address, with the server name of choice."""

from __future__ import annotations

import errno
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path

from lab.netns import Namespace, Result
from lab.reach import REFUSED

# A post-quantum key share (ML-KEM-768, 1,184 bytes) makes a ClientHello longer than one segment. Python's OpenSSL may
# lack it: long protocol names (RFC 7301 allows 255 bytes each) make the same size on the wire.
BIG_ALPN = ["http/1.1", *(f"x-vigie-{number}-".ljust(240, "x") for number in range(7))]


@dataclass(frozen=True, slots=True)
class Attempt:
    """`outcome`: "reached" (handshake done), "refused" (RST or ICMP), "silence", or "broken"."""

    where: str
    what: str
    outcome: str
    detail: str
    ms: float

    @property
    def evidence(self) -> str:
        return f"[{self.where}] {self.what} -> {self.outcome} ({self.detail}) after {self.ms:.1f} ms"

    def require(self, outcome: str, within_ms: float = 1000.0) -> Attempt:
        if self.outcome != outcome or self.ms > within_ms:
            raise AssertionError(f"must be {outcome} within {within_ms:.0f} ms:\n{self.evidence}")
        return self


def handshake(
    namespace: Namespace,
    address: str,
    port: int,
    name: str,
    *,
    ca: Path | None = None,
    big: bool = False,
    timeout: float = 3.0,
) -> Attempt:
    """A TLS handshake; `ca` None accepts any certificate (malware does)."""
    context = ssl.create_default_context(cafile=str(ca)) if ca else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(BIG_ALPN if big else ["http/1.1"])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    raw = namespace.socket(family, socket.SOCK_STREAM)
    raw.settimeout(timeout)
    start = time.monotonic()
    outcome, detail = "reached", ""
    try:
        with raw:
            raw.connect((address, port))
            with context.wrap_socket(raw, server_hostname=name) as tls:
                detail = f"{tls.version()}"
    except TimeoutError:
        outcome, detail = "silence", "no answer"
    except ssl.SSLError as error:
        outcome, detail = "broken", str(error)
    except OSError as error:
        outcome = "refused" if error.errno in REFUSED else "silence"
        detail = errno.errorcode.get(error.errno or 0, str(error))
    size = "big ClientHello" if big else "ClientHello"
    return Attempt(
        namespace.label,
        f"tls {address} port {port}, {size} for {name}",
        outcome,
        detail,
        (time.monotonic() - start) * 1000,
    )


def s_client(namespace: Namespace, address: str, name: str, timeout: float = 5.0) -> Result:
    """OpenSSL's own client; exit 0 when the handshake ends."""
    host = f"[{address}]" if ":" in address else address
    return namespace.run(
        "openssl", "s_client", "-connect", f"{host}:443", "-servername", name, "-brief", timeout=timeout
    )  # fmt: skip


def curl(namespace: Namespace, url: str, ca: Path, *more: str, timeout: float = 8.0) -> Result:
    options = ["--silent", "--show-error", "--fail", "--max-time", f"{timeout:g}", "--cacert", str(ca)]
    return namespace.run("curl", *options, *more, url, timeout=timeout + 4)


def dig(namespace: Namespace, name: str, server: str, *more: str) -> Result:
    return namespace.run("dig", "+tries=1", "+time=2", f"@{server}", name, *more, timeout=6)
