"""Simulated boxes of a rollout: while they are on they obey the newest order that reached them, each in its own way."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.support.messages import box_id
from vigie.contract.firmware import (
    Bundle,
    Check,
    FirmwareDescriptor,
    Phase,
    Severity,
    UpdateCode,
    Version,
    bundle_path,
    firmware_path,
    parse_version,
)
from vigie_department.config import Config
from vigie_department.signer import keys, offline, tufstate
from vigie_department.signer.client import files_of
from vigie_department.signer.repository import Repository
from vigie_department.signer.service import Service
from vigie_department.signer.settings import SignerSettings

OLD, STEP, GOAL = (parse_version(text) for text in ("2026.9.1", "2026.10.4", "2026.11.2"))
BOXES = 698
DAY, HOUR = 86400, 3600
START = datetime(2026, 11, 2, 8, 0, tzinfo=UTC).timestamp()  # a Monday
PASSPHRASES = [f"une phrase secrète {n}" for n in range(1, 6)]


def publish(config: Config, requires: dict[Version, Version | None]) -> None:
    """A TUF repository whose keyholders signed these releases. Makes the department's keys."""
    keys.create(config, config.paths.offline, PASSPHRASES)
    holders = offline.open_keys(config.paths.offline, lambda n: PASSPHRASES[n - 1], (1, 2))
    service = Service(config.paths.signer, config.paths.repository, SignerSettings())
    try:
        repository = Repository(config.paths.repository)
        content = {firmware_path(one): descriptor(one, below).to_bytes() for one, below in requires.items()}
        state = tufstate.load(repository.metadata)
        proposal = keys.propose_targets(state, time.time(), content).signed(holders)
        for path, data in proposal.files.items():
            repository.add(path, data)
        answer = service.install("test", {"proposal": proposal.to_bytes().decode()})
        repository.publish(files_of(answer))
    finally:
        service.close()


def descriptor(version: Version, requires: Version | None) -> FirmwareDescriptor:
    """A release for the virtual board."""
    bundle = Bundle("ab" * 32, bundle_path("qemu", version), 1 << 20)
    return FirmwareDescriptor(version, {"qemu": bundle}, OLD, requires, Severity.NORMAL, 0, "", "")


@dataclass
class SimBox:
    """One box. days: its mairie's opening days; begins: hours after the order until it tries; fate: what then happens
    (good, rolled-back, failed, dies: never heard of again, stuck: talks and does nothing); back: when a box that was
    switched off for months comes back, Unix seconds."""

    name: str
    days: frozenset[int] = frozenset(range(5))
    running: Version = OLD
    begins: int = 4
    fate: str = "good"
    back: float = 0.0
    seen: float = START - HOUR
    order: int = 0
    version: Version | None = None
    phase: str = ""
    code: str = ""
    check: str = ""
    since: float = 0.0
    dead: bool = False
    history: list[tuple[float, str]] = field(default_factory=list)

    def open(self, now: float) -> bool:
        """Switched on: its mairie works from 8 to 17, and it was not put away."""
        moment = datetime.fromtimestamp(now, UTC) + timedelta(hours=1)
        return not self.dead and now >= self.back and moment.weekday() in self.days and 8 <= moment.hour < 17

    def live(self, now: float, order: tuple[Version, int] | None) -> bool:
        """Once in a while. order: of the newest document. True when it said something."""
        if not self.open(now):
            return False
        if order is None:
            if self.phase in (Phase.WAITING, Phase.DOWNLOADING):
                self._turn(now, Phase.IDLE)
        elif order[1] > self.order:
            self.version, self.order = order
            self.code = self.check = ""
            self._turn(now, Phase.WAITING)
        elif self.phase == Phase.WAITING and now - self.since >= self.begins * HOUR and self.fate != "stuck":
            self._try(now)
        if not self.dead:
            self.seen = now
        return not self.dead

    def _try(self, now: float) -> None:
        assert self.version is not None
        if self.fate == "dies":
            self.dead = True
        elif self.fate == "rolled-back":
            self.code, self.check = UpdateCode.UNHEALTHY, Check.FORWARD
            self._turn(now, Phase.ROLLED_BACK)
        elif self.fate == "failed":
            self.code = UpdateCode.NO_SPACE
            self._turn(now, Phase.FAILED)
        else:
            self.running = self.version
            self._turn(now, Phase.GOOD)

    def _turn(self, now: float, phase: Phase) -> None:
        self.phase, self.since = phase.value, now
        self.history.append((now, f"{phase} {self.version}"))

    def state(self) -> dict[str, object]:
        """The fields of its state message that a rollout reads."""
        told: dict[str, object] = {"version": str(self.running)}
        if self.order:
            told["firmware"] = {
                "version": None if self.version is None else str(self.version),
                "order": self.order,
                "phase": self.phase,
                "code": self.code or None,
                "check": self.check or None,
                "tries": 0,
                "floor": None,
            }
        return told


def fleet(seed: int, *, bad: float = 0.0, faults: bool = True, n: int = BOXES) -> list[SimBox]:
    """The department's boxes. bad: part of them that the release does not suit; faults: besides, one in 100 dies, one
    in 100 has no room, one in 15 is away for months, one in 10 runs what is too old."""
    rng = random.Random(seed)
    made = []
    for number in range(n):
        box = SimBox(box_id(f"rollout-{number}"), begins=rng.choice((1, 2, 6, 10, 30)))
        if rng.random() < 0.3:
            box.days = frozenset(rng.sample(range(6), 3))
        if faults:
            dice = rng.random()
            if dice < 1 / 100:
                box.fate = "dies"
            elif dice < 2 / 100:
                box.fate = "failed"
            if rng.random() < 1 / 15:
                box.back = START + rng.randint(20, 40) * DAY
                box.seen = START - rng.randint(60, 200) * DAY
            if rng.random() < 1 / 10:
                box.running = parse_version("2026.2.7")
        if rng.random() < bad:
            box.fate = "rolled-back"
        made.append(box)
    return made
