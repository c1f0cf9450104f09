"""Where the firmware stands, as one immutable value on disk: read at each start, written before anything is done."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.firmware import (
    NO_RELEASE,
    TIME_MAX,
    TRIES_MAX,
    TRIES_TOLD_MAX,
    Check,
    FirmwareOrder,
    FirmwareState,
    Phase,
    UpdateCode,
    Version,
    parse_version,
)

EVIDENCE_MAX: Final = 2000
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
REST: Final = frozenset({Phase.IDLE, Phase.WAITING, Phase.POSTPONED, Phase.GOOD, Phase.ROLLED_BACK, Phase.FAILED})
"""Phases in which nothing is under way: an order may begin, change or be withdrawn."""


@dataclass(frozen=True, slots=True)
class Record:
    """The order last looked at and what came of it.

    version, order: of the order, None and 0 before the first. floor: nothing older is installed any more; floor_next:
    the floor once `version` is good. tries: failed ones of this order. stumbles: failures in a row that blame the way
    and not the release (network, space), cuts: installations that a cut ended. back: the new system has judged itself
    unfit and leaves. critical: of the release.
    boot, since: boot id and CLOCK_BOOTTIME when the phase began. seen, again, until: Unix seconds (trusted clock) of
    the order's first sight, of the next try, of the end of a postponement. evidence: English, for engineers.
    before_*: what the old system could do, against which the new one is judged.
    """

    version: Version | None = None
    order: int = 0
    phase: Phase = Phase.IDLE
    code: UpdateCode | None = None
    check: Check | None = None
    tries: int = 0
    stumbles: int = 0
    cuts: int = 0
    back: bool = False
    critical: bool = False
    floor: Version = NO_RELEASE
    floor_next: Version = NO_RELEASE
    boot: str = ""
    since: float = 0.0
    seen: float = 0.0
    again: float = 0.0
    until: float = 0.0
    evidence: str = ""
    before_base: int = 0
    before_ports: tuple[str, ...] = ()

    @property
    def ordered(self) -> FirmwareOrder | None:
        """The order that this record is about."""
        return None if self.version is None else FirmwareOrder(self.version, self.order)

    @property
    def spent(self) -> bool:
        """Whether this order may not be tried again."""
        return self.tries >= TRIES_MAX

    def told(self) -> FirmwareState:
        """As the department is told."""
        floor = self.floor if self.floor > NO_RELEASE else None
        return FirmwareState(
            self.version, self.order, self.phase, self.code, self.check, min(self.tries, TRIES_TOLD_MAX), floor
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        out = asdict(self)
        out["version"] = None if self.version is None else str(self.version)
        for name in ("floor", "floor_next"):
            value = getattr(self, name)
            out[name] = None if value == NO_RELEASE else str(value)
        out["before_ports"] = list(self.before_ports)
        return {"v": 1} | out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """From its file; MessageError. Unknown fields are ignored: the system before an update reads what the new one
        wrote."""
        f = Fields("record", data)
        f.constant("v", 1)
        return cls(
            version=_version(f, "version"),
            order=f.integer("order"),
            phase=f.word("phase", Phase),
            code=None if f.null("code") else f.word("code", UpdateCode),
            check=None if f.null("check") else f.word("check", Check),
            back=f.boolean("back"),
            critical=f.boolean("critical"),
            floor=_version(f, "floor") or NO_RELEASE,
            floor_next=_version(f, "floor_next") or NO_RELEASE,
            boot=f.text("boot", 64),
            evidence=f.text("evidence", EVIDENCE_MAX),
            before_base=f.integer("before_base"),
            before_ports=f.texts("before_ports", 8, 15),
            tries=f.integer("tries", 0, TRIES_TOLD_MAX),
            stumbles=f.integer("stumbles", 0, TRIES_TOLD_MAX),
            cuts=f.integer("cuts", 0, TRIES_TOLD_MAX),
            since=f.number("since", 0, TIME_MAX),
            seen=f.number("seen", 0, TIME_MAX),
            again=f.number("again", 0, TIME_MAX),
            until=f.number("until", 0, TIME_MAX),
        )


def evidence(text: str) -> str:
    """A text of a program, as the record keeps it: one line, bounded."""
    return _CONTROL.sub(" ", text)[:EVIDENCE_MAX]


def _version(f: Fields, name: str) -> Version | None:
    return None if f.null(name) else parse_version(f.text(name, 12))


def readable(data: dict[str, Any] | None) -> Record | None:
    """The record in a file's content; None when there is none or it cannot be understood."""
    if data is None:
        return None
    try:
        return Record.from_dict(data)
    except ContractError:
        return None
