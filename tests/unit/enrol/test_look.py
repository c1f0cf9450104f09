"""What is told apart before and beside the authority: cable, address, name, portal, ports."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from tests.unit.enrol import authority as sim
from tests.unit.enrol import pki
from tests.unit.enrol.authority import Authority
from tests.unit.enrol.test_transport import SERVERS, Line, _answers
from vigie.enrol import credentials
from vigie.enrol import events as on
from vigie.enrol.client import Client
from vigie.enrol.codes import Code
from vigie.enrol.events import Event, Failed
from vigie.enrol.look import look
from vigie.enrol.store import Store
from vigie.errors import LinkError
from vigie.host.boxconfig import BoxConfig, Ports
from vigie.host.trusted_clock import TrustedClock


class Cable:
    """br0 as a test wants it."""

    def __init__(self, *addresses: str, carrier: bool = True, there: bool = True) -> None:
        self._addresses, self.carrier, self._there = addresses, carrier, there
        self.index = 2

    def link(self, name: str) -> Cable:
        if not self._there:
            raise LinkError(f"device {name} does not exist", 19)
        return self

    def addresses(self, _index: int) -> list[object]:
        return [ip_interface(a) for a in self._addresses]


@pytest.mark.parametrize(
    ("cable", "code"),
    [
        (Cable(there=False), Code.NO_LINK),
        (Cable("192.168.1.2/24", carrier=False), Code.NO_LINK),
        (Cable(), Code.NO_ADDRESS),
        (Cable("169.254.7.7/16", "fe80::1/64"), Code.NO_ADDRESS),
        (Cable("169.254.7.7/16", "192.168.1.2/24"), None),
        (Cable("fe80::1/64", "2001:db8::1/64"), None),
    ],
)
def test_cable_then_address(cable: Cable, code: Code | None) -> None:
    config = BoxConfig("vigie.lab", addresses={"enrol.vigie.lab": "127.0.0.1"})
    event = look(config, cable)  # type: ignore[arg-type]
    assert (event.code if isinstance(event, Failed) else None) is code, event


def test_then_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    answers: list[object] = []

    def resolve(*question: object, **_more: object) -> object:
        asked.append(question[0])
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, 443))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    cable, config = Cable("192.168.1.2/24"), BoxConfig("vigie.lab")
    answers += [socket.gaierror(socket.EAI_AGAIN, "try again"), "0.0.0.0", "192.0.2.1"]
    found: list[Event] = [look(config, cable) for _time in range(3)]  # type: ignore[arg-type]
    assert [type(e) for e in found] == [Failed, Failed, on.Clear] and found[0].code is Code.NO_DNS  # type: ignore[union-attr]
    look(replace(config, proxy="http://proxy.lan:3128"), cable)  # type: ignore[arg-type]
    assert asked == ["enrol.vigie.lab"] * 3  # the proxy asks


@pytest.fixture
def line(tmp_path: Path) -> object:
    with ExitStack() as stack:
        yield Line(tmp_path, stack)


def _client(line: Line, config: BoxConfig, transport: object = None) -> Client:
    from vigie.enrol.transport import Transport

    clock = TrustedClock(config)
    clock.boot()
    return Client(config, clock, Store(config.paths), transport or Transport(config, clock))  # type: ignore[arg-type]


def test_a_portal_in_between_is_named_one(line: Line) -> None:
    """The portal takes the TLS connection with a certificate of its own, and answers on port 80."""
    foreign = pki.server("enrol.vigie.lab", pki.issue("portal", ca=True))
    tls, http = line.serve(_answers(b""), foreign), line.serve(_answers(b"HTTP/1.1 302 Found\r\n\r\n"), None)
    event = _client(line, line.at(tls.port, http.port)).challenge()
    assert isinstance(event, Failed) and event.code is Code.PORTAL, event
    event = _client(line, line.at(tls.port)).challenge()  # nobody on port 80: somebody else's server
    assert isinstance(event, Failed) and event.code is Code.SERVER_KEY, event


def test_a_portal_that_drops_https_is_named_one(line: Line) -> None:
    http = line.serve(_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), None)
    event = _client(line, line.at(1, http.port)).challenge()
    assert isinstance(event, Failed) and event.code is Code.PORTAL, event


@pytest.mark.parametrize("blocked", [True, False])
def test_the_order_of_the_broker_s_ports_is_what_works(line: Line, tmp_path: Path, blocked: bool) -> None:
    broker = pki.server("mqtt.vigie.lab", SERVERS)
    first, second = line.serve(lambda s: s.recv(1) and None, broker), line.serve(lambda s: s.recv(1) and None, broker)
    if blocked:
        first.close()
    config, key = sim.box(tmp_path / "box", addresses={"mqtt.vigie.lab": "127.0.0.1"}, ports=Ports(http=1))
    authority = Authority(key.public_key())
    authority.ports = (first.port, second.port)
    client = _client(line, config, authority)
    for name in ("challenge", "prepare", "enrol", "keep", "confirm", "install"):
        event = getattr(client, name)()
        assert not isinstance(event, Failed | on.Refused), (name, event)
    ports = credentials.load(config.paths).mqtt_ports
    assert ports == ((second.port, first.port) if blocked else (first.port, second.port))
    assert client.notes == ((Code.MQTT_BLOCKED,) if blocked else ())
    second.close()
    client.order_ports()  # the broker is down, or one port of two: what worked last is kept first
    assert set(credentials.load(config.paths).mqtt_ports) == {first.port, second.port}
