"""An authority without sockets: the requests of boxes go straight to `Front`, the clock is the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support import authority as rooms
from tests.support.authority import Room
from tests.support.enrolbox import SimBox
from vigie.contract.enrolment import Refusal
from vigie_provisioning.authority import ca, schema
from vigie_provisioning.authority.attempts import Attempts
from vigie_provisioning.authority.front import Answer, Call, Front, Handler
from vigie_provisioning.authority.operations import Operations
from vigie_provisioning.authority.publishing import Publisher
from vigie_provisioning.authority.service import Publish, Service
from vigie_provisioning.authority.writer import Writer
from vigie_provisioning.jsonsocket import Peer


@dataclass
class Desk:
    """The authority's parts, and a box's way to it. `source` and `now` are what the test says."""

    room: Room
    writer: Writer
    reader: Any
    front: Front
    operations: Operations
    attempts: Attempts
    clock: list[float]
    published: list[Publish] = field(default_factory=list)

    def post(self, path: str, body: bytes, box: SimBox | None = None, source: str = "192.0.2.1") -> Answer:
        """A request; over TLS with the box's certificate when a box is given."""
        call = Call(body, source)
        if box is not None:
            assert box.credentials is not None
            call = Call(body, source, "SUCCESS", quote(box.credentials.chain[0]))
        handler: Handler = getattr(self.front, path)
        return self.run(self.front.answer(handler, call))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(work)

    def admin(self, op: str, **params: Any) -> Any:
        return self.run(self.operations.table()[op].handler(Peer(1, 0, 0), params))

    def enrol(self, box: SimBox, **how: Any) -> Answer:
        """Steps 1 and 2; the box keeps nothing of the answer."""
        box.take_challenge(self.post("challenge", box.ask_challenge()).body)
        return self.post("enrol", box.ask_enrol(**how))

    def join(self, box: SimBox) -> None:
        """Steps 1 to 3."""
        answer = self.enrol(box)
        assert answer.status == 200, answer
        box.take_reply(answer.body)
        answer = self.post("confirm", box.ask_confirm(), box)
        assert answer.status == 200, answer

    def code(self, answer: Answer) -> tuple[int, str]:
        return answer.status, "" if answer.status == 200 else Refusal.from_bytes(answer.body).code.value

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.admin("events") if not kinds or event["kind"] in kinds]

    def state(self, box: SimBox) -> str:
        return str(self.admin("show", serial=box.serial)["state"])

    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    room = rooms.make(tmp_path / "a")
    clock = [float(int(time.time()))]  # the keys just made are valid from now on
    authority = ca.load(room.config.places)
    writer = Writer(room.config.store)
    writer.start()
    reader = schema.open_reader(room.config.store)
    service = Service(authority, room.config.certificate_days)
    attempts = Attempts()
    publisher = Publisher(room.config, authority, writer, lambda: clock[0])
    published: list[Publish] = []
    front = Front(room.config, service, writer, reader, attempts, published.append, lambda: clock[0])
    operations = Operations(room.config, service, writer, reader, attempts, publisher, lambda: clock[0])
    desk = Desk(room, writer, reader, front, operations, attempts, clock, published)
    try:
        yield desk
    finally:
        desk._loop.close()
        reader.close()
        writer.stop()


@pytest.fixture
def boxes(desk: Desk) -> list[SimBox]:
    """Four purchased boxes, imported."""
    made = desk.room.buy(4)
    result = desk.admin("import", register=desk.room.register.decode())
    assert result["added"] == 4
    return made
