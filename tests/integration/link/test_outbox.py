"""Rows reach the department once, and leave the box only when it says so."""

from __future__ import annotations

from tests.integration.link.conftest import Fleet
from vigie.contract.upward import Alert
from vigie.contract.words import Kind, Order, Rule


def test_rows_arrive_and_go(fleet: Fleet) -> None:
    fleet.box.filter.add_alerts(50)
    fleet.department.wait(lambda: len(fleet.department.alerts()) == 50, "50 alerts")
    fleet.department.wait(lambda: fleet.box.filter.waiting == 0, "the outbox empty")


def test_a_puback_is_not_enough(fleet: Fleet) -> None:
    fleet.department.confirms = False
    fleet.box.filter.add_alerts(20)
    # 21: the broker acknowledged every row, and the box has sent them all again.
    fleet.department.wait(lambda: _heard(fleet) >= 40, "sent twice")
    assert fleet.box.filter.waiting == 20
    fleet.department.confirms = True
    fleet.department.wait(lambda: fleet.box.filter.waiting == 0, "the outbox empty")
    assert len(fleet.department.alerts()) == 20


def test_broker_killed_with_a_backlog(idle: Fleet) -> None:
    """kill -9 of the broker while rows are on their way, and nobody confirmed any."""
    box, department, servers = idle.box, idle.department, idle.servers
    box.filter.add_alerts(600)
    department.confirms = False
    box.start()
    department.wait(lambda: _heard(idle) >= 50, "some rows under way")
    servers.broker.kill()
    department.confirms = True
    servers.start_broker()
    department.wait(lambda: len(department.alerts()) == 600, "all rows", 60.0)
    department.wait(lambda: box.filter.waiting == 0, "the outbox empty")


def test_alert_does_not_wait_for_the_backlog(idle: Fleet) -> None:
    idle.box.with_times(drain_per_s=2.0, confirm_s=60.0)
    idle.box.filter.add_alerts(300)
    idle.box.start()
    idle.department.wait(lambda: bool(idle.department.alerts()), "a first row")
    idle.box.filter.add_alerts(1, severity=3, indicator="now.example")
    idle.department.wait(lambda: _indicator(idle, "now.example"), "the live alert")
    assert len(idle.department.alerts()) < 300


def test_rows_of_a_link_that_died(idle: Fleet) -> None:
    """Handed over, sent, never confirmed; the link restarts with rows behind and beside them."""
    idle.department.confirms = False
    idle.box.filter.add_alerts(250)
    idle.box.start()
    idle.department.wait(lambda: _heard(idle) >= 100, "a window of rows")
    idle.box.filter.add_alerts(5, indicator="live.example")
    idle.department.wait(lambda: b"live.example" in _payloads(idle), "live rows before the backlog")
    idle.box.vanish()
    idle.department.confirms = True
    idle.box.start()
    idle.department.wait(lambda: len(idle.department.alerts()) == 255, "all rows")
    idle.department.wait(lambda: idle.box.filter.waiting == 0, "the outbox empty")


def test_what_does_not_follow_the_schema_stays(idle: Fleet) -> None:
    """A row with a host name in it never leaves; the rows after it do, and the department is told a number."""
    idle.box.filter.add_alerts(10)
    idle.box.filter.spoil()
    idle.box.start()
    told = lambda: [m for m in idle.department.alerts() if m.body.rule is Rule.SCHEMA_REFUSED]  # type: ignore[union-attr]  # noqa: E731
    idle.department.wait(lambda: len(told()) == 1, "told of the refused row")
    idle.department.wait(lambda: len(idle.department.alerts()) == 10, "the nine others and the alert")
    body = told()[0].body
    assert isinstance(body, Alert)
    assert (body.count, body.indicator, body.device) == (1, None, None)
    assert b"pc-accueil" not in _payloads(idle)
    idle.department.wait(lambda: idle.box.filter.waiting == 0, "the outbox empty")


def test_a_broker_cannot_make_the_box_forget(fleet: Fleet) -> None:
    """`received` far beyond what was sent deletes nothing that was not."""
    boot = fleet.box.filter.journal.outbox.boot
    topic = f"vigie/v1/{fleet.box.name}/down/received"
    fleet.department.say(topic, b'{"v":1,"boot":"%s","upto":9007199254740991}' % boot.encode())
    fleet.department.say(topic, b'{"v":1,"boot":"nonsense"')
    fleet.department.order(fleet.box.name, b"nonsense")  # its answer says that what came before it has been read
    fleet.department.wait(lambda: bool(fleet.department.acks(Order.DESIRED)), "an answer")
    fleet.department.wait(lambda: fleet.box.filter.waiting == 0, "the outbox empty")
    fleet.department.confirms = False
    fleet.box.filter.add_alerts(3)
    fleet.department.wait(lambda: _heard(fleet) >= 3, "the rows sent")
    assert fleet.box.filter.waiting == 3


def _heard(fleet: Fleet) -> int:
    return sum(topic.endswith(f"/{Kind.ALERT.value}") for topic, _payload in list(fleet.department.session.heard))


def _payloads(fleet: Fleet) -> bytes:
    return b"\n".join(payload for _topic, payload in list(fleet.department.session.heard))


def _indicator(fleet: Fleet, indicator: str) -> bool:
    return any(isinstance(m.body, Alert) and m.body.indicator == indicator for m in fleet.department.alerts())
