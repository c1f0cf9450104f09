"""A department on the loopback for the bench of the fleet: its real broker, web server, ingest and database."""

from __future__ import annotations

import os
import random
import sqlite3
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from bench.simfetch import Wanted
from lab.department import Department
from lab.loopback import tool
from lab.netns import Process
from vigie.contract.base import CURRENT, Delta, Descriptor, File, base_path, delta_path
from vigie.contract.downward import Announcement
from vigie.contract.identity import box_id
from vigie.contract.topics import announcement
from vigie.contract.words import Look
from vigie_department.config import Config
from vigie_department.console import setup
from vigie_department.signer.repository import Repository, served_name
from vigie_provisioning.authority import ca, profiles

FEEDS = """\
version: 1
feeds:
  - name: list-{number}
    file: list-{number}.txt
    category: c2
    direction: both
    action: block
    source: the bench
    licence: EUPL-1.2
    redistributable: true
"""

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """User and system time of a process and its ended children, in seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(value) for value in fields[11:15]) / TICK


def family(pid: int) -> list[int]:
    """The process and its children (nginx's workers)."""
    found = [pid]
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def memory_kb(pid: int) -> float:
    """Memory that only this process holds (private pages, resident), kB."""
    text = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(text[1]) - int(text[2])) * PAGE / 1024


@dataclass
class Cpu:
    """CPU seconds of server processes, also of those that were ended meanwhile."""

    ended: float = 0.0
    running: dict[str, tuple[list[int], list[float]]] = field(default_factory=dict)

    def follow(self, process: Process) -> None:
        pids = family(process.pid)
        self.running[process.label] = (pids, [cpu_s(pid) for pid in pids])

    def leave(self, process: Process) -> None:
        """Just before it is ended."""
        pids, before = self.running.pop(process.label)
        self.ended += sum(cpu_s(pid) - start for pid, start in zip(pids, before, strict=True))

    def spent(self) -> dict[str, float]:
        return {
            label: sum(cpu_s(pid) - start for pid, start in zip(pids, before, strict=True))
            for label, (pids, before) in self.running.items()
        }

    def total(self) -> float:
        return self.ended + sum(self.spent().values())


class Rows:
    """Follows the table of alerts from a thread: when each row could first be read, which is when it was committed."""

    POLL_S = 0.02

    def __init__(self, database: Path) -> None:
        self.seen: dict[tuple[str, int], float] = {}
        self.doubles = 0
        self._database = database
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Rows:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _follow(self) -> None:
        connection = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)
        last = 0
        while not self._stop.is_set():
            rows = connection.execute(
                "SELECT id, box_id, alert_id FROM console_alert WHERE id > ? ORDER BY id", (last,)
            ).fetchall()
            now = time.time()
            for number, box, alert in rows:
                last = number
                if (box, alert) in self.seen:
                    self.doubles += 1
                self.seen.setdefault((box, alert), now)
            self._stop.wait(self.POLL_S)
        connection.close()


class Certified:
    """Boxes with certificates of the department's own issuing authority, as after enrolment."""

    def __init__(self, config: Config) -> None:
        paths = config.paths
        self._ca = ca.load(ca.Places(paths.authority, paths.pki, paths.trust))
        self.roots = config.paths.pki / "roots.pem"
        self._folder = config.paths.data / "bench-boxes"
        self._folder.mkdir()

    def boxes(self, count: int) -> Iterator[tuple[str, ssl.SSLContext]]:
        """Id and TLS context of each."""
        now = profiles.now()
        issuer = self._ca.current("issuing", now)
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        for _ in range(count):
            key = profiles.new_key()
            name = box_id(key.public_key().public_bytes(serialization.Encoding.DER, spki))
            certificate = profiles.box(key.public_key(), name, issuer, now)
            both = self._folder / "box.pem"
            ca.save_key(self._folder / "box.key", key)
            both.write_bytes(ca.pem([certificate, issuer.certificate]))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.roots)
            context.load_cert_chain(both, self._folder / "box.key")
            yield name, context


def prepare_base(department: Department) -> Wanted:
    """Two small bases that differ by 1,000 names, their delta, and the descriptor, where nginx serves them."""
    folder = department.root / "bench-base"
    folder.mkdir()
    rng = random.Random(7)
    names = sorted({f"{rng.getrandbits(60):x}.example-{rng.randrange(100)}.org" for _ in range(21_000)})
    rng.shuffle(names)
    vigie = tool("vigie")
    for number, count in ((1, 20_000), (2, 21_000)):
        (folder / f"list-{number}.txt").write_text("\n".join(names[:count]) + "\n")
        feeds = folder / f"feeds-{number}.yaml"
        feeds.write_text(FEEDS.format(number=number))
        output = folder / f"base-{number}.vgb"
        _run([vigie, "base", "compile", str(feeds), "--serial", str(number), "-o", str(output)])
    delta = folder / "delta-1-2.vgd"
    _run([vigie, "base", "delta", str(folder / "base-1.vgb"), str(folder / "base-2.vgb"), "-o", str(delta)])
    repository = Repository(department.config.paths.repository)
    base = repository.add_file(base_path(2), folder / "base-2.vgb")
    made = repository.add_file(delta_path(1, 2), delta)
    file = File(2, base_path(2), base.sha256, base.length)
    old = File(1, base_path(1), base.sha256, base.length)
    deltas = (Delta(1, 2, delta_path(1, 2), made.sha256, made.length),)
    descriptor = repository.add(CURRENT, Descriptor(file, 100, int(time.time()), old, None, deltas).to_bytes())
    metadata = sorted(path.name for path in repository.metadata.iterdir())
    snapshot, role = (
        next(name for name in metadata if name.endswith(f".{kind}.json")) for kind in ("snapshot", "base")
    )
    paths = [f"/tuf/metadata/{name}" for name in ("timestamp.json", snapshot, role)]
    for path, info in ((CURRENT, descriptor), (delta_path(1, 2), made)):
        paths.append(f"/tuf/targets/{served_name(path, info.sha256)}")
    return Wanted(tuple(paths), made.sha256)


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench.fleet: {' '.join(argv)}: {done.stderr or done.stdout}")


def enqueue_announcement(config: Config) -> None:
    """As the publisher does it."""
    setup.start(config)
    from vigie_department.console import outgoing

    outgoing.enqueue(announcement(Look.BASE), Announcement(2, int(time.time())).to_bytes())


@dataclass
class Counter:
    """Messages that a plain subscriber has received."""

    path: Path

    def count(self) -> int:
        return self.path.stat().st_size // 2


@contextmanager
def counting_subscriber(config: Config) -> Iterator[Counter]:
    """mosquitto_sub with the ingest's certificate: acknowledges each message and writes two bytes for it."""
    pki = config.paths.pki
    path = config.paths.data / "bench-counted"
    argv = [
        "mosquitto_sub",
        "-V",
        "mqttv5",
        "-h",
        config.mqtt_host,
        "-p",
        str(config.ports.mqtt),
        "-q",
        "1",
        "-x",
        "60",
    ]
    argv += ["--cafile", str(pki / "roots.pem"), "--cert", str(pki / "ingest.pem"), "--key", str(pki / "ingest.key")]
    argv += ["-t", "vigie/v1/+/up/alert", "-F", "x", "--insecure", "-D", "connect", "receive-maximum", "2000"]
    argv[argv.index("-h") + 1] = "127.0.0.1"
    with path.open("wb") as sink:
        process = subprocess.Popen(argv, stdout=sink)
        try:
            time.sleep(1.0)
            if process.poll() is not None:
                raise SystemExit(f"bench.fleet: mosquitto_sub ended with {process.returncode}")
            yield Counter(path)
        finally:
            process.terminate()
            process.wait(10)
