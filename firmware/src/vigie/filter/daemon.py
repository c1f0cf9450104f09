"""`vigie filter run`: brings the data path up (or takes it over, without a gap) and stays with it.

An event loop around the engine. All that touches the data path runs in this one thread; the journal's disk, base files
and netlink conversations have threads of their own, the hold worker a process. When this program ends, or is killed,
the programs and maps stay in the kernel and filter on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from vigie.errors import BaseError, KernelError, LinkError, VigieError
from vigie.filter import base_store, surroundings
from vigie.filter.api import Api, Hub
from vigie.filter.config import Config
from vigie.filter.datapath import DataPath, layout_dir
from vigie.filter.engine import Engine
from vigie.filter.heartbeat import Heartbeat
from vigie.filter.hold_process import HoldProcess
from vigie.filter.journal import Journal
from vigie.filter.loop import NONCE_S, ProbeSender
from vigie.filter.migrate import Migration
from vigie.filter.operations import Operations
from vigie.host.clock import SystemClock
from vigie.host.monitor import Monitor
from vigie.host.net import Net
from vigie.host.systemd import Watchdog, notify
from vigie.host.trusted_clock import ClockReader

log = logging.getLogger("vigie.filter")

FLUSH_S = 1.0
TICK_S = 1.0
LOOK_S = 10.0
LOOK_SOON_S = 0.5
LOOK_AT_ONCE_S = 0.1  # in the first seconds after a cable was moved
MOVED_S = 5.0
SETTLE_S = 0.02
RING_RECORDS = 2048


def run(config: Config) -> int:
    """Runs the filter until SIGTERM, SIGINT or the `stop` operation; the command's exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    return asyncio.run(Daemon(config).run())


class Daemon:
    """One run of the filter."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._net = Net()
        self._clock = SystemClock()
        trusted = ClockReader(config.box_state, config.run_dir, config.trust)
        self._journal = Journal(config.journal, signed=lambda: now.unix_s if (now := trusted.time()).known else None)
        self._hub = Hub()
        self._ending = asyncio.Event()
        self._detach = False
        self._look = asyncio.Event()
        self._engine: Engine
        self._datapath: DataPath
        self._hold: HoldProcess | None = None

    async def run(self) -> int:
        """Everything, from bringing up to leaving."""
        ports = self._bring_up()
        operations = Operations(self._engine, self._hub, self._hold_alive, self._stop)
        api = Api(operations.once(), operations.streams(), self._config.socket_group)
        await api.start(self._config.socket)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, False)
        ring = self._datapath.events()
        carriers = surroundings.CarrierWatch()

        def on_ring() -> None:
            # A cable pulled is known before what came in by the other one: else it would look like an impostor.
            self._on_carriers(carriers)
            self._engine.on_records(ring.read(RING_RECORDS))

        loop.add_reader(ring.fd, on_ring)
        loop.add_reader(carriers.fileno(), self._on_carriers, carriers)
        tasks = [asyncio.create_task(self._guarded(work), name=name) for name, work in self._work(ports)]
        notify("READY=1\nSTATUS=filtering")
        log.info("filtering on %s and %s", *ports)
        try:
            await self._ending.wait()
        finally:
            notify("STOPPING=1")
            loop.remove_reader(ring.fd)
            loop.remove_reader(carriers.fileno())
            carriers.close()
            await api.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._engine.close_parts()
            await asyncio.to_thread(self._journal.close)
            self._leave(ports)
        return 0

    def _work(self, ports: tuple[str, str]) -> list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        work: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
            ("journal", self._flush),
            ("time", self._tick),
            ("surroundings", self._watch_surroundings),
            ("changes", self._watch_changes),
            ("watchdog", Watchdog().keep),
            ("heartbeat", Heartbeat(self._config.socket.parent, self._engine).keep),
        ]
        if self._config.loop.enabled:
            work.append(("probes", lambda: self._probe(ports)))
        if self._hold is not None:
            work.append(("hold", self._hold.keep_running))
        return work

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A task that fails is told and begun again: one of them must not silently be missing."""
        while True:
            try:
                await work()
                return
            except asyncio.CancelledError:
                raise
            except Exception as e:
                level = logging.WARNING if isinstance(e, VigieError) else logging.ERROR
                log.log(level, "%s: %s", getattr(work, "__name__", "task"), e, exc_info=level == logging.ERROR)
            await asyncio.sleep(1.0)

    # ---- up and down -------------------------------------------------------------------------------------------

    def _bring_up(self) -> tuple[str, str]:
        """Data path with base and policy first, hooks next, the bridge last: no frame is forwarded unfiltered."""
        config, net = self._config, self._net
        ports = config.ports or surroundings.find_ports(net, config.bridge)
        datapath = self._datapath = DataPath.open(config.object, config.pin_dir)
        migration = Migration(datapath, config.pin_dir)
        migration.prepare()
        engine = self._engine = Engine(config, datapath, net, self._journal, self._clock, ports)
        engine.listener = self._hub.publish
        engine.look_again = self._look.set
        links = [net.link(name) for name in ports]
        datapath.settings.set_ports([link.index for link in links], [link.mtu for link in links])
        engine.start()
        self._load_base(engine)
        self._attach(ports)
        migration.finish(*ports, config.bridge)
        engine.on_surroundings(surroundings.look(net, ports, config.bridge))
        if config.hold.enabled:
            maps = layout_dir(config.pin_dir)
            self._hold = HoldProcess(maps, engine.on_records, self._hold_changed)
        return ports

    def _attach(self, ports: tuple[str, str]) -> None:
        """Programs on the ports before these forward anything; the bridge has to exist for the one on it."""
        config = self._config
        bridge = next((link for link in self._net.links() if link.name == config.bridge), None)
        if bridge is None:
            # A bridge that is not there yet: made down and empty by `ensure_bridge` with no ports, then filled.
            self._net.ensure_bridge(config.bridge, [], self._net.link(ports[0]).mac)
        self._datapath.attach(*ports, config.bridge)
        if not config.early_loader:
            self._net.ensure_bridge(config.bridge, ports)

    def _load_base(self, engine: Engine) -> None:
        """The kept base, else the built-in one, else the image that is in force already, else one without feeds."""
        faults = []
        for path in (self._config.base, self._config.builtin_base):
            if not path.exists():
                continue  # a new box has only the built-in one
            try:
                prepared = base_store.prepare(path, engine.department.lists_path)
                self._install(engine, prepared)
            except (BaseError, KernelError) as e:
                log.error("%s", e)
                faults.append(str(e))
                continue
            break
        else:
            faults.append(f"no base: neither {self._config.base} nor {self._config.builtin_base} can be used")
            if engine.datapath.image_header() is None:
                self._install(engine, base_store.prepare(None, engine.department.lists_path))
        if faults:
            engine.problems["base"] = faults[0]

    def _install(self, engine: Engine, prepared: base_store.Prepared) -> None:
        """Puts a base into force; the image of the early loader follows it."""
        try:
            engine.install_base(prepared)
            if prepared.info.path:
                prepared.image.save(self._config.image)
        except BaseError as e:
            log.warning("%s", e)
            if engine.base.info is not prepared.info:
                raise
        finally:
            prepared.close()

    def _leave(self, ports: tuple[str, str]) -> None:
        """Frames are not held for nobody; the rest stays, unless it was asked to go."""
        self._datapath.settings.set_hold(False)
        self._engine.save_learning()
        if self._detach:
            self._datapath.detach(*ports, self._config.bridge)
            for pinned in layout_dir(self._config.pin_dir).iterdir():
                pinned.unlink()
            log.warning("detached: nothing is filtered any more")
        self._datapath.close()

    def _stop(self, detach: bool) -> None:
        self._detach = detach
        self._ending.set()

    # ---- tasks -------------------------------------------------------------------------------------------------

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(self._journal.flush)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._engine.tick()

    def _on_carriers(self, carriers: surroundings.CarrierWatch) -> None:
        for ifindex, carrier in carriers.read():
            self._engine.on_carrier(ifindex, carrier)

    async def _watch_changes(self) -> None:
        """The kernel tells that something changed; what, is looked at."""
        async with Monitor() as changes:
            async for _change in changes:
                self._look.set()

    async def _watch_surroundings(self) -> None:
        """Looks at links, addresses and gateways: when told, and often while a gateway is to be confirmed."""
        waiting = True
        ports = self._engine.ports
        while True:
            with contextlib.suppress(TimeoutError):
                moved = self._engine.now - self._engine.link_changed_at < MOVED_S
                async with asyncio.timeout(LOOK_S if not waiting else LOOK_AT_ONCE_S if moved else LOOK_SOON_S):
                    await self._look.wait()
            await asyncio.sleep(SETTLE_S)  # changes come in bursts
            self._look.clear()
            try:
                seen = await asyncio.to_thread(surroundings.look, self._net, ports, self._config.bridge)
            except LinkError as e:
                self._engine.problems["link"] = str(e)
                raise
            self._engine.problems.pop("link", None)
            waiting = self._engine.on_surroundings(seen)
            if waiting:
                await asyncio.to_thread(surroundings.ask_gateways, seen)

    async def _probe(self, ports: tuple[str, str]) -> None:
        """Loop probes; a new sender when the box's MAC changes, and each minute for another nonce."""
        while True:
            mac = self._datapath.control["box_mac"].tobytes()[:6]
            until = self._engine.now + NONCE_S
            try:
                async with _sender(ports, mac, self._engine.new_probe_nonce()) as sender:
                    while self._engine.now < until and self._datapath.control["box_mac"].tobytes()[:6] == mac:
                        sender.send()
                        await asyncio.sleep(self._config.loop.interval_ms / 1000)
                        self._engine.check_loop()
            except OSError as e:
                raise LinkError(f"loop probes: {e.strerror}", e.errno or 0) from e

    def _hold_changed(self, alive: bool) -> None:
        """Frames are held only while somebody reads them."""
        try:
            self._datapath.settings.set_hold(alive, self._config.hold.ms)
        except KernelError as e:
            log.error("%s", e)

    def _hold_alive(self) -> bool:
        return self._hold is not None and self._hold.alive


@contextlib.asynccontextmanager
async def _sender(ports: tuple[str, str], mac: bytes, nonce: int) -> AsyncIterator[ProbeSender]:
    sender = ProbeSender(ports, mac, nonce)
    try:
        yield sender
    finally:
        sender.close()
