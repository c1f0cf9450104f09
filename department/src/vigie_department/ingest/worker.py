"""The thread that turns arrivals into committed rows: gather, decode, commit, acknowledge, confirm.

While the database is away the batch in hand is tried again and nothing is acknowledged; the broker then holds back, and
what it cannot hold is sent again by the boxes. So a failure here costs time and never a row.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from typing import Final

from django.db import DataError, Error, IntegrityError, connection

from vigie.contract import topics
from vigie.contract.downward import Received
from vigie.contract.words import Order
from vigie_department.config import Config
from vigie_department.ingest.broker import UNCOMMITTED_MAX, Arrival, Broker
from vigie_department.ingest.decode import REASON_MAX, Poison, Report, decode
from vigie_department.ingest.store import Key, Store

log = logging.getLogger("vigie.ingest")

BATCH_MAX: Final = 1000
IDLE_S: Final = 0.2

Item = Report | Poison


class Worker:
    """Runs until `stop`. `failing` is the database's last word while it does not work, else empty."""

    def __init__(self, config: Config, store: Store) -> None:
        self._intervals = config.intervals
        self._store = store
        self._queue: deque[Arrival] = deque()
        self._some = threading.Event()
        self._stopping = threading.Event()
        self._confirm: dict[Key, int] = {}
        self._confirmed = 0.0
        self.dropped = 0
        self.failing = ""
        self.broker: Broker | None = None

    @property
    def depth(self) -> int:
        """Messages received and not committed."""
        return len(self._queue)

    def arrived(self, arrivals: list[Arrival]) -> None:
        """From the network thread."""
        if len(self._queue) >= UNCOMMITTED_MAX:
            kept = [arrival for arrival in arrivals if arrival.qos]
            self.dropped += len(arrivals) - len(kept)
            arrivals = kept
        self._queue.extend(arrivals)
        if not self._some.is_set():
            self._some.set()

    def stop(self) -> None:
        """Finish the batch in hand; what is not committed by then stays with the broker."""
        self._stopping.set()
        self._some.set()

    def run(self) -> None:
        """Body of the thread."""
        try:
            while True:
                batch = self._gather()
                if batch:
                    self._commit(batch)
                self._send_confirmations(force=self._stopping.is_set())
                if self._stopping.is_set():
                    return
        finally:
            connection.close()

    def _gather(self) -> list[Arrival]:
        """What has come, after waiting for company as long as the configuration says."""
        if not self._queue:
            self._some.clear()
            # looked at again: an arrival between the two lines above would wait for the next one
            if not self._queue:
                self._some.wait(IDLE_S)
        deadline = time.monotonic() + self._intervals.batch
        while len(self._queue) < BATCH_MAX and not self._stopping.is_set():
            left = deadline - time.monotonic()
            if left <= 0 or not self._queue:
                break
            time.sleep(min(left, 0.01))
        batch: list[Arrival] = []
        while self._queue and len(batch) < BATCH_MAX:
            batch.append(self._queue.popleft())
        return batch

    def _commit(self, batch: list[Arrival]) -> None:
        items = [decode(arrival.topic, arrival.payload) for arrival in batch]
        confirmations = self._write(items)
        if confirmations is None:
            return
        if self.broker is not None:
            self.broker.acknowledge(batch)
        # one per boot: the later one says everything that the earlier one said
        self._confirm |= confirmations

    def _write(self, items: list[Item]) -> dict[Key, int] | None:
        """Committed, whatever it takes; None when told to stop before."""
        pause = self._intervals.retry
        while True:
            try:
                try:
                    confirmations = self._store.write(items)
                except (DataError, IntegrityError):
                    log.exception("a batch of %d was refused by the database; trying one by one", len(items))
                    confirmations = self._one_by_one(items)
                if self.failing:
                    log.warning("the database works again")
                    self.failing = ""
                return confirmations
            except Error as error:
                if not self.failing:
                    log.error("the database fails, nothing is lost, trying again: %s", error)
                self.failing = str(error).strip()[:300] or type(error).__name__
                self._store.totals.retries += 1
                self._store.forget()
                connection.close()
            if self._stopping.wait(random.uniform(pause / 2, pause)):
                return None
            pause = min(2 * pause, self._intervals.retry_max)

    def _one_by_one(self, items: list[Item]) -> dict[Key, int]:
        confirmations: dict[Key, int] = {}
        for item in items:
            self._store.forget()
            try:
                confirmations |= self._store.write([item])
            except (DataError, IntegrityError) as error:
                if isinstance(item, Poison):
                    raise
                self._store.forget()
                payload = item.message.to_bytes()
                reason = f"refused by the database: {error}"[:REASON_MAX].replace("\x00", "")
                topic = f"vigie/v1/{item.box}/up/{item.message.kind.value}"
                confirmations |= self._store.write([Poison(item.box, topic, payload, reason, item.header)])
        return confirmations

    def _send_confirmations(self, *, force: bool) -> None:
        now = time.monotonic()
        if not self._confirm or self.broker is None or (now - self._confirmed < self._intervals.confirm and not force):
            return
        self._confirmed = now
        said = [
            (topics.down(box, Order.RECEIVED), Received(boot, upto).to_bytes())
            for (box, boot), upto in self._confirm.items()
        ]
        # QoS 0: one that is lost on the way is repeated when the box sends its rows again
        if self.broker.tell(said):
            self._confirm = {}
