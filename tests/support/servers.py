"""A real mosquitto and nginx on the loopback, from generated configuration; the watch in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lab.daemons import start_mosquitto, start_nginx
from lab.loopback import Loopback, free_ports
from lab.netns import Process
from tests.support.certificates import Certificates, Client
from tests.support.mqtt import Session
from vigie_department import config as configuration
from vigie_department.broker.configure import configure
from vigie_department.broker.plan import BrokerPlan, WebPlan, broker_plan, web_plan
from vigie_department.broker.watch import Watch
from vigie_department.config import Config


@dataclass
class Servers:
    place: Loopback
    config: Config
    certificates: Certificates
    told: list[str] = field(default_factory=list)
    """what the watch said"""

    @property
    def plan(self) -> BrokerPlan:
        return broker_plan(self.config)

    @property
    def web(self) -> WebPlan:
        return web_plan(self.config)

    def start_broker(self) -> Process:
        self.broker = start_mosquitto(self.place, self.plan)
        return self.broker

    def start_web(self) -> Process:
        return start_nginx(self.place, self.web)

    def session(self, client: Client, *topics: str, port: int = 0, **more: Any) -> Session:
        roots = str(self.certificates.roots)
        return Session(client, roots, self.config.mqtt_host, port or self.plan.port, topics=topics, **more)

    def watch(self) -> Watch:
        return Watch(self.plan, tell=self.told.append)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """`broker watch`, in a thread."""
        watch, stop = self.watch(), threading.Event()
        thread = threading.Thread(target=watch.run, args=(stop,))
        thread.start()
        try:
            yield watch
        finally:
            stop.set()
            thread.join(60)

    def wait_told(self, text: str) -> None:
        """Until the watch has said it."""
        eventually(lambda: any(text in line for line in self.told), lambda: f"{text!r} not told: {self.told}")


def eventually(holds: Callable[[], bool], what: Callable[[], str] | str, seconds: float = 60.0) -> None:
    """Until it holds. The limit is for a busy machine: what holds is seen at once."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else what)
        time.sleep(0.02)


@contextmanager
def open_servers(domain: str = "vigie.lab") -> Iterator[Servers]:
    """Configured, nothing running yet."""
    with Loopback() as place:
        https, mqtt, web = free_ports(3)
        root = place.temp / "d"
        file = configuration.file_of(root)
        file.parent.mkdir(parents=True)
        ports = {"https": https, "mqtt": mqtt, "web": web}
        file.write_text(configuration.render(domain, root=root, extra={"": {"listen": "127.0.0.1"}, "ports": ports}))
        config = configuration.load(file)
        certificates = Certificates(config, root / "clients")
        configure(config)
        yield Servers(place, config, certificates)
