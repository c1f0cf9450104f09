"""What a flashing station and a board say to each other. The line itself is `benchline`.

**The board** says `hello` each second until somebody asks. **The station** asks one thing at a time and asks again
until it is answered; a question is known by (session, number), so that one heard twice is done once.

    station   {"s": session, "q": "test", "a": {"name": "nics"}}          frame number = number of the question
    board     {"s": session, "r": 17, "w": {"done": 3, "of": 10}}         at work, the answer comes later
    board     {"s": session, "r": 17, "ok": {...}}                        done
    board     {"s": session, "r": 17, "no": {"code": "disk-full", "detail": "..."}}
    board     {"hello": {...}}                                            unasked

`hello.boot` changes with each start of the board: a station that sees another one knows that the board was reset and
that its session is gone. What was reached stays on the board's identity partition, so everything can be asked again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from vigie.contract.fields import Fields
from vigie.contract.identity import BOX_ID, MODEL, SERIAL

VERSION: Final = 1
SESSION: Final = re.compile(r"[0-9a-f]{16}")
BOOT: Final = re.compile(r"[0-9a-f]{8,32}")
CHIP: Final = re.compile(r"[0-9a-f]{8}")
NONCE: Final = re.compile(r"[0-9a-f]{64}")
IMAGE: Final = re.compile(r"([0-9a-f]{64})?")
LOT: Final = re.compile(r"[A-Za-z0-9._/-]{0,48}")
WORD: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
PROOF_PREFIX: Final = b"vigie factory proof 1\n"


class State(StrEnum):
    """How far a board is. It only goes forward; what makes it blank again is erasing its identity partition."""

    BLANK = "blank"
    KEYED = "keyed"
    SEALED = "sealed"  # box.json is written, the factory program still runs
    IN_SERVICE = "in-service"  # said once a start, by a box that hears nothing here
    REPORT = "report"  # a development image: questions only


class Question(StrEnum):
    """What a station may ask."""

    HELLO = "hello"
    REPORT = "report"
    TEST = "test"
    KEY = "key"
    PROVE = "prove"
    SEAL = "seal"
    LEAVE = "leave"
    RESTART = "restart"


class Test(StrEnum):
    """What a board can try by itself, in the order in which a station asks."""

    __test__ = False  # pytest: not one of its classes

    TEMPERATURE = "temperature"
    EMMC = "emmc"
    NICS = "nics"
    LEDS = "leds"
    BUTTON = "button"
    WATCHDOG = "watchdog"


class Code(StrEnum):
    """Why a board refuses or fails. Append-only: stations have texts for them."""

    UNKNOWN = "unknown"
    NOT_NOW = "not-now"
    MALFORMED = "malformed"
    BUSY = "busy"
    DISK_FULL = "disk-full"
    DISK = "disk"
    KEY_SPOILT = "key-spoilt"
    SEALED_AS = "sealed-as"
    MACHINE = "machine"
    PORTS_COUNT = "ports-count"
    PORT_NO_LINK = "port-no-link"
    PORT_SLOW = "port-slow"
    FRAMES_LOST = "frames-lost"
    LEDS_NONE = "leds-none"
    BUTTON_NONE = "button-none"
    BUTTON_STUCK = "button-stuck"
    BUTTON_SILENT = "button-silent"
    EMMC_NONE = "emmc-none"
    EMMC_WORN = "emmc-worn"
    EMMC_READ_BACK = "emmc-read-back"
    WATCHDOG_NONE = "watchdog-none"
    WATCHDOG_BUSY = "watchdog-busy"
    HOT = "hot"
    COLD = "cold"
    NO_SENSOR = "no-sensor"
    UNDERVOLTAGE = "undervoltage"


class Reset(StrEnum):
    """What became of the watchdog's test, as far as the board knows."""

    NONE = ""
    ARMED = "armed"
    WATCHDOG = "watchdog"
    POWER = "power"  # power was cut while it was armed: says nothing


@dataclass(frozen=True, slots=True)
class Hello:
    """The board introduces itself. chip: last 8 digits of the processor's serial number, as USB shows it too."""

    boot: str
    chip: str
    model: str
    version: str
    variant: str
    state: State
    box: str = ""
    serial: str = ""
    reset: Reset = Reset.NONE

    def to_dict(self) -> dict[str, Any]:
        """As it travels."""
        return {
            "v": VERSION,
            "boot": self.boot,
            "chip": self.chip,
            "model": self.model,
            "version": self.version,
            "variant": self.variant,
            "state": self.state.value,
            "box": self.box,
            "serial": self.serial,
            "reset": self.reset.value,
        }

    @classmethod
    def from_dict(cls, data: object) -> Hello:
        """Read from a frame. MessageError names the field. Unknown fields are left: a newer board may say more."""
        f = Fields("hello", data)
        f.constant("v", VERSION)
        return cls(
            boot=f.text("boot", 32, BOOT),
            chip=f.text("chip", 8, CHIP),
            model=f.text("model", 32, MODEL),
            version=f.text("version", 64),
            variant=f.text("variant", 32),
            state=f.word("state", State),
            box=f.text("box", 19, re.compile(rf"({BOX_ID.pattern})?")),
            serial=f.text("serial", 48, re.compile(rf"({SERIAL.pattern})?")),
            reset=f.word("reset", Reset),
        )


@dataclass(frozen=True, slots=True)
class Label:
    """What `seal` writes into box.json."""

    serial: str
    model: str
    claim_id: str
    lot: str
    image: str

    def to_dict(self) -> dict[str, Any]:
        """As it travels and as it is written."""
        return {
            "v": 1,
            "serial": self.serial,
            "model": self.model,
            "claim_id": self.claim_id,
            "lot": self.lot,
            "image": self.image,
        }

    @classmethod
    def from_dict(cls, data: object) -> Label:
        """Read from a question or from box.json. MessageError or IdentityError."""
        from vigie.contract.identity import check_claim_id

        f = Fields("label", data)
        f.constant("v", 1)
        label = cls(
            serial=f.text("serial", 48, SERIAL),
            model=f.text("model", 32, MODEL),
            claim_id=f.text("claim_id", 20),
            lot=f.text("lot", 48, LOT),
            image=f.text("image", 64, IMAGE),
        )
        if check_claim_id(label.claim_id) != label.claim_id:
            f.fail("claim_id", "not in its canonical form")
        return label


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a test. code: "" when passed. figures: what was measured, for the job's file and for comparison."""

    passed: bool
    code: str = ""
    detail: str = ""
    figures: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it travels."""
        return {
            "passed": self.passed,
            "code": self.code,
            "detail": self.detail[:200],
            "figures": dict(self.figures or {}),
        }

    @classmethod
    def from_dict(cls, data: object) -> Outcome:
        """Read from an answer. MessageError."""
        f = Fields("outcome", data)
        figures = f.take("figures")
        if not isinstance(figures, dict):
            f.fail("figures", "an object is expected")
        return cls(f.boolean("passed"), f.text("code", 32), f.text("detail", 400), figures)


def proof_message(nonce: str, public: bytes) -> bytes:
    """What the identity key signs to show that the board holds it: prefix, the station's nonce (hex), public key (DER).

    The prefix keeps this signature from meaning anything elsewhere.
    """
    return PROOF_PREFIX + bytes.fromhex(nonce) + public
