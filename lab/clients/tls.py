"""TLS clients that bypass DNS: straight to an address, with the server name of choice."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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


def late_hello(name: str) -> bytes:
    """A real ClientHello longer than a segment whose server name comes last, as browsers that shuffle extensions do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(BIG_ALPN)
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    record = outgoing.read()
    body = record[9:]  # record header 5, handshake header 4
    place = 34  # version, random
    place += 1 + body[place]  # session id
    place += 2 + int.from_bytes(body[place : place + 2], "big")  # cipher suites
    place += 1 + body[place]  # compression methods
    extensions, found, rest = body[place + 2 :], b"", b""
    while extensions:
        end = 4 + int.from_bytes(extensions[2:4], "big")
        one, extensions = extensions[:end], extensions[end:]
        if one[:2] == b"\0\0":
            found = one
        else:
            rest += one
    return record[:9] + body[: place + 2] + rest + found


def say_hello(
    namespace: Namespace,
    address: str,
    port: int,
    hello: bytes,
    cuts: Sequence[int] = (),
    pause: float = 0.0,
    timeout: float = 3.0,
    source: int = 0,
) -> Attempt:
    """Send a ClientHello in pieces cut at these offsets; "reached" when the server answers anything.

    source: the client's port; the connection is then reset at its end, so that the port is free again at once.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = namespace.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    if source:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.bind(("", source))
    start = time.monotonic()
    outcome, detail = "reached", ""
    try:
        with sock:
            sock.connect((address, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for begin, end in pairwise([0, *cuts, len(hello)]):
                sock.sendall(hello[begin:end])
                time.sleep(pause)
            detail = f"{len(sock.recv(4096))} bytes back"
    except TimeoutError:
        outcome, detail = "silence", "no answer"
    except OSError as error:
        outcome = "refused" if error.errno in REFUSED else "silence"
        detail = errno.errorcode.get(error.errno or 0, str(error))
    what = f"{len(hello)} bytes of ClientHello to {address} in {len(cuts) + 1} pieces"
    return Attempt(namespace.label, what, outcome, detail, (time.monotonic() - start) * 1000)
