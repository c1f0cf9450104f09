"""An ordinary day at the town hall, for the live view; now and then somebody clicks on the wrong thing."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable

from lab import plan
from lab.clients import discovery, telephone, tls
from lab.clients.steady import Upload
from lab.office import Office


class OfficeDay:
    """Background threads; `stop` ends them. `bad(kind)` does one bad thing at once."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._stop = threading.Event()
        self._rng = random.Random(17)
        habits: list[tuple[float, Callable[[], object]]] = [
            (1.0, self._browse),
            (0.3, self._look_up),
            (9.0, self._print),
            (12.0, self._call),
            (7.0, self._something_bad),
            (3.0, self._download),
        ]
        self._threads = [threading.Thread(target=self._habit, args=habit, daemon=True) for habit in habits]
        self._threads.append(threading.Thread(target=self._film, daemon=True))
        self.bad: dict[str, Callable[[], object]] = {
            "nom": self._bad_name,
            "sni": self._bad_server_name,
            "adresse": self._bad_address,
            "balayage": self._scan,
        }

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def _habit(self, period: float, work: Callable[[], object]) -> None:
        while not self._stop.wait(period * self._rng.uniform(0.5, 1.5)):
            # The view shows what comes of it; a cable being moved makes any of these fail.
            with contextlib.suppress(OSError, AssertionError):
                work()

    def _film(self) -> None:
        """The camera's own cloud, all day; connects again when it is cut."""
        while not self._stop.wait(1.0):
            with (
                contextlib.suppress(OSError),
                Upload(self._office["camera"], plan.CLOUD.v4, plan.SINK, 500_000) as film,
            ):
                while not film.error and not self._stop.wait(0.5):
                    pass

    def _browse(self) -> None:
        name = self._rng.choice([*plan.TOWN.names, plan.TAX.name, plan.CLOUD.name])
        tls.curl(self._office["pc"], f"https://{name}/", self._office.ca, timeout=3)

    def _look_up(self) -> None:
        tls.dig(self._office["pc"], self._rng.choice([*plan.TOWN.names, plan.VENDOR.name]), plan.GATEWAY4)

    def _download(self) -> None:
        url = f"http://{plan.TOWN.name}/octets/{self._rng.randrange(1, 30) * 1_000_000}"
        tls.curl(self._office["pc"], url, self._office.ca, "--output", "/dev/null", timeout=10)

    def _print(self) -> None:
        discovery.print_job(self._office["wifi"], plan.host4("printer"))

    def _call(self) -> None:
        telephone.call(self._office["phone"], plan.SIP.v4, plan.host4("phone"), seconds=4)

    def _something_bad(self) -> None:
        self._rng.choice(list(self.bad.values()))()

    def _bad_name(self) -> None:
        tls.dig(self._office["pc"], self._rng.choice(self._office.indicators.toxic_names), plan.GATEWAY4)

    def _bad_server_name(self) -> None:
        name = self._rng.choice(self._office.indicators.toxic_names)
        tls.handshake(self._office["pc"], plan.HIDDEN.v4, plan.HTTPS, name)

    def _bad_address(self) -> None:
        self._office["camera"].probe(self._office.indicators.toxic4, plan.SINK)

    def _scan(self) -> None:
        for port in (22, 80, 443, 554, 9100):
            self._office["internet"].probe(plan.host6(self._rng.choice(["printer", "camera"])), port, timeout=0.2)
            time.sleep(0.05)
