"""The department's orders in this box: kept on the disk, counted, merged with the commune's own decisions."""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from vigie.contract.downward import Desired
from vigie.contract.limits import Part
from vigie.contract.targets import Network
from vigie.contract.words import Inbound
from vigie.errors import HostError, ListError
from vigie.filter import department, department_file, department_rules
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.suffixes import Suffixes
from vigie.filter.department import COMMUNE, InForce, Orders, Time
from vigie.filter.department_rules import ORDERED, Protection, Rules
from vigie.filter.local_policy import Isolation, LocalPolicy, Rule
from vigie.filter.protected_places import never_address, never_name
from vigie.filter.pseudonym import Pseudonyms
from vigie.filter.service_clock import ServiceClock
from vigie.host.files import read_small, write_atomic

log = logging.getLogger("vigie.filter")

FILE: Final = "department.json"
LISTS_FILE: Final = "department-lists.json"
LOOK_S: Final = 10.0
END_SLACK_S: Final = 5.0
LISTS_MAX: Final = 256 * 1024
PARTS: Final = ("exceptions", "never_block", "essential", "isolation", "quarantine", "settings")
RANK_MIN: Final = 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the layer asks of the filter. time(): trusted Unix time and whether it can say "not yet"; protected(): MACs
    that are never put in quarantine; devices(): MACs seen; spared(): addresses that protected names point to now."""

    mono: Callable[[], float]
    time: Callable[[], tuple[float, bool]]
    lookup: Callable[[], Lookup | None]
    protected: Callable[[], Mapping[str, str]]
    devices: Callable[[], Collection[str]]
    spared: Callable[[], Iterable[str]]


class Department:
    """State and questions. An order that fails to reach the disk raises HostError, and nothing has changed then."""

    def __init__(
        self, state_dir: Path, around: Surroundings, service: ServiceClock, pseudonyms: Pseudonyms, orders: Orders
    ) -> None:
        self.path = state_dir / FILE
        self.lists_path = state_dir / LISTS_FILE
        self._around = around
        self._service = service
        self._pseudonyms = pseudonyms
        # What was reserved has been used, for all that is known. And a clock whose file was lost begins at 0: a bar or
        # a meter would last for years.
        service.not_before(around.mono(), orders.latest)
        self.orders = orders
        self.problem = ""
        self._unkept = False
        self._force = InForce()
        self._rules = Rules((), ())
        self._looked = -LOOK_S
        self._look(self._now())

    # ---- what comes in -----------------------------------------------------------------------------------------

    def order(self, payload: bytes, box: str, *, second: bool) -> None:
        """Takes a document over. OrderError or HostError: what was in force stays."""
        now = self._now()
        accepted = department.accept(self.orders, department.read(payload), box, now, second=second)
        accepted = department.resolved(accepted, self._resolve)
        if accepted is not self.orders:
            # Paid for before it holds: the kernel would go on without a daemon that counts.
            force = department.in_force(accepted, now, self._around.protected())
            self._keep(department.charge(accepted, force, now))
            log.info("order %d of the department taken over", accepted.version)
        self._look(now)

    def lift_isolation(self) -> bool:
        """The commune ends isolation: whether one was ordered by the department."""
        if not self._force.isolation:
            return False
        now = self._now()
        self._lifted(department.lift(self.orders, now))
        self._look(now)
        return True

    def lift_quarantine(self, mac: str) -> bool:
        """The commune lets a device back: whether the department had it in quarantine."""
        if mac not in self._force.quarantine:
            return False
        now = self._now()
        self._lifted(department.lift_device(self.orders, mac, now))
        self._look(now)
        return True

    # ---- time --------------------------------------------------------------------------------------------------

    def tick(self) -> bool:
        """Once a second or so. True when what is in force changed: the tables must follow."""
        now = self._now()
        mono = self._around.mono()
        found = self.orders
        if mono - self._looked >= LOOK_S and department.unresolved(found):
            found = department.resolved(found, self._resolve)
        found = department.charge(found, self._force, now)
        if found is not self.orders or self._unkept:
            try:
                self._keep(found)
                self.problem, self._unkept = "", False
            except HostError as e:
                self.orders = found  # counted in memory: the limit holds as long as the box is on
                self.problem = str(e)
        before = self._force, self._rules
        if mono - self._looked >= LOOK_S or self._ends(now):
            self._look(now)
        self._service_saved(mono)
        return not _same(before[0], self._force) or before[1].rules != self._rules.rules

    def _ends(self, now: Time) -> bool:
        """Whether something temporary may be over or held back now."""
        force = department.in_force(self.orders, now, self._around.protected())
        return not _same(force, self._force) or force.parts != self._force.parts

    def close(self) -> None:
        """Keeps the clock. What cannot be kept costs the commune nothing."""
        self._service_saved(self._around.mono(), now=True)

    # ---- what is in force --------------------------------------------------------------------------------------

    def effective(self, local: LocalPolicy, wall: float) -> LocalPolicy:
        """The commune's decisions and the department's, as one policy. `wall`: the clock that the policy's ends use."""
        now, force = self._now(), self._force
        until = {mac: wall + end - now.service for mac, end in force.quarantine.items()}
        isolation = Isolation(force.isolation, wall + max(0.0, force.isolation_end - now.service), ORDERED)
        shifted = [_shifted(rule, wall - now.unix) for rule in self._rules.rules]
        return department_rules.merge(local, shifted, isolation if force.isolation else Isolation(), until, wall)

    @property
    def inbound(self) -> Inbound | None:
        """Inbound default that the department asks for, None for none."""
        return self.orders.desired.settings.inbound if self.orders.desired is not None else None

    def refused(self) -> tuple[Part, ...]:
        """Parts that are not in force: refused when the order came, or held back now."""
        return (*self.orders.refused, *self._force.parts, *self._rules.parts)

    def to_json(self) -> dict[str, Any]:
        """For `department`, `department-show` and `status`."""
        desired, force, refused = self.orders.desired, self._force, self.refused()
        now = self._now()
        hurt = {part.what.partition("[")[0] for part in refused}
        shown: dict[str, Any] = {
            "version": self.orders.version,
            "status": department.status(self.orders, force, len(refused)).value,
            "in_force": [part for part in PARTS if part not in hurt and _asked(desired, part)],
            "refused": [{"code": part.code.value, "what": part.what} for part in refused],
            "isolation": {"level": force.isolation, "left_s": max(0.0, force.isolation_end - now.service)},
            "quarantine": [
                {"mac": mac, "left_s": max(0.0, end - now.service)} for mac, end in force.quarantine.items()
            ],
            "exceptions": len(self._rules.rules),
            "budget_left_s": self.orders.left(COMMUNE, now.service),
            "second": self.orders.second,
            "problem": self.problem,
        }
        if desired is not None:
            shown |= {"issued": desired.issued, "expires": desired.expires, "settings": desired.settings.to_dict()}
        return shown

    def rules(self) -> tuple[Rule, ...]:
        """The department's exceptions in force."""
        return self._rules.rules

    # ---- lists -------------------------------------------------------------------------------------------------

    def write_lists(self) -> bool:
        """Writes what the base is built with; True when it is another list than before. Raises HostError."""
        desired = self.orders.desired
        never = desired.never_block if desired is not None else ()
        essential = {e.name: max(RANK_MIN, e.rank) for e in desired.essential} if desired is not None else {}
        document = {
            "never_names": [t for t in never if "/" not in t],
            "never_networks": [t for t in never if "/" in t],
            "essential_names": {t: rank for t, rank in essential.items() if "/" not in t},
            "essential_networks": {t: rank for t, rank in essential.items() if "/" in t},
        }
        data = json.dumps(document, sort_keys=True).encode()
        before = read_small(self.lists_path, LISTS_MAX)
        if before == data or (before is None and not never and not essential):
            return False
        write_atomic(self.lists_path, data)
        return True

    # ---- inside ------------------------------------------------------------------------------------------------

    def _now(self) -> Time:
        unix, trusted = self._around.time()
        return Time(unix, trusted, self._service.at(self._around.mono()))

    def _keep(self, orders: Orders) -> None:
        self._service.save(self._around.mono(), now=True)
        department_file.save(self.path, orders)
        self.orders = orders

    def _lifted(self, orders: Orders) -> None:
        """A lift holds even when no disk can keep it: it is kept with the next second that can."""
        try:
            self._keep(orders)
            self._unkept = False
        except HostError as e:
            self.orders, self._unkept = orders, True
            self.problem = str(e)

    def _service_saved(self, mono: float, *, now: bool = False) -> None:
        try:
            self._service.save(mono, now=now)
        except HostError as e:
            self.problem = str(e)

    def _look(self, now: Time) -> None:
        """Decides again what is in force."""
        self._looked = self._around.mono()
        self._force = department.in_force(self.orders, now, self._around.protected())
        desired = self.orders.desired
        if desired is None:
            self._rules = Rules((), ())
            return
        self._rules = department_rules.rules(desired, self.orders.macs, now.unix, self._protection())

    def _resolve(self, pseudonyms: set[str]) -> Mapping[str, str]:
        return self._pseudonyms.resolve(pseudonyms, self._around.devices())

    def _protection(self) -> Protection:
        try:
            names, networks, shared = department_rules.built_in()
        except (ListError, OSError) as e:
            # Without the lists nothing is known to be safe to block.
            self.problem = str(e)
            return EVERYTHING
        lookup, spared = self._around.lookup(), self._around.spared
        return Protection(
            names,
            networks,
            shared,
            lambda name: lookup is not None and never_name(lookup, name),
            lambda prefix: (lookup is not None and never_address(lookup, prefix)) or _holds(prefix, spared()),
        )


EVERYTHING: Final = Protection((), (), Suffixes(), lambda _name: True, lambda _prefix: True)


def _same(a: InForce, b: InForce) -> bool:
    """Whether the tables say the same of both: ends that creep by seconds are not worth a new epoch."""
    if (a.isolation, a.quarantine.keys(), a.expired) != (b.isolation, b.quarantine.keys(), b.expired):
        return False
    ends = [(a.isolation_end, b.isolation_end), *((a.quarantine[mac], b.quarantine[mac]) for mac in a.quarantine)]
    return all(abs(one - other) < END_SLACK_S for one, other in ends)


def _shifted(rule: Rule, by: float) -> Rule:
    """A rule whose end is told on another clock."""
    return rule if abs(by) < 1.0 else replace(rule, until=rule.until + by)


def _holds(prefix: Network, addresses: Iterable[str]) -> bool:
    return any(ipaddress.ip_address(a) in prefix for a in addresses)


def _asked(desired: Desired | None, part: str) -> bool:
    return desired is not None and bool(getattr(desired, part))
