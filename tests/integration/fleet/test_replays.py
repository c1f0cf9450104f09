"""A broker that was taken over repeats what it once carried, to whom it likes: boxes change nothing and say so."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.capture import Capture
from tests.integration.fleet.box_side import BoxSide
from tests.integration.fleet.conftest import Town
from vigie.contract.topics import down
from vigie.contract.words import Code, Order


@pytest.fixture
def capture(town: Town) -> Iterator[Capture]:
    """What boxes publish, as the broker gets it."""
    heard = Capture(town.department.config)
    heard.start()
    yield heard
    heard.stop()


def test_an_old_order_of_the_same_box_and_one_of_another(
    town: Town, new_box: Callable[[], BoxSide], capture: Capture
) -> None:
    box, other = _linked(new_box), _linked(new_box)
    first = _order(town, box, "one.example")
    second = _order(town, box, "two.example")
    _order(town, other, "three.example")
    stolen = _envelope(town, other)
    assert second > first
    shown = box.filter.call("department-show")
    kept = {payload for _topic, payload in _carried(town, box)}
    (old,) = [payload for payload in kept if _version(payload) == first]

    _publish(town, down(box.name, Order.DESIRED), old, retain=True)
    _told(capture, box, Order.DESIRED, Code.OLDER)
    box.until(lambda: _reported(town, box) == (second, "in_force", "older"), "the department sees what it refused")
    query = "SELECT DISTINCT result FROM console_desiredstate WHERE box_id = ? AND version IN (?, ?)"
    assert town.rows(query, box.name, first, second) == [("in_force",)], "a replay rewrote what was in force once"
    _publish(town, down(box.name, Order.DESIRED), stolen, retain=True)
    _told(capture, box, Order.DESIRED, Code.FOREIGN)
    assert box.filter.call("department-show") == shown
    # The lie is what the broker keeps: the box finds it again after a restart.
    box.stop("link")
    box.filter.stop()
    box.filter.start()
    box.start("link")
    box.until_code("connected")
    assert box.filter.call("department-show")["version"] == second
    assert _order(town, box, "four.example") > second
    assert box.filter.call("department-show")["exceptions"] == 3
    assert other.filter.call("department-show")["exceptions"] == 1


def test_a_command_again_and_one_of_another_box(town: Town, new_box: Callable[[], BoxSide], capture: Capture) -> None:
    box, other = _linked(new_box), _linked(new_box)
    restarted = box.enrolled.config.paths.run_link / "restart" / "update"
    for one in (box, other):
        town.department.cli("command", "restart", one.name, "update").require()
        one.until(lambda: _commands(town) == [], "the command was done")
    envelopes = {one.name: town.rows("SELECT envelope FROM console_command WHERE box_id = ?", one.name)[0][0]
                 for one in (box, other)}  # fmt: skip
    restarted.unlink()
    for envelope, code in ((envelopes[box.name], Code.REPLAYED), (envelopes[other.name], Code.FOREIGN)):
        _publish(town, down(box.name, Order.COMMAND), bytes(envelope))
        _told(capture, box, Order.COMMAND, code)
        assert not restarted.exists()
    states = town.rows("SELECT state, code FROM console_command WHERE box_id IN (?, ?)", box.name, other.name)
    assert states == [("done", ""), ("done", "")], "a replay changed what the department knows"


# -- steps ---------------------------------------------------------------------------------------------------------


def _linked(new_box: Callable[[], BoxSide]) -> BoxSide:
    box = new_box()
    box.enrol()
    box.start("link")
    box.until_code("connected")
    return box


def _order(town: Town, box: BoxSide, target: str) -> int:
    """An exception by the department's own command, in force; the version of the document."""
    before = int(box.filter.call("department-show")["version"])
    town.department.cli("exception", "add", target, "--box", box.name, "--for", "1j", "--why", "essai").require()

    def in_force() -> bool:
        shown = box.filter.call("department-show")
        (row,) = town.rows("SELECT max(version) FROM console_desiredstate WHERE box_id = ?", box.name)
        return bool(shown["version"] == row[0] > before)

    box.until(in_force, f"{target} in force")
    return int(box.filter.call("department-show")["version"])


def _envelope(town: Town, box: BoxSide) -> bytes:
    rows = town.rows("SELECT envelope FROM console_desiredstate WHERE box_id = ? ORDER BY version", box.name)
    return bytes(rows[-1][0])


def _carried(town: Town, box: BoxSide) -> list[tuple[str, bytes]]:
    """What the department sent to that box."""
    rows = town.rows("SELECT topic, payload FROM console_outgoing WHERE topic = ?", down(box.name, Order.DESIRED))
    return [(topic, bytes(payload)) for topic, payload in rows]


def _version(envelope: bytes) -> int:
    from vigie.contract import dsse

    return int(json.loads(dsse.Envelope.from_bytes(envelope).payload)["version"])


def _publish(town: Town, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Through the department's own session: the box cannot tell it from a broker that lies."""
    path = town.department.config.paths.data / "console.db"
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as database, database:
        database.execute(
            "INSERT INTO console_outgoing (topic, payload, retain, response_topic, correlation, created) "
            "VALUES (?, ?, ?, '', '', '2026-01-01 00:00:00')",
            (topic, payload, retain),
        )


def _acks(capture: Capture, box: BoxSide) -> list[dict[str, Any]]:
    return [json.loads(m.payload) for m in capture.messages if m.topic == f"vigie/v1/{box.name}/up/ack"]


def _told(capture: Capture, box: BoxSide, order: Order, code: Code) -> None:
    """Until the box has refused an order for that reason."""
    wanted = (order.value, code.value)
    box.until(lambda: wanted in {(ack["order"], ack["code"]) for ack in _acks(capture, box)}, f"refusal {wanted}")


def _reported(town: Town, box: BoxSide) -> tuple[Any, ...]:
    query = "SELECT desired_version, desired_status, desired_refused FROM console_boxstatus WHERE box_id = ?"
    return town.rows(query, box.name)[0]


def _commands(town: Town) -> list[tuple[Any, ...]]:
    """Commands that nobody has answered."""
    return town.rows("SELECT id, state FROM console_command WHERE state != 'done'")
