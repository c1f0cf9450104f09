"""The quick reader of alerts takes nothing that the contract's reader refuses, and reads nothing else than it does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.messages import alert
from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.envelope import Upward
from vigie.contract.errors import ContractError
from vigie.contract.strictjson import INTEGER_MAX
from vigie.contract.upward import COUNT_MAX, UNIX_MAX
from vigie.contract.words import Clock, Kind, Rule
from vigie_department.ingest import quick

BOOT = "ab" * 16
HEAD = {"v": 1, "boot": BOOT, "seq": 7, "ts": 1_790_000_000, "clock": "ntp", "prev": 6}


def compact(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


def contract(payload: bytes) -> Upward | None:
    try:
        return Upward.from_bytes(Kind.ALERT, payload)
    except ContractError:
        return None


def agree(payload: bytes) -> Upward | None:
    """What the quick reader found, after holding it against the contract's."""
    found = quick.alert(payload)
    assert found is None or found == contract(payload)
    return found


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("clock", Clock)
def test_what_boxes_write_is_taken(rule: Rule, clock: Clock) -> None:
    for changes in ({}, {"indicator": None, "device": None}, {"incident": True, "first": 1, "last": 2}):
        body = alert(**({"rule": rule.value} | changes))
        written = Upward.from_dict(Kind.ALERT, HEAD | {"clock": clock.value} | body).to_bytes()
        assert agree(written) is not None, written


@pytest.mark.parametrize("codes", [("category", Category), ("direction", Direction), ("device_class", DeviceClass)])
def test_every_code_is_taken(codes: tuple[str, Any]) -> None:
    name, values = codes
    for value in values:
        assert agree(compact(HEAD | alert(**{name: int(value)}))) is not None, value


SPECIAL: tuple[Any, ...] = (10**30, -1, 1.5, True, None, "1")
NUMBERS = st.sampled_from(
    (*SPECIAL, *(0, 1, 3, 4, 6, 7, 127, 128, 3600, 3601, UNIX_MAX, UNIX_MAX + 1, COUNT_MAX, INTEGER_MAX, 2**60, 10**16))
)
TEXTS = st.one_of(
    st.none(),
    st.text(max_size=300),
    st.from_regex(r"[0-9a-z_.:/-]{1,260}", fullmatch=True),
    st.sampled_from(
        ["toxic.example", "Toxic.example", "a b", 'a"b', "a\\b", "é", "", "a\n", "ntp", "d-0123456789abcdef"]
    ),
)
NUMERIC = ["seq", "ts", "prev", "id", "reason", "severity", "category", "direction", "device_class", "count"]
TEXTUAL = ["boot", "clock", "rule", "indicator", "device"]


@given(
    st.dictionaries(st.sampled_from([*NUMERIC, "first", "last", "v", "incident"]), NUMBERS, max_size=3),
    st.dictionaries(st.sampled_from(TEXTUAL), TEXTS, max_size=2),
    st.booleans(),
)
def test_any_value_anywhere(numbers: dict[str, Any], texts: dict[str, Any], incident: bool) -> None:
    agree(compact(HEAD | alert(incident=incident) | numbers | texts))


@given(st.integers(0, 500), st.binary(max_size=4), st.integers(0, 4))
def test_any_damage(at: int, put: bytes, cut: int) -> None:
    good = compact(HEAD | alert())
    agree(good[:at] + put + good[at + cut :])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"seq":7', '"seq":07'),
        lambda text: text.replace('"seq":7', '"seq":7.0'),
        lambda text: text.replace('"seq":7', '"seq":7,"seq":8'),
        lambda text: text.replace('"seq":7', '"seq":6'),
        lambda text: text[:-1] + ',"more":1}',
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace("toxic.example", "toxic\\u002eexample"),
        lambda text: text.replace('"severity":2', '"severity":4'),
        lambda text: text.replace('"rule":"toxic-name"', '"rule":"no-such-rule"'),
    ],
)
def test_anything_else_is_left_to_the_contract(change: Any) -> None:
    good = compact(HEAD | alert()).decode()
    assert agree(good.encode()) is not None
    assert change(good) != good
    assert quick.alert(change(good).encode()) is None
