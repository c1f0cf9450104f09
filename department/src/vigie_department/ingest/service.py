"""`vigie-department ingest`: four threads (network, worker, sender, steward) until SIGTERM or SIGINT."""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import os
import signal
import threading
from typing import Any, Final

from vigie_department.config import Config
from vigie_department.console import setup
from vigie_department.errors import StateError, UnavailableError
from vigie_department.texts import _

log = logging.getLogger("vigie.ingest")

LOCK: Final = "ingest.lock"


class Service:
    """Everything that runs. Made after Django is set up."""

    def __init__(self, config: Config) -> None:
        from vigie_department.ingest.sender import Sender
        from vigie_department.ingest.steward import Steward
        from vigie_department.ingest.store import Store
        from vigie_department.ingest.worker import Worker

        self.config = config
        self.store = Store()
        self.worker = Worker(config, self.store)
        self.sender = Sender(config)
        self.steward = Steward(config, self.status)
        self.broker: Any = None
        self._problem = ""
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._guard, args=(part.run,), name=name)
            for name, part in (("worker", self.worker), ("sender", self.sender), ("steward", self.steward))
        ]

    def status(self) -> dict[str, Any]:
        """For `doctor`: counts since the start, and what does not work."""
        broker = self.broker
        return dataclasses.asdict(self.store.totals) | {
            "pid": os.getpid(),
            "connected": bool(broker is not None and broker.connected),
            "broker": broker.problem if broker is not None else self._problem,
            "database": self.worker.failing,
            "waiting": self.worker.depth,
            "dropped": self.worker.dropped,
            "published": self.sender.sent,
            "refused": self.sender.refused,
        }

    def run(self) -> int:
        """Until told to stop. 0, or 1 when a thread died of a bug: whoever supervises starts us again."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        for thread in self._threads:
            thread.start()
        self._connect()
        self._stopping.wait()
        for part in (self.worker, self.sender, self.steward):
            part.stop()
        for thread in self._threads:
            thread.join()
        if self.broker is not None:
            self.broker.stop()
        return 1 if self._problem else 0

    def stop(self) -> None:
        """From a signal."""
        self._stopping.set()

    def _connect(self) -> None:
        """The session; while its certificate is not there, look again."""
        from vigie_department.ingest.broker import Broker

        said = False
        while not self._stopping.is_set():
            try:
                broker = Broker(self.config, self.worker.arrived, self.sender.published)
            except UnavailableError as error:
                if not said:
                    log.error("%s", error)
                    said = True
                self._stopping.wait(self.config.intervals.retry_max)
                continue
            self.broker = self.worker.broker = self.sender.broker = broker
            broker.start()
            return

    def _guard(self, body: Any) -> None:
        """A thread that dies takes the process with it, rather than leaving half of it at work."""
        try:
            body()
        except BaseException:
            self._problem = f"{threading.current_thread().name} died"
            log.exception("%s", self._problem)
            self._stopping.set()
            raise


def run(config: Config) -> int:
    """The command. One per department: the broker knows one session of ours, and receipts have one writer."""
    setup.start(config)
    config.paths.run.mkdir(parents=True, exist_ok=True)
    path = config.paths.run / LOCK
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(_("un autre ingest tourne déjà ({path})").format(path=path)) from None
        return Service(config).run()
