"""Commands: done once, answered by their id, with consent where it is needed."""

from __future__ import annotations

import json
import socket
import time
import uuid
from typing import Any

from tests.integration.link.conftest import Fleet
from tests.support.servers import eventually
from vigie.contract import dsse
from vigie.contract.downward import Announcement
from vigie.contract.upward import Ack, Diagnostic
from vigie.contract.words import Code, Kind, Order, Result


def ident() -> str:
    return uuid.uuid4().hex


def send(fleet: Fleet, number: str, op: str, **changes: Any) -> bytes:
    envelope = fleet.box.signed(fleet.box.command(number, op, **changes), dsse.COMMAND_TYPE)
    fleet.department.command(fleet.box.name, envelope)
    return envelope


def answer(fleet: Fleet, number: str) -> Ack:
    return fleet.department.wait_ack(Order.COMMAND, lambda a: a.id == number, f"an answer to {number}")


def refusal(fleet: Fleet, code: Code) -> Ack:
    return fleet.department.wait_ack(Order.COMMAND, lambda a: a.code is code, f"refused: {code.value}")


def test_self_test(fleet: Fleet) -> None:
    number = ident()
    send(fleet, number, "self-test")
    assert answer(fleet, number).result is Result.DONE
    fleet.box.filter.passes = False
    number = ident()
    send(fleet, number, "self-test")
    assert (answer(fleet, number).result, answer(fleet, number).code) == (Result.FAILED, Code.TEST_FAILED)


def test_replayed_command_is_done_once(fleet: Fleet) -> None:
    number = ident()
    envelope = send(fleet, number, "self-test")
    answer(fleet, number)
    fleet.department.command(fleet.box.name, envelope)
    assert refusal(fleet, Code.REPLAYED).id == number
    fleet.box.vanish()
    fleet.box.start()
    fleet.department.command(fleet.box.name, envelope)
    fleet.department.wait(
        lambda: sum(a.code is Code.REPLAYED for a in fleet.department.acks(Order.COMMAND)) == 2, "refused again"
    )
    assert fleet.box.filter.self_tests == 1


def test_foreign_command(fleet: Fleet) -> None:
    send(fleet, ident(), "self-test", box="vg-" + "b" * 16)
    assert refusal(fleet, Code.FOREIGN).id == ""
    assert fleet.box.filter.self_tests == 0


def test_expired_command(fleet: Fleet) -> None:
    now = int(time.time())
    number = ident()
    send(fleet, number, "self-test", issued=now - 700, expires=now - 60)
    assert refusal(fleet, Code.EXPIRED).id == number


def test_command_for_a_year(fleet: Fleet) -> None:
    now = int(time.time())
    send(fleet, ident(), "self-test", issued=now, expires=now + 365 * 86_400)
    refusal(fleet, Code.LIFETIME)


def test_desired_signature_on_a_command(fleet: Fleet) -> None:
    envelope = fleet.box.signed(fleet.box.command(ident(), "self-test"), dsse.DESIRED_TYPE)
    fleet.department.command(fleet.box.name, envelope)
    refusal(fleet, Code.SIGNATURE)
    assert fleet.box.filter.self_tests == 0


def test_unknown_op(fleet: Fleet) -> None:
    number = ident()
    send(fleet, number, "reboot-everything")
    assert refusal(fleet, Code.UNKNOWN_OP).id == number


def test_restart_of_a_service(fleet: Fleet) -> None:
    number = ident()
    send(fleet, number, "restart", args={"service": "update"})
    assert answer(fleet, number).result is Result.DONE
    assert (fleet.box.config.paths.run_link / "restart" / "update").is_file()


def test_restart_of_something_else(fleet: Fleet) -> None:
    send(fleet, ident(), "restart", args={"service": "../../etc/passwd"})
    refusal(fleet, Code.MALFORMED)
    assert not (fleet.box.config.paths.run_link / "restart").exists()


def test_diagnostics_only_with_consent(fleet: Fleet) -> None:
    number = ident()
    send(fleet, number, "diagnostics")
    assert answer(fleet, number).code is Code.NO_CONSENT
    assert _diagnostics(fleet) == []

    now = int(time.time())
    consent = fleet.box.config.paths.link / "consent.json"
    consent.write_text(json.dumps({"v": 1, "at": now - 5, "until": now + 3600}))
    number = ident()
    send(fleet, number, "diagnostics", args={"items": ["versions", "filter"]})
    assert answer(fleet, number).result is Result.DONE
    fleet.department.wait(lambda: len(_diagnostics(fleet)) == 1, "the diagnostic")
    found = _diagnostics(fleet)[0]
    assert (found.command, found.consent.at, set(found.items)) == (number, now - 5, {"versions", "filter"})
    assert "vigie 0.1.0" in found.items["versions"]

    consent.write_text(json.dumps({"v": 1, "at": now - 90_000, "until": now + 3600}))
    number = ident()
    send(fleet, number, "diagnostics")
    assert answer(fleet, number).code is Code.NO_CONSENT


def test_answer_carries_the_correlation_data(fleet: Fleet) -> None:
    found: list[tuple[str, bytes]] = []
    client = fleet.department.session._client
    before = client.on_message

    def listen(c: Any, u: Any, message: Any) -> None:
        data = getattr(message.properties, "CorrelationData", None)
        if data is not None:
            found.append((message.topic, data))
        before(c, u, message)  # type: ignore[misc]

    client.on_message = listen
    number = ident()
    send(fleet, number, "self-test")
    answer(fleet, number)
    assert found == [(f"vigie/v1/{fleet.box.name}/up/{Kind.ACK.value}", number.encode())]


def test_announcement_pokes_the_updater(fleet: Fleet) -> None:
    """One datagram; without anybody there nothing happens, and the link goes on."""
    announcement = Announcement(8, int(time.time())).to_bytes()
    fleet.department.say("vigie/v1/all/down/base", announcement)
    number = ident()
    send(fleet, number, "self-test")
    answer(fleet, number)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        fleet.box.config.paths.run_update.mkdir(parents=True)
        sock.bind(str(fleet.box.config.paths.run_update / "update.sock"))
        sock.settimeout(10)
        fleet.department.say("vigie/v1/all/down/base", announcement)
        assert sock.recv(64) == b"look"


def test_orders_of_a_box_that_was_away(fleet: Fleet) -> None:
    """The broker keeps commands for a box that is away; expired ones are refused when they come."""
    fleet.box.stop()
    now = int(time.time())
    late, soon = ident(), ident()
    send(fleet, late, "self-test", issued=now, expires=now + 1)
    send(fleet, soon, "self-test")
    eventually(lambda: time.time() > now + 2, "two seconds")
    fleet.box.start()
    assert answer(fleet, soon).result is Result.DONE
    assert answer(fleet, late).code is Code.EXPIRED
    assert fleet.box.filter.self_tests == 1


def _diagnostics(fleet: Fleet) -> list[Diagnostic]:
    return [m.body for m in list(fleet.department.rows.values()) if isinstance(m.body, Diagnostic)]
