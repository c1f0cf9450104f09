"""The access list, as Mosquitto reads it."""

from __future__ import annotations

import json

import pytest

from vigie.contract import topics
from vigie.contract.words import Look, Order
from vigie_department.broker.acl import access_list, denied_of, parse_denied
from vigie_department.broker.errors import BrokerError

A, B = "vg-aaaaaaaaaaaaaaaa", "vg-bbbbbbbbbbbbbbbb"


def matches(pattern: str, topic: str) -> bool:
    """MQTT 5, 4.7."""
    wanted, got = pattern.split("/"), topic.split("/")
    for place, word in enumerate(wanted):
        if word == "#":
            return True
        if place >= len(got) or word not in ("+", got[place]):
            return False
    return len(wanted) == len(got)


def allowed(text: str, user: str, access: str, topic: str) -> bool:
    """Mosquitto 2.0's order: the user's own lines, the first that fits decides; then the patterns."""
    current, patterns = "", []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "user":
            current = words[1]
        elif words[0] == "topic" and current == user and matches(words[2], topic) and words[1] in (access, "deny"):
            return words[1] != "deny"
        elif words[0] == "pattern":
            patterns.append((words[1], words[2].replace("%u", user)))
    return any(kind == access and matches(pattern, topic) for kind, pattern in patterns)


def test_box_speaks_and_hears_only_as_itself() -> None:
    text = access_list([])
    for order in Order:
        assert allowed(text, A, "read", topics.down(A, order))
        assert not allowed(text, A, "read", topics.down(B, order))
        assert not allowed(text, A, "write", topics.down(A, order))
    assert allowed(text, A, "write", f"{topics.PREFIX}/{A}/up/alert")
    assert not allowed(text, A, "write", f"{topics.PREFIX}/{B}/up/alert")
    assert not allowed(text, A, "read", f"{topics.PREFIX}/{B}/up/alert")
    for topic in (*(topics.announcement(look) for look in Look), topics.ring_firmware(7)):
        assert allowed(text, A, "read", topic)
        assert not allowed(text, A, "write", topic)


def test_every_subscription_of_a_box_is_allowed_to_bring_something() -> None:
    text = access_list([])
    assert all(allowed(text, A, "read", topic) for topic in topics.box_subscriptions(A))


def test_department_orders_but_cannot_speak_as_a_box() -> None:
    text = access_list([A])
    for topic in (topics.down(A, Order.DESIRED), topics.announcement(Look.BASE), topics.ring_firmware(0)):
        assert allowed(text, "department", "write", topic)
    assert allowed(text, "department", "read", f"{topics.PREFIX}/{A}/up/alert")
    assert not allowed(text, "department", "write", f"{topics.PREFIX}/{A}/up/alert")


def test_denied_box_is_refused_everything_and_only_it() -> None:
    text = access_list([A])
    for access, topic in (("write", f"{topics.PREFIX}/{A}/up/state"), ("read", topics.down(A, Order.DESIRED)),
                          ("read", topics.announcement(Look.BASE))):  # fmt: skip
        assert not allowed(text, A, access, topic)
        assert allowed(text, B, access, topic.replace(A, B))


def test_denied_boxes_come_back_out_of_the_list() -> None:
    assert denied_of(access_list([B, A, A])) == {A, B}
    assert denied_of(access_list([])) == frozenset()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"v":2,"boxes":[]}', b'{"v":1}', b'{"v":1,"boxes":{}}', b'{"v":1,"boxes":[1]}',
     b'{"v":1,"boxes":["department"]}', b'{"v":1,"boxes":["vg-aaaaaaaaaaaaaaaa\\ntopic readwrite #"]}', b"[" * 100_000],
)  # fmt: skip
def test_anything_else_than_a_list_of_boxes_is_refused(data: bytes) -> None:
    with pytest.raises(BrokerError, match="list of denied boxes"):
        parse_denied(data)


def test_list_of_denied_boxes() -> None:
    assert parse_denied(json.dumps({"v": 1, "boxes": [A, B]}).encode()) == {A, B}


def test_control_user_only_listens() -> None:
    text = access_list([])
    assert allowed(text, "control", "read", f"{topics.PREFIX}/{A}/up/alert")
    assert not allowed(text, "control", "write", f"{topics.PREFIX}/{A}/up/alert")
    assert not allowed(text, "control", "write", topics.down(A, Order.DESIRED))
    assert not allowed(text, "control", "read", topics.down(A, Order.DESIRED))
