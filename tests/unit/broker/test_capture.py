"""The privacy check of the lab finds what it is there to find."""

from __future__ import annotations

import json

import pytest

from lab.capture import Captured, faults
from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.envelope import Upward, new_boot
from vigie.contract.topics import up
from vigie.contract.upward import Alert
from vigie.contract.words import Clock, Kind, Rule

BOX = "vg-aaaaaaaaaaaaaaaa"
LISTED = "193.51.24.120"
FORBIDDEN = ("www.commune.example", "192.168.1.10", "192.168.1.", "3c:52:82:00:00:10", "3c5282000010", "pc.local")


def alert(indicator: str) -> dict[str, object]:
    row = Alert(
        id=1, rule=next(iter(Rule)), reason=1, severity=1, category=Category.C2, direction=Direction.OUT,
        indicator=indicator, device="d-0123456789abcdef", device_class=DeviceClass.COMPUTER, count=3, first=3600,
        last=3600, incident=False,
    )  # fmt: skip
    said: dict[str, object] = json.loads(Upward(new_boot(), 2, 3600, Clock.NTP, row, 0).to_bytes())
    return said


def check(said: object, topic: str = up(BOX, Kind.ALERT)) -> list[str]:
    return faults([Captured(0.0, topic, json.dumps(said).encode())], FORBIDDEN)


def test_a_listed_indicator_may_leave() -> None:
    assert check(alert(LISTED)) == []


@pytest.mark.parametrize("word", ["www.commune.example", "192.168.1.10", "3c:52:82:00:00:10", "192.168.1.0/24"])
def test_unlisted_words_are_found(word: str) -> None:
    assert any("holds" in fault for fault in check(alert(word)))


def test_what_is_not_of_the_contract_is_found() -> None:
    assert "not of the contract" in check(alert(LISTED) | {"host": "x"})[0]
    assert "not of the contract" in check([1])[0]
    assert "not a topic" in check(alert(LISTED), f"vigie/v1/{BOX}/down/desired")[0]
