"""Desired states against a real broker: in force, kept, repaired; what is old, foreign or forged is refused."""

from __future__ import annotations

import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.link.conftest import Fleet
from tests.integration.link.filter_side import CAMERA
from tests.support.servers import eventually
from vigie.contract import dsse, limits
from vigie.contract.upward import Ack, Offline, State
from vigie.contract.words import Code, DesiredStatus, FilterHealth, Order, Result
from vigie.errors import JournalError
from vigie.filter.department import Orders
from vigie.filter.outbox import Outbox

HOUR, DAY = 3600, 86_400


def order(fleet: Fleet, version: int, *signers: Ed25519PrivateKey, **changes: object) -> None:
    fleet.department.order(
        fleet.box.name, fleet.box.signed(fleet.box.desired(version, **changes), dsse.DESIRED_TYPE, *signers)
    )


def ack_of(fleet: Fleet, version: int) -> Ack:
    return fleet.department.wait_ack(Order.DESIRED, lambda a: a.id == version, f"an answer to version {version}")


def refusal(fleet: Fleet, code: Code) -> Ack:
    return fleet.department.wait_ack(Order.DESIRED, lambda a: a.code is code, f"refused: {code.value}")


def in_force(fleet: Fleet) -> int:
    return int(fleet.box.filter.department.to_json()["version"])


def test_in_force_answered_and_reported(fleet: Fleet) -> None:
    until = int(time.time()) + DAY
    allow = {"action": "allow", "target": "service.example", "until": until, "note": "cantine"}
    contact = {"phone": "+33 4 00 00 00 00", "name": "DSI"}
    order(fleet, 1, exceptions=[allow], settings={"volunteer": True, "contact": contact})
    assert ack_of(fleet, 1).result is Result.IN_FORCE
    assert in_force(fleet) == 1
    fleet.department.wait(
        lambda: any(isinstance(s, State) and s.desired.version == 1 for s in fleet.department.states),
        "told in the state",
    )
    kept = json.loads((fleet.box.config.paths.link / "settings.json").read_bytes())
    assert (kept["volunteer"], kept["contact"], kept["version"]) == (True, contact, 1)


def test_quarantine_by_pseudonym(fleet: Fleet) -> None:
    """The department never learns the MAC; the filter finds the device."""
    now = int(time.time())
    name = fleet.box.filter.pseudonyms.name(CAMERA)
    order(fleet, 1, quarantine=[{"device": name, "until": now + HOUR}])
    assert ack_of(fleet, 1).result is Result.IN_FORCE
    assert [q["mac"] for q in fleet.box.filter.department.to_json()["quarantine"]] == [CAMERA]


def test_partly_refused_names_the_part(fleet: Fleet) -> None:
    until = int(time.time()) + DAY
    exceptions = [
        {"action": "allow", "target": "a.example", "until": until, "note": ""},
        {"action": "block", "target": "198.51.0.0/16", "until": until, "note": ""},
    ]
    order(fleet, 1, exceptions=exceptions)
    answer = ack_of(fleet, 1)
    assert (answer.result, answer.detail) == (Result.PARTIAL, ("exceptions[1]:prefix-too-short",))


def test_replayed_older_order(fleet: Fleet) -> None:
    """A broker that keeps version 1 and brings it back."""
    old = fleet.box.signed(fleet.box.desired(1))
    fleet.department.order(fleet.box.name, old)
    ack_of(fleet, 1)
    order(fleet, 2)
    ack_of(fleet, 2)
    fleet.department.order(fleet.box.name, old)
    assert refusal(fleet, Code.OLDER).id == 1
    assert in_force(fleet) == 2


def test_older_order_after_a_restart(fleet: Fleet) -> None:
    old = fleet.box.signed(fleet.box.desired(4))
    order(fleet, 5)
    ack_of(fleet, 5)
    fleet.box.stop()
    fleet.department.order(fleet.box.name, old)
    fleet.box.start()
    assert refusal(fleet, Code.OLDER).id == 4
    assert in_force(fleet) == 5


def test_same_order_again_is_answered_once(fleet: Fleet) -> None:
    order(fleet, 3)
    ack_of(fleet, 3)
    fleet.box.stop()
    fleet.box.start()  # the retained order is delivered again
    order(fleet, 4)
    ack_of(fleet, 4)
    assert [a.id for a in fleet.department.acks(Order.DESIRED)] == [3, 4]


def test_order_for_another_box(fleet: Fleet) -> None:
    order(fleet, 1, box="vg-" + "a" * 16)
    assert refusal(fleet, Code.FOREIGN).id == 0
    assert in_force(fleet) == 0


def test_expired_order(fleet: Fleet) -> None:
    now = int(time.time())
    order(fleet, 1, issued=now - 2 * DAY, expires=now - DAY)
    assert refusal(fleet, Code.EXPIRED).result is Result.EXPIRED
    assert in_force(fleet) == 0


def test_signature_broken(fleet: Fleet) -> None:
    envelope = json.loads(fleet.box.signed(fleet.box.desired(1)))
    sig = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("B" if sig[0] == "A" else "A") + sig[1:]
    fleet.department.order(fleet.box.name, json.dumps(envelope).encode())
    assert refusal(fleet, Code.SIGNATURE).id == 0


def test_signed_by_a_stranger(fleet: Fleet) -> None:
    payload = json.dumps(fleet.box.desired(1)).encode()
    fleet.department.order(
        fleet.box.name, dsse.sign(payload, dsse.DESIRED_TYPE, Ed25519PrivateKey.generate()).to_bytes()
    )
    refusal(fleet, Code.SIGNATURE)


def test_offline_key_alone_is_not_enough(fleet: Fleet) -> None:
    payload = json.dumps(fleet.box.desired(1)).encode()
    fleet.department.order(fleet.box.name, dsse.sign(payload, dsse.DESIRED_TYPE, *fleet.box.keys.offline).to_bytes())
    refusal(fleet, Code.SIGNATURE)


def test_command_signature_on_a_desired_state(fleet: Fleet) -> None:
    fleet.department.order(fleet.box.name, fleet.box.signed(fleet.box.desired(1), dsse.COMMAND_TYPE))
    refusal(fleet, Code.SIGNATURE)


def test_nonsense(fleet: Fleet) -> None:
    fleet.department.order(fleet.box.name, b"\xff\xfe not json")
    assert refusal(fleet, Code.MALFORMED).id == 0


def test_a_broker_that_floods(fleet: Fleet) -> None:
    """Nonsense without end costs some answers an hour; good orders still get through."""
    for i in range(200):
        fleet.department.order(fleet.box.name, b"nonsense %d" % i)
        fleet.department.command(fleet.box.name, b"nonsense %d" % i)
    order(fleet, 1)
    assert ack_of(fleet, 1).result is Result.IN_FORCE
    answers = fleet.department.acks(Order.DESIRED) + fleet.department.acks(Order.COMMAND)
    assert len(answers) <= 31, len(answers)


# ---- the online key in an attacker's hands ---------------------------------------------------------------------

STOLEN = {
    "a year and a half": (dict(expires=401 * DAY), Code.LIFETIME),
    "from the future": (dict(issued=DAY, expires=2 * DAY), Code.NOT_YET),
    "all the numbers": (dict(version=2**53 - 1), Code.VERSION_JUMP),
    "six boxes at once": (dict(mass=6), Code.MASS_UNSIGNED),
}  # fmt: skip


@pytest.mark.parametrize("name", STOLEN)
def test_stolen_key_whole_order(fleet: Fleet, name: str) -> None:
    changes, code = STOLEN[name]
    now = int(time.time())
    fields: dict[str, object] = {k: now + v for k, v in changes.items() if k in ("issued", "expires")}
    version = changes.get("version", 1)
    if "mass" in changes:
        others = ["vg-" + c * 16 for c in "abcde"]
        fields |= {"mass": {"boxes": [fleet.box.name, *others]}, "isolation": {"level": 3, "until": now + HOUR}}
    order(fleet, version, **fields)
    refusal(fleet, code)
    assert in_force(fleet) == 0
    assert fleet.box.filter.department.to_json()["isolation"]["level"] == 0


PARTS = {
    "isolation for a day": (dict(isolation={"level": 3, "until": DAY}), "isolation:temporary-too-long"),
    "quarantine for a day": (
        dict(quarantine=[{"device": "d-" + "0" * 16, "until": DAY}]),
        "quarantine[0]:temporary-too-long",
    ),
    "block half of the internet": (dict(exceptions=[("block", "0.0.0.0/1")]), "exceptions[0]:prefix-too-short"),
    "block a wide IPv6 prefix": (dict(exceptions=[("block", "2001:db8::/32")]), "exceptions[0]:prefix-too-short"),
    "allow everything": (dict(exceptions=[("allow", "0.0.0.0/0")]), "exceptions[0]:prefix-too-short"),
    "never block anything": (dict(never_block=["::/0"]), "never_block[0]:prefix-too-short"),
}


@pytest.mark.parametrize("name", PARTS)
def test_stolen_key_parts(fleet: Fleet, name: str) -> None:
    changes, detail = PARTS[name]
    now = int(time.time())
    fields = dict(changes)
    if "exceptions" in fields:
        fields["exceptions"] = [
            {"action": action, "target": target, "until": now + HOUR, "note": ""}
            for action, target in fields["exceptions"]
        ]
    if "isolation" in fields:
        fields["isolation"] = fields["isolation"] | {"until": now + fields["isolation"]["until"]}
    if "quarantine" in fields:
        fields["quarantine"] = [q | {"until": now + q["until"]} for q in fields["quarantine"]]
    order(fleet, 1, **fields)
    answer = ack_of(fleet, 1)
    assert answer.result is Result.PARTIAL
    assert detail in answer.detail
    shown = fleet.box.filter.department.to_json()
    assert (shown["isolation"]["level"], shown["quarantine"], shown["exceptions"]) == (0, [], 0)


def test_too_many_exceptions_is_no_order(fleet: Fleet) -> None:
    until = int(time.time()) + HOUR
    many = [{"action": "block", "target": f"192.0.2.{i % 250}", "until": until, "note": ""} for i in range(201)]
    order(fleet, 1, exceptions=many)
    refusal(fleet, Code.MALFORMED)
    assert in_force(fleet) == 0


def test_mass_order_with_offline_signatures(fleet: Fleet) -> None:
    now = int(time.time())
    boxes = [fleet.box.name, *("vg-" + c * 16 for c in "abcdefghij".replace("i", "k").replace("j", "l"))]
    changes = {"mass": {"boxes": boxes}, "isolation": {"level": 2, "until": now + HOUR}}
    order(fleet, 1, fleet.box.keys.offline[0], **changes)
    refusal(fleet, Code.MASS_UNSIGNED)
    order(fleet, 2, *fleet.box.keys.offline[1:3], **changes)
    assert ack_of(fleet, 2).result is Result.IN_FORCE
    assert fleet.box.filter.department.to_json()["isolation"]["level"] == 2


def test_hours_of_isolation_run_out(fleet: Fleet) -> None:
    """Four hours are used up: the key isolates no more, and offline keys do."""
    now = int(time.time())
    order(fleet, 1, isolation={"level": 2, "until": now + limits.TEMPORARY_MAX_S - 60})
    assert ack_of(fleet, 1).result is Result.IN_FORCE
    fleet.box.filter.forward(limits.ISOLATION_BUDGET_S + 60)
    isolation = {"level": 2, "until": now + HOUR}
    order(fleet, 2, isolation=isolation)
    assert "isolation:isolation-budget" in ack_of(fleet, 2).detail
    order(fleet, 3, *fleet.box.keys.offline[:2], isolation=isolation)
    assert ack_of(fleet, 3).result is Result.IN_FORCE


def test_local_lift_wins(fleet: Fleet) -> None:
    now = int(time.time())
    isolation = {"level": 2, "until": now + HOUR}
    order(fleet, 1, isolation=isolation)
    assert ack_of(fleet, 1).result is Result.IN_FORCE
    assert fleet.box.filter.department.lift_isolation()
    fleet.department.wait_ack(
        Order.DESIRED, lambda a: "isolation:lifted-locally" in a.detail, "the department told of the lift"
    )
    order(fleet, 2, isolation=isolation)
    assert "isolation:lifted-locally" in ack_of(fleet, 2).detail


# ---- restarts --------------------------------------------------------------------------------------------------


def test_filter_that_forgot_is_repaired(fleet: Fleet) -> None:
    order(fleet, 1)
    ack_of(fleet, 1)
    fleet.box.stop_filter()
    (fleet.box.filter.folder / "department.json").unlink()
    fleet.box.start_filter()
    eventually(lambda: in_force(fleet) == 1, "the order applied again")


def test_reboot_offline(fleet: Fleet) -> None:
    """No broker, a filter whose state is gone: the order kept by the link is in force again."""
    order(fleet, 1)
    ack_of(fleet, 1)
    fleet.box.stop()
    fleet.servers.broker.kill()
    fleet.box.stop_filter()
    (fleet.box.filter.folder / "department.json").unlink()
    fleet.box.start_filter()
    fleet.box.start()
    eventually(lambda: in_force(fleet) == 1, "the order applied again")


def test_order_while_the_filter_is_down(fleet: Fleet) -> None:
    fleet.box.stop_filter()
    fleet.department.wait(lambda: fleet.box.status.get("code") == "connected", "connected")
    order(fleet, 1)
    fleet.department.wait(
        lambda: any(isinstance(s, State) and s.filter.value == "down" for s in fleet.department.states),
        "told: filter down",
    )
    fleet.box.start_filter()
    assert ack_of(fleet, 1).result is Result.IN_FORCE


def test_end_of_an_order(fleet: Fleet) -> None:
    """When it expires the box says so, and goes on."""
    now = int(time.time())
    allow = {"action": "allow", "target": "a.example", "until": now + DAY, "note": ""}
    order(fleet, 1, expires=now + 6, exceptions=[allow], isolation={"level": 2, "until": now + 6})
    assert ack_of(fleet, 1).result is Result.IN_FORCE
    fleet.department.wait_ack(Order.DESIRED, lambda a: a.result is Result.EXPIRED, "told: expired")
    shown = fleet.box.filter.department.to_json()
    assert (shown["isolation"]["level"], shown["status"]) == (0, DesiredStatus.EXPIRED.value)


def test_last_will(fleet: Fleet) -> None:
    fleet.box.vanish()
    fleet.department.wait(lambda: isinstance(fleet.department.states[-1], Offline), "the last will")
    ended = fleet.department.states[-1].session
    fleet.box.start()
    fleet.department.wait(lambda: isinstance(fleet.department.states[-1], State), "connected again")
    assert fleet.department.states[-1].session > ended
    fleet.box.stop()
    fleet.department.wait(lambda: isinstance(fleet.department.states[-1], Offline), "said goodbye")


def test_a_full_disk_stops_neither_orders_nor_the_state(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outbox takes no answer; what is in force is still repaired, and the filter is not said to be down."""
    order(fleet, 1)
    assert ack_of(fleet, 1).result is Result.IN_FORCE

    def full(*_args: object) -> None:
        raise JournalError("no room")

    monkeypatch.setattr(Outbox, "add", full)
    fleet.department.order(fleet.box.name, b"nonsense")
    fleet.department.wait(
        lambda: any(isinstance(s, State) and s.desired.refused is Code.MALFORMED for s in fleet.department.states),
        "the state told",
    )
    fleet.box.filter.department.orders = Orders()
    eventually(lambda: in_force(fleet) == 1, "the order in force again")
    assert all(s.filter is FilterHealth.OK for s in fleet.department.states if isinstance(s, State))
    monkeypatch.undo()
    refusal(fleet, Code.MALFORMED)
