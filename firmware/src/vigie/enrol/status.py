"""`enrol/status.json`: what enrolment is doing, for the page, the link, the guardian and `vigie enrol status`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from vigie.enrol.codes import LAMPS, Code, sentence
from vigie.host.files import read_json, write_json

FILE: Final = "status.json"


class State(StrEnum):
    """Where the box is on its way into the fleet. A state either does one thing or waits (`machine.WAITING`)."""

    LOADING = "loading"
    PROBING = "probing"
    CHALLENGE = "challenge"
    PREPARE = "prepare"
    ENROL = "enrol"
    RENEW = "renew"
    KEEP = "keep"
    CONFIRM = "confirm"
    INSTALL = "install"
    FORGET = "forget"
    TIME = "time"
    LEAVE = "leave"
    ERASE = "erase"
    ENROLLED = "enrolled"
    WAITING = "waiting"
    REFUSED = "refused"
    CONFLICT = "conflict"
    BROKEN = "broken"
    LEAVING = "leaving"
    DECOMMISSIONED = "decommissioned"


@dataclass(frozen=True, slots=True)
class Status:
    """state and code as they are; since: when this code began; next_at: of the next attempt, 0 when none is planned;
    not_after: end of the certificate in force, 0 without one; notes: further codes that are information only;
    detail: the technical reason, in English, for the department. Times are Unix seconds of the trusted clock."""

    state: State = State.LOADING
    code: Code = Code.STARTING
    since: float = 0.0
    box_id: str = ""
    serial: str = ""
    claim_id: str = ""
    model: str = ""
    next_at: float = 0.0
    not_after: float = 0.0
    notes: tuple[Code, ...] = field(default_factory=tuple)
    detail: str = ""

    def sentence(self) -> str:
        """The code in words, in the reader's language."""
        return sentence(self.code)

    def changed(self, before: Status | None) -> Status:
        """This status with `since` of the one before when the code is the same."""
        return replace(self, since=before.since) if before is not None and before.code == self.code else self


def write(folder: Path, status: Status) -> None:
    """Writes `folder/status.json`. Raises HostError."""
    lamp = LAMPS[status.code]
    write_json(folder / FILE, {"v": 1, **asdict(status), "lamp": asdict(lamp), "text_fr": status.sentence()})


def read(folder: Path) -> Status:
    """The status last written; a starting one when there is none yet, or nothing that makes sense."""
    value = read_json(folder / FILE)
    if value is None:
        return Status()
    try:
        return _status(value)
    except (KeyError, TypeError, ValueError):
        return Status()


def _status(value: dict[str, Any]) -> Status:
    def text(name: str) -> str:
        found = value.get(name, "")
        if not isinstance(found, str):
            raise TypeError(name)
        return found[:200]

    def number(name: str) -> float:
        return float(value.get(name, 0.0))

    notes = tuple(Code(note) for note in value.get("notes", ()))
    return Status(
        State(value["state"]), Code(value["code"]), number("since"), text("box_id"), text("serial"), text("claim_id"),
        text("model"), number("next_at"), number("not_after"), notes, text("detail"),
    )  # fmt: skip
