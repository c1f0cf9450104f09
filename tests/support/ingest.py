"""A department's broker and ingest, as processes, with a database that the test can look into."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from lab.loopback import Loopback, free_ports, tool
from lab.netns import Process
from tests.support import department
from tests.support.certificates import Certificates, Client
from tests.support.mqtt import _Named
from tests.support.postgres import Postgres, postgres
from tests.support.servers import Servers, eventually
from vigie_department.broker.configure import configure
from vigie_department.config import Config


@dataclass
class Department:
    """What a test of the ingest holds."""

    servers: Servers
    postgres: Postgres | None
    ingests: list[Process] = field(default_factory=list)

    @property
    def config(self) -> Config:
        return self.servers.config

    def start_ingest(self) -> Process:
        """Running and connected."""
        label = f"ingest{len(self.ingests)}"
        argv = [tool("vigie-department"), "--config", str(self.config.path), "ingest"]
        process = self.servers.place.start(label, *argv)
        process.wait_for_line("connected to the broker", 60)
        self.ingests.append(process)
        return process

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """Rows of the department's database."""
        if self.postgres is not None:
            return self.postgres.query(text)
        path = self.config.paths.data / "console.db"
        with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
            return connection.execute(text).fetchall()

    def count(self, table: str, where: str = "1 = 1") -> int:
        """How many rows."""
        return int(self.query(f"SELECT count(*) FROM console_{table} WHERE {where}")[0][0])  # noqa: S608

    def until(self, table: str, count: int, where: str = "1 = 1", seconds: float = 60.0) -> None:
        """Until so many rows are there."""
        eventually(
            lambda: self.count(table, where) == count,
            lambda: f"{self.count(table, where)} rows in {table}, {count} expected\n{self.log()}",
            seconds,
        )

    def log(self) -> str:
        """The last lines of every ingest."""
        return "\n".join(f"-- {process.label}\n{process.tail()}" for process in self.ingests)


class Databases:
    """Tables are made once per kind of database; each test gets a copy. Context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        self._sqlite: Path | None = None
        self._postgres: Postgres | None = None

    def __enter__(self) -> Databases:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sqlite(self, path: Path) -> None:
        """A copy at `path`."""
        if self._sqlite is None:
            config = department.write(self._folder / "sqlite")
            self._migrate(config)
            self._sqlite = config.paths.data / "console.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            contextlib.closing(sqlite3.connect(self._sqlite)) as source,
            contextlib.closing(sqlite3.connect(path)) as to,
        ):
            source.backup(to)

    def postgresql(self) -> tuple[Postgres, str]:
        """The server, and the URL of a copy."""
        if self._postgres is None:
            server = self._stack.enter_context(postgres())
            url = server.database("template_vigie")
            self._migrate(department.write(self._folder / "postgresql", top={"database": url}))
            self._postgres = server
        return self._postgres, self._postgres.database("vigie", "template_vigie")

    @staticmethod
    def _migrate(config: Config) -> None:
        argv = [tool("vigie-department"), "--config", str(config.path), "migrate"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def open_department(databases: Databases, kind: str) -> Iterator[Department]:
    """kind: `sqlite` or `postgresql`. Configured, with its tables; broker and ingest not started."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(Loopback())
        server, url = databases.postgresql() if kind == "postgresql" else (None, "")
        https, mqtt, web = free_ports(3)
        config = department.write(
            place.temp / "d",
            top={"listen": "127.0.0.1"} | ({"database": url} if url else {}),
            ports={"https": https, "mqtt": mqtt, "web": web},
            intervals={"retry": 0.1, "retry_max": 1.0},
        )
        certificates = Certificates(config, place.temp / "clients")
        ours = certificates.department()
        for made, suffix in ((ours.chain, "pem"), (ours.key, "key")):
            shutil.copyfile(made, config.paths.pki / f"ingest.{suffix}")
        configure(config)
        if server is None:
            databases.sqlite(config.paths.data / "console.db")
        yield Department(Servers(place, config, certificates), server)


class BoxClient:
    """A box that keeps its outbox: sends again from the oldest row until it is confirmed."""

    def __init__(self, department: Department, client: Client) -> None:
        self.name = client.name
        self._department = department
        self._lock = threading.Lock()
        self.rows: dict[int, tuple[str, bytes]] = {}
        self.orders: list[tuple[str, bytes, Any]] = []
        self.confirmed = 0
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="", protocol=paho.MQTTv5)
        roots = str(department.servers.certificates.roots)
        self.client.tls_set_context(_Named.make(roots, client, department.config.mqtt_host))
        self.client.max_inflight_messages_set(1000)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(f"vigie/v1/{self.name}/down/#", 1)
        self.client.on_message = self._message
        self._subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self._subscribed.set()

    def __enter__(self) -> BoxClient:
        self.client.connect("127.0.0.1", self._department.config.ports.mqtt, 30)
        self.client.loop_start()
        assert self._subscribed.wait(60), f"{self.name}: not connected"
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _message(self, _client: Any, _data: Any, message: Any) -> None:
        import json

        if not message.topic.endswith("/received"):
            self.orders.append((message.topic, message.payload, message.properties))
            return
        body = json.loads(message.payload)
        with self._lock:
            self.confirmed = max(self.confirmed, body["upto"])
            for seq in [seq for seq in self.rows if seq <= body["upto"]]:
                del self.rows[seq]

    def put(self, seq: int, topic: str, payload: bytes) -> None:
        """A row of the outbox, sent once now."""
        with self._lock:
            self.rows[seq] = (topic, payload)
        self.client.publish(topic, payload, 1)

    def resend(self) -> None:
        """What a box does when nothing was confirmed for a while: all, from the oldest, which says so."""
        import json

        with self._lock:
            waiting = sorted(self.rows.items())
        for place, (_seq, (topic, payload)) in enumerate(waiting):
            if place == 0:
                payload = json.dumps(json.loads(payload) | {"prev": 0}).encode()
            self.client.publish(topic, payload, 1)

    def drain(self, seconds: float = 90.0) -> None:
        """Until the department has confirmed every row."""
        import time

        deadline = time.monotonic() + seconds
        while self.rows:
            held = len(self.rows)
            time.sleep(0.5)
            if self.rows and len(self.rows) == held:
                self.resend()
            assert time.monotonic() < deadline, f"{held} rows not confirmed\n{self._department.log()}"
