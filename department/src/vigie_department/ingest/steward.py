"""The thread that keeps the fleet's records true: the authority's events, documents that are due, commands left
unanswered, and this process's own sign of life."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from django.db import Error, connection
from django.utils import timezone

from vigie_department.config import Config
from vigie_department.console.models import Box, Command, Cursor
from vigie_department.console.services import audit, authority, desired
from vigie_department.errors import DepartmentError, RefusedError, StateError, UsageError
from vigie_department.ingest import registry

log = logging.getLogger("vigie.ingest.steward")

HEARTBEAT: Final = "ingest"
BEAT_S: Final = 2.0


class Steward:
    """Runs until `stop`. A chore that fails is said once and tried again; it never stops the others."""

    def __init__(self, config: Config, status: Callable[[], dict[str, Any]]) -> None:
        self._config = config
        self._status = status
        self._stopping = threading.Event()
        self._authority = authority.Client(config.paths.authority_admin, timeout_s=10)
        self._wanting: set[str] = set()
        """boxes that enrolled and have no document yet"""
        self._problems: dict[str, str] = {}

    @property
    def problems(self) -> dict[str, str]:
        """Chore -> why it fails, of those that fail now."""
        return dict(self._problems)

    def stop(self) -> None:
        """Leave."""
        self._stopping.set()

    def run(self) -> None:
        """Body of the thread."""
        chores: dict[str, tuple[float, Callable[[], None]]] = {
            "authority": (self._config.intervals.authority, self._pull),
            "documents": (self._config.intervals.authority, self._first_documents),
            "renewals": (self._config.intervals.renew, self._renew),
            "heartbeat": (BEAT_S, self._beat),
        }
        due = dict.fromkeys(chores, 0.0)
        try:
            while not self._stopping.is_set():
                for name, (interval, chore) in chores.items():
                    if time.monotonic() < due[name] or self._stopping.is_set():
                        continue
                    done = self._try(name, chore)
                    due[name] = time.monotonic() + (interval if done else max(interval, self._config.intervals.retry))
                self._stopping.wait(max(0.02, min(due.values()) - time.monotonic()))
        finally:
            connection.close()

    def _try(self, name: str, chore: Callable[[], None]) -> bool:
        try:
            chore()
        except (DepartmentError, Error, OSError) as error:
            if name not in self._problems:
                log.warning("%s: %s", name, error)
            self._problems[name] = str(error)[:300]
            if isinstance(error, Error):
                connection.close()
            return False
        if self._problems.pop(name, None) is not None:
            log.info("%s: works again", name)
        return True

    def _pull(self) -> None:
        while not self._stopping.is_set():
            count, enrolled = registry.pull(self._authority.events)
            self._wanting.update(enrolled)
            if count < 500:
                return

    def _first_documents(self) -> None:
        """A box that has just enrolled gets its document at once."""
        for name in sorted(self._wanting):
            box = Box.objects.select_related("commune").filter(pk=name).first()
            try:
                if box is not None:
                    desired.issue(box, audit.INGEST, "enrolled")
            except (RefusedError, StateError, UsageError) as error:
                # what is wrong with one box is no reason to leave the others without; renewals try it again
                log.error("%s: its first document cannot be made: %s", name, error)
            self._wanting.discard(name)

    def _renew(self) -> None:
        now = timezone.now()
        Command.objects.filter(state=Command.State.SENT, expires__lt=now).update(state=Command.State.SILENT)
        desired.renew(audit.INGEST)

    def _beat(self) -> None:
        now = timezone.now()
        Cursor.objects.update_or_create(
            name=HEARTBEAT,
            defaults={
                "value": int(now.timestamp()),
                "detail": self._status() | {"problems": self.problems},
                "updated": now,
            },
        )
