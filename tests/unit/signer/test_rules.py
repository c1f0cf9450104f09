"""What the signer refuses to sign, whoever asks."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from vigie.contract import dsse
from vigie.contract.downward import Command, Desired, Quarantine
from vigie.contract.errors import ContractError
from vigie_department.signer.errors import NeedsSecond, RateError, RuleError

from .conftest import Bench, box


def test_a_desired_state_is_signed_by_the_key_that_boxes_trust(bench: Bench) -> None:
    payload = bench.desired(box(1), 1)
    envelope = bench.sign(payload)
    verified = bench.store.steering().verify(envelope, dsse.DESIRED_TYPE)
    assert Desired.from_bytes(verified).to_dict() == payload


def test_versions_of_a_box_only_rise_also_after_a_restart(bench: Bench) -> None:
    bench.sign(bench.desired(box(1), 7))
    bench.sign(bench.desired(box(2), 3))
    bench.restart()
    for version in (7, 6, 1):
        with pytest.raises(RuleError, match="7 is in force"):
            bench.sign(bench.desired(box(1), version))
    bench.sign(bench.desired(box(1), 8))
    bench.sign(bench.desired(box(2), 4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"expires": 1_800_000_000 + 401 * 86400}, "lifetime"),
        ({"issued": 1_800_000_000 - 601}, "601 s from now"),
        ({"issued": 1_800_000_000 + 601}, r"\+601 s from now"),
        ({"expires": 1_800_000_000 - 5, "issued": 1_800_000_000 - 10}, "expired"),
        ({"isolation": {"level": 2, "until": 1_800_000_000 + 4 * 3600 + 1}}, "temporary"),
        ({"isolation": {"level": 3, "until": 1_800_000_000 + 86400}}, "temporary"),
        ({"quarantine": [{"device": "d-" + "0" * 16, "until": 1_800_000_000 + 4 * 3600 + 1}]}, "temporary"),
        ({"never_block": ["0.0.0.0/8"]}, "prefix"),
        ({"mass": {"boxes": [box(2)]}}, "does not name this box"),
        ({"surprise": 1}, "unknown in a desired state: surprise"),
    ],
)
def test_what_boxes_would_refuse_is_not_signed(bench: Bench, change: dict[str, Any], reason: str) -> None:
    payload = bench.desired(box(1), 1) | change
    with pytest.raises(RuleError, match=reason):
        bench.sign(payload)
    assert bench.service.read_log("", {"after": 0})["records"] == []
    bench.sign(bench.desired(box(1), 1))


def test_a_malformed_document_is_an_error_of_the_contract(bench: Bench) -> None:
    with pytest.raises(ContractError, match="box"):
        bench.sign(bench.desired(box(1), 1) | {"box": "somebody"})
    with pytest.raises(ContractError, match="operator"):
        bench.service.sign_desired("console", {"payload": bench.desired(box(1), 1)})


def test_an_exception_that_ran_out_meanwhile_harms_nobody(bench: Bench) -> None:
    old = {"action": "allow", "target": "example.org", "until": 1_800_000_000 - 1, "note": ""}
    bench.sign(bench.desired(box(1), 1) | {"exceptions": [old]})


def test_the_sixth_box_that_is_held_needs_the_second_signature(bench: Bench) -> None:
    for n in range(3):
        bench.sign(bench.isolated(box(n), 1))
    for n in range(3, 5):
        bench.sign(bench.quarantined(box(n), 1))
    for payload in (bench.isolated(box(9), 1, level=3), bench.quarantined(box(9), 1)):
        with pytest.raises(NeedsSecond, match="5 other boxes"):
            bench.sign(payload)
    bench.sign(bench.isolated(box(9), 1, level=1))
    bench.sign(bench.isolated(box(0), 2))  # the same box again takes no new place
    bench.restart()
    with pytest.raises(NeedsSecond):
        bench.sign(bench.isolated(box(9), 2))


def test_a_town_hall_is_not_cut_off_device_by_device(bench: Bench) -> None:
    until = int(bench.clock.now) + 3600
    devices = tuple(Quarantine(f"d-{n:016x}", until) for n in range(6))
    bench.sign(bench.desired(box(1), 1, quarantine=devices[:5]))
    with pytest.raises(NeedsSecond, match="6 devices"):
        bench.sign(bench.desired(box(1), 2, quarantine=devices))


def test_lifting_a_hold_gives_no_place_back_before_its_end(bench: Bench) -> None:
    for n in range(5):
        bench.sign(bench.isolated(box(n), 1, hours=2))
    for n in range(5):
        bench.sign(bench.desired(box(n), 2))
    with pytest.raises(NeedsSecond):
        bench.sign(bench.isolated(box(9), 1))
    bench.clock.now += 2 * 3600 + 1
    bench.sign(bench.isolated(box(9), 1))


def test_a_mass_order_with_two_keyholders_signatures_is_signed(bench: Bench) -> None:
    boxes = tuple(box(n) for n in range(20))
    for n, one in enumerate(boxes):
        payload = Desired.from_bytes(_bytes(bench.isolated(one, 1, mass=boxes))).to_bytes()
        keys = [holder.key for holder in bench.holders(2, 5)]
        envelope = dsse.sign(payload, dsse.DESIRED_TYPE, *keys)
        answer = bench.service.sign_desired("console", {"envelope": envelope.to_bytes().decode(), "operator": "alice"})
        signed = dsse.Envelope.from_bytes(answer["envelope"].encode())
        assert signed.payload == payload
        assert bench.store.steering().second_signed(signed), f"box {n}"
        assert bench.store.steering().verify(signed, dsse.DESIRED_TYPE) == payload
    record = bench.service.read_log("", {"after": 0})["records"][0]
    assert len(record["facts"]["second"]) == 2


@pytest.mark.parametrize("keyholders", [(), (1,), (1, 1)])
def test_a_mass_order_with_fewer_is_not(bench: Bench, keyholders: tuple[int, ...]) -> None:
    boxes = tuple(box(n) for n in range(6))
    payload = _bytes(bench.isolated(box(0), 1, mass=boxes))
    held = {holder.number: holder.key for holder in bench.holders(1, 2)}
    envelope = dsse.sign(payload, dsse.DESIRED_TYPE, *(held[n] for n in keyholders))
    with pytest.raises(NeedsSecond, match="second signature"):
        bench.service.sign_desired("console", {"envelope": envelope.to_bytes().decode(), "operator": "alice"})


def test_a_keyholders_signature_over_another_document_does_not_count(bench: Bench) -> None:
    boxes = tuple(box(n) for n in range(6))
    keys = [holder.key for holder in bench.holders(1, 2)]
    signed = dsse.sign(_bytes(bench.isolated(box(0), 1, mass=boxes)), dsse.DESIRED_TYPE, *keys)
    moved = dsse.Envelope(_bytes(bench.isolated(box(1), 1, mass=boxes)), dsse.DESIRED_TYPE, signed.signatures)
    with pytest.raises(NeedsSecond):
        bench.service.sign_desired("console", {"envelope": moved.to_bytes().decode(), "operator": "alice"})


def test_a_command_envelope_is_not_signed_as_a_desired_state(bench: Bench) -> None:
    envelope = dsse.sign(_bytes(bench.desired(box(1), 1)), dsse.COMMAND_TYPE)
    with pytest.raises(RuleError, match="expected"):
        bench.service.sign_desired("console", {"envelope": envelope.to_bytes().decode(), "operator": "alice"})


def test_commands_are_short_lived(bench: Bench) -> None:
    now = int(bench.clock.now)
    command = Command(box(1), uuid.uuid4().hex, now, now + 1800, "self-test")
    answer = bench.service.sign_command("console", {"payload": command.to_dict(), "operator": "alice"})
    envelope = dsse.Envelope.from_bytes(answer["envelope"].encode())
    assert Command.from_bytes(bench.store.steering().verify(envelope, dsse.COMMAND_TYPE)) == command
    long = Command(box(1), uuid.uuid4().hex, now, now + 30 * 86400, "self-test")
    with pytest.raises(RuleError, match="lifetime"):
        bench.service.sign_command("console", {"payload": long.to_dict(), "operator": "alice"})


def test_signatures_are_rationed_also_over_restarts(bench: Bench) -> None:
    bench.restart(desired_burst=3, desired_per_hour=60)
    for version in (1, 2, 3):
        bench.sign(bench.desired(box(1), version))
    with pytest.raises(RateError, match="next one in 60 s"):
        bench.sign(bench.desired(box(1), 4))
    bench.restart()
    with pytest.raises(RateError):
        bench.sign(bench.desired(box(1), 4))
    bench.clock.now += 61
    bench.sign(bench.desired(box(1), 4))
    with pytest.raises(RateError):
        bench.sign(bench.desired(box(1), 5))


def _bytes(payload: dict[str, Any]) -> bytes:
    from vigie.contract import strictjson

    return strictjson.dumps(payload)


def test_orders_to_install_are_paced_and_only_new_ones_count(bench: Bench) -> None:
    def told(n: int, version: int, order: int = 1, release: str = "2026.11.1") -> dict[str, Any]:
        return bench.desired(box(n), version) | {"firmware": {"version": release, "order": order}}

    bench.restart(firmware_burst=3, firmware_per_hour=60)
    for n in range(3):
        bench.sign(told(n, 1))
    with pytest.raises(RateError, match=r"`firmware`; the next one in 60 s"):
        bench.sign(told(3, 1))
    # renewed, with another exception, or taken back: no news, and never held up; also after a restart
    bench.sign(told(0, 2))
    bench.restart()
    bench.sign(told(1, 2))
    bench.sign(bench.desired(box(2), 2))
    bench.sign(bench.desired(box(3), 1))
    bench.sign(told(2, 3))
    for again in (told(0, 3, order=2), told(0, 3, release="2026.11.2")):
        with pytest.raises(RateError):
            bench.sign(again)
    bench.clock.now += 60
    bench.sign(told(3, 2) | {"issued": int(bench.clock.now)})


def test_the_last_order_is_in_a_checkpoint_too(bench: Bench) -> None:
    bench.segment_records = 4
    bench.restart(firmware_burst=1, firmware_per_hour=60)
    firmware = {"firmware": {"version": "2026.11.1", "order": 1}}
    for version in range(1, 12):
        bench.sign(bench.desired(box(1), version) | firmware)
    bench.restart()
    bench.sign(bench.desired(box(1), 12) | firmware)
