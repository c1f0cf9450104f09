"""`vigie-authority serve`: HTTP socket, admin socket, revocation lists and housekeeping, in one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn

from vigie_provisioning import jsonsocket
from vigie_provisioning.authority import ca, records, schema
from vigie_provisioning.authority.app import application
from vigie_provisioning.authority.attempts import Attempts
from vigie_provisioning.authority.clock import Clock
from vigie_provisioning.authority.config import Config
from vigie_provisioning.authority.front import Front
from vigie_provisioning.authority.operations import Operations
from vigie_provisioning.authority.publishing import Publisher
from vigie_provisioning.authority.service import Service
from vigie_provisioning.authority.writer import Writer
from vigie_provisioning.errors import ProvisioningError
from vigie_provisioning.register import REGISTER_MAX

log = logging.getLogger("vigie.authority")

FLUSH_S = 5.0
HOURLY_S = 3600.0
CONNECTIONS_MAX = 2000


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers (this daemon stops several things, in order), that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listens.set()

    async def tell(self, ready: Callable[[], None]) -> None:
        """Calls `ready` once it listens, and stays."""
        await self._listens.wait()
        ready()
        await asyncio.Event().wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: Config, *, ready: Callable[[], None] | None = None, accept_clock: bool = False) -> None:
    """Runs until SIGTERM or SIGINT. Raises ProvisioningError when keys, store, sockets or the clock are not right.

    accept_clock: somebody looked at this machine's clock, and it is right.
    """
    authority = ca.load(config.places)
    ca.publish(config.places, authority)
    writer = Writer(config.store)
    writer.start()
    try:
        reader = schema.open_reader(config.store)
        try:
            clock = Clock(0 if accept_clock else int(records.fact(reader, "clock", "0")))
            clock()
            await writer.run(lambda db: records.remember(db, "clock", str(clock.last)))
            await _run(config, authority, writer, reader, ready, clock)
        finally:
            reader.close()
    finally:
        await asyncio.to_thread(writer.stop)


async def _run(
    config: Config,
    authority: ca.Ca,
    writer: Writer,
    reader: sqlite3.Connection,
    ready: Callable[[], None] | None,
    clock: Clock,
) -> None:
    service = Service(authority, config.certificate_days)
    attempts = Attempts()
    publisher = Publisher(config, authority, writer, clock)
    front = Front(config, service, writer, reader, attempts, publisher.wanted, clock)
    operations = Operations(config, service, writer, reader, attempts, publisher, clock)
    mode = 0o666 if config.admin_users else 0o600
    admin = jsonsocket.Server(config.admin_socket, operations.table(), mode=mode, request_max=2 * REGISTER_MAX)
    http = _http(front)
    sock = jsonsocket.bind(config.http_socket, 0o660 if config.http_group else 0o600, config.http_group or None)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await publisher.publish()
    await admin.start()
    tasks = {
        asyncio.create_task(http.serve([sock]), name="http"),
        asyncio.create_task(publisher.run(), name="publisher"),
        asyncio.create_task(_housekeeping(writer, attempts, clock), name="housekeeping"),
        asyncio.create_task(stop.wait(), name="stop"),
    }
    if ready is not None:
        tasks.add(asyncio.create_task(http.tell(ready), name="ready"))
    try:
        done, _rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a task that ends by itself ends by a fault
    finally:
        await admin.stop()
        http.should_exit = True
        for task in tasks:
            if task.get_name() != "http":
                task.cancel()
        await asyncio.wait(tasks, timeout=15.0)
        config.http_socket.unlink(missing_ok=True)


def _http(front: Front) -> _Http:
    return _Http(
        uvicorn.Config(
            application(front),
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=2048,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=120,  # longer than nginx keeps its side, which would else write into a closed one
            timeout_graceful_shutdown=10,
        )
    )


async def _housekeeping(writer: Writer, attempts: Attempts, clock: Clock) -> None:
    loop = asyncio.get_running_loop()
    last = float("-inf")
    while True:
        await asyncio.sleep(FLUSH_S)
        try:
            now = int(clock())
            if len(attempts):
                await writer.run(partial(attempts.flush, now=now))
            if loop.time() - last >= HOURLY_S:
                await writer.run(partial(_hourly, now=now))
                last = loop.time()
        except ProvisioningError as e:
            log.error("housekeeping: %s", e)


def _hourly(db: sqlite3.Connection, now: int) -> None:
    records.prune(db, now)
    records.remember(db, "clock", str(now))
