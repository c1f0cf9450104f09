"""A web server with TLS that serves a simulator's files, with ranges, and on demand misbehaves in every way we know."""

from __future__ import annotations

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOMAIN = "vigie.test"
HOST = f"maj.{DOMAIN}"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True, slots=True)
class Pki:
    """A root and a server certificate below it, as PEM files."""

    roots: Path
    chain: Path
    key: Path


def make_pki(folder: Path, host: str = HOST, days: tuple[float, float] = (-3650, 3650)) -> Pki:
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    begin, end = now + timedelta(days=days[0]), now + timedelta(days=days[1])

    def builder(subject: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name("Root"))
            .public_key(public).serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        )  # fmt: skip

    root = (
        builder("Root", ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    leaf = (
        builder(host, key.public_key())
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pki = Pki(folder / "roots.pem", folder / "chain.pem", folder / "key.pem")
    pki.roots.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    pki.chain.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    pki.key.write_bytes(_pem(key))
    return pki


@dataclass
class Web:
    """A running server. files: path below /tuf/ -> bytes. asked: (path, range) of each request.

    twist(path, handler) may answer in place of the server: it returns True when it did.
    """

    port: int
    files: dict[str, bytes]
    asked: list[tuple[str, str]] = field(default_factory=list)
    twist: Callable[[str, Any], bool] = lambda _path, _handler: False
    connections: int = 0
    ranges: bool = True

    def paths(self) -> list[str]:
        return [path for path, _range in self.asked]


@contextmanager
def serving(pki: Pki, files: dict[str, bytes]) -> Iterator[Web]:
    """HTTPS on the loopback."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body go as two writes
        timeout = 20

        def setup(self) -> None:
            web.connections += 1
            super().setup()

        def do_GET(self) -> None:
            path = self.path.removeprefix("/tuf/")
            wanted = self.headers.get("Range", "")
            web.asked.append((path, wanted))
            if web.twist(path, self):
                return
            data = web.files.get(path)
            if data is None:
                self.send_response(404)
                self.send_header("Content-Length", "3")
                self.end_headers()
                self.wfile.write(b"no\n")
                return
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if wanted and web.ranges and last:
                part = data[int(first) : int(last) + 1]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                self.wfile.write(part)
                return
            start = int(first) if wanted and web.ranges else 0
            self.head(data, start)
            self.wfile.write(data[start:])

        def head(self, data: bytes, start: int = 0) -> None:
            """The header of a right answer."""
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # clients that refuse our certificate, or go away, are what is tested

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.chain, pki.key)
    # Handshakes in the connection's own thread: one that never comes must not stop the others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    web = Web(server.server_address[1], files)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def drip(handler: Any, data: bytes, seconds: float, limit: float = 30.0) -> None:
    """A byte now and then, for as long as somebody listens."""
    end = time.monotonic() + limit
    try:
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(seconds)
            if time.monotonic() > end:
                return
    except OSError:
        handler.close_connection = True


class Proxy:
    """An HTTP proxy that makes tunnels (CONNECT) to the loopback, or refuses to. asked: what was wanted."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.asked: list[str] = []
        self._refuses = refuses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._tunnel, args=(inside,), daemon=True).start()

    def _tunnel(self, inside: socket.socket) -> None:
        with inside:
            head = b""
            while b"\r\n\r\n" not in head:
                head += inside.recv(4096)
            wanted = head.split()[1].decode()
            self.asked.append(wanted)
            if self._refuses:
                inside.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", int(wanted.rpartition(":")[2]))) as outside:
                inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
                back.start()
                _pump(inside, outside)
                back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return
