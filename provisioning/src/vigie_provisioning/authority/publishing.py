"""Publishes the revocation lists: at once after a revocation, a while after a certificate was superseded, each day."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta

from vigie_provisioning.authority import crl, records
from vigie_provisioning.authority.ca import Ca
from vigie_provisioning.authority.config import Config
from vigie_provisioning.authority.service import Publish
from vigie_provisioning.authority.writer import Writer
from vigie_provisioning.errors import ProvisioningError
from vigie_provisioning.files import write_atomic

log = logging.getLogger("vigie.authority")

DAILY_S = 86_400.0 / 2
RETRY_S = 10.0


class Publisher:
    """Owns crl.pem and denied.json."""

    def __init__(self, config: Config, ca: Ca, writer: Writer, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._ca = ca
        self._writer = writer
        self._clock = clock
        self._wanted = asyncio.Event()
        self._lock = asyncio.Lock()
        self._daily = 0.0
        self._soon = math.inf

    def wanted(self, publish: Publish) -> None:
        """Says that there is something to publish."""
        now = asyncio.get_running_loop().time()
        if publish is Publish.NOW:
            self._daily = now
        elif publish is Publish.SOON:
            # A second more than the grace, so that the entry is in.
            self._soon = min(self._soon, now + self._config.superseded_s + 1)
        self._wanted.set()

    async def run(self) -> None:
        """Publishes for ever; what fails is logged and tried again."""
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            if loop.time() >= min(self._daily, self._soon):
                try:
                    await self.publish()
                except ProvisioningError as e:
                    log.error("the revocation list was not published: %s", e)
                    await asyncio.sleep(RETRY_S)
                    continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(self._daily, self._soon) - loop.time())):
                    await self._wanted.wait()

    async def publish(self) -> bytes:
        """Writes the lists, then who is denied. Returns the lists in PEM."""
        async with self._lock:
            start = asyncio.get_running_loop().time()
            now = int(self._clock())
            what = await self._writer.run(lambda db: self._content(db, now))
            life = timedelta(days=self._config.crl_days)
            pem = await asyncio.to_thread(crl.sign, self._ca, what, now, life)
            await asyncio.to_thread(self._write, pem, crl.denied_json(what))
            if self._daily <= start:
                self._daily = start + DAILY_S
            if self._soon <= start:
                self._soon = math.inf
            return pem

    def _content(self, db: sqlite3.Connection, now: int) -> crl.Content:
        # Larger than any before, also after a backup was restored.
        number = max(int(records.fact(db, "crl_number", "0")) + 1, now)
        records.remember(db, "crl_number", str(number))
        return crl.content(db, now, number, self._config.superseded_s)

    def _write(self, pem: bytes, denied: bytes) -> None:
        group = self._config.public_group or None
        write_atomic(self._config.public / "crl.pem", pem, 0o640 if group else 0o644, group)
        write_atomic(self._config.public / "denied.json", denied, 0o640 if group else 0o644, group)
