"""`vigie enrol run`: the shell around the machine. It does what a state asks for, waits, and tells how things stand."""

from __future__ import annotations

import contextlib
import logging
import random
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from vigie.enrol import chains, credentials, identity, look, reset
from vigie.enrol import events as on
from vigie.enrol import status as status_file
from vigie.enrol.client import Client
from vigie.enrol.codes import Code
from vigie.enrol.errors import EnrolError, IdentityError
from vigie.enrol.events import Event, Failed, Moment
from vigie.enrol.machine import WAITING, Machine, Step
from vigie.enrol.status import State, Status
from vigie.enrol.store import Store
from vigie.enrol.transport import Transport
from vigie.errors import HostError
from vigie.host.boxconfig import BoxConfig
from vigie.host.monitor import Monitor, What
from vigie.host.net import Net
from vigie.host.systemd import Watchdog, notify
from vigie.host.trusted_clock import TrustedClock

log = logging.getLogger("vigie.enrol")

_MOVES: Final = frozenset({What.LINK, What.ADDRESS, What.ROUTE, What.OVERFLOW})
TURN_S: Final = 0.5
"""How often a waiting service looks for a reset, a doubt, a changed network."""


class Service:
    """One box. `turn` does one thing; `run` turns until stopped."""

    def __init__(self, config: BoxConfig, network: look.Network | None = None) -> None:
        self.config = config
        self.clock = TrustedClock(config)
        self.store = Store(config.paths)
        self.client = Client(config, self.clock, self.store, Transport(config, self.clock))
        self._network = network or Net()
        self._random = random.SystemRandom()
        self._status: Status | None = None
        self._box: identity.Identity | None = None
        self._due: float | None = None
        self._step = Step(State.LOADING)
        self.machine = self._machine()

    def _machine(self) -> Machine:
        self._step, self._due = Step(State.LOADING), None
        return Machine(self.config.intervals.enrol, self._random)

    @property
    def waiting(self) -> bool:
        """Whether the machine waits for something."""
        return self._step.state in WAITING

    def identity(self) -> identity.Identity:
        """Who this box is. Raises IdentityError."""
        return identity.load(self.config.paths.identity)

    def wake(self) -> None:
        """The wait is over now."""
        self._due = time.monotonic()

    # -- the loop

    def run(self) -> int:
        """Until SIGTERM or SIGINT; its exit code. HostError when another one runs."""
        stop = _Stop()
        with reset.lock(self.config.paths.run_enrol) as mine:
            if not mine:
                raise HostError(
                    f"{self.config.paths.run_enrol / reset.LOCK}: another `vigie enrol run` holds it; stop it"
                )
            with stop, contextlib.closing(Monitor()) as monitor:
                self.start()
                notify("READY=1")
                watchdog = Watchdog()
                while not stop.asked:
                    watchdog.turn()
                    wait = self.turn()
                    if wait > 0:
                        select.select([stop.fileno(), monitor.fileno()], [], [], min(wait, TURN_S))
                    if any(change.what in _MOVES for change in monitor.pending()) and self._step.state in WAITING:
                        self._give(on.Moved())
        log.info("stopped in state %s", self._step.state.value)
        return 0

    def start(self) -> None:
        """The clock's floor comes before anything that judges a date."""
        try:
            self.clock.boot()
        except HostError as e:
            log.error("%s", e)  # a full disk: the floor of the image still holds for this boot
        self._report()

    def turn(self) -> float:
        """Does what the present state asks for; seconds to wait before the next turn (0: go on at once)."""
        if self._step.state not in WAITING:
            self._give(self._do(self._step.state))
            return 0.0
        what = reset.asked(self.config.paths)
        if what is not None and self._step.state is not State.LEAVING:
            self._reset(what)
            return TURN_S if self._step.state in WAITING else 0.0
        if self._step.state is State.ENROLLED and credentials.doubted(self.config.paths):
            self._give(on.Doubted())
            return 0.0
        if self._due is None:
            return TURN_S
        left = self._due - time.monotonic()
        if left <= 0:
            self._give(on.Due())
            return 0.0
        return left

    def _give(self, event: Event) -> None:
        now = self.clock.time()
        step = self.machine.handle(event, Moment(time.monotonic(), now.unix_s, now.known))
        if step is None:
            return
        if isinstance(event, Failed | on.Refused):
            log.warning("%s: %s", self._step.state.value, event)
        if step.state is not self._step.state:
            log.info("%s -> %s (%s)", self._step.state.value, step.state.value, self.machine.code.value)
        if isinstance(event, on.Challenged) and self._step.state is State.TIME:
            self.client.order_ports()
        self._step = step
        self._due = None if step.wait_s is None else time.monotonic() + step.wait_s
        self._report()

    def _do(self, state: State) -> Event:
        client = self.client
        work: dict[State, Callable[[], Event]] = {
            State.LOADING: self._load,
            State.PROBING: lambda: look.look(self.config, self._network),
            State.CHALLENGE: client.challenge,
            State.TIME: client.challenge,
            State.PREPARE: client.prepare,
            State.ENROL: client.enrol,
            State.RENEW: client.renew,
            State.KEEP: client.keep,
            State.CONFIRM: client.confirm,
            State.INSTALL: client.install,
            State.FORGET: client.forget,
            State.LEAVE: client.leave,
            State.ERASE: client.erase,
        }
        return work[state]()

    def _load(self) -> Event:
        try:
            memory = self.store.memory()
            if not memory.decommissioned:
                identity.load(self.config.paths.identity)
                chains.load_roots(self.config.paths.roots)
            return on.Loaded(memory)
        except EnrolError as e:
            return Failed(Code.IDENTITY, str(e))
        except HostError as e:
            return Failed(Code.DISK_FULL, str(e))

    def _reset(self, what: reset.What) -> None:
        """Carries out what a person asked for. The request goes last: a power cut repeats it."""
        try:
            if self._step.state is State.DECOMMISSIONED:
                reset.done(self.config.paths)
            elif what is reset.What.DECOMMISSION:
                identity.set_leaving(self.config.paths.identity, "asked")
                self._give(on.Leave())
            else:
                reset.configuration(self.config)
                reset.done(self.config.paths)
                self.machine = self._machine()
        except HostError as e:
            log.error("%s", e)

    # -- telling

    def _report(self) -> None:
        now = self.clock.now()
        status = self._described(now)
        if self._status is not None and status.changed(self._status) == self._status:
            return
        self._status = status.changed(self._status)
        try:
            status_file.write(self.config.paths.enrol, self._status)
        except HostError as e:
            log.error("%s", e)
        notify(f"STATUS={self._status.state.value} {self._status.code.value}")

    def _described(self, now: float) -> Status:
        machine = self.machine
        wait = self._step.wait_s
        certificate = machine.certificate
        status = Status(
            state=self._step.state,
            code=machine.code,
            since=now,
            next_at=0.0 if wait is None else now + wait,
            not_after=0.0 if certificate is None else certificate.end,
            notes=self.client.notes,
            detail=machine.detail,
        )
        with contextlib.suppress(IdentityError):
            self._box = identity.load(self.config.paths.identity)
        if self._box is None:
            return status
        box = self._box  # also after a decommissioning: the label says the same
        return replace(status, box_id=box.box_id, serial=box.serial, claim_id=box.claim_id, model=box.model)


class _Stop:
    """SIGTERM and SIGINT, as something to wait for."""

    def __init__(self) -> None:
        self.asked = False
        self._read, self._write = socket.socketpair()
        self._before: list[tuple[signal.Signals, object]] = []

    def fileno(self) -> int:
        """Readable once a signal came."""
        return self._read.fileno()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before.append((number, signal.signal(number, self._hear)))

    def __exit__(self, *_error: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave
        self._read.close()
        self._write.close()

    def _hear(self, _number: int, _frame: object) -> None:
        self.asked = True
        with contextlib.suppress(OSError):
            self._write.send(b".")
