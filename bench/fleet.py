"""A thousand simulated boxes against the real broker, ingest and web server on this machine; figures of the real box.

    connect      all at once: TLS with a certificate each, MQTT session, subscriptions, state
    reconnect    the broker is restarted; until every session is back (the product's back-off)
    base         announced through the ingest's queue; 698 boxes fetch metadata and a delta of 1,000 over HTTPS
    alerts       2,100/s, everything up: `alerts_per_s` from the first alert raised to the last row; `p50_ms`, `p99_ms`
                 from the broker's acknowledgement, as the box reads it, to the row that another process can read;
                 `raised_p99_ms` from the moment that the box raises it, which no busy box can make look better
    burst        20,000 alerts raised at once: `burst_per_s` is what all of it together can commit on this machine
    outage       the ingest is stopped for 30 s while alerts go on, and they go on at the same rate while it starts and
                 until 10 s after it is connected: `live_p99_ms`, raised to row, of those 10 s, behind what the broker
                 has kept; `live_back_s`, until an alert takes less than a second again; `drain_s`, until every box
                 has every row confirmed (one that the broker had no room for is sent again after the link's patience,
                 30 to 60 s); nothing lost, nothing twice; `resent`: how many rows went more than once, of which at
                 least `dropped` had to: the broker had acknowledged them and not kept them
    peer         the same alerts to a subscriber that only counts, without ingest and database

The clients run in this process, and on a small machine they take as much processor as the servers do: `*_us` are the
processor times that one alert of the second phase costs, `client_us` that of the boxes and of watching the table.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.common import result, significant, tell
from bench.fleetrig import Certified, Cpu, Rows, counting_subscriber, enqueue_announcement, memory_kb, prepare_base
from bench.simbox import Fleet, SimBox
from bench.simfetch import fetch
from lab.department import Department, open_department
from vigie_department.broker.mosquitto import MAX_QUEUED
from vigie_department.console import database
from vigie_department.ingest.broker import WINDOW

BOXES, FETCHING, RATE = 1000, 698, 2100.0
"""alerts per second: above the 2,000 that are to be committed, for the last rows are committed after the last alert"""
STEADY_S, OUTAGE_S, DRAIN_MAX_S = 20.0, 30.0, 300.0
BURST = 20_000
LIVE_S = 10.0
ROOT = Path(__file__).parents[1]


async def until(holds: Callable[[], bool], seconds: float, what: str) -> float:
    """Seconds until it holds."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > seconds:
            raise SystemExit(f"bench.fleet: not within {seconds} s: {what}")
        await asyncio.sleep(0.005)
    return time.monotonic() - start


class Bench:
    """The phases, in the order of the module's text; each adds to `figures`."""

    def __init__(self, department: Department, boxes: int) -> None:
        self.department = department
        self.config = department.config
        self.fleet = Fleet(self.config.ports.mqtt, self.config.mqtt_host)
        self.rng = random.Random(20261122)
        self.figures: dict[str, Any] = {"boxes": boxes}
        self.peer: dict[str, Any] = {}
        self.cpu = Cpu()
        certified = Certified(self.config)
        tell(f"issuing {boxes} certificates ...")
        self.boxes = [SimBox(self.fleet, name, context, self.rng) for name, context in certified.boxes(boxes)]
        self.roots = certified.roots
        self._alert = 0
        self._client_cpu = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        for name in ("broker", "ingest", "web"):
            self.cpu.follow(department.processes[name])

    async def run(self, rate: float, steady_s: float, outage_s: float) -> None:
        self._client_cpu = time.process_time()
        before = memory_kb(self.department.processes["broker"].pid)
        start = time.monotonic()
        self._tasks = [asyncio.create_task(box.run()) for box in self.boxes]
        await until(lambda: self.fleet.connected == len(self.boxes), 120, "every box connected")
        self.figures["connect_s"] = time.monotonic() - start
        tell(f"connected in {self.figures['connect_s']:.1f} s {self.fleet.failures or ''}")
        after = memory_kb(self.department.processes["broker"].pid)
        self.figures["kb_per_box"] = (after - before) / len(self.boxes)
        self._tasks.append(asyncio.create_task(self._every_second()))
        gc.freeze()
        await self.reconnect()
        await self.base()
        database_path = database.sqlite_path(self.config)
        if database_path is None:
            raise SystemExit("bench.fleet: follows the rows of SQLite only")
        with Rows(database_path) as rows:
            await self.alerts(rows, rate, steady_s)
            await self.burst(rows)
            await self.outage(rows, rate, outage_s)
        self.figures["server_cpu_s"] = self.cpu.total()
        self.figures["client_cpu_s"] = time.process_time() - self._client_cpu
        tell(f"processor: {self.cpu.spent()}")
        await self.without_ingest(rate, min(steady_s, 10.0))
        self.fleet.stopping = True
        for box in self.boxes:
            box.close()
        for task in self._tasks:
            task.cancel()

    async def reconnect(self) -> None:
        self.cpu.leave(self.department.processes["broker"])
        self.department.stop("broker")
        await until(lambda: self.fleet.connected == 0, 20, "every session ended")
        self.department.start("broker")
        self.cpu.follow(self.department.processes["broker"])
        back = await until(lambda: self.fleet.connected == len(self.boxes), 180, "every box back")
        self.figures["reconnect_s"] = back
        tell(f"all back {self.figures['reconnect_s']:.1f} s after the broker {self.fleet.failures}")
        ingest = self.department.processes["ingest"]
        await until(lambda: ingest.log.read_text().count("connected to the broker") > 1, 60, "the ingest back")

    async def base(self) -> None:
        wanted = await asyncio.to_thread(prepare_base, self.department)
        context = ssl.create_default_context(cafile=str(self.roots))
        done: list[float] = []
        chosen = set(self.boxes[:FETCHING])
        tasks = []

        async def one() -> None:
            await fetch(wanted, self.config.updates_host, "127.0.0.1", self.config.ports.https, context)
            done.append(time.monotonic())

        def looked(box: SimBox) -> None:
            if box in chosen:
                chosen.discard(box)
                tasks.append(asyncio.create_task(one()))

        count = len(chosen)
        self.fleet.looked = looked
        start = time.monotonic()
        await asyncio.to_thread(enqueue_announcement, self.config)
        await until(
            lambda: len(done) == count or any(t.done() and t.exception() for t in tasks), 120, "all have the base"
        )
        for task in tasks:
            await task
        self.figures["base_all_s"] = max(done) - start
        self.figures["base_boxes"] = count
        tell(f"{count} boxes have the base {self.figures['base_all_s']:.2f} s after it was announced")

    async def _every_second(self) -> None:
        second = 0
        while True:
            await asyncio.sleep(0.2)
            second += 1
            now = time.monotonic()
            for box in self.boxes[second % 5 :: 5]:
                box.turn(now)
                if second % 150 == second % 5:
                    box.ping()

    async def _produce(self, rate: float, seconds: float) -> None:
        """Alerts of random boxes at a steady rate."""
        start, made = time.monotonic(), 0
        while (passed := time.monotonic() - start) < seconds:
            for _ in range(int(min(passed, seconds) * rate) - made):
                self._alert += 1
                self.rng.choice(self.boxes).alert(self._alert)
                made += 1
            await asyncio.sleep(0.01)

    async def _committed(self, rows: Rows) -> None:
        """Until every alert raised is a row."""
        count = self._alert
        await until(lambda: len(rows.seen) >= count, 120, f"{count} alerts committed, {len(rows.seen)} are")

    async def alerts(self, rows: Rows, rate: float, seconds: float) -> None:
        before = {**self.cpu.spent(), "client": time.process_time()}
        await self._produce(rate, seconds)
        await self._committed(rows)
        after = {**self.cpu.spent(), "client": time.process_time()}
        for name in ("ingest", "broker", "client"):
            self.figures[f"{name}_us"] = (after[name] - before[name]) / self._alert * 1e6
        self.figures["alerts_per_s"] = self._rate(rows, 0)
        waits = sorted(max(0.0, rows.seen[key] - at) for key, at in self.fleet.puback.items())
        self.figures["p50_ms"] = waits[len(waits) // 2] * 1000
        self.figures["p99_ms"] = waits[int(len(waits) * 0.99)] * 1000
        self.figures["raised_p99_ms"] = self._raised(rows, 0)[1] * 1000
        tell(
            f"{self._alert} alerts, {self.figures['alerts_per_s']:.0f}/s committed; broker to row: "
            f"p50 {self.figures['p50_ms']:.0f} ms, p99 {self.figures['p99_ms']:.0f} ms; "
            f"raised to row: p99 {self.figures['raised_p99_ms']:.0f} ms"
        )

    def _rate(self, rows: Rows, first: int) -> float:
        """Rows per second of the alerts numbered above `first`, from the first one raised to the last row."""
        keys = [key for key in self.fleet.born if key[1] > first]
        return len(keys) / (max(rows.seen[key] for key in keys) - min(self.fleet.born[key] for key in keys))

    def _raised(self, rows: Rows, first: int, last: int | None = None) -> tuple[float, float]:
        """Median and 99th percentile of raised to row, in seconds, of the alerts with these numbers."""
        most = self._alert if last is None else last
        waits = sorted(rows.seen[key] - at for key, at in self.fleet.born.items() if first < key[1] <= most)
        return waits[len(waits) // 2], waits[int(len(waits) * 0.99)]

    async def burst(self, rows: Rows) -> None:
        first = self._alert
        for number in range(BURST):
            self._alert += 1
            self.boxes[number % len(self.boxes)].alert(self._alert)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await self._committed(rows)
        self.figures["burst_per_s"] = self._rate(rows, first)
        tell(f"{BURST} alerts at once: {self.figures['burst_per_s']:.0f}/s committed")

    def _unconfirmed(self) -> int:
        return sum(len(box.outbox) for box in self.boxes)

    async def outage(self, rows: Rows, rate: float, seconds: float) -> None:
        await until(lambda: not self._unconfirmed(), 60, "everything confirmed before the outage")
        log = self.department.processes["ingest"].log
        self.cpu.leave(self.department.processes["ingest"])
        self.department.stop("ingest")
        first, resent = self._alert, self._resent()
        tell(f"ingest stopped, {rate:.0f} alerts/s for {seconds:.0f} s ...")
        await self._produce(rate, seconds)
        start = time.monotonic()
        # beside the boxes, which must not stand still while it starts
        starting = asyncio.create_task(self._restart("ingest", log))
        while not starting.done():
            await self._produce(rate, 0.1)
        await starting
        live, connected = self._alert, time.time()
        self.figures["dropped"] = max(0, live - first - MAX_QUEUED - WINDOW)
        await self._produce(rate, LIVE_S)
        last = start
        while self._unconfirmed() and time.monotonic() - start < DRAIN_MAX_S:
            await asyncio.sleep(0.05)
            if time.monotonic() - last > 10:
                last = time.monotonic()
                tell(f"  {self._unconfirmed()} rows unconfirmed, {len(rows.seen)} committed")
        self.figures["drain_s"] = time.monotonic() - start
        await asyncio.sleep(0.5)
        self.figures["lost"] = self._alert - len(rows.seen)
        self.figures["doubles"] = rows.doubles
        self.figures["resent"] = self._resent() - resent
        tell(f"drained in {self.figures['drain_s']:.1f} s, {self.figures['lost']} of {self._alert} lost")
        if self.figures["lost"]:
            return
        self.figures["live_p99_ms"] = self._raised(rows, live)[1] * 1000
        slow = [at for key, at in self.fleet.born.items() if key[1] > live and rows.seen[key] - at >= 1.0]
        self.figures["live_back_s"] = max(slow) - connected if slow else 0.0
        tell(
            f"live alerts beside the backlog: p99 {self.figures['live_p99_ms']:.0f} ms, "
            f"within a second again after {self.figures['live_back_s']:.1f} s"
        )

    def _resent(self) -> int:
        return sum(box.outbox.resent for box in self.boxes)

    async def _restart(self, name: str, log: Path) -> None:
        """Until it says once more, in its log, that it is connected."""

        def connections() -> int:
            return log.read_text().count("connected to the broker")

        before = connections()
        # it dies with the thread that starts it: one of the loop's own, which lives as long as the loop
        await asyncio.to_thread(self.department.start, name)
        self.cpu.follow(self.department.processes[name])
        await until(lambda: connections() > before, 60, f"{name} connected")

    async def without_ingest(self, rate: float, seconds: float) -> None:
        """The same load, to a subscriber that acknowledges and counts: what is left of the cost without us."""
        self.department.stop("ingest")
        broker = self.department.processes["broker"]
        with counting_subscriber(self.config) as subscriber:
            cpu = Cpu()
            cpu.follow(broker)
            before = subscriber.count()
            start, first = time.monotonic(), self._alert
            await self._produce(rate, seconds)
            await until(lambda: subscriber.count() - before >= self._alert - first, 60, "every alert counted")
            self.peer["broker_alone_alerts_per_s"] = (self._alert - first) / (time.monotonic() - start)
            self.peer["broker_alone_cpu_s_per_1000"] = cpu.total() / (self._alert - first) * 1000


def lab_figures() -> tuple[dict[str, Any], str]:
    """From the real box of the lab: seconds from released to enforced, from signed to in force; what failed, if so."""
    names = ("plugged-in", "central-indicator", "released-enforced", "order-in-force")
    argv = [sys.executable, "-m", "lab", "--check", *(word for name in names for word in ("--only", name))]
    tell("the lab's box ...")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    try:
        last = json.loads(done.stdout.splitlines()[-1])["lab"]
    except (IndexError, KeyError, ValueError):
        return {}, f"the lab ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    times: dict[str, Any] = last["times"]
    figures: dict[str, Any] = {name: times[name] for name in ("enforce_s", "order_s", "enrol_s") if name in times}
    failed = f"the lab's box failed {last['failed']}:\n{done.stdout[-4000:]}" if last["failed"] else ""
    return figures, failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--rate", type=float, default=RATE, help="alerts per second")
    parser.add_argument("--steady", type=float, default=STEADY_S, metavar="S")
    parser.add_argument("--outage", type=float, default=OUTAGE_S, metavar="S")
    parser.add_argument("--no-lab", action="store_true", help="without the figures of the real box")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with open_department(("signer", "broker", "ingest", "web")) as department:
        bench = Bench(department, arguments.boxes)
        asyncio.run(bench.run(arguments.rate, arguments.steady, arguments.outage))
    figures = {name: significant(value) if isinstance(value, float) else value for name, value in bench.figures.items()}
    failed = ""
    if not arguments.no_lab:
        times, failed = lab_figures()
        figures |= times
    peer = {name: significant(value) for name, value in bench.peer.items()}
    if failed:
        tell(f"bench.fleet: {failed}")
    result("fleet", figures, peer)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
