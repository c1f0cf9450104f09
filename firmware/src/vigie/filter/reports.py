"""The reporter in the filter: what it needs to know comes from the engine, its rows go to the outbox."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vigie.contract.codes import DeviceClass, Reason
from vigie.contract.envelope import Upward
from vigie.contract.errors import ContractError
from vigie.contract.words import Clock, Rule
from vigie.filter.base.lookup import Lookup
from vigie.filter.journal import Attempt, Journal
from vigie.filter.listed import listed
from vigie.filter.outbox import Row
from vigie.filter.pseudonym import Pseudonyms
from vigie.filter.report import Made, Reporter, Sight
from vigie.filter.zones import Alert

log = logging.getLogger("vigie.filter")

DROPS: Final = (Reason.EVENT_LIMITED, Reason.EVENT_FULL)
LOSS_S: Final = 3600.0
NET_DEV: Final = Path("/proc/self/net/dev")
_BOOT: Final = "0" * 32

Counters = Mapping[Reason, tuple[int, int]]


class Reports:
    """Feeds the reporter, and takes its rows away once a second.

    time(): trusted Unix time and its worth; wall(): the clock of attempts; counters(): of the data path; frames():
    (in, out) received on the internet side and on the LAN side since the start, None while it is not known which is
    which.
    """

    def __init__(
        self,
        journal: Journal,
        pseudonyms: Pseudonyms,
        *,
        lookup: Callable[[], Lookup | None],
        device_class: Callable[[str], DeviceClass],
        ordered: Callable[[Attempt], bool],
        time: Callable[[], tuple[float, str]],
        wall: Callable[[], float],
        counters: Callable[[], Counters],
        frames: Callable[[], tuple[int, int] | None],
    ) -> None:
        self._journal = journal
        self._lookup = lookup
        self._time = time
        self._wall = wall
        self._counters = counters
        self._frames = frames
        self._reporter = Reporter(Sight(self._listed, pseudonyms.name, device_class, ordered))
        self._counted: dict[int, int] = {}
        self._framed: tuple[int, int] | None = None
        self._begun = False
        self._lost: int | None = None
        self._loss_at = 0.0

    # ---- what happens ------------------------------------------------------------------------------------------

    def attempt(self, attempt: Attempt, mono: float) -> None:
        """A blocked or observed frame."""
        self._reporter.attempt(attempt, mono)

    def zone_alert(self, alert: Alert, mono: float) -> None:
        """A fault of the network."""
        self._reporter.zone_alert(alert, self._time()[0], mono)

    def local_lift(self) -> None:
        """The commune lifted what the department ordered."""
        self._reporter.notice(Rule.LOCAL_LIFT, 2, 1, self._time()[0])

    def base_changed(self, candidate: int | None, mono: float) -> None:
        """Another base is in force; `candidate` its version when it is one on trial."""
        if candidate != self._reporter.candidate:
            self._close_hour(mono)  # what was observed belongs to the base that it was observed under
        self._reporter.forget(mono)
        self._reporter.candidate = candidate

    def look_again(self) -> None:
        """Rules are others from now on: whose block it is is asked again."""
        self._reporter.look_again()

    def names_changed(self, mono: float) -> None:
        """Pseudonyms are others from now on."""
        self._reporter.forget(mono)

    @property
    def candidate(self) -> int | None:
        """Version of the candidate base on trial."""
        return self._reporter.candidate

    # ---- time --------------------------------------------------------------------------------------------------

    def tick(self, mono: float) -> None:
        """Once a second or so."""
        unix, _word = self._time()
        self._reporter.skew = unix - self._wall()
        if not self._begun:
            self._begun = True
            self._count_since()
            self._reporter.hour_is_over(unix, mono)
        self._reporter.tick(mono)
        self._report_losses(unix, mono)
        if self._reporter.hour_is_over(unix, mono):
            self._close_hour(mono)
        self.flush()

    def close(self, mono: float) -> None:
        """The hour so far, and what alerts have counted: a later start begins at nothing."""
        self._close_hour(mono)
        self._reporter.forget(mono)
        self.flush()

    def flush(self) -> None:
        """Rows to the outbox, each read back as the department will: what the contract refuses does not leave."""
        made = self._reporter.take()
        if not made:
            return
        word = Clock(self._time()[1])
        rows = [Row(m.body, m.ts, word) for m in made if sound(m, word)]
        self._journal.add_rows(rows)

    def _close_hour(self, mono: float) -> None:
        if not self._begun:
            return
        blocked, drops, frames = self._count_since()
        self._reporter.metric(blocked, *frames, drops, self._time()[0], mono)

    def _count_since(self) -> tuple[dict[int, int], int, tuple[int, int]]:
        """What the data path counted since the last call: packets by reason, events lost, frames (in, out)."""
        now = {int(r): packets for r, (packets, _bytes) in self._counters().items()}
        since = {r: n - self._counted.get(r, 0) for r, n in now.items()}
        since = {r: n if n >= 0 else now[r] for r, n in since.items()}  # counters of a new data path begin at 0
        self._counted = now
        framed, self._framed = self._framed, self._frames()
        frames = (0, 0)
        if framed is not None and self._framed is not None:
            frames = max(0, self._framed[0] - framed[0]), max(0, self._framed[1] - framed[1])
        return since, sum(since.get(int(r), 0) for r in DROPS), frames

    def _report_losses(self, unix: float, mono: float) -> None:
        """Rows that had to go are told, once an hour, by a row that is not the first to go."""
        lost = self._journal.outbox.stats.lost + self._reporter.lost
        if self._lost is None:
            self._lost = lost
        if lost > self._lost and mono >= self._loss_at:
            self._loss_at = mono + LOSS_S
            self._reporter.notice(Rule.OUTBOX_LOSS, 2, lost - self._lost, unix)
            self._lost = lost

    def _listed(self, attempt: Attempt) -> str | None:
        lookup = self._lookup()
        if lookup is None:
            return None
        return listed(lookup, attempt.reason, attempt.destination.lower(), attempt.address)


def sound(made: Made, word: Clock) -> bool:
    """Whether the department would take the row."""
    try:
        frame = Upward(_BOOT, 1, made.ts, word, made.body, 0)
        Upward.from_bytes(frame.kind, frame.to_bytes())
    except (ContractError, ValueError) as e:
        log.error("a report does not follow the contract and is dropped: %s", e)
        return False
    return True


def received_frames(interface: str, path: Path = NET_DEV) -> int | None:
    """Frames that came in by an interface since it exists; None when it is not there (proc_net_dev, second column)."""
    try:
        for line in path.read_text(encoding="ascii").splitlines()[2:]:
            name, _colon, rest = line.partition(":")
            if name.strip() == interface:
                return int(rest.split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return None
