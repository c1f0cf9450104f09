"""Boxes with real identities, registered at a real department; and a line to it that can be cut at each step."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lab.department import Department
from vigie.contract.identity import box_id
from vigie.enrol.codes import Code
from vigie.enrol.service import Service
from vigie.enrol.status import Status
from vigie.enrol.status import read as read_status
from vigie.host.boxconfig import BoxConfig, EnrolIntervals, Intervals, Paths, Ports
from vigie_provisioning.factory import book, identity
from vigie_provisioning.register import raw_public

MODEL = "vigie-cm4"
QUICK = EnrolIntervals(
    first_s=0.1, most_s=0.4, refused_s=0.5, time_s=3600, connect_s=3, read_s=3, look_s=0.1, hourly_s=1.0
)


@dataclass
class Factory:
    """Makes identities and registers them."""

    department: Department
    folder: Path
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    made: int = 0

    def __post_init__(self) -> None:
        operators = [{"name": "atelier", "public": raw_public(self.key).hex(), "since": 0}]
        (self.department.config.paths.etc / "operators.json").write_text(json.dumps({"v": 1, "operators": operators}))

    def box(self, *, known: bool = True) -> Box:
        """A new box."""
        self.made += 1
        serial = f"VG-T-{self.made:05d}"
        box = Box(self.department, self.folder / serial, serial)
        identity.create(box.config.paths.identity, serial=serial, model=MODEL, lot="essai")
        if known:
            self.register(box)
        return box

    def register(self, box: Box) -> None:
        """Into the register, and the register into the authority."""
        path = self.folder / "register.jsonl"
        label = json.loads((box.config.paths.identity / "box.json").read_text())
        article = book.Article(box.serial, label["claim_id"], box.service.identity().key.public_spki(), "", "", MODEL)
        book.append(path, self.key, "atelier", self.department.domain, article, int(time.time()))
        self.department.admin.import_register(path.read_text(), new=self.made == 1)


class _Cable:
    """br0 with a cable and an address."""

    def link(self, name: str) -> object:
        return _Link()

    def addresses(self, _index: int) -> list[object]:
        import ipaddress

        return [ipaddress.ip_interface("192.0.2.2/24")]


class _Link:
    index, carrier = 1, True


class Box:
    """A box on this machine: folders, configuration, its service in this process."""

    def __init__(self, department: Department, folder: Path, serial: str) -> None:
        self.department, self.serial = department, serial
        hosts = {name: "127.0.0.1" for name in (f"enrol.{department.domain}", f"mqtt.{department.domain}")}
        self.config = BoxConfig(
            department.domain,
            model=MODEL,
            set_clock=False,
            bridge="lo",
            paths=Paths(
                trust=department.config.paths.trust,
                identity=folder / "identity",
                state=folder / "state",
                filter_socket=folder / "filter.sock",
                run=folder / "run",
            ),
            ports=Ports(https=department.ports[0], http=1),
            addresses=hosts,
            intervals=Intervals(QUICK),
        )
        self._service: Service | None = None

    @property
    def service(self) -> Service:
        if self._service is None:
            self.restart()
        assert self._service is not None
        return self._service

    def restart(self) -> Service:
        """As after a power cut."""
        self._service = Service(self.config, _Cable())  # type: ignore[arg-type]
        self._service.start()
        return self._service

    def through(self, port: int) -> None:
        """Speaks to the authority through another port of the loopback."""
        self.config = replace(self.config, ports=replace(self.config.ports, https=port))
        self._service = None

    def copy(self, folder: Path) -> Box:
        """A thief's."""
        other = Box(self.department, folder, self.serial)
        shutil.copytree(self.config.paths.identity, other.config.paths.identity)
        if self.config.paths.enrol.exists():
            shutil.copytree(self.config.paths.enrol, other.config.paths.enrol, symlinks=True)
        return other

    def run(self, until: Callable[[], bool], seconds: float = 60.0) -> None:
        """Turns the service until it holds."""
        end = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < end, f"not within {seconds} s: {self.service.machine}, {self.status}"
            time.sleep(min(self.service.turn(), 0.05))

    def until(self, code: Code, seconds: float = 60.0) -> Status:
        """Turns until this is the reason."""
        self.run(lambda: self.service.machine.code is code and self.waits, seconds)
        return self.status

    @property
    def waits(self) -> bool:
        return self.service.waiting

    @property
    def status(self) -> Status:
        return read_status(self.config.paths.enrol)

    @property
    def box_id(self) -> str:
        return box_id(self.service.identity().key.public_spki())

    def renew(self) -> None:
        """The certificate in force is due now."""
        machine = self.service.machine
        assert machine.certificate is not None
        machine.certificate = replace(machine.certificate, renew_at=0.0)
        self.service.wake()

    def doubt(self) -> None:
        """As the link does when the broker refuses the certificate."""
        from vigie.enrol import credentials

        credentials.doubt(self.config.paths, credentials.load(self.config.paths).generation)

    def record(self) -> dict[str, object]:
        """What the authority knows."""
        return self.department.admin.show(self.serial)

    def events(self) -> list[str]:
        """Kinds of its events at the authority, oldest first."""
        found = self.record()["events"]
        assert isinstance(found, list)
        return [event["kind"] for event in reversed(found)]


class Scissors:
    """A TCP relay to the department that loses what it is told to.

    `lose` holds, per connection to come, "" (nothing), "request" (the client's second flight never arrives) or "reply"
    (what the server says after it never arrives). In TLS 1.3 the client's second flight holds the request.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.lose: list[str] = []
        self.lost: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _peer = self._socket.accept()
            except OSError:
                return
            what = self.lose.pop(0) if self.lose else ""
            threading.Thread(target=self._relay, args=(client, what), daemon=True).start()

    def _relay(self, client: socket.socket, what: str) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            heard, asked = threading.Event(), threading.Event()
            back = threading.Thread(target=self._back, args=(server, client, heard, asked, what), daemon=True)
            back.start()
            try:
                while data := client.recv(65536):
                    if heard.is_set():
                        asked.set()
                        if what == "request":
                            self.lost.append(what)
                            break
                    server.sendall(data)
            except OSError:
                pass
            if what != "reply":
                _shut(server)
            back.join(10)

    def _back(
        self, server: socket.socket, client: socket.socket, heard: threading.Event, asked: threading.Event, what: str
    ) -> None:
        try:
            while data := server.recv(65536):
                if what == "reply" and asked.is_set():
                    server.settimeout(1.0)
                    while server.recv(65536):
                        pass
                    break
                heard.set()  # before: the client may answer before this thread goes on
                client.sendall(data)
        except OSError:
            pass
        if what == "reply" and asked.is_set():
            self.lost.append(what)
        _shut(client)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
