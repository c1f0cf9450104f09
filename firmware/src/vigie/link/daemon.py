"""`vigie link run`: starts the agent, ends it on SIGTERM or SIGINT, tells systemd."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from vigie.host.boxconfig import BoxConfig
from vigie.host.systemd import Watchdog, notify
from vigie.host.trusted_clock import TrustedClock
from vigie.link.agent import Agent
from vigie.link.filterclient import FilterClient
from vigie.link.store import Store


def run(config: BoxConfig) -> int:
    """Runs the link until it is told to stop; the command's exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return asyncio.run(_run(config))


async def _run(config: BoxConfig) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    clock = TrustedClock(config)
    agent = Agent(config, FilterClient(config.paths.filter_socket), clock, Store(config.paths))
    watchdog = asyncio.create_task(Watchdog().keep())
    notify("READY=1\nSTATUS=link")
    try:
        await agent.run(stop)
    finally:
        notify("STOPPING=1")
        watchdog.cancel()
    return 0
