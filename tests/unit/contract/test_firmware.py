"""Firmware: versions in order, descriptors that only say what they may, orders, what a box tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract import downward, firmware, schema, upward
from vigie.contract.envelope import Upward
from vigie.contract.errors import MessageError, TooLargeError
from vigie.contract.fields import Fields
from vigie.contract.firmware import (
    Bundle,
    Check,
    FirmwareDescriptor,
    FirmwareOrder,
    FirmwareState,
    Phase,
    Severity,
    UpdateCode,
    Version,
    bundle_path,
    firmware_path,
    parse_version,
    running_version,
)
from vigie.contract.words import Kind

VERSION = Version(2026, 12, 1)
versions = st.builds(Version, st.integers(2000, 2099), st.integers(1, 12), st.integers(0, 9999))


def descriptor(**parts: Any) -> FirmwareDescriptor:
    fields: dict[str, Any] = {
        "version": VERSION,
        "bundles": {"cm4": Bundle("ab" * 32, bundle_path("cm4", VERSION), 200_000_000)},
        "floor": Version(2026, 11, 3),
        "requires": Version(2026, 10, 0),
        "severity": Severity.NORMAL,
        "earliest": 1_800_000_000,
        "note_fr": "Corrige l’heure d’été.",
        "note_en": "Fixes summer time.",
    }
    return FirmwareDescriptor(**(fields | parts))


def document(**parts: Any) -> bytes:
    """The descriptor's JSON with fields replaced."""
    return json.dumps(json.loads(descriptor().to_bytes()) | parts).encode()


def test_versions_are_ordered_as_numbers() -> None:
    texts = ["2026.2.1", "2026.9.10", "2026.10.0", "2026.10.2", "2026.10.10", "2027.1.0"]
    assert sorted(map(parse_version, reversed(texts))) == [parse_version(t) for t in texts]


@given(versions)
def test_a_version_has_one_spelling(version: Version) -> None:
    assert parse_version(str(version)) == version
    assert len(str(version)) <= firmware.VERSION_TEXT_MAX


@pytest.mark.parametrize(
    "text", ["", "2026.12", "2026.012.1", "2026.13.1", "2026.0.1", "2026.12.01", "1999.1.1", "2026.12.1\n", "v2026.1.1",
             "2026.12.10000", "٢٠٢٦.1.1", "2026.12.1.1", "2026.12.-1"]
)  # fmt: skip
def test_other_texts_are_no_version(text: str) -> None:
    with pytest.raises(MessageError, match=r"YEAR\.MONTH\.N"):
        parse_version(text)


def test_a_build_that_is_no_release_is_older_than_all() -> None:
    assert running_version("0.1.0") == running_version("") == firmware.NO_RELEASE
    assert running_version("2026.12.1") == VERSION
    assert Version(2000, 1, 0) > firmware.NO_RELEASE


def test_descriptor_round_trip() -> None:
    for one in (descriptor(), descriptor(requires=None, severity=Severity.CRITICAL)):
        assert FirmwareDescriptor.from_bytes(one.to_bytes()) == one
        schema.validate("firmware", json.loads(one.to_bytes()))
    assert descriptor().bundle("cm4") == Bundle("ab" * 32, "firmware/vigie-cm4-2026.12.1.raucb", 200_000_000)
    assert descriptor().bundle("qemu") is None
    assert firmware_path(VERSION) == "firmware/2026.12.1.json"


def test_descriptor_of_a_newer_publisher() -> None:
    assert FirmwareDescriptor.from_bytes(document(colour="blue")) == descriptor()
    with pytest.raises(MessageError, match=r"firmware\.v"):
        FirmwareDescriptor.from_bytes(document(v=2))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"version": "2026.12.01"}, r"firmware\.version"),
    ({"version": "2026.12.2"}, r"boards\.cm4\.path"),
    ({"floor": "2026.12.2"}, r"firmware\.floor: 2026\.12\.2 is above"),
    ({"requires": "2026.12.1"}, r"firmware\.requires: 2026\.12\.1 is not below"),
    ({"severity": "urgent"}, r"firmware\.severity"),
    ({"earliest": -1}, r"firmware\.earliest"),
    ({"boards": {}}, r"firmware\.boards"),
    ({"boards": {f"b{i}": {} for i in range(17)}}, r"firmware\.boards"),
    ({"boards": {"../x": {"manifest": "ab" * 32, "path": "x", "length": 1}}}, r"firmware\.boards"),
    ({"boards": {"cm4": {"manifest": "ab" * 32, "path": "http://elsewhere/x", "length": 1}}}, r"cm4\.path"),
    ({"boards": {"cm4": {"manifest": "AB" * 32, "path": bundle_path("cm4", VERSION), "length": 1}}}, r"cm4\.manifest"),
    ({"boards": {"cm4": {"manifest": "ab" * 32, "path": bundle_path("cm4", VERSION), "length": 2**29 + 1}}}, "length"),
    ({"notes": {"fr": "x" * 1001, "en": ""}}, r"notes\.fr"),
    ({"notes": {"fr": ""}}, r"notes\.en"),
]


@pytest.mark.parametrize(("parts", "where"), BAD)
def test_descriptor_refused(parts: dict[str, Any], where: str) -> None:
    with pytest.raises(MessageError, match=where):
        FirmwareDescriptor.from_bytes(document(**parts))


def test_endless_descriptor() -> None:
    with pytest.raises(TooLargeError):
        FirmwareDescriptor.from_bytes(b"{" + b" " * firmware.DESCRIPTOR_MAX + b"}")


def test_what_a_box_would_refuse_is_not_written() -> None:
    with pytest.raises(MessageError, match="floor"):
        descriptor(floor=Version(2027, 1, 0)).to_bytes()


@given(st.binary(max_size=200))
def test_hostile_descriptors(data: bytes) -> None:
    with pytest.raises(MessageError):
        FirmwareDescriptor.from_bytes(data)


def test_order() -> None:
    order = FirmwareOrder(VERSION, 7)
    assert FirmwareOrder.read(Fields("x", order.to_dict())) == order
    for bad in ({"version": "2026.12.1", "order": 0}, {"version": None, "order": 1}, {"order": 1}):
        with pytest.raises(MessageError):
            FirmwareOrder.read(Fields("x", bad))


@pytest.mark.parametrize(
    "told",
    [
        FirmwareState(None, 0, Phase.IDLE),
        FirmwareState(VERSION, 3, Phase.WAITING, UpdateCode.NO_SPACE, None, 2, Version(2026, 11, 0)),
        FirmwareState(VERSION, 3, Phase.ROLLED_BACK, UpdateCode.UNHEALTHY, Check.FORWARD, 1, VERSION),
    ],
)
def test_told(told: FirmwareState) -> None:
    assert FirmwareState.from_fields(Fields("firmware", told.fields())) == told
    with pytest.raises(MessageError, match="unknown field"):
        FirmwareState.from_fields(Fields("firmware", told.fields() | {"url": "x"}))


def test_times_are_those_of_the_contract() -> None:
    assert firmware.TIME_MAX == upward.UNIX_MAX


NOW = 1_800_000_000
STATE: dict[str, Any] = {
    "v": 1, "boot": "0" * 32, "seq": 1, "ts": NOW, "clock": "signed", "online": True, "session": 1, "version": "0.1.0",
    "base": None, "candidate": None, "desired": {"version": 0, "status": "none", "refused": None}, "isolation": 0,
    "quarantined": 0, "exceptions": 0, "inbound": "off", "filter": "ok", "uptime_s": 1, "disk_free_mb": 1,
    "mem_free_mb": 1, "load": 0.5, "link": {"roles_known": True}, "losses": 0,
}  # fmt: skip
TOLD = FirmwareState(VERSION, 3, Phase.FAILED, UpdateCode.NO_SPACE, None, 1, Version(2026, 11, 0))


@pytest.mark.parametrize("told", [None, TOLD, FirmwareState(VERSION, 1, Phase.SOAK)])
def test_state_with_and_without(told: FirmwareState | None) -> None:
    """An older box's state has no such field, and a state without one is as an older department reads it."""
    message = STATE | ({} if told is None else {"firmware": told.fields()})
    schema.validate("state", message)
    read = Upward.from_bytes(Kind.STATE, json.dumps(message).encode())
    assert isinstance(read.body, upward.State)
    assert read.body.firmware == told
    assert json.loads(read.to_bytes()) == message


@pytest.mark.parametrize("bad", [{"url": "x"}, {"phase": "done"}, {"code": "x"}, {"version": "latest"}, {"tries": -1}])
def test_state_says_nothing_else(bad: dict[str, Any]) -> None:
    message = STATE | {"firmware": TOLD.fields() | bad}
    assert not schema.is_valid("state", message)
    with pytest.raises(MessageError, match="firmware"):
        Upward.from_bytes(Kind.STATE, json.dumps(message).encode())


def desired(firmware: Any) -> bytes:
    plain = downward.Desired("vg-aaaaaaaaaaaaaaaa", 5, NOW, NOW + 86400).to_dict()
    return json.dumps(plain if firmware is ... else plain | {"firmware": firmware}).encode()


def test_desired_with_and_without() -> None:
    """A document without an order is byte for byte what an older box knows; with one, nothing else of it changes."""
    order = FirmwareOrder(VERSION, 4)
    for ordered, found in ((..., None), (None, None), (order.to_dict(), order)):
        read = downward.Desired.from_bytes(desired(ordered))
        assert read.firmware == found
        assert read.skipped == ()
        schema.validate("desired", json.loads(read.to_bytes()))
    assert "firmware" not in downward.Desired.from_bytes(desired(...)).to_dict()
    full = downward.Desired.from_bytes(desired(order.to_dict()))
    assert downward.Desired.from_bytes(full.to_bytes()) == full


def test_order_of_a_newer_department() -> None:
    read = downward.Desired.from_bytes(desired(FirmwareOrder(VERSION, 4).to_dict() | {"slowly": True}))
    assert (read.firmware, read.skipped) == (None, ("firmware",))
    with pytest.raises(MessageError, match=r"firmware\.version"):
        downward.Desired.from_bytes(desired({"version": "newest", "order": 1}))


def test_words_are_those_of_the_schema() -> None:
    told = schema.load("state")["oneOf"][0]["properties"]["firmware"]["properties"]
    assert told["phase"]["enum"] == list(Phase)
    assert told["code"]["oneOf"][1]["enum"] == list(UpdateCode)
    assert told["check"]["oneOf"][1]["enum"] == list(Check)
    assert schema.load("firmware")["properties"]["severity"]["enum"] == list(Severity)
