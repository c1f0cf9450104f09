"""`vigie link run`: starts the agent, ends it on SIGTERM or SIGINT, tells systemd."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import Final

from vigie.host.boxconfig import BoxConfig
from vigie.host.systemd import notify
from vigie.host.trusted_clock import TrustedClock
from vigie.link.agent import Agent
from vigie.link.filterclient import FilterClient
from vigie.link.store import Store

WATCHDOG_SHARE: Final = 3


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
    watchdog = asyncio.create_task(_watchdog())
    notify("READY=1\nSTATUS=link")
    try:
        await agent.run(stop)
    finally:
        notify("STOPPING=1")
        watchdog.cancel()
    return 0


async def _watchdog() -> None:
    """As often as systemd asks (WatchdogSec=): a loop that hangs is restarted."""
    every_us = os.environ.get("WATCHDOG_USEC", "")
    if not every_us.isdigit():
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(every_us) / 1_000_000 / WATCHDOG_SHARE)
