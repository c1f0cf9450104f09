"""From a topic and bytes to something to store. Pure: whatever a box sends, the answer is one of the classes here."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Final

from vigie.contract import topics
from vigie.contract.envelope import BOOT, Upward
from vigie.contract.errors import ContractError
from vigie.contract.strictjson import INTEGER_MAX, MESSAGE_MAX
from vigie.contract.words import Kind
from vigie_department.ingest import quick

REASON_MAX: Final = 300
OURS: Final = "0" * 32
"""boot of the alerts that come from the authority and not from a box: none may have it"""


@dataclass(slots=True, frozen=True)
class Header:
    """Place of a row in its box's outbox."""

    boot: str
    seq: int
    prev: int


@dataclass(slots=True, frozen=True)
class Report:
    """A message that follows the contract. `box` is the topic's, which the broker ties to the certificate."""

    box: str
    message: Upward

    @property
    def header(self) -> Header | None:
        """None for `state`, which is never confirmed."""
        message = self.message
        return None if message.prev is None else Header(message.boot, message.seq, message.prev)


@dataclass(slots=True, frozen=True)
class Poison:
    """A message that does not. It is kept aside; with a header that can be read it is confirmed like any other, or the
    box would send it for ever and everything behind it would wait."""

    box: str
    topic: str
    payload: bytes
    reason: str
    header: Header | None = None


def decode(topic: str, payload: bytes) -> Report | Poison:
    """What was received on `topic`."""
    try:
        place = _place(topic)
    except ContractError as error:
        return Poison("", topic, payload, str(error)[:REASON_MAX])
    if not isinstance(place, topics.Up):
        return Poison("", topic, payload, "not a topic that boxes publish on")
    try:
        message = quick.alert(payload) if place.kind is Kind.ALERT else None
        if message is None:
            message = Upward.from_bytes(place.kind, payload)
        if message.boot == OURS:
            # it would stand in the place of the alert that this very box has a double
            return Poison(place.box, topic, payload, "a boot of zeros is the department's own")
        return Report(place.box, message)
    except ContractError as error:
        return Poison(place.box, topic, payload, str(error)[:REASON_MAX], _header(place.kind, payload))


@functools.lru_cache(maxsize=16_384)
def _place(topic: str) -> topics.Up | topics.Down | topics.All:
    """Remembered: a box has six topics, and checks its name against a pattern each time."""
    return topics.parse(topic)


def _header(kind: Kind, payload: bytes) -> Header | None:
    """The header of a message whose body is wrong: of a newer box, say."""
    if not kind.in_outbox or len(payload) > MESSAGE_MAX:
        return None
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    boot, seq, prev = found.get("boot"), found.get("seq"), found.get("prev")
    if not isinstance(boot, str) or BOOT.fullmatch(boot) is None or boot == OURS:
        return None
    if type(seq) is not int or type(prev) is not int:
        return None
    return Header(boot, seq, prev) if 0 <= prev < seq <= INTEGER_MAX else None
