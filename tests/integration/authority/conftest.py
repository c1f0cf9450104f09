"""The real authority behind the product's nginx, over TLS on the loopback."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from lab.department import Department, open_department
from tests.support import authority as rooms
from tests.support.authority import Room
from tests.support.enrolbox import Credentials, SimBox, public_der
from vigie.contract.enrolment import Refusal
from vigie_provisioning.authority import config as configuration


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/integration/authority/" in str(item.path):
            item.add_marker(pytest.mark.integration)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came: `head` without its date."""

    status: int
    head: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def code(self) -> str:
        return "" if self.status == 200 else Refusal.from_bytes(self.body).code.value


@dataclass
class Town:
    """A department and how boxes reach it. Each box has an address of its own."""

    department: Department
    room: Room
    folder: Path
    addresses: dict[str, str] = field(default_factory=dict)

    def buy(self, number: int) -> list[SimBox]:
        """Boxes in the register, imported."""
        boxes = self.room.buy(number)
        self.department.admin.import_register(self.room.register.decode(), new=True)
        return boxes

    def address(self, serial: str) -> str:
        number = len(self.addresses)
        return self.addresses.setdefault(serial, f"127.2.{1 + number // 250}.{1 + number % 250}")

    def open(self, box: SimBox, credentials: Credentials | None = None) -> http.client.HTTPSConnection:
        """A TLS connection; the box remembers which key it saw."""
        context = ssl.create_default_context(cafile=str(self.department.config.paths.pki / "roots.pem"))
        if credentials is not None:
            chain, key = self.folder / "chain.pem", self.folder / "key.pem"
            chain.write_text("".join(credentials.chain))
            key.write_bytes(credentials.key_pem())
            context.load_cert_chain(chain, key)
        host, port = self.department.config.enrol_host, self.department.config.ports.https
        raw = socket.create_connection(("127.0.0.1", port), 20.0, (self.address(box.serial), 0))
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body go as two writes
        connection = http.client.HTTPSConnection(host, context=context)
        sock = context.wrap_socket(raw, server_hostname=host)
        connection.sock = sock
        certificate = sock.getpeercert(binary_form=True)
        assert certificate is not None
        box.spki = public_der(x509.load_der_x509_certificate(certificate))
        return connection

    def post(
        self, path: str, body: bytes, box: SimBox, credentials: Credentials | None = None, *, lose: bool = False
    ) -> Reply:
        """A request on a connection of its own. lose: the box loses power before the answer comes."""
        connection = self.open(box, credentials)
        try:
            connection.request("POST", f"/v1/{path}", body)
            if lose:
                time.sleep(0.15)
                return Reply(0, (), b"")
            answer = connection.getresponse()
            content = answer.read()
            head = tuple((name, value) for name, value in answer.getheaders() if name.lower() != "date")
            return Reply(answer.status, head, content)
        finally:
            connection.close()

    def enrol(self, box: SimBox, **how: object) -> Reply:
        """Steps 1 and 2; the box keeps nothing of the answer."""
        box.take_challenge(self.post("challenge", box.ask_challenge(), box).body)
        return self.post("enrol", box.ask_enrol(**how), box)  # type: ignore[arg-type]

    def confirm(self, box: SimBox) -> Reply:
        return self.post("confirm", box.ask_confirm(), box, box.credentials)

    def join(self, box: SimBox) -> None:
        """Steps 1 to 3."""
        reply = self.enrol(box)
        assert reply.status == 200, reply
        box.take_reply(reply.body)
        assert self.confirm(box).status == 200

    def state(self, box: SimBox) -> str:
        return str(self.department.admin.show(box.serial)["state"])

    def issued(self, box: SimBox) -> int:
        return len(self.department.admin.show(box.serial)["certificates"])


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One department for the session; each test buys boxes of its own."""
    with open_department(services=("authority", "web")) as department:
        config = configuration.load(department.config.paths.authority_config)
        room = rooms.hired(config, department.config.paths.authority_config, department.config.paths.offline)
        yield Town(department, room, tmp_path_factory.mktemp("boxes"))
