"""Upward messages: what is written is read back, and schema and classes say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.contract_strategies import messages
from vigie.contract import schema
from vigie.contract.envelope import Upward
from vigie.contract.errors import ContractError, MessageError, SchemaError
from vigie.contract.words import Kind

SAMPLES: dict[Kind, dict[str, Any]] = {
    Kind.STATE: {
        "online": True, "session": 3, "version": "0.1.0", "base": {"version": 7, "entries": 10}, "candidate": None,
        "desired": {"version": 2, "status": "in_force", "refused": None}, "isolation": 0, "quarantined": 0,
        "exceptions": 1, "inbound": "learn", "filter": "ok", "uptime_s": 5, "disk_free_mb": 6, "mem_free_mb": 7,
        "load": 0.5, "link": {"roles_known": True}, "losses": 0,
    },
    Kind.ALERT: {
        "id": 1, "rule": "toxic-name", "reason": 36, "severity": 2, "category": 2, "direction": 1,
        "indicator": "c2.example", "device": "d-0123456789abcdef", "device_class": 2, "count": 3, "first": 3600,
        "last": 7200, "incident": False,
    },
    Kind.METRIC: {
        "hour": 400_000, "blocked": {"35": 2}, "observed": {"a.example": 1}, "candidate": 8,
        "frames": {"in": 1, "out": 2}, "drops": 0,
    },
    Kind.ACK: {
        "order": "desired", "version": 2, "result": "partial", "code": None, "detail": ["exceptions[3]:never-block"],
    },
    Kind.REQUEST: {
        "indicator": "a.example", "device": None, "days": 7, "words": "Pour la cantine.",
        "consent": {"at": 5, "by": "mairie"},
    },
    Kind.DIAGNOSTIC: {
        "command": "0" * 32, "consent": {"at": 5, "by": "mairie"}, "items": {"versions": "vigie 0.1.0"},
    },
}  # fmt: skip
HEAD = {"v": 1, "boot": "0" * 32, "seq": 5, "ts": 1_800_000_000, "clock": "ntp"}


def sample(kind: Kind) -> dict[str, Any]:
    return HEAD | ({"prev": 4} if kind.in_outbox else {}) | SAMPLES[kind]


@pytest.mark.slow
@given(messages())
@settings(max_examples=100)
def test_written_and_read_back(message: Upward) -> None:
    assert Upward.from_bytes(message.kind, message.to_bytes()) == message
    schema.validate(message.kind.value, json.loads(message.to_bytes()))


@pytest.mark.parametrize("kind", Kind)
def test_samples_are_good(kind: Kind) -> None:
    schema.validate(kind.value, sample(kind))
    Upward.from_dict(kind, sample(kind))


def mutations(value: Any) -> Any:
    """A JSON value with one leaf replaced, one field gone, or one field more."""
    other = st.sampled_from(
        [
            None,
            True,
            False,
            -1,
            0,
            1,
            3,
            3601,
            2**53,
            2**60,
            0.5,
            "",
            "a",
            "A.example",
            "x" * 600,
            "ok\n",
            "é",
            [],
            {},
            ["a"],
            {"a": 1},
        ]
    )
    choices = [other]
    if isinstance(value, dict):
        for key in value:
            choices.append(mutations(value[key]).map(lambda new, key=key: value | {key: new}))
            choices.append(st.just({k: v for k, v in value.items() if k != key}))
        choices.append(other.map(lambda new: value | {"extra": new}))
    elif isinstance(value, list) and value:
        choices.append(mutations(value[0]).map(lambda new: [new, *value[1:]]))
    return st.one_of(choices)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=400)
def test_schema_and_classes_agree(data: st.DataObject) -> None:
    """On anything near a good message. Two rules are the classes' alone: order of times, and `prev` below `seq`."""
    kind = data.draw(st.sampled_from(Kind))
    message = data.draw(mutations(sample(kind)))
    if not isinstance(message, dict):
        return
    by_schema = schema.is_valid(kind.value, message)
    try:
        Upward.from_dict(kind, message)
        by_class, why = True, ""
    except ContractError as e:
        by_class, why = False, str(e)
    alone = "before `first`" in why or "not below `seq`" in why
    assert by_schema == by_class or alone, (kind, message, by_schema, why)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("name", ["hostname", "url", "mac", "sni", "queried_name"])
def test_unknown_fields_do_not_travel(kind: Kind, name: str) -> None:
    message = sample(kind) | {name: "x"}
    with pytest.raises(MessageError, match=f"{kind.value}.{name}: unknown field"):
        Upward.from_dict(kind, message)
    with pytest.raises(SchemaError):
        schema.validate(kind.value, message)


@pytest.mark.parametrize(
    ("kind", "path", "bad"),
    [
        (Kind.ALERT, "indicator", "Not An Indicator"),
        (Kind.ALERT, "device", "02:00:00:00:00:01"),
        (Kind.ALERT, "first", 3601),
        (Kind.ALERT, "count", True),
        (Kind.ALERT, "rule", "made-up"),
        (Kind.METRIC, "observed", {"a.example": -1}),
        (Kind.REQUEST, "words", "x" * 501),
        (Kind.REQUEST, "days", 0),
        (Kind.STATE, "load", float("nan")),
        (Kind.ACK, "detail", ["exceptions[0]:www.example"]),
    ],
)
def test_error_names_the_field(kind: Kind, path: str, bad: object) -> None:
    with pytest.raises(MessageError) as caught:
        Upward.from_dict(kind, sample(kind) | {path: bad})
    assert caught.value.field.startswith(f"{kind.value}.{path}"), caught.value


def test_observed_only_with_a_candidate() -> None:
    message = sample(Kind.METRIC) | {"candidate": None}
    with pytest.raises(MessageError, match="without a candidate"):
        Upward.from_dict(Kind.METRIC, message)
    assert not schema.is_valid("metric", message)


def test_offline_says_nothing_else() -> None:
    offline = HEAD | {"online": False, "session": 3}
    Upward.from_dict(Kind.STATE, offline)
    schema.validate("state", offline)
    with pytest.raises(MessageError, match="unknown field"):
        Upward.from_dict(Kind.STATE, offline | {"version": "0.1.0"})


@given(st.binary(max_size=400))
def test_bytes_from_anywhere(data: bytes) -> None:
    for kind in Kind:
        with pytest.raises(ContractError):
            Upward.from_bytes(kind, data)
