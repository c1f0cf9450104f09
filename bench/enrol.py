"""All boxes of a department enrol at once: the real authority behind the product's nginx, over TLS on the loopback.

Each box has an address of its own (127.1.x.y) and does what a real one does: challenge and enrol on one connection,
confirm on another with its new certificate. One in ten loses the reply of `enrol` (it hangs up without reading) and
asks again from the start. Whoever is sent away (429, 503) comes back after Retry-After and a random wait.

`total_s`: from the first box's start to the last one's confirmation. `p99_s`: the same for one box. `double_issues`:
certificates beyond one for each box, counted in the authority's own log (0, or idempotence is broken).
`authority_cpu_s`: processor time of the authority alone; the rest of total_s is nginx and, above all, 698 boxes in one
Python process.

Peer: `openssl speed` on the same machine. `floor_s` is the time for the same number of P-256 signatures, verifications
and key agreements (server and boxes together, both here) on these cores with nothing around them; `ratio` is total_s
over it: what HTTP, TLS records, JSON, Python and the flushed store cost on top.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.common import result, significant, tell
from lab.department import Department, open_department
from tests.support import authority as rooms
from tests.support.enrolbox import SimBox
from vigie.contract.enrolment import Refusal
from vigie_provisioning.authority import config as configuration
from vigie_provisioning.errors import ProvisioningError

BOXES = 698
LOSING = 10
TRIES = 20
# per box: two TLS handshakes (server signs, box verifies, both agree on a key; the box also signs once and is verified,
# with its chain), challenge (1, 1), request and attestation (2, 2), certificate and join state (2, 0), confirm (1, 1)
SIGNATURES, VERIFICATIONS, AGREEMENTS = 9, 13, 8


@dataclass(slots=True)
class Tally:
    """What happened to the boxes."""

    took: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0

    def count(self, status: int) -> int:
        """Counts and returns it."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        return status


class Way:
    """A connection to enrol.DOMAIN, from an address of the box's own."""

    def __init__(self, department: Department, source: str, context: ssl.SSLContext) -> None:
        self._port = department.config.ports.https
        self._host = department.config.enrol_host
        self._source = source
        self._context = context

    async def __aenter__(self) -> Way:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1",
            self._port,
            ssl=self._context,
            server_hostname=self._host,
            local_addr=(self._source, 0),
            ssl_handshake_timeout=60.0,
        )
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._writer.transport.abort()

    async def send(self, path: str, body: bytes) -> None:
        """A request."""
        head = f"POST /v1/{path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def read(self) -> tuple[int, bytes]:
        """Its answer: status and body."""
        async with asyncio.timeout(60.0):
            head = await self._reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").lower().split("\r\n")
            length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
            return int(lines[0].split()[1]), await self._reader.readexactly(length)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Both."""
        await self.send(path, body)
        return await self.read()


async def enrol(
    department: Department, box: SimBox, number: int, folder: Path, tally: Tally, plain: ssl.SSLContext
) -> None:
    """One box, from unknown to active."""
    source = f"127.1.{1 + number // 250}.{1 + number % 250}"
    roots = str(department.config.paths.pki / "roots.pem")
    start = time.monotonic()
    lose = number % LOSING == 0
    for attempt in range(TRIES):
        try:
            async with Way(department, source, plain) as way:
                status, body = await way.post("challenge", box.ask_challenge())
                if tally.count(status) == 200:
                    box.take_challenge(body)
                    if lose:
                        lose = False
                        await way.send("enrol", box.ask_enrol())
                        await asyncio.sleep(random.uniform(0.0, 0.5))
                        tally.lost += 1
                        continue
                    status, body = await way.post("enrol", box.ask_enrol())
                    if tally.count(status) == 200:
                        box.take_reply(body)
                        break
            await _again(status, body, attempt)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            tally.count(-1)
            tell(f"{box.serial}: {type(error).__name__}: {error}")
            await asyncio.sleep(random.uniform(0.0, 1.0))
    else:
        raise AssertionError(f"{box.serial}: not enrolled after {TRIES} tries ({tally.statuses})")
    chain, key = folder / f"{number}.pem", folder / f"{number}.key"
    if box.credentials is not None:
        chain.write_text("".join(box.credentials.chain))
        key.write_bytes(box.credentials.key_pem())
    mutual = ssl.create_default_context(cafile=roots)
    mutual.load_cert_chain(chain, key)
    for attempt in range(TRIES):
        async with Way(department, source, mutual) as way:
            status, body = await way.post("confirm", box.ask_confirm())
        if tally.count(status) == 200:
            tally.took.append(time.monotonic() - start)
            return
        await _again(status, body, attempt)
    raise AssertionError(f"{box.serial}: not confirmed after {TRIES} tries ({tally.statuses})")


async def _again(status: int, body: bytes, attempt: int) -> None:
    """Waits as a refusal asks; anything but `busy` is a failure of the bench."""
    if status not in (429, 503):
        raise AssertionError(f"status {status}: {body[:200]!r}")
    try:
        wait = Refusal.from_bytes(body).retry_after_s
    except Exception:  # noqa: BLE001 - nginx's own page, not the authority's words
        wait = 1
    await asyncio.sleep(wait + random.uniform(0.0, 2.0**attempt / 2))


def openssl_floor(boxes: int) -> tuple[float, dict[str, float]]:
    """Seconds for the same cryptography on every core here, and operations per second of one core."""
    done = subprocess.run(
        ["openssl", "speed", "-mr", "-seconds", "1", "ecdsap256", "ecdhp256"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    rates: dict[str, float] = {}
    for line in done.stdout.splitlines():
        parts = line.split(":")
        if parts[0] == "+F4":  # curve, bits, signatures per second, verifications per second
            rates |= {"sign": float(parts[3]), "verify": float(parts[4])}
        elif parts[0] == "+F5":  # curve, bits, agreements per second, seconds of one
            rates["agree"] = float(parts[3])
    one = SIGNATURES / rates["sign"] + VERIFICATIONS / rates["verify"] + AGREEMENTS / rates["agree"]
    return boxes * one / (os.cpu_count() or 1), {name: significant(rate) for name, rate in rates.items()}


def cpu_s(pid: int) -> float:
    """Processor time that a process used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def register(department: Department, number: int) -> list[SimBox]:
    """Boxes bought and imported, as a station and an operator would."""
    config = configuration.load(department.config.paths.authority_config)
    room = rooms.hired(config, department.config.paths.authority_config)
    boxes = room.buy(number)
    department.admin.import_register(room.register.decode(), new=True)
    return boxes


async def run(department: Department, boxes: list[SimBox]) -> tuple[float, Tally]:
    """Seconds for all, and what happened."""
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="vigie-bench-") as folder:
        plain = ssl.create_default_context(cafile=str(department.config.paths.pki / "roots.pem"))
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number, box in enumerate(boxes):
                group.create_task(enrol(department, box, number, Path(folder), tally, plain))
        return time.monotonic() - start, tally


def double_issues(department: Department, boxes: list[SimBox]) -> int:
    """Certificates beyond one for each box, by the authority's log; every box must be active."""
    states = {row["serial"]: row["state"] for row in department.admin.boxes()}
    wrong = {box.serial: states.get(box.serial) for box in boxes if states.get(box.serial) != "active"}
    if wrong:
        raise AssertionError(f"not active: {json.dumps(wrong)}")
    issued, after = 0, 0
    while events := department.admin.events(after):
        issued += sum(event["kind"] in ("enrolled", "renewed") for event in events)
        after = events[-1]["id"]
    return issued - len(boxes)


def main() -> int:
    """The bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boxes", type=int, default=BOXES)
    parser.add_argument("--log", action="store_true", help="print what the authority said")
    args = parser.parse_args()
    tell("a department on the loopback ...")
    with open_department(services=("authority", "web")) as department:
        boxes = register(department, args.boxes)
        tell(f"{len(boxes)} boxes at once ...")
        before = cpu_s(department.processes["authority"].popen.pid)
        total, tally = asyncio.run(run(department, boxes))
        cpu = cpu_s(department.processes["authority"].popen.pid) - before
        doubles = double_issues(department, boxes)
        if args.log:
            tell(department.log("authority"))
    took = sorted(tally.took)
    p99 = took[min(len(took) - 1, round(0.99 * len(took)))]
    floor, rates = openssl_floor(args.boxes)
    tell(f"median {took[len(took) // 2]:.2f} s, p99 {p99:.2f} s; {tally.lost} replies lost; statuses {tally.statuses}")
    figures = {
        "total_s": significant(total),
        "p99_s": significant(p99),
        "double_issues": doubles,
        "authority_cpu_s": significant(cpu),
    }
    peer = {"floor_s": significant(floor), "ratio": significant(total / floor), **rates}
    result("enrol", figures, peer, boxes=args.boxes, replies_lost=tally.lost, statuses=tally.statuses)
    return 0 if doubles == 0 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ProvisioningError as error:
        tell(str(error))
        sys.exit(1)
