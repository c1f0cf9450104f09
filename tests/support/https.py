"""A request over TLS to a name, wherever its address is; and servers behind nginx that say what they got."""

from __future__ import annotations

import http.client
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.certificates import Client


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes
    resumed: bool

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """One TLS context towards one address; `host` is asked for and checked."""

    def __init__(self, roots: Path, port: int, client: Client | None = None, address: str = "127.0.0.1") -> None:
        self.context = ssl.create_default_context(cafile=str(roots))
        if client is not None:
            self.context.load_cert_chain(client.chain, client.key)
        self._address, self._port = address, port
        self._session: ssl.SSLSession | None = None

    def ask(
        self, host: str, path: str, *, method: str = "GET", body: bytes | None = None,
        headers: Mapping[str, str] | None = None, source: str = "",
    ) -> Answer:  # fmt: skip
        """One request on a connection of its own; the TLS session of the one before is offered."""
        raw = socket.create_connection((self._address, self._port), 10, source_address=(source, 0) if source else None)
        with self.context.wrap_socket(raw, server_hostname=host, session=self._session) as sock:
            connection = http.client.HTTPConnection(host)
            connection.sock = sock
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            content = answer.read()
            self._session = sock.session
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, fields, content, bool(sock.session_reused))

    def flood(self, host: str, path: str, count: int) -> list[int]:
        """Statuses of that many empty POST requests on one connection, as fast as it goes."""
        raw = socket.create_connection((self._address, self._port), 10)
        with self.context.wrap_socket(raw, server_hostname=host) as sock:
            connection = http.client.HTTPConnection(host)
            connection.sock = sock
            statuses = []
            for _ in range(count):
                connection.request("POST", path, b"{}")
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
            return statuses


class _Mirror(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while line := self.rfile.readline(65536):
            headers = http.client.parse_headers(self.rfile)
            size = int(headers.get("Content-Length", "0"))
            got = self.rfile.read(size)
            said = json.dumps(
                {"line": line.decode().strip(), "headers": headers.items(), "body": got.decode("latin-1")}
            ).encode()
            head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Frame-Options: SAMEORIGIN\r\n"
            self.wfile.write(f"{head}Content-Length: {len(said)}\r\n\r\n".encode() + said)


@contextmanager
def mirror(path: Path) -> Iterator[None]:
    """An HTTP server on a unix socket that answers with the request as it arrived."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), _Mirror) as server:
        path.chmod(0o666)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
