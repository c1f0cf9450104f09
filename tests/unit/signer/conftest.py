"""A signer on a temporary folder, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vigie.contract import dsse
from vigie.contract.downward import Desired, Isolation, Quarantine
from vigie_department import config as configuration
from vigie_department.config import Config
from vigie_department.signer import keys, offline
from vigie_department.signer.offline import Keyholder
from vigie_department.signer.repository import Repository
from vigie_department.signer.rules import approval_message
from vigie_department.signer.service import APPROVAL_TYPE, Service
from vigie_department.signer.settings import SignerSettings
from vigie_department.signer.store import Store

NOW = 1_800_000_000
PASSPHRASES = [f"une phrase secrète {n}" for n in range(1, 6)]


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """One department's signer. `service` may be ended and started again on the same folder."""

    config: Config
    clock: Clock
    settings: SignerSettings = field(default_factory=SignerSettings)
    segment_records: int = 20_000
    _service: Service | None = None
    keys: dict[str, Ed25519PrivateKey] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        if self._service is None:
            self._service = Service(
                self.config.paths.signer,
                self.config.paths.repository,
                self.settings,
                clock=self.clock,
                segment_records=self.segment_records,
            )
        return self._service

    @property
    def store(self) -> Store:
        return Store(self.config.paths.signer)

    @property
    def repository(self) -> Repository:
        return Repository(self.config.paths.repository)

    def stop(self) -> None:
        if self._service is not None:
            self._service.close()
            self._service = None

    def restart(self, **settings: Any) -> Service:
        self.stop()
        self.settings = replace(self.settings, **settings)
        return self.service

    def holders(self, *numbers: int) -> list[Keyholder]:
        return offline.open_keys(self.config.paths.offline, lambda n: PASSPHRASES[n - 1], numbers)

    def desired(self, box: str, version: int, **more: Any) -> dict[str, Any]:
        now = int(self.clock.now)
        plain = Desired(box, version, issued=now, expires=now + 180 * 86400)
        return replace(plain, **more).to_dict()

    def isolated(self, box: str, version: int, hours: float = 4, level: int = 2, **more: Any) -> dict[str, Any]:
        return self.desired(box, version, isolation=Isolation(level, int(self.clock.now + hours * 3600)), **more)

    def quarantined(self, box: str, version: int, hours: float = 4) -> dict[str, Any]:
        until = int(self.clock.now + hours * 3600)
        return self.desired(box, version, quarantine=(Quarantine("d-" + "0" * 16, until),))

    def sign(self, payload: dict[str, Any]) -> dsse.Envelope:
        answer = self.service.sign_desired("console", {"payload": payload, "operator": "alice"})
        return dsse.Envelope.from_bytes(answer["envelope"].encode())

    def operator(self, name: str) -> Ed25519PrivateKey:
        key = self.keys.setdefault(name, Ed25519PrivateKey.generate())
        self.service.operator_add("root", {"name": name, "public": dsse.public_bytes(key).hex()})
        return key

    def approve(self, request: dict[str, Any], name: str, key: Ed25519PrivateKey | None = None) -> dict[str, Any]:
        message = dsse.pae(
            APPROVAL_TYPE, approval_message(request["id"], request["kind"], request["body"], request["expires"])
        )
        signature = (key or self.keys[name]).sign(message).hex()
        return self.service.approve("console", {"id": request["id"], "operator": name, "signature": signature})


def box(number: int) -> str:
    """Box ids for tests."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return "vg-" + "a" * 14 + letters[number // 32] + letters[number % 32]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    file = configuration.file_of(tmp_path)
    file.parent.mkdir(parents=True)
    file.write_text(configuration.render("vigie.test", root=tmp_path), encoding="utf-8")
    config = configuration.load(file)
    keys.create(config, config.paths.offline, PASSPHRASES, now=NOW - 1)
    made = Bench(config, Clock())
    yield made
    made.stop()
