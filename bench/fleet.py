"""A thousand simulated boxes against the real broker, ingest and web server on this machine; figures of the real box.

    connect      all at once: TLS with a certificate each, MQTT session, subscriptions, state
    reconnect    the broker is restarted; until every session is back (the product's back-off)
    base         announced through the ingest's queue; 698 boxes fetch metadata and a delta of 1,000 over HTTPS
    alerts       2,000/s; from the broker's acknowledgement to the row that another process can read
    outage       the ingest is stopped for 30 s while alerts go on; then everything drains: nothing lost, nothing twice
    peer         the same alerts to a subscriber that only counts, without ingest and database

The clients run in this process: on a small machine they take as much processor as the servers do.
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
from vigie_department.console import database

BOXES, FETCHING, RATE = 1000, 698, 2000.0
STEADY_S, OUTAGE_S, DRAIN_MAX_S = 20.0, 30.0, 300.0
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

    async def alerts(self, rows: Rows, rate: float, seconds: float) -> None:
        start = time.monotonic()
        await self._produce(rate, seconds)
        produced = time.monotonic() - start
        count = self._alert
        await until(lambda: len(rows.seen) >= count, 120, f"{count} alerts committed, {len(rows.seen)} are")
        taken = time.monotonic() - start
        waits = sorted(max(0.0, rows.seen[key] - at) for key, at in self.fleet.puback.items() if key in rows.seen)
        self.figures["alerts_per_s"] = count / taken
        self.figures["p50_ms"] = waits[len(waits) // 2] * 1000
        self.figures["p99_ms"] = waits[int(len(waits) * 0.99)] * 1000
        tell(
            f"{count} alerts in {produced:.1f} s, all committed after {taken:.1f} s; broker to row: "
            f"p50 {self.figures['p50_ms']:.0f} ms, p99 {self.figures['p99_ms']:.0f} ms"
        )

    async def outage(self, rows: Rows, rate: float, seconds: float) -> None:
        self.cpu.leave(self.department.processes["ingest"])
        self.department.stop("ingest")
        tell(f"ingest stopped, {rate:.0f} alerts/s for {seconds:.0f} s ...")
        await self._produce(rate, seconds)
        self.department.start("ingest")
        self.cpu.follow(self.department.processes["ingest"])
        start = time.monotonic()
        last = start
        while sum(len(box.rows) for box in self.boxes) and time.monotonic() - start < DRAIN_MAX_S:
            await asyncio.sleep(0.05)
            if time.monotonic() - last > 10:
                last = time.monotonic()
                tell(f"  {sum(len(box.rows) for box in self.boxes)} rows unconfirmed, {len(rows.seen)} committed")
        self.figures["drain_s"] = time.monotonic() - start
        await asyncio.sleep(0.5)
        self.figures["lost"] = self._alert - len(rows.seen)
        self.figures["doubles"] = rows.doubles
        self.figures["resent"] = self.fleet.resent
        tell(f"drained in {self.figures['drain_s']:.1f} s, {self.figures['lost']} of {self._alert} lost")

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


def lab_figures() -> dict[str, Any]:
    """From the real box of the lab: seconds from released to enforced, from signed to in force."""
    names = ("plugged-in", "central-indicator", "released-enforced", "order-in-force")
    argv = [sys.executable, "-m", "lab", "--check", *(word for name in names for word in ("--only", name))]
    tell("the lab's box ...")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    last = json.loads(done.stdout.splitlines()[-1])["lab"]
    if last["failed"]:
        raise SystemExit(f"bench.fleet: the lab's box failed {last['failed']}:\n{done.stdout[-4000:]}")
    times: dict[str, Any] = last["times"]
    return {name: times[name] for name in ("enforce_s", "order_s", "enrol_s")}


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
    if not arguments.no_lab:
        figures |= lab_figures()
    peer = {name: significant(value) for name, value in bench.peer.items()}
    result("fleet", figures, peer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
