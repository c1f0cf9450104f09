"""Everything that boxes publish, as the broker received it: heard on its control socket, beside the ingest."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from vigie.contract import schema, topics
from vigie.contract.envelope import Upward
from vigie.contract.errors import ContractError
from vigie_department.broker.plan import CONTROL_USER, broker_plan
from vigie_department.config import Config

TOKEN = re.compile(r"[0-9a-z_.:/-]+")


@dataclass(frozen=True, slots=True)
class Captured:
    """A message and when it came (time.time())."""

    when: float
    topic: str
    payload: bytes


class Capture:
    """Connects when `start` is called, again after each restart of the broker; `messages` grows."""

    def __init__(self, config: Config) -> None:
        self._plan = broker_plan(config)
        self._lock = threading.Lock()
        self._messages: list[Captured] = []
        self._subscribed = threading.Event()
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="capture", protocol=paho.MQTTv5, transport="unix",
        )  # fmt: skip
        client.on_connect = self._connected
        client.on_subscribe = self._heard
        client.on_message = self._arrived
        client.reconnect_delay_set(1, 1)
        self._client = client

    def start(self) -> None:
        """Listening when this returns."""
        self._client.username_pw_set(CONTROL_USER, self._plan.control_password.read_text())
        self._client.connect(str(self._plan.control), keepalive=30)
        self._client.loop_start()
        if not self._subscribed.wait(10):
            raise AssertionError(f"the broker does not let the lab listen on {self._plan.control}")

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def messages(self) -> list[Captured]:
        with self._lock:
            return list(self._messages)

    def _connected(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        client.subscribe(topics.ALL_UP, 1)

    def _heard(self, client: paho.Client, userdata: Any, number: int, reasons: Any, properties: Any) -> None:
        self._subscribed.set()

    def _arrived(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        with self._lock:
            self._messages.append(Captured(time.time(), message.topic, bytes(message.payload)))


def faults(messages: Iterable[Captured], forbidden: Iterable[str]) -> list[str]:
    """What is wrong with these messages: not of the contract, or a word in them that must not leave a town hall.

    A word is found as a whole token of any text in the message, names of fields included; one of 8 characters or more
    also inside another token.
    """
    words = {word.lower() for word in forbidden}
    found = []
    for message in messages:
        found += [f"{message.topic}: {fault}: {message.payload[:600]!r}" for fault in _faults(message, words)]
    return found


def _faults(message: Captured, words: set[str]) -> Iterable[str]:
    try:
        place = topics.parse(message.topic)
        if not isinstance(place, topics.Up):
            yield "not a topic of a box's reports"
            return
        Upward.from_bytes(place.kind, message.payload)
        said = json.loads(message.payload)
        schema.validate(place.kind.value, said)
    except (ContractError, ValueError) as error:
        yield f"not of the contract: {error}"
        return
    text = json.dumps(said, ensure_ascii=False).lower()
    tokens = set(TOKEN.findall(text))
    for word in sorted(words):
        if word in tokens or (len(word) >= 8 and word in text):
            yield f"holds {word!r}"
