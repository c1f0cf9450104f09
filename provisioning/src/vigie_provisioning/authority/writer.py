"""One thread that writes to the database, many changes to a commit.

Each change runs in a savepoint of its own: it is kept whole or undone whole. Its caller hears of success only after the
commit that holds it is on disk (synchronous FULL), so nothing that was answered can be forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from vigie_provisioning.authority import schema
from vigie_provisioning.errors import BusyError, StoreError

T = TypeVar("T")
Change = Callable[[sqlite3.Connection], T]
WAITING_MAX = 2000
BATCH_MAX = 64


class Writer:
    """Owns the only writing connection."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.Queue[tuple[Change[Any], Future[Any]] | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._opened: Future[None] = Future()
        self._stopped = False

    def start(self) -> None:
        """Opens the database, makes or migrates its tables. StoreError."""
        self._thread.start()
        self._opened.result()

    def stop(self) -> None:
        """Finishes what is waiting, then closes."""
        self._stopped = True
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def submit(self, change: Change[T]) -> Future[T]:
        """Runs `change` in the writing thread. BusyError when too much is waiting."""
        future: Future[T] = Future()
        if self._stopped:
            raise BusyError("the authority is stopping; try again a little later")
        try:
            self._queue.put_nowait((change, future))
        except queue.Full:
            raise BusyError("the store has too much to write; try again a little later") from None
        return future

    async def run(self, change: Change[T]) -> T:
        """`submit`, awaited."""
        return await asyncio.wrap_future(self.submit(change))

    def _run(self) -> None:
        try:
            db = schema.open_store(self._path)
        except BaseException as e:  # noqa: BLE001 - handed to `start`, which raises it
            self._opened.set_exception(e)
            return
        self._opened.set_result(None)
        try:
            while self._batch(db):
                pass
        finally:
            db.close()

    def _batch(self, db: sqlite3.Connection) -> bool:
        """One commit. False at the end."""
        items = [self._queue.get()]
        with contextlib.suppress(queue.Empty):
            while len(items) < BATCH_MAX:
                items.append(self._queue.get_nowait())
        jobs = [item for item in items if item is not None and item[1].set_running_or_notify_cancel()]
        done: list[tuple[Any, Exception | None]] = []
        try:
            db.execute("BEGIN IMMEDIATE")
            done = [_one(db, change) for change, _future in jobs]
            db.execute("COMMIT")
        except sqlite3.Error as e:
            if db.in_transaction:
                db.execute("ROLLBACK")
            problem = StoreError(f"{self._path}: nothing was written ({e}); check the disk's space and rights")
            problem.__cause__ = e
            done = [(None, problem)] * len(jobs)
        for (_change, future), (result, error) in zip(jobs, done, strict=True):
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        return None not in items


def _one(db: sqlite3.Connection, change: Change[Any]) -> tuple[Any, Exception | None]:
    db.execute("SAVEPOINT change")
    try:
        result = change(db)
    except Exception as e:  # noqa: BLE001 - handed to whoever asked for this change, the others are kept
        db.execute("ROLLBACK TO change")
        db.execute("RELEASE change")
        return None, e
    db.execute("RELEASE change")
    return result, None
