"""Getting to the broker, and who may not be it."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.loopback import free_ports
from tests.integration.link.box_side import BoxSide, Keys
from tests.integration.link.conftest import Fleet
from tests.support.servers import Servers, eventually, open_servers
from tests.unit.enrol import pki
from vigie.contract.upward import Offline, State
from vigie.enrol import credentials


def code(fleet: Fleet) -> str:
    return str(fleet.box.status.get("code"))


def test_fallback_port(idle: Fleet) -> None:
    """8883 is blocked (nobody answers): the second port is tried in the same attempt."""
    closed = free_ports(1)[0]
    idle.box.install((closed, idle.servers.plan.port), idle.servers.config.mqtt_host)
    idle.box.start()
    idle.department.wait(lambda: bool(idle.department.states), "connected")
    assert idle.box.status["port"] == idle.servers.plan.port


def test_through_a_proxy(idle: Fleet) -> None:
    from dataclasses import replace

    with proxy({f"{idle.servers.config.mqtt_host}:{idle.servers.plan.port}": idle.servers.plan.port}) as port:
        idle.box.config = replace(idle.box.config, proxy=f"http://127.0.0.1:{port}", addresses={})
        idle.box.start()
        idle.department.wait(lambda: bool(idle.department.states), "connected through the proxy")
        idle.box.stop()


def test_enrols_later(idle: Fleet) -> None:
    current = idle.box.config.paths.enrol / "current"
    target = current.readlink()
    current.unlink()
    idle.box.start()
    eventually(lambda: code(idle) == "not-enrolled", lambda: str(idle.box.status))
    current.symlink_to(target)
    idle.department.wait(lambda: bool(idle.department.states), "connected")


def test_renewed_certificate(fleet: Fleet) -> None:
    """The session is opened again with the new certificate."""
    first = fleet.department.states[0]
    fleet.box.install((fleet.servers.plan.port,), fleet.servers.config.mqtt_host)
    fleet.department.wait(
        lambda: any(isinstance(s, State) and s.session > first.session for s in fleet.department.states),
        "a new session",
    )


def test_new_certificate_does_not_wait(idle: Fleet) -> None:
    """The box waits for an hour after failures; the moment it is enrolled again it connects."""
    idle.box.with_times(first_s=3600.0, most_s=3600.0)
    closed = free_ports(1)[0]
    idle.box.install((closed,), idle.servers.config.mqtt_host)
    idle.box.start()
    eventually(lambda: code(idle) == "refused", lambda: str(idle.box.status))
    idle.box.install((idle.servers.plan.port,), idle.servers.config.mqtt_host)
    idle.department.wait(lambda: bool(idle.department.states), "connected")


def test_broker_restart(fleet: Fleet) -> None:
    fleet.servers.broker.kill()
    eventually(lambda: code(fleet) in ("lost", "refused"), lambda: str(fleet.box.status))
    fleet.servers.start_broker()
    fleet.department.wait(
        lambda: isinstance(fleet.department.states[-1], State) and fleet.department.states[-1].session > 1,
        "connected again",
    )


def test_another_box_of_the_same_name(fleet: Fleet) -> None:
    """Whoever copied the certificate and connects takes the session over: the box says so, and comes back."""
    with fleet.servers.session(fleet.box.client):
        eventually(
            lambda: code(fleet) == "taken-over" or fleet.box.status.get("session", 1) > 1, lambda: str(fleet.box.status)
        )


def test_revoked(fleet: Fleet) -> None:
    """The live session ends, and no other begins."""
    with fleet.servers.watching():
        fleet.servers.certificates.publish((fleet.box.client,))
        eventually(lambda: code(fleet) in ("box-certificate", "denied"), lambda: str(fleet.box.status))
        paths = fleet.box.config.paths
        eventually(lambda: credentials.doubted(paths), "`vigie enrol` told of the doubt")


def test_wrong_server(idle: Fleet, tmp_path: Path) -> None:
    """A server with a certificate of another authority: nothing is sent to it."""
    root = pki.issue("another root", ca=True)
    server = pki.OneShot(tmp_path, pki.server(idle.servers.config.mqtt_host, root), root)
    try:
        idle.box.install((server.port,), idle.servers.config.mqtt_host)
        idle.box.start()
        eventually(lambda: code(idle) == "server-certificate", lambda: str(idle.box.status))
    finally:
        server.close()


def test_right_certificate_wrong_name(idle: Fleet) -> None:
    idle.box.config.addresses.update({"mqtt.elsewhere.example": "127.0.0.1"})  # type: ignore[attr-defined]
    idle.box.install((idle.servers.plan.port,), "mqtt.elsewhere.example")
    idle.box.start()
    eventually(lambda: code(idle) == "server-certificate", lambda: str(idle.box.status))


HOSTILE = {
    "a packet of 256 MiB": b"\x30\xff\xff\xff\x7f" + b"x" * 100_000,
    "not MQTT": b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100,
    "a length without end": b"\x30\xff\xff\xff\xff\xff\xff",
    "a truncated CONNACK": b"\x20\x01\x00",
    "a publish before CONNACK": b"\x30\x04\x00\x09ab",
    "random": bytes(range(1, 256)) * 20,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_broker(tmp_path: Path, name: str) -> None:
    """The broker's certificate is right and its bytes are not: the session ends, the link lives on."""
    with open_servers() as servers:
        box = BoxSide(tmp_path / "box", servers, servers.certificates.box(), Keys.make())
        with box, hostile(servers, HOSTILE[name]) as port:
            box.install((port,), servers.config.mqtt_host)
            box.start()
            eventually(lambda: box.status.get("code") in ("protocol", "lost", "denied"), lambda: str(box.status))
            servers.start_broker()
            box.install((servers.plan.port,), servers.config.mqtt_host)
            eventually(lambda: box.status.get("code") == "connected", lambda: str(box.status))


def test_command_line(idle: Fleet, tmp_path: Path) -> None:
    """`vigie link run` and `status`, as systemd and people start them."""
    paths = idle.box.config.paths
    file = tmp_path / "box.yaml"
    file.write_text(
        f"domain: {idle.servers.config.domain}\n"
        f"paths: {{trust: {paths.trust}, identity: {paths.identity}, state: {paths.state}, "
        f"filter_socket: {paths.filter_socket}, run: {paths.run}}}\n"
        f"addresses: {{{idle.servers.config.mqtt_host}: 127.0.0.1}}\n"
        "intervals: {link: {first_s: 0.1, most_s: 1, spread_s: 0, reconcile_s: 0.2}}\n"
    )
    vigie = [str(Path(sys.executable).with_name("vigie"))]
    before = _run([*vigie, "link", "status", "--config", str(file)])
    assert before.returncode == 1, before
    assert "n'est pas lancée" in before.stderr, before
    place = idle.servers.place
    process = place.start("link", *vigie, "link", "run", "--config", str(file))
    try:
        idle.department.wait(lambda: bool(idle.department.states), "connected")
        shown = _run([*vigie, "link", "status", "--config", str(file)])
        assert shown.returncode == 0, shown
        assert "relié au département" in shown.stdout, shown
        assert (
            json.loads(_run([*vigie, "link", "status", "--json", "--config", str(file)]).stdout)["code"] == "connected"
        )
    finally:
        assert process.stop() == 0, process.tail()
    idle.department.wait(lambda: isinstance(idle.department.states[-1], Offline), "goodbye")


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


@contextmanager
def hostile(servers: Servers, data: bytes) -> Iterator[int]:
    """A TLS server with the broker's own certificate, which answers every CONNECT with `data`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pki_folder = servers.config.paths.pki
    context.load_cert_chain(pki_folder / "mqtt.pem", pki_folder / "mqtt.key")

    def talk(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(data)
            tls.recv(4096)

    with serving(talk) as port:
        yield port


@contextmanager
def proxy(allowed: dict[str, int]) -> Iterator[int]:
    """An HTTP proxy that knows CONNECT."""

    def talk(client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        target = head.split()[1].decode()
        if target not in allowed:
            client.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", allowed[target])) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, client))
            back.start()
            _copy(client, server)
            back.join(10)

    with serving(talk) as port:
        yield port


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on the loopback; each connection is a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def one(sock: socket.socket) -> None:
        try:
            sock.settimeout(10)
            talk(sock)
        except OSError:
            return
        finally:
            sock.close()

    def accept() -> None:
        while True:
            try:
                sock, _peer = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(sock,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(10)
        for thread in threads:
            thread.join(15)
