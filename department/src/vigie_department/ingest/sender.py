"""The thread that publishes the Outgoing queue, in order, and marks a row sent when the broker has acknowledged it."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import Final

from django.db import Error, connection
from django.utils import timezone
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from vigie_department.config import Config
from vigie_department.console import outgoing
from vigie_department.console.models import Outgoing
from vigie_department.ingest.broker import Broker

log = logging.getLogger("vigie.ingest.sender")

AT_ONCE: Final = 500
UNANSWERED_S: Final = 60.0
"""a publication that the broker never acknowledged is handed over again after this"""


class Sender:
    """Runs until `stop`. A row goes out at least once: documents carry a version and commands an identifier."""

    def __init__(self, config: Config) -> None:
        self._interval = config.intervals.outgoing
        self._intervals = config.intervals
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._flying: dict[int, tuple[int, float]] = {}
        """message id -> row, when"""
        self._handing = False
        self._early: dict[int, bool] = {}
        """answers that came while `publish` had not returned its identifier yet -> accepted"""
        self._done: list[int] = []
        self._refused = 0
        self.sent = 0
        self.broker: Broker | None = None

    @property
    def refused(self) -> int:
        """Publications that the broker refused (its access list): `doctor` says so."""
        return self._refused

    def published(self, mid: int, accepted: bool) -> None:
        """From the network thread: the broker has answered."""
        with self._lock:
            found = self._flying.pop(mid, None)
            if found is None:
                # the answer may overtake `publish` returning the identifier. At any other time it is of a publication
                # that is not ours: kept, it would pass for the answer to a later one under the same number.
                if self._handing:
                    self._early[mid] = accepted
                return
            self._answered(found[0], accepted)

    def _answered(self, row: int, accepted: bool) -> None:
        if accepted:
            self._done.append(row)
        else:
            self._refused += 1

    def stop(self) -> None:
        """Leave; what is not sent stays in the queue."""
        self._stopping.set()

    def run(self) -> None:
        """Body of the thread."""
        pause = self._intervals.retry
        try:
            while not self._stopping.is_set():
                try:
                    busy = self._round()
                    pause = self._intervals.retry
                    if not busy:
                        self._wait()
                except Error as error:
                    log.error("the queue of what goes out cannot be read, trying again: %s", error)
                    connection.close()
                    self._stopping.wait(random.uniform(pause / 2, pause))
                    pause = min(2 * pause, self._intervals.retry_max)
        finally:
            connection.close()

    def _round(self) -> bool:
        """Mark what is done, hand over what waits; True when there may be more."""
        self._mark()
        broker = self.broker
        if broker is None or not broker.connected:
            return False
        with self._lock:
            flying = {row for row, _when in self._flying.values()}
        if len(flying) >= AT_ONCE:
            return False
        rows = list(Outgoing.objects.filter(sent=None).exclude(id__in=flying).order_by("id")[: AT_ONCE - len(flying)])
        for row in rows:
            with self._lock:
                self._handing = True
            mid = broker.publish(row.topic, bytes(row.payload), retain=row.retain, properties=_properties(row))
            with self._lock:
                self._handing = False
                early, self._early = self._early, {}
                if mid is None:
                    return False
                if mid in early:
                    self._answered(row.pk, early[mid])
                else:
                    self._flying[mid] = (row.pk, time.monotonic())
        return len(rows) == AT_ONCE

    def _mark(self) -> None:
        with self._lock:
            done, self._done = self._done, []
            late = time.monotonic() - UNANSWERED_S
            for mid in [mid for mid, (_row, when) in self._flying.items() if when < late]:
                del self._flying[mid]
        if not done:
            return
        try:
            Outgoing.objects.filter(id__in=done).update(sent=timezone.now())
        except Error:
            with self._lock:
                self._done += done
            raise
        self.sent += len(done)

    def _wait(self) -> None:
        """Until somebody puts something in the queue, where the database can tell; else for a short while."""
        if connection.vendor != "postgresql":
            self._stopping.wait(self._interval)
            return
        connection.ensure_connection()
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {outgoing.CHANNEL}")
        raw = connection.connection
        with self._lock:
            flying = bool(self._flying)
        # an answer of the broker wakes nobody here: look again soon while one is awaited
        timeout = self._interval if flying else 5 * self._interval
        with connection.wrap_database_errors:
            for _notice in raw.notifies(timeout=timeout, stop_after=1):
                return


def _properties(row: Outgoing) -> Properties | None:
    if not row.response_topic and not row.correlation and row.expiry_s is None:
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if row.response_topic:
        properties.ResponseTopic = row.response_topic
    if row.correlation:
        properties.CorrelationData = row.correlation.encode("ascii")
    if row.expiry_s is not None:
        properties.MessageExpiryInterval = row.expiry_s
    return properties
