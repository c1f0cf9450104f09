"""A box and its authority in simulated time: the machine of the product, a shell on dictionaries, faults on demand.

What survives a crash is in `Disk`; what the authority knows is in `Authority`, written from docs of the protocol
(idempotent per CSR, join state with a sequence, two phases) and not from the product's code.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from vigie.enrol import events as on
from vigie.enrol.codes import Code
from vigie.enrol.events import Event, Failed, Lifetime, Memory, Moment, Refused
from vigie.enrol.machine import WAITING, Machine, Step
from vigie.enrol.status import State
from vigie.host.boxconfig import EnrolIntervals

DAY = 86_400.0
START = 1_800_000_000.0
LIFE = 90 * DAY


class Cut(Exception):
    """Power is cut here."""


@dataclass(frozen=True)
class Certificate:
    number: int
    csr: int
    lifetime: Lifetime


@dataclass
class Authority:
    """One serial's record."""

    now: Callable[[], float]
    known: bool = True
    blocked: bool = False
    down: bool = False
    seq: int = 0
    active: Certificate | None = None
    pending: Certificate | None = None
    pending_seq: int = 0
    issued: list[Certificate] = field(default_factory=list)
    quarantined: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def enrol(self, csr: int, seq: int | None) -> tuple[Certificate, int] | Refused:
        if not self.known or self.blocked:
            return Refused("refused")
        if self.quarantined:
            return Refused("clone")
        if (
            self.pending is not None
            and self.pending.csr == csr
            and seq in (self.pending_seq - 1 or None, self.pending_seq)
        ):
            return self.pending, self.pending_seq
        if self.seq and seq is None:
            return Refused("conflict")
        if seq is not None and seq != self.seq:
            self.quarantined = True
            return Refused("clone")
        self.seq += 1
        now = self.now()
        lifetime = Lifetime(now, now + LIFE, now + LIFE * 2 / 3)
        self.pending = Certificate(next(self.numbers), csr, lifetime)
        self.pending_seq = self.seq
        self.issued.append(self.pending)
        return self.pending, self.seq

    def renew(self, by: Certificate, csr: int, seq: int | None) -> tuple[Certificate, int] | Refused:
        if self.active is None or by != self.active:
            return Refused("refused")
        return self.enrol(csr, seq)

    def confirm(self, certificate: Certificate) -> Refused | None:
        if self.quarantined or self.blocked:
            return Refused("refused")
        if certificate == self.active:
            return None
        if certificate != self.pending:
            return Refused("refused")
        self.active = certificate
        return None


@dataclass
class Disk:
    identity: bool = True
    csr: int | None = None
    reply: tuple[Certificate, int] | None = None
    join_seq: int | None = None
    certificate: Certificate | None = None
    leaving: bool = False
    decommissioned: bool = False
    full: bool = False


class Box:
    """Drives a machine until told to stop. `cut` is asked at each point where power may go."""

    def __init__(
        self,
        seed: int = 1,
        intervals: EnrolIntervals | None = None,
        network: Callable[[], Code | None] = lambda: None,
        lose: Callable[[str], str] = lambda _what: "",
    ) -> None:
        self.mono = 0.0
        self.clock_error = 0.0
        self.signed = False
        self.random = random.Random(seed)
        self.intervals = intervals or EnrolIntervals()
        self.authority = Authority(self.now)
        self.disk = Disk()
        self.network = network
        self.lose = lose
        self.csrs = count(100)
        self.attempts: list[tuple[float, str]] = []
        self.codes: list[Code] = []
        self.told = False
        self.boot()

    def now(self) -> float:
        return START + self.mono

    def boot(self) -> None:
        self.signed = False
        self.machine = Machine(self.intervals, self.random)
        self.granted: tuple[Certificate, int] | None = None
        self.step = Step(State.LOADING)

    def moment(self) -> Moment:
        return Moment(self.mono, self.now() + (0.0 if self.signed else self.clock_error), self.signed)

    def give(self, event: Event) -> Step:
        step = self.machine.handle(event, self.moment())
        if step is not None:
            self.step = step
            self.codes.append(self.machine.code)
        return self.step

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Lets `seconds` pass (simulated), or less when `until` becomes true."""
        end = self.mono + seconds
        for _turn in range(200_000):
            if until():
                return
            if self.step.state in WAITING:
                wait = self.step.wait_s
                if wait is None or self.mono + wait > end:
                    self.step = Step(self.step.state, None if wait is None else wait - (end - self.mono))
                    self.mono = end
                    return
                self.mono += wait
                self.give(on.Due())
                continue
            try:
                self.give(self._do(self.step.state))
            except Cut:
                self.boot()
        raise AssertionError(f"no end: {self.step}, {self.machine.code}, {self.attempts[-5:]}")

    def _do(self, state: State) -> Event:
        self._power("before " + state.value)
        event = getattr(self, "_" + state.value)()
        self._power("after " + state.value)
        return event

    def _power(self, point: str) -> None:
        if self.lose(point) == "power":
            raise Cut(point)

    def _remote(self, what: str) -> Failed | None:
        """The line, on the way to the authority."""
        self.attempts.append((self.mono, what))
        self.mono += 0.2
        problem = self.network()
        if problem is not None:
            return Failed(problem, "line")
        if self.authority.down or self.lose("request " + what) == "line":
            return Failed(Code.AUTHORITY_DOWN, "no answer")
        return None

    def _answer(self, what: str, event: Event) -> Event:
        fault = self.lose("reply " + what)
        if fault == "line":
            return Failed(Code.AUTHORITY_DOWN, "reply lost")
        return Failed(Code.PROTOCOL, "spoilt on the way") if fault == "nonsense" else event

    def _loading(self) -> Event:
        disk = self.disk
        if not disk.identity and not disk.decommissioned:
            return Failed(Code.IDENTITY, "no identity")
        return on.Loaded(
            Memory(
                disk.certificate.lifetime if disk.certificate else None,
                disk.reply[0].lifetime if disk.reply else None,
                disk.join_seq is not None,
                disk.leaving,
                disk.decommissioned,
            )
        )

    def _probing(self) -> Event:
        problem = self.network()
        return on.Clear() if problem in (None, Code.AUTHORITY_DOWN) else Failed(problem)

    def _challenge(self) -> Event:
        failed = self._remote("challenge")
        if failed is not None:
            return failed
        event = self._answer("challenge", on.Challenged())
        self.signed = self.signed or isinstance(event, on.Challenged)
        return event

    def _time(self) -> Event:
        return self._challenge()

    def _prepare(self) -> Event:
        if self.disk.full:
            return Failed(Code.DISK_FULL)
        if self.disk.csr is None:
            self.disk.csr = next(self.csrs)
        return on.Prepared()

    def _enrol(self) -> Event:
        failed = self._remote("enrol")
        if failed is not None:
            return failed
        assert self.disk.csr is not None, "sent before it was on disk"
        return self._grant("enrol", self.authority.enrol(self.disk.csr, self.disk.join_seq))

    def _renew(self) -> Event:
        failed = self._remote("renew")
        if failed is not None:
            return failed
        assert self.disk.csr is not None and self.disk.certificate is not None
        return self._grant("renew", self.authority.renew(self.disk.certificate, self.disk.csr, self.disk.join_seq))

    def _grant(self, what: str, answer: tuple[Certificate, int] | Refused) -> Event:
        if isinstance(answer, Refused):
            return self._answer(what, answer)
        event = self._answer(what, on.Granted())
        self.granted = answer if isinstance(event, on.Granted) else None
        return event

    def _keep(self) -> Event:
        if self.disk.full:
            return Failed(Code.DISK_FULL)
        reply = self.granted or self.disk.reply
        assert reply is not None
        self.disk.reply = reply
        self._power("between reply and join state")
        self.disk.join_seq = reply[1]
        return on.Kept(reply[0].lifetime)

    def _confirm(self) -> Event:
        failed = self._remote("confirm")
        if failed is not None:
            return failed
        assert self.disk.reply is not None and self.disk.join_seq == self.disk.reply[1], "confirmed before it was kept"
        return self._answer("confirm", self.authority.confirm(self.disk.reply[0]) or on.Confirmed())

    def _install(self) -> Event:
        if self.disk.full:
            return Failed(Code.DISK_FULL)
        assert self.disk.reply is not None
        self.disk.certificate = self.disk.reply[0]
        self._power("between set and pending")
        self.disk.reply, self.disk.csr, self.granted = None, None, None
        return on.Installed(self.disk.certificate.lifetime)

    def _forget(self) -> Event:
        self.disk.reply, self.disk.csr, self.granted = None, None, None
        return on.Forgotten()

    def _leave(self) -> Event:
        self.disk.leaving = True
        failed = self._remote("leave")
        if failed is not None:
            return failed
        self.told = True
        return on.Told()

    def _erase(self) -> Event:
        self.disk.leaving = True
        self.disk.certificate, self.disk.reply, self.disk.csr, self.disk.join_seq = None, None, None, None
        self._power("between keys and mark")
        self.disk.identity = False
        self.disk.decommissioned = True
        return on.Erased()
