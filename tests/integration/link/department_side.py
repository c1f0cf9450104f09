"""The department as a box sees it: hears everything, keeps each row once, confirms by the contract's rule."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.support.certificates import Client
from tests.support.servers import Servers, eventually
from vigie.contract import topics
from vigie.contract.downward import Received
from vigie.contract.envelope import Upward
from vigie.contract.upward import Ack, Offline, State
from vigie.contract.words import Kind
from vigie.contract.words import Order as Direction


class DepartmentSide:
    """Context manager. `confirms` False: hears and commits nothing, as a dead ingest behind a living broker."""

    def __init__(self, servers: Servers, client: Client) -> None:
        self.servers, self.client = servers, client
        self.confirms = True
        self.rows: dict[tuple[str, str, int], Upward] = {}
        self.copies: Counter[tuple[str, str, int]] = Counter()
        self.states: list[State | Offline] = []
        self.uptos: dict[tuple[str, str], int] = {}
        self.correct: list[str] = []
        self._ending = threading.Event()
        self._at = 0

    def __enter__(self) -> DepartmentSide:
        self.session = self.servers.session(self.client, topics.ALL_UP)
        self.session.__enter__()
        self._thread = threading.Thread(target=self._serve, name="ingest")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(60)
        self.session.__exit__(None, None, None)

    def _serve(self) -> None:
        while not self._ending.wait(0.01):
            while self._at < len(self.session.heard):
                topic, payload = self.session.heard[self._at]
                self._at += 1
                self._take(topic, payload)

    def _take(self, topic: str, payload: bytes) -> None:
        where = topics.parse(topic)
        assert isinstance(where, topics.Up)
        message = Upward.from_bytes(where.kind, payload)
        if where.kind is Kind.STATE:
            assert isinstance(message.body, State | Offline)
            self.states.append(message.body)
            return
        if not self.confirms:
            return
        key = (where.box, message.boot, message.seq)
        self.copies[key] += 1
        self.rows.setdefault(key, message)
        upto = self.uptos.get(key[:2], 0)
        assert message.prev is not None
        if message.prev <= upto:
            upto = max(upto, message.seq)
            while (where.box, message.boot, upto + 1) in self.rows:
                upto += 1
            self.uptos[key[:2]] = upto
        if upto:
            self.say(topics.down(where.box, Direction.RECEIVED), Received(message.boot, upto).to_bytes())

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.session._client.publish(topic, payload, 1, retain)

    def order(self, box: str, envelope: bytes) -> None:
        """A desired state, retained."""
        self.say(topics.down(box, Direction.DESIRED), envelope, retain=True)

    def command(self, box: str, envelope: bytes) -> None:
        self.say(topics.down(box, Direction.COMMAND), envelope)

    def acks(self, order: Direction) -> list[Ack]:
        found = [m.body for _key, m in sorted(self.rows.items(), key=lambda item: item[0][2])]
        return [b for b in found if isinstance(b, Ack) and b.order is order]

    def alerts(self) -> list[Upward]:
        return [m for m in list(self.rows.values()) if m.kind is Kind.ALERT]

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        def evidence() -> str:
            acks = [m.body for m in list(self.rows.values()) if isinstance(m.body, Ack)]
            return f"not {what}; {len(self.rows)} rows, acks {acks}, states {self.states[-3:]}"

        eventually(holds, evidence, seconds)

    def wait_ack(self, order: Direction, holds: Callable[[Ack], bool], what: str) -> Ack:
        self.wait(lambda: any(holds(a) for a in self.acks(order)), what)
        return next(a for a in self.acks(order) if holds(a))


Fields = dict[str, Any]
