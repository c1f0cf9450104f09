"""MQTT topics. `vigie/v1/<box>/{up,down}/<kind>`, `vigie/v1/all/down/<look>`, `vigie/v1/ring/<n>/down/firmware`.

`state` and `desired` are retained; everything is QoS 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vigie.contract.errors import IdentityError, TopicError
from vigie.contract.identity import check_box_id
from vigie.contract.words import Kind, Look, Order

PREFIX: Final = "vigie/v1"
TOPIC_MAX: Final = 128
RINGS: Final = 100


@dataclass(frozen=True, slots=True)
class Up:
    """A topic a box publishes on."""

    box: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Down:
    """A topic one box listens to."""

    box: str
    order: Order


@dataclass(frozen=True, slots=True)
class All:
    """An announcement to every box, or to the boxes of one ring (firmware)."""

    look: Look
    ring: int | None = None


def up(box: str, kind: Kind) -> str:
    """Where a box publishes."""
    return f"{PREFIX}/{check_box_id(box)}/up/{kind.value}"


def down(box: str, order: Order) -> str:
    """Where a box is told."""
    return f"{PREFIX}/{check_box_id(box)}/down/{order.value}"


def announcement(look: Look) -> str:
    """Announcement to every box."""
    return f"{PREFIX}/all/down/{look.value}"


def ring_firmware(ring: int) -> str:
    """Firmware announcement to one ring, 0..99."""
    if not 0 <= ring < RINGS:
        raise TopicError(f"ring {ring}: 0 to {RINGS - 1} is expected")
    return f"{PREFIX}/ring/{ring}/down/firmware"


def box_subscriptions(box: str) -> tuple[str, ...]:
    """Filters that a box subscribes to, QoS 1: its own orders by name (no wildcard), then the announcements."""
    return (*(down(box, o) for o in Order), *(announcement(look) for look in Look))


ALL_UP: Final = f"{PREFIX}/+/up/+"
"""Filter that the department's ingest subscribes to."""


def parse(topic: str) -> Up | Down | All:
    """What a topic means. TopicError for any other topic."""
    parts = topic.split("/") if len(topic) <= TOPIC_MAX else []
    try:
        match parts:
            case ["vigie", "v1", "all", "down", word]:
                return All(Look(word))
            case ["vigie", "v1", "ring", number, "down", "firmware"] if number.isascii() and number.isdigit():
                if str(int(number)) == number and int(number) < RINGS:
                    return All(Look.FIRMWARE, int(number))
            case ["vigie", "v1", box, "up", word]:
                return Up(check_box_id(box), Kind(word))
            case ["vigie", "v1", box, "down", word]:
                return Down(check_box_id(box), Order(word))
    except (ValueError, IdentityError):
        pass
    raise TopicError(f"{topic[:TOPIC_MAX]!r} is not a topic of the contract")
