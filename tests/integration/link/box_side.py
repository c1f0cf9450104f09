"""A box whose link runs in this process: configuration, credentials, trust bundle, filter, in a folder of the test."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.integration.link.filter_side import FilterSide
from tests.support.certificates import Client
from tests.support.servers import Servers
from vigie.contract import dsse
from vigie.contract.trust import SteeringKeys
from vigie.enrol.layout import install
from vigie.host.boxconfig import BoxConfig, Intervals, LinkIntervals, Paths
from vigie.host.trusted_clock import TrustedClock
from vigie.link.agent import Agent
from vigie.link.filterclient import FilterClient
from vigie.link.store import Store

QUICK = LinkIntervals(
    first_s=0.05, most_s=0.3, spread_s=0.0, drain_per_s=5000.0, keepalive_s=5, state_s=60.0, poll_s=0.05,
    confirm_s=1.0, reconcile_s=0.2, connect_s=5.0, renewed_s=0.1,
)  # fmt: skip


@dataclass(frozen=True)
class Keys:
    """Who may order: one online key, five offline ones."""

    online: Ed25519PrivateKey
    offline: tuple[Ed25519PrivateKey, ...]

    @classmethod
    def make(cls) -> Keys:
        return cls(Ed25519PrivateKey.generate(), tuple(Ed25519PrivateKey.generate() for _ in range(5)))

    def trusted(self) -> SteeringKeys:
        return SteeringKeys.of((dsse.public_bytes(self.online),), tuple(dsse.public_bytes(k) for k in self.offline))


class BoxSide:
    """Context manager. The link runs between `start` and `stop` (or `vanish`)."""

    def __init__(
        self, folder: Path, servers: Servers, client: Client, keys: Keys, times: LinkIntervals = QUICK
    ) -> None:
        self.folder, self.client, self.keys = folder, client, keys
        paths = Paths(
            trust=folder / "trust",
            identity=folder / "identity",
            state=folder / "data",
            filter_socket=folder / "run" / "filter.sock",
            run=folder / "run",
        )
        for path in (paths.trust, paths.state, paths.run):
            path.mkdir(parents=True)
        paths.roots.write_bytes(servers.certificates.roots.read_bytes())
        (paths.trust / "steering.json").write_bytes(keys.trusted().to_bytes())
        host = servers.config.mqtt_host
        self.config = BoxConfig(
            domain=servers.config.domain, paths=paths, addresses={host: "127.0.0.1"}, intervals=Intervals(link=times)
        )
        self.install((servers.plan.port,), host)
        self.clock = TrustedClock(self.config)
        self.filter = FilterSide(folder / "filter", paths.filter_socket, self.clock, paths.trust, paths.state)
        self.filter_runs = True
        self._thread: threading.Thread | None = None

    @property
    def name(self) -> str:
        return self.client.name

    def install(self, ports: tuple[int, ...], host: str) -> None:
        key, chain = self.client.key.read_bytes(), self.client.chain.read_bytes()
        install(self.config.paths, self.client.name, key, chain, host, ports)

    def __enter__(self) -> BoxSide:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self.filter_runs:
            self.stop_filter()

    def stop_filter(self) -> None:
        self.filter_runs = False
        self.filter.stop()

    def start_filter(self) -> None:
        self.filter_runs = True
        self.filter.start()

    def start(self) -> None:
        """The link, in a thread with a loop of its own."""
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="link")
        self._thread.start()
        assert ready.wait(60)

    def stop(self) -> None:
        """As on SIGTERM."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(60)
            assert not self._thread.is_alive(), "the link does not end"
            self._thread = None

    def vanish(self) -> None:
        """As a power cut: the socket closes without a word of MQTT."""

        def cut() -> None:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()

        if self._thread is not None:
            self._loop.call_soon_threadsafe(cut)
            self._thread.join(60)
            self._thread = None

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main(ready))
        except asyncio.CancelledError:
            logging.getLogger("tests").info("link cut")
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    async def _main(self, ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        store = Store(self.config.paths)
        self.agent = Agent(self.config, FilterClient(self.config.paths.filter_socket), self.clock, store)
        ready.set()
        await self.agent.run(self._stop)

    @property
    def status(self) -> dict[str, Any]:
        return Store(self.config.paths).load_status() or {}

    def with_times(self, **changes: Any) -> None:
        """Other intervals, before `start`."""
        times = replace(self.config.intervals.link, **changes)
        self.config = replace(self.config, intervals=Intervals(link=times))

    # ---- orders -----------------------------------------------------------------------------------------------

    def desired(self, version: int, **changes: Any) -> dict[str, Any]:
        """A payload, fields in place of the usual ones."""
        now = int(time.time())
        return {
            "v": 1,
            "box": self.name,
            "version": version,
            "issued": now,
            "expires": now + 30 * 86_400,
            "exceptions": [],
            "never_block": [],
            "essential": [],
            "isolation": None,
            "quarantine": [],
            "settings": {"volunteer": False},
            "mass": None,
        } | changes

    def command(self, ident: str, op: str, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        fixed = {"v": 1, "box": self.name, "id": ident, "issued": now, "expires": now + 600, "op": op, "args": {}}
        return fixed | changes

    def signed(self, payload: dict[str, Any], kind: str = dsse.DESIRED_TYPE, *more: Ed25519PrivateKey) -> bytes:
        """By the online key, and by `more`."""
        return dsse.sign(json.dumps(payload).encode(), kind, self.keys.online, *more).to_bytes()
