"""HTTPS to the authority over real sockets on loopback: what is bounded, who is believed, why it failed."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.enrol import authority as sim
from tests.unit.enrol import pki
from tests.unit.enrol.authority import ROOT
from vigie.enrol.codes import Code
from vigie.enrol.transport import ANSWER_MAX, Answer, Transport, TransportError, portal, reachable
from vigie.host.boxconfig import BoxConfig, Ports
from vigie.host.trusted_clock import TrustedClock

NAME = "enrol.vigie.lab"
SERVERS = pki.issue("servers", ROOT, ca=True, path_length=0, end=pki.NOW + 900 * pki.DAY)
GOOD = pki.server(NAME, SERVERS)
Talk = Callable[[socket.socket], None]


class Server:
    """Listens on loopback; each connection is given to `talk`, after TLS when there is an identity."""

    def __init__(self, folder: Path, talk: Talk, identity: pki.Issued | None = GOOD) -> None:
        self._context: ssl.SSLContext | None = None
        if identity is not None:
            pem = folder / f"{identity.certificate.serial_number}.pem"
            pem.write_bytes(identity.key_pem + identity.pem + SERVERS.pem)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(pem)
        self._talk = talk
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.seen: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _peer = self._socket.accept()
            except OSError:
                return
            with raw:
                raw.settimeout(30)
                try:
                    if self._context is None:
                        self._talk(raw)
                    else:
                        with self._context.wrap_socket(raw, server_side=True) as tls:
                            self._talk(tls)
                except (OSError, ssl.SSLError):
                    continue

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(4096)
    if not data:
        raise OSError("the client has gone")
    return data


def _request(sock: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(sock)
    head, _sep, body = data.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            while len(body) < int(line.partition(b":")[2]):
                body += _some(sock)
    return head + b"\r\n\r\n" + body


def _answers(data: bytes, seen: list[bytes] | None = None) -> Talk:
    def talk(sock: socket.socket) -> None:
        request = _request(sock)
        if seen is not None:
            seen.append(request)
        sock.sendall(data)

    return talk


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nRetry-After: 17\r\n\r\nhi"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


class Line:
    """A box whose authority is on loopback."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self.config, _key = sim.box(folder, addresses={NAME: "127.0.0.1", "mqtt.vigie.lab": "127.0.0.1"})
        self.patience(20.0)
        self.clock = TrustedClock(self.config)

    def patience(self, seconds: float) -> None:
        """For a connection and for each read."""
        times = replace(self.config.intervals.enrol, connect_s=seconds, read_s=seconds)
        self.config = replace(self.config, intervals=replace(self.config.intervals, enrol=times))

    def serve(self, talk: Talk, identity: pki.Issued | None = GOOD) -> Server:
        server = Server(self.folder, talk, identity)
        self._stack.callback(server.close)
        return server

    def at(self, https: int = 1, http: int = 1) -> BoxConfig:
        return replace(self.config, ports=Ports(https=https, http=http))

    def post(self, port: int) -> Answer:
        return Transport(self.at(port), self.clock).post("challenge", lambda spki: b"spki " + spki)


@pytest.fixture
def line(tmp_path: Path, stack: ExitStack) -> Line:
    return Line(tmp_path, stack)


def _code(line: Line, port: int) -> tuple[Code, str]:
    with pytest.raises(TransportError) as caught:
        line.post(port)
    return caught.value.code, str(caught.value)


def test_the_body_holds_the_key_of_the_server_of_this_session(line: Line) -> None:
    seen: list[bytes] = []
    server = line.serve(_answers(OK, seen))
    assert line.post(server.port) == Answer(200, b"hi", 17.0)
    head, _sep, body = seen[0].partition(b"\r\n\r\n")
    assert body == b"spki " + GOOD.spki
    assert head.startswith(b"POST /v1/challenge HTTP/1.1") and f"Host: {NAME}:{server.port}".encode() in head, head


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (pki.server(NAME, pki.issue("root", ca=True)), "CERTIFICATE_VERIFY_FAILED"),
        (pki.server("maj.vigie.lab", SERVERS), "Hostname mismatch"),
        (pki.issue(NAME, SERVERS, eku=(sim.CLIENT,), san=(pki.x509.DNSName(NAME),)), "unsuitable certificate purpose"),
    ],
    ids=["another CA", "another name", "a client"],
)
def test_somebody_else_is_not_spoken_to(line: Line, identity: pki.Issued, words: str) -> None:
    seen: list[bytes] = []
    code, detail = _code(line, line.serve(_answers(OK, seen), identity).port)
    assert code is Code.SERVER_KEY and words in detail and not seen


def test_a_certificate_that_expired_before_the_floor_is_refused_before_anything_is_sent(line: Line) -> None:
    seen: list[bytes] = []
    old = pki.server(NAME, SERVERS, start=pki.NOW - 60 * pki.DAY, end=pki.NOW - 30 * pki.DAY)
    server = line.serve(_answers(OK, seen), old)
    assert line.post(server.port).status == 200  # nothing is known about the time yet
    seen.clear()
    line.clock.boot()
    line.clock.adopt(pki.NOW.timestamp() - 40 * 86400)
    line.clock.adopt(pki.NOW.timestamp())
    code, detail = _code(line, server.port)
    assert code is Code.SERVER_KEY and "expired on" in detail and not seen


def test_a_server_that_speaks_no_tls(line: Line) -> None:
    code, _detail = _code(line, line.serve(lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), None).port)
    assert code is Code.SERVER_KEY


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (ANSWER_MAX + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"ffff\r\n"
        + b"x" * 0xFFFF
        + b"\r\nff\r\n"
        + b"x" * 255,
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(300)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
    ids=["long", "chunked", "many headers", "long header", "not HTTP"],
)
def test_answers_are_bounded(line: Line, data: bytes) -> None:
    code, detail = _code(line, line.serve(_answers(data)).port)
    assert code is Code.PROTOCOL, detail


@pytest.mark.slow
def test_a_trickle_is_cut_off(line: Line) -> None:
    """A byte every 0.2 s is within the read time-out of 0.5 s for ever; the whole exchange is not."""

    def drip(sock: socket.socket) -> None:
        _request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for byte in range(100):
            time.sleep(0.2)
            sent.append(byte)
            sock.sendall(b"x")

    sent: list[int] = []
    line.patience(0.5)
    code, detail = _code(line, line.serve(drip).port)
    assert code in (Code.AUTHORITY_DOWN, Code.PROTOCOL), detail
    assert 2 < len(sent) < 90, "it was not the whole exchange that was cut off"


def test_silence_resets_and_closed_ports_are_an_authority_that_is_down(line: Line) -> None:
    def hang(sock: socket.socket) -> None:
        _request(sock)
        sock.recv(1)  # until the client has had enough

    def close(sock: socket.socket) -> None:
        _request(sock)

    line.patience(0.5)
    for talk in (hang, close):
        assert _code(line, line.serve(talk).port)[0] is Code.AUTHORITY_DOWN
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert _code(line, port)[0] is Code.AUTHORITY_DOWN


def test_a_name_that_does_not_exist(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: object, **_options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    code, _detail = _code(line, 443)
    assert code is Code.NO_DNS


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_a_network_without_a_way(line: Line, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(_sock: socket.socket, _address: object) -> None:
        raise OSError(number, "no way")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    code, detail = _code(line, 443)
    assert code is Code.NO_INTERNET, detail


def test_through_a_proxy_the_name_is_still_the_authority_s(line: Line) -> None:
    asked: list[bytes] = []
    target = line.serve(_answers(OK))

    def proxy(sock: socket.socket) -> None:
        asked.append(_request(sock))
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with socket.create_connection(("127.0.0.1", target.port)) as out:
            out.settimeout(30)
            ways = [threading.Thread(target=_pump, args=pair, daemon=True) for pair in ((sock, out), (out, sock))]
            for way in ways:
                way.start()
            for way in ways:
                way.join(30)

    server = line.serve(proxy, None)
    line.config = replace(line.config, proxy=f"http://127.0.0.1:{server.port}", addresses={})
    assert line.post(443).status == 200
    assert asked[0].startswith(b"CONNECT enrol.vigie.lab:443 HTTP/1."), asked


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(4096):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_a_proxy_that_refuses(line: Line) -> None:
    server = line.serve(_answers(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), None)
    line.config = replace(line.config, proxy=f"http://127.0.0.1:{server.port}", addresses={})
    code, detail = _code(line, 443)
    assert code is Code.NO_INTERNET, detail


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://portail.hotel/login\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin", "200"),
        (b"HTTP/1.1 511 Network Authentication Required\r\nContent-Length: 0\r\n\r\n", "511"),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://enrol.vigie.lab/\r\nContent-Length: 0\r\n\r\n", ""),
        (b"nonsense", ""),
    ],
)
def test_a_portal_is_who_answers_on_port_80(line: Line, answer: bytes, said: str) -> None:
    server = line.serve(_answers(answer), None)
    found = portal(line.at(http=server.port))
    assert bool(found) is bool(said) and said in found, found


def test_no_portal_when_nobody_answers(line: Line) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert portal(line.at(http=port)) == ""


def test_a_port_works_only_if_it_is_the_department_that_answers(line: Line) -> None:
    def wait(sock: socket.socket) -> None:
        sock.recv(1)

    broker = pki.server("mqtt.vigie.lab", SERVERS)
    good, foreign = line.serve(wait, broker), line.serve(wait, pki.server("mqtt.vigie.lab", pki.issue("x", ca=True)))
    plain = line.serve(wait, None)
    assert reachable(line.config, "mqtt.vigie.lab", good.port, None)
    assert not reachable(line.config, "mqtt.vigie.lab", foreign.port, None)
    assert not reachable(line.config, "mqtt.vigie.lab", plain.port, None)
