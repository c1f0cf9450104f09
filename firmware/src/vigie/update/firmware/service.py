"""The shell around the decision core: gathers facts, writes the record, then does what the core says."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from vigie.contract.errors import ContractError
from vigie.contract.firmware import (
    Bundle,
    Check,
    FirmwareDescriptor,
    FirmwareOrder,
    Phase,
    UpdateCode,
    Version,
)
from vigie.errors import HostError
from vigie.host.trusted_clock import ClockReader
from vigie.update.boot.opening import Said
from vigie.update.boot.outcome import Outcome
from vigie.update.firmware.core import handle, obstacle
from vigie.update.firmware.health import Before, Seen, Soak, first, look
from vigie.update.firmware.rauc import Progress, RaucError, Wanted
from vigie.update.firmware.record import Record
from vigie.update.firmware.source import SourceError
from vigie.update.firmware.store import Store
from vigie.update.firmware.view import (
    Action,
    Committed,
    Copying,
    Event,
    Facts,
    Installed,
    Judged,
    NotCommitted,
    NotInstalled,
    Postpone,
    Started,
    Turn,
)
from vigie.update.firmware.week import Opening, hour_of_week, quiet_hours

log = logging.getLogger("vigie.firmware")

LOOK_S: Final = 3600.0
"""Between two looks at the repository while an order waits."""
RETRY_S: Final = 300.0
RESTART_S: Final = 300.0
"""A restart that was asked for is not asked for again before: each counts as a trial."""
HOUR_S: Final = 3600.0
OWN: Final = frozenset({Check.DATAPATH, Check.DISK, Check.MEMORY})
"""What must work here before anything is installed; the rest may be what the new system repairs."""


class Installer(Protocol):
    """`rauc.Rauc`."""

    def install(self, wanted: Wanted, progress: Callable[[Progress], None]) -> None:
        """RaucError."""

    def mark(self, state: str, slot: str) -> str:
        """RaucError."""


class Repository(Protocol):
    """`source.Source`."""

    def offer(self, version: Version) -> FirmwareDescriptor:
        """SourceError."""

    def bundle(self, bundle: Bundle) -> Wanted:
        """SourceError."""


class Box(Protocol):
    """`machine.Machine`."""

    def boot(self) -> str: ...
    def boottime(self) -> float: ...
    def running(self) -> Version: ...
    def board(self) -> str: ...
    def slots(self) -> Said | None: ...
    def outcome(self, said: Said | None) -> Outcome: ...
    def free(self) -> int: ...
    def base(self) -> int: ...
    def cables(self) -> tuple[str, ...]: ...
    def frames(self) -> int: ...
    def seen(self, *, thorough: bool) -> Seen: ...
    def restart(self, how: str) -> None: ...


@dataclass(slots=True)
class Looked:
    """The last look at the repository: for which version, what came of it, when to look again (monotonic)."""

    version: Version | None = None
    offer: FirmwareDescriptor | None = None
    refusal: UpdateCode | None = None
    detail: str = ""
    again: float = 0.0


class Firmware:
    """One box. `turn` is called every few seconds and may take hours (an installation)."""

    def __init__(
        self, store: Store, clock: ClockReader, box: Box, source: Repository, rauc: Installer,
        alive: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._store = store
        self._clock = clock
        self._box = box
        self._source = source
        self._rauc = rauc
        self._alive = alive
        self._looked = Looked()
        self._soak: Soak | None = None
        self._asked: float | None = None
        self._order: FirmwareOrder | None = None
        self._opening: tuple[Opening, ...] = ()
        self._week = store.week()
        self._frames: tuple[int, int] | None = None
        self._more: dict[str, Any] = {}
        self._told: tuple[Record, dict[str, Any]] | None = None
        self.record = store.load()

    # ---- events -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Once, when the slots are known (or there are none)."""
        self._read_order()
        self.give(Started())

    def turn(self) -> None:
        """Looks at everything once and does what follows."""
        self._read_order()
        self._learn()
        if self._box.slots() is None:
            self.tell()
            return
        self._do(self.give(Turn()))
        self.tell()

    def postpone(self, seconds: float) -> bool:
        """The mairie asks to wait for so long from now (0: no longer). False: not now, or not for this release."""
        before = self.record
        self.give(Postpone(self._clock.now() + seconds if seconds > 0 else 0.0))
        self.tell()
        return self.record.until != before.until or (seconds <= 0 and before.until == 0.0)

    def give(self, event: Event) -> Action:
        """The core's answer, on the disk before it is acted upon. HostError when the disk takes nothing: then nothing
        is done either."""
        record, action = handle(self.record, event, self.facts())
        if record != self.record:
            self._store.save(record)
            if (record.phase, record.code) != (self.record.phase, self.record.code):
                log.warning("%s %s %s %s", record.version, record.phase.value, record.code or "", record.evidence)
            self.record = record
        return action

    # ---- facts --------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """Of this moment. The repository is looked at when an order waits and the last look is old."""
        now = self._clock.time()
        running, order = self._box.running(), self._order
        wanted = order is not None and (order.version != running or self.record.phase is not Phase.GOOD)
        if order is not None and wanted and now.known:
            self._look(order.version)
        known = order is not None and self._looked.version == order.version
        return Facts(
            now=now.unix_s,
            signed=now.known,
            boot=self._box.boot(),
            boottime=self._box.boottime(),
            running=running,
            board=self._box.board(),
            outcome=self._box.outcome(self._box.slots()),
            order=order,
            offer=self._looked.offer if known else None,
            refusal=(self._looked.refusal if known else None) or UpdateCode.NO_NETWORK,
            quiet=self._quiet(now.unix_s),
            ill=self._ill() if wanted else None,
            free=self._box.free(),
            base=self._box.base(),
            ports=self._box.cables(),
        )

    def _read_order(self) -> None:
        try:
            self._order, self._opening = self._store.ordered()
        except (HostError, ContractError) as e:
            log.error("the order in force cannot be read, the last one counts: %s", e)

    def _look(self, version: Version, *, fresh: bool = False) -> None:
        at = time.monotonic()
        if self._looked.version == version and at < self._looked.again and not fresh:
            return
        try:
            self._looked = Looked(version, self._source.offer(version), None, "", at + LOOK_S)
        except SourceError as e:
            log.warning("%s: %s", e.code.value, e)
            self._looked = Looked(version, None, e.code, str(e), at + RETRY_S)
        self._alive()

    def _ill(self) -> Check | None:
        failing = look(self._box.seen(thorough=False), Before())
        return first({check: text for check, text in failing.items() if check in OWN})

    def _quiet(self, now: float) -> bool:
        local = time.localtime(now)
        return hour_of_week(local.tm_wday, local.tm_hour) in quiet_hours(self._week, self._opening)

    def _learn(self) -> None:
        """Counts the hour that has just ended."""
        time_now = self._clock.time()
        if not time_now.known:
            return
        hour, frames = int(time_now.unix_s // HOUR_S), self._box.frames()
        if self._frames is None or hour < self._frames[0]:
            self._frames = (hour, frames)
        elif hour > self._frames[0]:
            past = time.localtime(self._frames[0] * HOUR_S)
            count = max(0, frames - self._frames[1])
            self._week = self._week.counted(self._frames[0], hour_of_week(past.tm_wday, past.tm_hour), count)
            self._frames = (hour, frames)
            try:
                self._store.save_week(self._week)
            except HostError as e:
                log.error("%s", e)

    # ---- actions ------------------------------------------------------------------------------------------------

    def _do(self, action: Action) -> None:
        match action:
            case Action.INSTALL:
                self.give(self._install())
                self._more = {}
            case Action.TRY:
                self._restart("trial")
            case Action.EXAMINE:
                self._examine()
            case Action.COMMIT:
                self.give(self._commit())
            case Action.DROP:
                self._mark("bad", "other")
            case Action.LEAVE:
                self._restart("back")
            case Action.WAIT:
                pass

    def _install(self) -> Event:
        order = self.record.ordered
        if order is None:
            return NotInstalled(UpdateCode.UNKNOWN_VERSION, False, "the order is gone")
        self._look(order.version, fresh=True)  # an hour may have passed, and a release may be taken back
        code = obstacle(self.record, self.facts())
        offer = self._looked.offer
        bundle = None if offer is None else offer.bundle(self._box.board())
        if code is not None or bundle is None:
            return NotInstalled(code or UpdateCode.OTHER_BOARD, True, self._looked.detail)
        try:
            self._rauc.install(self._source.bundle(bundle), self._progress)
        except SourceError as e:
            return NotInstalled(e.code, e.code is UpdateCode.NO_NETWORK, str(e))
        except RaucError as e:
            return NotInstalled(e.code, e.passing, str(e))
        said = self._box.slots()
        if said is None or said.trial is None or said.trial == said.current:
            return NotInstalled(UpdateCode.INSTALL, False, "RAUC is done, and no slot waits to be tried")
        return Installed()

    def _progress(self, progress: Progress) -> None:
        self._alive()
        if "copying" in progress.text.lower() and self.record.phase is Phase.DOWNLOADING:
            self.give(Copying())
        self._more = {"percent": progress.percent, "step": progress.text}
        self.tell()

    def _examine(self) -> None:
        if self._soak is None:
            self._soak = Soak(self.record.since)
        failing = look(self._box.seen(thorough=True), Before(self.record.before_base, self.record.before_ports))
        self._more = {"failing": {check.value: text for check, text in failing.items()}}
        verdict = self._soak.judge(failing, self._box.boottime())
        if verdict is not None:
            self._more = {}
            self._do(self.give(Judged(verdict.check, verdict.evidence)))

    def _commit(self) -> Event:
        try:
            self._rauc.mark("good", "booted")
        except RaucError as e:
            return NotCommitted(str(e))
        said = self._box.slots()
        if said is None or said.committed != said.current:
            return NotCommitted(f"marked good, and the boot loader starts slot {said.committed if said else 'unknown'}")
        return Committed()

    def _restart(self, how: str) -> None:
        now = time.monotonic()
        if self._asked is not None and now - self._asked < RESTART_S:
            return
        self._asked = now
        if how == "back":
            self._mark("bad", "booted")
        self._box.restart(how)

    def _mark(self, state: str, slot: str) -> None:
        try:
            log.warning("%s", self._rauc.mark(state, slot))
        except RaucError as e:  # a plain restart takes the committed slot all the same
            log.error("%s", e)

    # ---- status -------------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """For link, page and guardian, when something changed."""
        now = replace(self.record, since=0.0)
        if self._told != (now, self._more):
            self._told = (now, dict(self._more))
            more = {
                "running": str(self._box.running()), "until": self.record.until, "again": self.record.again,
                "evidence": self.record.evidence, "detail": self._looked.detail, "critical": self.record.critical,
                "at": self._clock.now(),
            }  # fmt: skip
            self._store.tell(self.record, more | self._more)
