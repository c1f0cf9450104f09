"""`broker watch`: what the authority revokes is in force in the broker a fraction of a second later.

Runs as the broker's user. Reads what the authority publishes, writes the checked copies that mosquitto reads, tells
mosquitto. A file that is missing, broken or older changes nothing and is reported.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from vigie_department.broker import crl
from vigie_department.broker.acl import MAX_DENIED_BYTES, denied_of, parse_denied
from vigie_department.broker.control import Control, NotRunningError
from vigie_department.broker.decide import Decision, InForce, Offered, Problem, decide
from vigie_department.broker.errors import BrokerError
from vigie_department.broker.files import replace_private
from vigie_department.broker.plan import BrokerPlan
from vigie_department.errors import DepartmentError
from vigie_department.signer.files import read_bounded

POLL_S: Final = 0.2
AGAIN_S: Final = 3600.0
"""without any change: dates are looked at again, and a problem that lasts is told again each day"""
TOLD_S: Final = 86400.0
_ISSUERS_BYTES: Final = 1 << 20
_ACL_BYTES: Final = 16 << 20


class Watch:
    """`step` does one round; `run` does rounds until told to stop. tell: one line for the operator's log."""

    def __init__(
        self, plan: BrokerPlan, *, clock: Callable[[], float] = time.time, tell: Callable[[str], None] | None = None
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._tell = tell or _to_log
        self._seen: tuple[object, ...] = ()
        self._looked = float("-inf")
        self._told: dict[str, float] = {}
        self._reload_due = False
        self._cut_due: set[str] = set()
        self._problems: tuple[Problem, ...] = ()
        self._in_force = self._read_in_force()

    @property
    def in_force(self) -> InForce:
        return self._in_force

    @property
    def problems(self) -> tuple[Problem, ...]:
        """As of the last round that looked."""
        return self._problems

    def run(self, stop: threading.Event, poll_s: float = POLL_S) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            self.step()
            stop.wait(poll_s)

    def step(self) -> None:
        """Look, and act when something changed or is still to be done."""
        now = self._clock()
        seen = tuple(_mark(path) for path in (self._plan.crl, self._plan.denied, self._plan.clients))
        list_in_force = self._in_force.crl
        ended = list_in_force is not None and self._looked < list_in_force.expires <= now
        if seen != self._seen or ended or not 0 <= now - self._looked < AGAIN_S:
            self._look(now)
            self._seen, self._looked = seen, now
        if self._reload_due or self._cut_due:
            self._act()

    def _look(self, now: float) -> None:
        decision = decide(self._in_force, self._offered(now), now)
        problems = list(decision.problems)
        try:
            self._write(decision)
        except BrokerError as error:
            problems.append(Problem("not-written", str(error)))
        self._problems = tuple(problems)
        self._report(now)

    def _write(self, decision: Decision) -> None:
        """Both files before any signal: a reload reads both."""
        if decision.crl is not None:
            replace_private(self._plan.crl_in_force, decision.crl)
        if decision.acl is not None:
            replace_private(self._plan.acl, decision.acl.encode())
        before, self._in_force = self._in_force, decision.in_force
        self._reload_due = self._reload_due or decision.reload
        self._cut_due = (self._cut_due | decision.cut) & decision.in_force.denied
        for box in sorted(decision.in_force.denied - before.denied):
            self._tell(f"{box}: denied")
        for box in sorted(before.denied - decision.in_force.denied):
            self._tell(f"{box}: allowed again")
        if decision.crl is not None and decision.in_force.crl is not None:
            bundle = decision.in_force.crl
            self._tell(f"revocation list: {bundle.revoked} certificates, until {crl.date(bundle.expires)}")

    def _act(self) -> None:
        """Reload first: a box that is cut comes back at once, and must find the new list."""
        try:
            control = Control(self._plan.control, read_bounded(self._plan.control_password, 256))
            if self._reload_due:
                control.reload()
                self._reload_due = False
            for box in sorted(self._cut_due):
                control.cut(box)
                self._cut_due.discard(box)
                self._tell(f"{box}: no session left")
        except NotRunningError:
            self._cut_due.clear()  # no broker, no session; the reload stays due: it may just be reading the old files
        except DepartmentError as error:
            self._tell_once("control", str(error), self._clock())

    def _offered(self, now: float) -> Offered:
        bundle: crl.Bundle | str
        denied: frozenset[str] | str
        try:
            issuers = crl.parse_issuers(read_bounded(self._plan.clients, _ISSUERS_BYTES), now)
            bundle = crl.parse(read_bounded(self._plan.crl, crl.MAX_BYTES), issuers)
        except DepartmentError as error:
            bundle = str(error)
        try:
            denied = parse_denied(read_bounded(self._plan.denied, MAX_DENIED_BYTES))
        except DepartmentError as error:
            denied = str(error)
        return Offered(bundle, denied)

    def _read_in_force(self) -> InForce:
        """What an earlier watch wrote. What cannot be read counts as not there, so that it is written again."""
        bundle: crl.Bundle | None = None
        denied: frozenset[str] = frozenset()
        with contextlib.suppress(DepartmentError):
            issuers = crl.parse_issuers(read_bounded(self._plan.clients, _ISSUERS_BYTES), self._clock())
            bundle = crl.parse(read_bounded(self._plan.crl_in_force, crl.MAX_BYTES), issuers)
        with contextlib.suppress(DepartmentError, UnicodeDecodeError):
            denied = denied_of(read_bounded(self._plan.acl, _ACL_BYTES).decode())
        return InForce(bundle, denied)

    # -- telling --------------------------------------------------------------------------------

    def _report(self, now: float) -> None:
        """The log, each problem once a day; the status file, for `doctor`."""
        for problem in self._problems:
            self._tell_once(problem.code, problem.text, now)
        self._told = {code: at for code, at in self._told.items() if code in {p.code for p in self._problems}}
        bundle = self._in_force.crl
        status = {
            "v": 1,
            "at": round(now),
            "crl": None if bundle is None else {"revoked": bundle.revoked, "expires": round(bundle.expires)},
            "denied": len(self._in_force.denied),
            "problems": [{"code": problem.code, "text": problem.text} for problem in self._problems],
        }
        try:
            replace_private(self._plan.status, json.dumps(status, ensure_ascii=False).encode())
        except BrokerError as error:
            self._tell_once("status", str(error), now)

    def _tell_once(self, code: str, text: str, now: float) -> None:
        if now - self._told.get(code, float("-inf")) >= TOLD_S:
            self._told[code] = now
            self._tell(f"{code}: {text}")


def _mark(path: Path) -> tuple[int, ...] | None:
    """Changes whenever the file is replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _to_log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
