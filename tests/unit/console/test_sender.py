"""Orders are marked as sent when the broker has acknowledged them, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from vigie_department.config import Config
from vigie_department.console import outgoing
from vigie_department.console.models import Outgoing
from vigie_department.ingest.broker import Broker
from vigie_department.ingest.sender import Sender

pytestmark = pytest.mark.usefixtures("db")


class Wire:
    """A session's face towards the sender: gives out identifiers; `during` runs before `publish` returns."""

    connected = True

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)
        self.during: Callable[[int], None] = lambda _mid: None

    def publish(self, *_: Any, **__: Any) -> int:
        mid = self.numbers.pop(0)
        self.during(mid)
        return mid


@pytest.fixture
def sender(config: Config) -> Sender:
    return Sender(config)


def sent() -> list[bool]:
    return [row.sent is not None for row in Outgoing.objects.order_by("id")]


def use(sender: Sender, wire: Wire) -> None:
    sender.broker = cast("Broker", wire)


def test_an_answer_to_something_else_is_not_the_answer_to_a_later_order(sender: Sender) -> None:
    """Confirmations go out by the same session at QoS 0, and identifiers come round again."""
    use(sender, Wire(5))
    for mid in range(1, 100):
        sender.published(mid, True)
    outgoing.enqueue("vigie/v1/all/down/base", b"{}")
    sender._round()
    sender._round()
    assert sent() == [False]
    sender.published(5, True)
    sender._round()
    assert sent() == [True]


def test_an_answer_may_overtake_the_identifier(sender: Sender) -> None:
    wire = Wire(7, 8)
    wire.during = lambda mid: sender.published(mid, mid == 7)
    use(sender, wire)
    outgoing.enqueue("vigie/v1/all/down/base", b"{}")
    outgoing.enqueue("vigie/v1/all/down/base", b"{}")
    sender._round()
    wire.connected = False
    sender._round()
    assert sent() == [True, False]
    assert sender.refused == 1
