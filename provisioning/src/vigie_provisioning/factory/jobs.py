"""One board's job at the station: what is known of it and how far it is. Pure; `jobstore` keeps it on disk."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from vigie.contract import strictjson
from vigie.contract.bench import CHIP, IMAGE, LOT, WORD, Label, Outcome, Test
from vigie.contract.errors import ContractError
from vigie.contract.fields import Fields
from vigie.contract.identity import MODEL, SERIAL, box_id, check_claim_id
from vigie_provisioning.errors import StateError, StoreError
from vigie_provisioning.factory.steps import NEXT, REQUIRED, TABLE, Action, Event, Step, after
from vigie_provisioning.register import Entry

JOB_MAX: Final = 64 * 1024
HISTORY_MAX: Final = 60


@dataclass(slots=True, frozen=True)
class Parked:
    """Why a board was put aside. code: a word that `words` has a text for."""

    code: str
    detail: str
    at: int


@dataclass(slots=True, frozen=True)
class Job:
    """A board. chip: what USB and the board both call it; public: DER of its identity key, b"" before it has one;
    software: version that was flashed, "" when the image does not say; entry: number of its line in the register;
    erase: its old identity goes at the next flashing, rewrite: the image is to be written again, because somebody asked
    for that; history: (time, what), newest last."""

    chip: str
    serial: str
    claim_id: str
    model: str
    lot: str
    image: str
    step: Step = Step.NEW
    public: bytes = b""
    software: str = ""
    entry: int = 0
    erase: bool = False
    rewrite: bool = False
    tests: Mapping[Test, Outcome] = field(default_factory=dict)
    parked: Parked | None = None
    history: tuple[tuple[int, str], ...] = ()

    @property
    def box(self) -> str:
        """The box's id, "" before it has a key."""
        return box_id(self.public) if self.public else ""

    @property
    def label(self) -> Label:
        """What the board is sealed with."""
        return Label(self.serial, self.model, self.claim_id, self.lot, self.image)

    @property
    def action(self) -> Action:
        """What is next; nothing for a parked board."""
        if self.parked is not None:
            return Action.NONE
        if self.rewrite and (self.step, Event.FLASHED) in TABLE:
            return Action.FLASH
        return NEXT[self.step]

    def missing(self) -> list[Test]:
        """Tests that have not been passed, in their order."""
        return [test for test in REQUIRED if not (test in self.tests and self.tests[test].passed)]

    def on(self, event: Event, at: int, note: str = "", **changes: Any) -> Job:
        """The job after an event, with what it brought. StateError when the event may not happen now."""
        return self._noted(at, f"{event.value} {note}".strip(), step=after(self.step, event), **changes)

    def with_result(self, test: Test, outcome: Outcome, at: int) -> Job:
        """The job with a test's outcome."""
        said = "passed" if outcome.passed else f"failed: {outcome.code} {outcome.detail}"
        return self.on(Event.RESULT, at, f"{test.value} {said}", tests={**self.tests, test: outcome})

    def park(self, code: str, detail: str, at: int) -> Job:
        """The job, put aside."""
        return self._noted(at, f"parked: {code} {detail}", parked=Parked(code, detail[:400], at))

    def unpark(self, at: int, *, rewrite: bool = False) -> Job:
        """The job, taken up again; what it has not passed is tried again. rewrite: after its image is written again.

        StateError when it is registered: then its image is a matter of updates.
        """
        if rewrite and self.step is not Step.NEW and (self.step, Event.FLASHED) not in TABLE:
            raise StateError(f"{self.serial}: is registered with its image; a newer one comes over the air")
        passed = {test: outcome for test, outcome in self.tests.items() if outcome.passed}
        return self._noted(at, "unparked", parked=None, tests=passed, rewrite=rewrite)

    def recovered(self, entry: Entry, step: Step, at: int) -> Job:
        """The job of a board that the register knows better than this station: its folder was lost, or is another's."""
        return self._noted(
            at,
            f"recovered from line {entry.n} of the register",
            serial=entry.serial,
            claim_id=entry.claim_id,
            model=entry.model,
            lot=entry.lot,
            image=entry.image,
            public=entry.public,
            entry=entry.n,
            step=step,
        )

    def _noted(self, at: int, what: str, **changes: Any) -> Job:
        history = (*self.history, (at, what[:200]))[-HISTORY_MAX:]
        return dataclasses.replace(self, history=history, **changes)

    def to_bytes(self) -> bytes:
        """As it is kept."""
        parked = None if self.parked is None else dataclasses.asdict(self.parked)
        data = {
            "v": 1,
            "chip": self.chip,
            "step": self.step.value,
            "serial": self.serial,
            "claim_id": self.claim_id,
            "model": self.model,
            "lot": self.lot,
            "image": self.image,
            "public": base64.b64encode(self.public).decode(),
            "box": self.box,
            "entry": self.entry,
            "software": self.software,
            "erase": self.erase,
            "rewrite": self.rewrite,
            "tests": {test.value: outcome.to_dict() for test, outcome in self.tests.items()},
            "parked": parked,
            "history": [list(item) for item in self.history],
        }
        return json.dumps(data, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Job:
        """Read back. StoreError names what does not hold."""
        try:
            f = Fields("job", strictjson.loads(data, JOB_MAX, where))
            f.constant("v", 1)
            parked = None
            if not f.null("parked"):
                p = f.object("parked")
                parked = Parked(p.text("code", 32, WORD), p.text("detail", 400), p.integer("at"))
            tests = f.object("tests")
            claim = f.text("claim_id", 20)
            if check_claim_id(claim) != claim:
                f.fail("claim_id", "not in its canonical form")
            return cls(
                chip=f.text("chip", 8, CHIP),
                serial=f.text("serial", 48, SERIAL),
                claim_id=claim,
                model=f.text("model", 32, MODEL),
                lot=f.text("lot", 48, LOT),
                image=f.text("image", 64, IMAGE),
                step=f.word("step", Step),
                public=base64.b64decode(f.text("public", 1024), validate=True),
                entry=f.integer("entry"),
                software=f.text("software", 64),
                erase=f.boolean("erase"),
                rewrite=f.boolean("rewrite"),
                tests={test: Outcome.from_dict(tests.take(test.value)) for test in Test if tests.has(test.value)},
                parked=parked,
                history=tuple((int(at), str(what)) for at, what in f.items("history", HISTORY_MAX)),
            )
        except (ContractError, ValueError, TypeError) as e:
            raise StoreError(f"{where}: {e}; restore it from a backup, or remove it to begin this board again") from e
