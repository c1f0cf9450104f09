"""Desired states and commands: read whole, from newer departments too, or refused with the field's name."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.contract_strategies import BOX, DEVICE, HEX32
from vigie.contract import downward, dsse, schema, targets
from vigie.contract.downward import (
    Announcement,
    Command,
    Contact,
    Desired,
    Essential,
    Exemption,
    Isolation,
    Opening,
    Quarantine,
    Received,
    Settings,
)
from vigie.contract.errors import ContractError, MessageError
from vigie.contract.words import Inbound, Op, Proto, RuleAction, Service

TIME = st.integers(0, 2**39)
NOTE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
PREFIX = st.integers(0, 2**32 - 1).flatmap(
    lambda a: st.integers(0, 32).map(lambda n: f"{_v4(a >> (32 - n) << (32 - n) if n else 0)}/{n}")
)
NAME = st.lists(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=3).map(
    lambda labels: ".".join([*labels, "example"])
)
TARGET = PREFIX | NAME


def _v4(value: int) -> str:
    return ".".join(str(value >> s & 255) for s in (24, 16, 8, 0))


@st.composite
def exemptions(draw: st.DrawFn) -> Exemption:
    target = draw(TARGET)
    proto, port = draw(st.tuples(st.sampled_from(Proto), st.integers(1, 65535)) | st.just((None, None)))
    if "/" not in target:
        proto = port = None
    device = draw(st.none() | DEVICE)
    return Exemption(draw(st.sampled_from(RuleAction)), target, draw(TIME), device, proto, port, draw(NOTE))


OPENINGS = st.builds(
    lambda day, a, b: Opening(day, min(a, b), max(a, b) + 1),
    st.integers(0, 6),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
SETTINGS = st.builds(
    Settings,
    volunteer=st.booleans(),
    inbound=st.none() | st.sampled_from([Inbound.LEARN, Inbound.REFUSE]),
    contact=st.none() | st.builds(Contact, st.from_regex(r"[0-9+ ]{0,20}", fullmatch=True), NOTE),
    hours=st.none() | st.lists(OPENINGS, max_size=4).map(tuple),
)
DESIRED = st.builds(
    lambda issued, life, **fields: Desired(issued=issued, expires=issued + life, **fields),
    issued=TIME,
    life=st.integers(1, 10**8),
    box=BOX,
    version=st.integers(1, 2**53 - 1),
    exceptions=st.lists(exemptions(), max_size=4).map(tuple),
    never_block=st.lists(TARGET, max_size=4).map(tuple),
    essential=st.lists(st.builds(Essential, TARGET, st.integers(0, 9)), max_size=3).map(tuple),
    isolation=st.none() | st.builds(Isolation, st.integers(0, 3), TIME),
    quarantine=st.lists(st.builds(Quarantine, DEVICE, TIME), max_size=3).map(tuple),
    settings=SETTINGS,
    mass=st.none() | st.lists(BOX, max_size=5, unique=True).map(tuple),
)


@pytest.mark.slow
@given(DESIRED)
@settings(max_examples=50)
def test_desired_is_read_back(desired: Desired) -> None:
    assert Desired.from_bytes(desired.to_bytes()) == desired
    schema.validate("desired", json.loads(desired.to_bytes()))


def good() -> dict[str, Any]:
    return {
        "v": 1, "box": "vg-" + "a" * 16, "version": 3, "issued": 1000, "expires": 2000,
        "exceptions": [{"action": "allow", "target": "a.example", "until": 1500, "note": ""}],
        "never_block": ["192.0.2.1/32"], "essential": [{"name": "b.example", "rank": 1}],
        "isolation": {"level": 1, "until": 1500}, "quarantine": [{"device": "d-" + "0" * 16, "until": 1500}],
        "settings": {"volunteer": True}, "mass": None,
    }  # fmt: skip


def read(payload: dict[str, Any]) -> Desired:
    return Desired.from_bytes(json.dumps(payload).encode())


def test_address_is_a_prefix_of_itself() -> None:
    assert read(good() | {"never_block": ["192.0.2.1", "2001:db8::1"]}).never_block == (
        "192.0.2.1/32",
        "2001:db8::1/128",
    )


def test_newer_department() -> None:
    """What this box does not know is left out and told; what it knows holds."""
    payload = good() | {"curfew": {"from": 1}}
    payload["exceptions"].append(
        {"action": "allow", "target": "c.example", "until": 1500, "note": "", "only_on": "monday"}
    )
    payload["isolation"]["except_for"] = "fire brigade"
    payload["settings"]["theme"] = "dark"
    got = read(payload)
    assert [e.target for e in got.exceptions] == ["a.example"]
    assert got.isolation is None
    assert got.settings.volunteer
    assert set(got.skipped) == {"exceptions[1]", "isolation", "settings", "curfew"}


def one(**changes: Any) -> dict[str, Any]:
    """An order with one exception."""
    return {"exceptions": [{"action": "allow", "target": "a.example", "until": 1, "note": ""} | changes]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"v": 2}, "desired.v"),
        ({"box": "vg-A"}, "desired.box"),
        ({"version": 0}, "desired.version"),
        ({"version": 2**53}, "desired.version"),
        ({"expires": 1000}, "desired.expires"),
        ({"exceptions": [{}] * 201}, "desired.exceptions"),
        (one(action="shred"), "desired.exceptions[0].action"),
        (one(target="com"), "desired.exceptions[0].target"),
        (one(target="192.0.2.1/24"), "desired.exceptions[0].target"),
        (one(port=5, proto="tcp"), "desired.exceptions[0].port"),
        (one(target="192.0.2.1", port=5), "desired.exceptions[0].port"),
        ({"never_block": ["a.example"] * 501}, "desired.never_block"),
        ({"never_block": [3]}, "desired.never_block.[0]"),
        ({"isolation": {"level": 4, "until": 1}}, "desired.isolation.level"),
        ({"isolation": {"level": True, "until": 1}}, "desired.isolation.level"),
        ({"quarantine": [{"device": "02:00:00:00:00:01", "until": 1}]}, "desired.quarantine[0].device"),
        ({"settings": {"volunteer": True, "inbound": "off"}}, "desired.settings.inbound"),
        ({"settings": {"volunteer": True, "contact": {"phone": "<b>", "name": ""}}}, "desired.settings.contact.phone"),
        ({"settings": {"volunteer": True, "hours": [{"day": 0, "from": 5, "to": 5}]}}, "desired.settings.hours[0].to"),
        ({"mass": {"boxes": ["x"]}}, "desired.mass.boxes.[0]"),
    ],
)  # fmt: skip
def test_error_names_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(MessageError) as caught:
        read(good() | change)
    assert caught.value.field == field


@pytest.mark.parametrize("name", list(good()))
def test_every_field_is_needed(name: str) -> None:
    payload = good()
    del payload[name]
    with pytest.raises(MessageError):
        read(payload)
    assert not schema.is_valid("desired", payload)


def test_writer_checks_itself() -> None:
    with pytest.raises(MessageError):
        replace(read(good()), expires=1).to_bytes()


@given(st.binary(max_size=300))
def test_bytes_from_anywhere(data: bytes) -> None:
    for parse in (Desired.from_bytes, Command.from_bytes, Received.from_bytes, Announcement.from_bytes):
        with pytest.raises(ContractError):
            parse(data)


@given(st.text(max_size=60))
def test_targets_are_canonical_or_nothing(text: str) -> None:
    found = targets.canonical(text)
    assert found is None or targets.canonical(found) == found


@pytest.mark.parametrize("text", ["", "com", "-a.example", "a..example", "a.example.", "EXAMPLE.COM", "é.example",
                                  "1.2.3", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.256", "a.example/24",
                                  "a b.example",
                                  "a" * 64 + ".example", "x." * 130 + "example"])  # fmt: skip
def test_not_a_target(text: str) -> None:
    assert targets.canonical(text) is None


# ---- commands and the rest -------------------------------------------------------------------------------------


@given(BOX, HEX32, TIME, st.integers(1, 10**6), st.sampled_from(Op), st.sampled_from(Service))
def test_command_is_read_back(box: str, ident: str, issued: int, life: int, op: Op, service: Service) -> None:
    command = Command(box, ident, issued, issued + life, op.value, service if op is Op.RESTART else None)
    assert Command.from_bytes(command.to_bytes()) == command
    schema.validate("command", json.loads(command.to_bytes()))


def test_command_of_a_newer_department() -> None:
    payload = {
        "v": 1,
        "box": "vg-" + "a" * 16,
        "id": "0" * 32,
        "issued": 1,
        "expires": 2,
        "op": "dance",
        "args": {"a": 1},
    }
    assert Command.from_bytes(json.dumps(payload).encode()).op == "dance"
    for args in ({"service": "kernel"}, {"service": "filter", "force": True}, {}):
        with pytest.raises(MessageError, match=r"command\.args"):
            Command.from_bytes(json.dumps(payload | {"op": "restart", "args": args}).encode())


def test_received_and_announcement() -> None:
    received = Received("0" * 32, 7)
    assert Received.from_bytes(received.to_bytes()) == received
    schema.validate("received", json.loads(received.to_bytes()))
    announcement = Announcement(7, 1000)
    assert Announcement.from_bytes(announcement.to_bytes()) == announcement
    assert Announcement.from_bytes(b'{"v":1,"version":7,"at":1000,"later":true}') == announcement
    schema.validate("announcement", json.loads(announcement.to_bytes()))


def test_a_full_order_fits_an_envelope() -> None:
    """200 exceptions with usual notes, 500 protected names."""
    until = 2_000_000_000
    full = Desired(
        "vg-" + "a" * 16, 1, 1, until,
        exceptions=tuple(
            Exemption(RuleAction.ALLOW, f"service-{i:03}.example", until, "d-" + "0" * 16, note="cantine")
            for i in range(downward.EXCEPTIONS_MAX)
        ),
        never_block=tuple(f"service-{i:03}.example" for i in range(downward.NEVER_BLOCK_MAX)),
    )  # fmt: skip
    assert len(full.to_bytes()) <= dsse.PAYLOAD_MAX
