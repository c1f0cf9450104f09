"""`vigie page run`."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket

import uvicorn

from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig
from vigie.host.systemd import Watchdog, notify
from vigie.page.app import application

CONNECTIONS_MAX = 64


def listen(address: str, port: int) -> socket.socket:
    """A listening socket; for `::` one that also takes IPv4. Raises HostError."""
    try:
        if ":" in address:
            with contextlib.suppress(OSError):
                return socket.create_server((address, port), family=socket.AF_INET6, dualstack_ipv6=address == "::")
            address = "0.0.0.0" if address == "::" else address  # noqa: S104 - a kernel without IPv6; Guard decides
        return socket.create_server((address, port))
    except OSError as e:
        raise HostError(f"{address} port {port}: cannot listen ({e.strerror}); is another server there?") from e


class _Server(uvicorn.Server):
    """Tells systemd that it serves, and that its loop turns."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn calls it, with the sockets listening."""
        await super().startup(sockets=sockets)
        notify("READY=1")
        self._alive = asyncio.create_task(Watchdog().keep())


def run(config: BoxConfig) -> int:
    """Serves until SIGTERM; its exit code."""
    # uvicorn stops at a signal, then raises it again: a service that was told to stop has not failed.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_frame: None)
    with listen(config.page.address, config.page.port) as sock:
        server = _Server(
            uvicorn.Config(
                application(config),
                http="h11",
                ws="none",
                lifespan="off",
                loop="asyncio",
                log_level="warning",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=5,
            )
        )
        server.run(sockets=[sock])
    return 0
